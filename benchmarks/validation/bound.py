"""The bound: one script that gathers everything that the hundred checks ask for, in as few processes as it takes."""

from __future__ import annotations

from benchmarks.validation import checks


def script() -> str:
    """The host needs sh, coreutils, and what the checks are about. Prints facts, one or more lines each."""
    packages = " ".join((*checks.PACKAGES, *checks.ABSENT))
    services = " ".join(dict.fromkeys((*checks.RUNNING, *checks.ENABLED)))
    files = " ".join((*checks.FILES, *checks.FOLDERS))
    greps = "\n".join(f"grep -qs -- '{pattern}' {path}; echo $?" for path, pattern in checks.CONTENTS.items())
    return f"""
uname -srm; cat /etc/os-release
dpkg-query -W -f '${{Package}} ${{Status}} ${{Version}}\\n' {packages}
systemctl show -p Id,ActiveState,UnitFileState {services}
getent passwd {" ".join(checks.ACCOUNTS)}
getent group {" ".join(checks.GROUPS)}
stat -Lc '%n %F %U %G %a' {files}
{greps}
/usr/sbin/sysctl {" ".join(checks.SYSCTLS)}
for name in {" ".join(checks.PROGRAMS)}; do command -v $name || ls /usr/sbin/$name; done
ss --numeric --listening --tcp --udp
ps -Aww -o comm
cat /proc/mounts
sudo -n stat -c '%n %U' /etc/shadow /etc/gshadow /etc/sudoers /root
sudo -n getent shadow root
getent ahosts localhost
id -nu; date +%s; df -Pk /
awk -F: '$3 == 0 {{print $1}}' /etc/passwd
"""
