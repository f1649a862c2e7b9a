"""Which shell commands count as reading. A wrong yes changes results of tests; a wrong no only costs time."""

from __future__ import annotations

import pytest

from goldenami.validate.commands import Kind, is_settled, kind_of

READS = r"""
uname -s
command -v command
cat /etc/os-release
test -d /run/systemd/system/
systemctl is-active nginx
systemctl list-unit-files | grep -q "^ssh"
dpkg-query -f '${Status} ${Version}' -W nginx
rpm -q --quiet nginx 2>&1
rpm -q --queryformat="%{VERSION}" nginx
apk -e -v info nginx
getent group adm | cut -d':' -f3
sudo -n /bin/sh -c 'stat -Lc %a /etc/shadow'
sudo -n -u nobody /bin/sh -c 'test -e /etc/passwd'
runuser -u nobody -- /bin/sh -c 'id -un'
/usr/bin/ss --numeric --listening --tcp
/sbin/sysctl -n net.ipv4.ip_forward
systemctl --no-pager --property=ActiveState show nginx
systemctl show -p ActiveState nginx
iptables -t nat -S PREROUTING
iptables -w 90 -t filter -S
ip6tables -L -n -v --line-numbers
ip a s
ip -br link show
nft list ruleset
dpkg -l nginx
dpkg --print-architecture
passwd -S root
chage -l root
crontab -u root -l
pacman -Qi nginx
sha256sum /etc/passwd | cut -d ' ' -f 1
grep -qs -- 'a; rm -rf /' /etc/passwd
ps -Aww -o pid,comm:50,lstart,args
awk -F: '$3 == 0 {print $1}' /etc/passwd
sed -n 1,3p /etc/passwd
find /etc -xdev -perm -0002 2>/dev/null
LC_ALL=C ls /etc/ssh/ssh_host_*_key
test -e /x || echo none; true && id -u
timeout 5 journalctl --no-pager -n 5
sh -ec 'test -f /etc/passwd; grep -q ^root: /etc/passwd'
docker --version
date +%s
cksum -a sha256 < /etc/passwd
"""

OTHER = r"""
systemctl restart nginx
systemctl daemon-reload
rm /tmp/x
echo a > /tmp/x
echo a >> /tmp/x
cat <<< x
test -f /x && rm /x
true; reboot
true & reboot
sh -c 'echo $(reboot)'
sh -ec 'test -f /x; reboot'
echo `reboot`
echo "$(reboot)"
cat "$FILE"
sudo -n /bin/sh -c 'rm x'
sudo rm x
find / -name x -delete
find /etc -exec rm {} +
sort -o /etc/passwd /etc/passwd
sort -uo/etc/passwd /etc/passwd
sed -i s/a/b/ /etc/passwd
sed -n 'w /etc/x' /etc/passwd
sed 's/a/b/w /etc/x' /etc/passwd
sed 's/a/reboot/e' /etc/passwd
awk 'BEGIN { system("reboot") }'
awk '{ print > "/tmp/x" }' /etc/passwd
uniq /etc/passwd /tmp/x
sysctl -w kernel.x=1
sysctl kernel.x=1
ip link set eth0 down
ip -batch /tmp/x
hostname new
date -s tomorrow
date 010100002030
mount /dev/sda1 /mnt
iptables -t filter -A INPUT -j DROP
iptables -t nat -I PREROUTING -j DROP
iptables -t filter -P INPUT DROP
iptables -n --flush
iptables -L -Z
iptables -t nat
ip6tables -t raw -X
ip link s eth0 down
ip l s eth0 down
nft 'list ruleset; flush ruleset'
nft list ruleset ';' flush ruleset
nft -f /tmp/x
nft list ruleset -f /tmp/x
systemctl -p show restart x
systemctl --prop show restart x
systemctl -qp show restart x
timedatectl -p show set-time 00:00
apt-mark -o showhold hold x
pip --log show install x
passwd -S -d root
passwd -Sd root
dpkg -l --purge x
chage -l -m 3 x
crontab -u root -l -r
update-alternatives --display x --auto x
rpm -q --setperms nginx
apk add info
pacman -Q -R nginx
journalctl --vacuum-time=1s
journalctl -f
journalctl --rot
tail -f /var/log/syslog
ss -K dst 10.0.0.1
rpm -e nginx
rpm -q --eval '%(reboot)'
dpkg -i x.deb
dpkg --purge nginx
env reboot
crontab -r
openssl x509 -in a -out b
cat /dev/ttyS0
./check.sh
/opt/app/bin/cat /etc/passwd
xargs rm
if true; then reboot; fi
(reboot)
{ reboot; }
! reboot
a=1 reboot
PATH=/tmp ls
nohup ls
test -e /x #
'test
| cat
printf x | tee /etc/x
"""


@pytest.mark.parametrize("command", READS.strip().splitlines())
def test_known_commands_read(command: str) -> None:
    assert kind_of(command) is Kind.READS


@pytest.mark.parametrize("command", OTHER.strip("\n").splitlines())
def test_other_commands_do_not_count_as_reading(command: str) -> None:
    assert kind_of(command) is Kind.OTHER
    assert not is_settled(command)


@pytest.mark.parametrize("empty", ["", " ", ";", "\n", ">/dev/null"])
def test_a_command_without_a_program_does_not_count_as_reading(empty: str) -> None:
    assert kind_of(empty) is Kind.OTHER


def test_a_test_can_declare_its_commands() -> None:
    assert kind_of("$(command -v sshd) -t") is Kind.OTHER
    assert kind_of("$(command -v sshd) -t", is_declared=True) is Kind.READS


def test_a_command_that_waits_is_told_apart() -> None:
    assert kind_of("timeout 90 systemctl is-system-running --wait") is Kind.WAITS
    assert kind_of("cloud-init status --wait --long", is_declared=True) is Kind.WAITS


@pytest.mark.parametrize(
    ("command", "settled"),
    [
        ("dpkg-query -f '${Status}' -W nginx", True),
        ("sudo -n /bin/sh -c 'stat -Lc %a /etc/shadow'", True),
        ("systemctl is-enabled nginx", True),
        ("systemctl is-active nginx", False),
        ("ss --numeric --listening", False),
        ("cat /proc/mounts", False),
        ("test -e /run/nginx.pid", False),
        ("test -e /var/lib/x", False),
        ("ps -A", False),
        ("getent passwd root", True),
        ("getent ahosts localhost", False),
        ("find /etc -name '*.conf'", True),
        ("find /etc -mmin -5", False),
        ("find /etc -name '*.pid'", False),
        ("find -name x", False),
        ("cat /etc/hostname", True),
        ("cat /etc/resolv.conf", False),
        ("cat /etc/app/../../var/x", False),
        ("cat /library/x", False),
        ("cat /usr/lib/tmpfiles.d/x.conf", True),
        ("test -f /lib/systemd/system/ssh.socket", True),
        ("test -S /etc/app.sock", False),
        ("test -p /etc/app", False),
        ("test ! -e logs/app.log", False),
        ("test a = b", True),
        ("cat logs/app.log", False),
        ("cat app.txt", False),
        ("cat < /etc/passwd", False),
        ("grep -qs -- root /etc/passwd", True),
        ("grep -q /var/x /etc/fstab", True),
        ("grep -q -e root passwd", False),
        ("grep --file=/var/x root /etc/passwd", False),
        ("grep -f/var/x /etc/passwd", False),
        ("grep -r root", False),
        ("grep - /var/x", False),
        ("cat /usr/l*/x", False),
        ("cat --opt=/var/x /etc/passwd", False),
        ("stat -Lc %a /etc/shadow", True),
        ("stat -c%c app.txt", False),
        ("cat /etc/passwd | grep root | cut -d : -f 1", True),
        ("head -n 5 /etc/passwd", True),
        ("head -n 5 passwd", False),
        ("ls -1 -q -- /etc", True),
        ("ls", False),
        ("rpm -q nginx", True),
        ("rpm -V nginx", False),
        ("sha256sum /etc/passwd", True),
        ("sha256sum -c /etc/sums", False),
        ("stat -f -c %a /etc", False),
    ],
)
def test_what_does_not_change_by_itself(command: str, settled: bool) -> None:
    assert is_settled(command) is settled


@pytest.mark.parametrize(
    ("command", "declared"),
    [
        ("cat /opt/app/version", True),
        ("test -x /usr/local/bin/app", True),
        ("test -d /home/app/.ssh", True),
        ("find /usr -name x", True),
        ("test -e /opt/tomcat/logs/catalina.out", False),
        ("grep -q started /opt/app/app.log", False),
        ("test -S /srv/app/app.sock", False),
        ("cat /usr/local/app/run/app.pid", False),
        ("test -e /home/app/app.pid", False),
        ("cat app/version", False),
        ("test -e /var/lib/x", False),
    ],
)
def test_where_programs_are_installed_only_a_test_that_promises_to_read_is_definite(
    command: str, declared: bool
) -> None:
    assert not is_settled(command)
    assert is_settled(command, is_declared=True) is declared
