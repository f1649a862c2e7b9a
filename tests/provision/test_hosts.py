"""Stages on real hosts: what they do, what a second run does, and what happens when something goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import re
import shlex
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from goldenami import provision, ssh
from goldenami.errors import BuilderError, OperationFailed
from goldenami.events import Event
from goldenami.model import Mark, SshEndpoint
from goldenami.provision import (
    PACKAGES,
    BoundOperation,
    Fact,
    Handler,
    PatchSpec,
    Payload,
    Stage,
    implied_handler,
    run_program,
    run_stage,
)
from tests.provision.archives import build_deb
from tests.provision.examples import ODD, PROFILE, bind, examples
from tests.provision.hosts import Host
from tests.ssh.relay import Relay

pytestmark = pytest.mark.root

SERVED = Path("/var/lib/served")


@pytest.fixture
def host(connection: ssh.Connection) -> Host:
    return Host(connection)


# --- every operation --------------------------------------------------------------------------------------------------


def serve(host: Host, folder: Path) -> dict[str, str]:
    """Put files on the host for what fetches: an archive, and packages with a repository's index. Their checksums."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in ("top/a file", "top/deep/er"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"text"))
    contents = {
        "archive.tar.gz": archive.getvalue(),
        "example.deb": build_deb(folder, "golden-example", "1.0").read_bytes(),
    }
    contents["listed.deb"] = build_deb(folder, "golden-listed", "1.0").read_bytes()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    control = subprocess.run(
        ["dpkg-deb", "-f", str(folder / "golden-listed_1.0_all.deb")], check=True, capture_output=True, text=True
    ).stdout
    size = len(contents["listed.deb"])
    contents["Packages"] = f"{control}Filename: ./listed.deb\nSize: {size}\nSHA256: {sums['listed.deb']}\n".encode()
    host.sh(f"mkdir -p {SERVED}")
    for name, data in contents.items():
        host.sh(f"cat >{SERVED}/{name}", data)
    return sums


TIMER = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"


@pytest.mark.parametrize("release", ["debian-12", "debian-13"])
@pytest.mark.sample(2)
def test_every_operation_run_twice_changes_nothing_the_second_time(
    release: str, launch: Callable[[str], SshEndpoint], tmp_path: Path
) -> None:
    with ssh.connect(launch(release), timeout=60) as connection:
        host = Host(connection)
        host.sh("touch /srv/none; mkdir -p /srv/gone/deep; useradd gone; groupadd nobodies")
        host.sh("echo '#x' >/etc/motd; chmod 600 /etc/motd")
        host.sh(f"printf %s {shlex.quote(TIMER)} >/etc/systemd/system/cron-like.timer")
        host.sh("printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/cron-like.service")
        operations = examples(SERVED, serve(host, tmp_path))
        would = host.run(*operations[:1], mode="check")
        assert [o.status for o in would.operations] == ["changed"]
        assert host.connection.run("command -v tree").status != 0, "a check must not change anything"

        first = host.run(*operations)
        assert {o.status for o in first.operations} <= {"ok", "changed", "skipped"}
        assert first.changed > 20
        second = host.run(*operations)
        assert [(o.title, o.detail) for o in second.operations if o.status == "changed"] == []
        assert len(second.operations) == len(operations)
        look_at_what_was_done(host)
        run_stage(
            connection,
            provision.patch_stage(PatchSpec.model_validate({"level": "none", "reboot": "always"}), os="debian"),
        )
        drift = host.run(*operations, mode="check")
        # systemd-remount-fs does not run in a container, which has its own /dev/shm.
        undone = [(o.title, o.detail) for o in drift.operations if o.status == "changed" and "/dev/shm" not in o.title]
        assert undone == [], "a boot undoes nothing"
        host.run(*operations)
        look_at_what_was_done(host)
        look_at_what_a_boot_does(host)
        prove_sealing(host)


def look_at_what_was_done(host: Host) -> None:
    assert host.sh(f"cat /srv/www/{shlex.quote(ODD.replace('/', ''))}") == ODD
    assert host.sh(
        "stat -c '%a %U %G' '/srv/www/a b' /etc/motd /etc/sudoers.d/deploy /etc/made /etc/made/of/parts.conf"
    ) == ("2775 deploy staff2\n644 root root\n440 root root\n755 root root\n600 root root")
    assert host.sh("tool") == "tool"
    assert host.sh("getent passwd deploy | cut -d: -f5-") == "O'Deploy:/srv/deploy home:/bin/sh"
    assert host.sh("id -nG deploy") == "staff2 adm"
    assert (
        host.sh("stat -c '%a %U' '/srv/deploy home/.ssh' '/srv/deploy home/.ssh/authorized_keys'")
        == "700 deploy\n600 deploy"
    )
    assert host.sh("cat '/srv/deploy home/made'") == f"deploy\n{ODD}"
    assert host.sh("grep -n -A1 '^127' /etc/hosts | tail -n 1").endswith("192.0.2.1 example.test")
    assert host.sh("grep -c UMASK /etc/login.defs; grep UMASK /etc/login.defs | grep -v '^#'").endswith("UMASK 027")
    assert host.sh("cat '/opt/unpacked/a file'; stat -c %U /opt/unpacked/deep") == "textdeploy"
    assert host.sh("readlink /srv/current; cat /proc/sys/net/ipv4/ip_local_port_range") == "www/a b\n20000\t50000"
    assert host.sh("apt-mark showhold") == "hello"
    assert host.sh("dpkg-query -W -f '${Package} ' golden-example golden-listed bc").split() == [
        "bc",
        "golden-example",
        "golden-listed",
    ]
    assert (
        host.sh("systemctl is-enabled cron-like.timer; systemctl is-enabled systemd-timesyncd || :")
        == "enabled\nmasked"
    )

    assert host.sh("systemctl show -p Nice --value sleeper-example") == "5"
    host.sh("systemctl start tidy-example; journalctl --sync")
    assert ODD in host.sh("journalctl -q -o cat -u tidy-example").splitlines()
    assert host.sh("systemctl list-timers --all --no-legend tidy-example.timer | wc -l") == "1"
    assert host.sh(
        "locale -a | grep -c en_GB; date +%Z; cat /etc/timezone 2>/dev/null || echo Europe/Berlin"
    ).split() == [
        "1",
        host.sh("TZ=Europe/Berlin date +%Z"),
        "Europe/Berlin",
    ]
    assert "Example Authority" in host.sh("openssl x509 -noout -subject -in /etc/ssl/certs/example.pem")
    assert host.sh("golden-tool") == "tool"
    assert host.sh("cat /etc/cron.d/example") == 'A="b"\n30 3 * * mon root date +\\%s >/srv/cron'
    assert host.sh("grep -c faildelay.so.delay=1000000 /etc/pam.d/common-auth; sudo -n true") == "1"
    assert host.sh("findmnt -n -o OPTIONS /dev/shm | tr , '\\n' | grep -c -e nosuid -e nodev -e noexec") == "3"
    assert host.sh("findmnt -n -o FSTYPE '/srv/mounted here'") == "tmpfs"
    assert host.sh("sshd -T -C user=deploy,host=h,addr=192.0.2.1 | grep -e ^permittty -e ^maxauthtries | sort") == (
        "maxauthtries 4\npermittty no"
    )
    assert host.sh("chage -l deploy | grep -e Maximum -e 'Account expires'").split("\n") == [
        "Account expires\t\t\t\t\t\t: Jan 31, 2099",
        "Maximum number of days between password change\t\t: 90",
    ]
    assert host.sh("awk -F: '$3 < 1000 && $1 != \"root\" { print $7 }' /etc/passwd | sort | uniq -c | wc -l") != "0"
    assert host.sh("grep -E '^(games|www-data):' /etc/passwd | cut -d: -f7 | sort -u") == "/usr/sbin/nologin"
    assert host.sh("modprobe -n -v usb-storage 2>&1 || :; cat /etc/modprobe.d/goldenami-usb-storage.conf").endswith(
        "blacklist usb-storage\ninstall usb-storage /bin/false"
    )


def look_at_what_a_boot_does(host: Host) -> None:
    assert host.sh("findmnt -n -o FSTYPE /tmp") == "tmpfs"
    assert host.sh("stat -c '%a %U %G' /run/tmpfiles-example /var/log/wtmp") == "750 root adm\n640 root utmp"
    assert host.sh("find /var/log -type f -perm /0137 | head -n 3") == ""
    assert host.sh("su -l deploy -c 'echo $EXAMPLE; ulimit -n; ulimit -c'") == "a $b\n4096\n0"
    assert host.sh("ls -d /var/log/journal/*") != ""


def prove_sealing(host: Host) -> None:
    """The last thing over a connection, and the connection survives it."""
    connection = host.connection
    login_key = ssh.KeyPair.from_private(connection.endpoint.private_key).public_key
    host.sh("echo secret >/root/.bash_history; echo x >/var/tmp/left")
    # Sealing takes the rights that cloud-init gave; what follows here needs some.
    host.sh('echo "$SUDO_USER ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/test; ls /etc/sudoers.d/90-cloud-init-users')
    host.sh("echo 'ssh-ed25519 AAAA other' >>/root/.ssh/authorized_keys")
    report = provision.seal(connection, login_key=login_key)
    assert {
        "login-key",
        "ssh-host-keys",
        "machine-id",
        "logs",
        "shell-history",
        "temporary-files",
        "sudo-rules",
    } <= set(report.removed)
    assert provision.seal(connection, login_key=login_key).removed == ()
    assert host.sh("cat /root/.ssh/authorized_keys") == "ssh-ed25519 AAAA other"
    assert host.sh("stat -c '%s' /etc/machine-id") == "0"
    assert host.sh("ls /etc/ssh/*_key /var/lib/cloud/instances/* /run/goldenami.* 2>/dev/null || :") == ""
    assert host.sh("find /var/log -type f -size +0") == ""
    for trace in provision.traces_of(login_key):
        assert host.sh(f"{{ {trace.find.text}\n}} 2>/dev/null || :") == "", trace.name


# --- events and results -----------------------------------------------------------------------------------------------


def test_output_is_seen_while_the_operation_runs(host: Host, endpoint: SshEndpoint) -> None:
    """The operation waits until somebody has seen its first line."""
    seen: list[Event] = []
    host.sh("rm -f /run/seen")
    wait = "for _ in $(seq 1200); do [ -e /run/seen ] && break; sleep 0.1; done; [ -e /run/seen ]"
    stage = Stage("live", (bind("command", shell=f"echo one; {wait} || exit 9; sleep 1; printf two"),))

    def look(event: Event) -> None:
        seen.append(event)
        if event.fields.get("line") == "one":
            Host(other).sh("touch /run/seen")

    with ssh.connect(endpoint, timeout=60) as other:
        run_stage(host.connection, stage, look)
    kinds = [e.kind for e in seen]
    assert kinds == ["operation.started", "operation.output", "operation.output", "operation.finished"]
    assert [e.fields["line"] for e in seen if e.kind == "operation.output"] == ["one", "two"]
    assert seen[-1].fields["seconds"] >= 0.9
    assert seen[0].fields["place"] == "recipe.yaml:1:5"


def test_a_second_run_takes_no_time(host: Host) -> None:
    operations = [bind("file", dest=f"/srv/many/{n}", content=f"{n}\n") for n in range(100)]
    assert host.run(*operations).changed == 100
    result = host.run(*operations)
    assert host.sh("ls -d /run/goldenami.* 2>/dev/null || :") == "", "what the run needed is there after its end"
    assert result.changed == 0
    assert result.seconds < 60


def test_a_failure_says_which_where_and_why(host: Host) -> None:
    script = "for n in $(seq 1 50); do echo line $n; done; echo 'the reason' >&2; exit 7"
    operations = (
        bind("command", at=1, argv=["true"]),
        bind("command", at=9, shell=script),
        bind("command", argv=["true"]),
    )
    with pytest.raises(OperationFailed, match="exit status 7") as caught:
        host.run(*operations)
    error = caught.value
    assert error.place == "recipe.yaml:9:5"
    assert error.status == 7
    assert error.output.splitlines()[-1] == "the reason"
    assert len(error.output.splitlines()) == 20
    finished = [e.fields["status"] for e in host.events if e.kind == "operation.finished"]
    assert finished == ["changed", "failed"]


@pytest.mark.parametrize(
    ("operation", "message", "hint"),
    [
        (bind("package", name="no-such-package"), "Unable to locate", "check the name"),
        (bind("package", name="bash", version=">=99"), "the repositories offer 5", None),
        (bind("package", name="bash", version="=99"), "not found", "apt-cache policy"),
        (bind("service", name="no-such", state="started"), "not found", "package that contains it"),
        (bind("sudoers", name="bad", content="nonsense"), "visudo refused", None),
        (
            bind("file", dest="/srv/bad", content="", validate="false %s"),
            "validation of the new file failed: false %s",
            None,
        ),
        (bind("file", dest="/etc", content=""), "is a directory", None),
        (bind("link", path="/etc/passwd", target="x"), "force is not set", None),
        (bind("line", path="/nowhere", line="x"), "no such file", None),
        (bind("user", name="someone", group="no-such-group"), "no-such-group", None),
        (bind("sysctl", name="net.ipv4.ip_local_port_range", value="x"), "refuses", None),
        (bind("command", argv=["no-such-program"]), "not found", None),
        (bind("command", argv=["touch", "/srv/else"], creates="/srv/no"), "was not created", None),
        (
            bind("download", url="file:///etc/passwd", sha256="0" * 64, dest="/srv/download"),
            "expected 0000000",
            None,
        ),
        (bind("unit", name="bad", content="[Service]\nType=simple"), "systemd cannot load the unit", None),
        (bind("tmpfiles", name="bad", content="d"), "failed: systemd-tmpfiles --create %s", None),
        (bind("timer", name="bad", on_calendar="never", command=["/bin/true"]), "on_calendar is invalid", None),
        (
            bind("setting", path="/etc/ssh/sshd_config", key="PermitRootLogin", value="x", validate="sshd -t -f %s"),
            "failed: sshd -t -f %s",
            None,
        ),
        (bind("mount", path="/srv", options=["nodev"], state="boot"), "is not a mount point", None),
        (bind("alternative", name="editor", path="/srv/no-editor"), "/srv/no-editor is not there", None),
        (
            bind("ca_certificate", name="bad", src="key.pem", payload=Payload.of(b"-----BEGIN PRIVATE KEY-----\n")),
            "has a private key",
            None,
        ),
        (bind("timezone", name="Europe/Nowhere"), "/usr/share/zoneinfo/Europe/Nowhere does not exist", None),
        (bind("locale", lang="xx_XX.UTF-8"), "", None),
        (bind("authorized_key", user="nobody-here", key=f"ssh-ed25519 {'A' * 68} x"), "there is no user", None),
        (bind("password_ageing", users=["nobody-here"], max_days=9), "nobody-here", None),
        (bind("permissions", path="/srv/no-such", files="0600"), "/srv/no-such: no such file", None),
        (bind("pam_profile", name="no-such-profile"), "add the package that contains it", None),
        (bind("authselect", profile="minimal"), "authselect is not installed", None),
        (bind("script", content="#!/bin/sh\nexit 9\n", creates="/srv/never"), "", None),
        (bind("download", url="http://127.0.0.1:9/x", sha256="0" * 64, dest="/srv/download"), "failed", None),
    ],
    ids=lambda v: v.label if isinstance(v, BoundOperation) else "",
)
def test_failures(host: Host, operation: BoundOperation, message: str, hint: str | None) -> None:
    with pytest.raises(OperationFailed) as caught:
        host.run(operation)
    assert message in caught.value.output
    assert (hint or "") in (caught.value.hint or "")
    left = host.sh(
        "ls -d /run/goldenami.* /srv/bad /srv/download /etc/sudoers.d/bad /etc/*/system/bad* /etc/tmpfiles.d/bad*"
        " /srv/.goldenami* /etc/.goldenami* /etc/ssh/.goldenami* 2>/dev/null || :"
    )
    assert left == ""


DRIFTS: list[tuple[BoundOperation, str, str]] = [
    # an operation; what is then done to the host; what a check says of it
    (
        bind("setting", path="/etc/login.defs", key="PASS_MIN_DAYS", value="3"),
        "sed -i 's/^PASS_MIN_DAYS.*/PASS_MIN_DAYS 0/' /etc/login.defs",
        "is 0",
    ),
    (bind("file", dest="/srv/drift", content="x", mode="0640"), "chmod 666 /srv/drift", "mode is 666"),
    (
        bind("permissions", path="/srv/drifts", recursive=True, files="0640", directories="0750", owner="daemon"),
        "chown root /srv/drifts/file",
        "/srv/drifts/file is 640 root:root",
    ),
    (bind("line", path="/srv/line", line="key=1", regexp="^key=", create=True), "echo key=2 >/srv/line", "has key=2"),
    (
        bind("limit", domain="*", item="nproc", value="512"),
        "rm /etc/security/limits.d/90-all-nproc-both.conf",
        "is not",
    ),
    (
        bind("sysctl", name="net.ipv4.tcp_fin_timeout", value="30"),
        "echo 60 >/proc/sys/net/ipv4/tcp_fin_timeout",
        "is 60",
    ),
    (
        bind("kernel_module", name="cramfs", state="disabled"),
        "echo 'blacklist cramfs' >/etc/modprobe.d/goldenami-cramfs.conf",
        "goldenami-cramfs.conf differs",
    ),
    (
        bind("mount", path="/srv/m", source="tmpfs", fstype="tmpfs", options=["noexec"]),
        "mount -o remount,exec /srv/m",
        "is mounted rw",
    ),
    (bind("user", name="drifter", shell="/bin/sh"), "usermod -s /bin/bash drifter", "shell is /bin/bash"),
    (bind("password_ageing", users=["drifter"], max_days=30), "chage -M 99 drifter", "drifter: max is 99"),
    (bind("service", name="systemd-pstore", masked=True), "systemctl unmask systemd-pstore", "is not masked"),
    (bind("timezone", name="Etc/UTC"), "ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime", "is Asia/Tokyo"),
    (bind("default_target", name="multi-user"), "systemctl set-default graphical.target", "is graphical.target"),
    (bind("link", path="/srv/drift-link", target="one"), "ln -sfn two /srv/drift-link", "points to two"),
]


def test_what_drifted_is_told_with_what_the_host_has(host: Host) -> None:
    host.sh("mkdir -p /srv/drifts; echo x >/srv/drifts/file")
    operations = [operation for operation, _, _ in DRIFTS]
    host.run(*operations)
    for _, disturb, _ in DRIFTS:
        host.sh(disturb)
    before = host.sh("ls -l /srv /etc/login.defs; cat /etc/fstab")
    found = host.run(*operations, mode="check").operations
    assert [o.status for o in found] == ["changed"] * len(DRIFTS)
    wrong = [(o.title, o.detail, said) for o, (_, _, said) in zip(found, DRIFTS, strict=True) if said not in o.detail]
    assert wrong == []
    assert host.sh("ls -l /srv /etc/login.defs; cat /etc/fstab") == before, "a check changes nothing"
    assert host.run(*operations).changed == len(DRIFTS)
    assert host.run(*operations, mode="check").changed == 0


def test_pam_files_that_were_edited_by_hand_are_left_alone(host: Host) -> None:
    profile = bind("pam_profile", name="delay", content=PROFILE)
    host.sh("sed -i '/^auth.*pam_unix.so/i auth optional pam_warn.so' /etc/pam.d/common-auth")
    with pytest.raises(OperationFailed) as caught:
        host.run(profile)
    assert "common-auth" in caught.value.output or "is not enabled" in caught.value.output
    assert "pam_warn" in host.sh("cat /etc/pam.d/common-auth"), "left alone"
    forced = bind("pam_profile", name="delay", content=PROFILE, force=True)
    assert [host.run(forced).changed, host.run(forced).changed] == [1, 0]
    assert "pam_faildelay.so delay=1000000" in host.sh("cat /etc/pam.d/common-auth")
    gone = bind("pam_profile", name="delay", state="absent")
    assert [host.run(gone).changed, host.run(gone).changed] == [1, 0]
    assert "pam_faildelay" not in host.sh("cat /etc/pam.d/common-auth")


GRUB = """#!/bin/sh
. /etc/default/grub
mkdir -p /boot/grub
printf '\\tlinux /vmlinuz root=x ro %s %s\\n' "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT" >/boot/grub/grub.cfg
"""


def test_arguments_of_the_kernel_reach_the_boot_loader(host: Host) -> None:
    """No boot loader can be installed in a container: update-grub is a stand-in that writes the menu as GRUB does."""
    argument = bind("kernel_argument", name="audit_backlog_limit", value="8192")
    host.sh("rm -rf /boot/grub /etc/default/grub")
    first = host.run(argument)
    assert [(o.status, o.detail) for o in first.operations] == [("skipped", "no boot loader is installed here")]
    host.sh("echo 'GRUB_CMDLINE_LINUX=\"console=ttyS0\"' >/etc/default/grub")
    noted = host.run(argument).operations[0]
    assert (noted.status, noted.detail) == (
        "changed",
        "in /etc/default/grub; no boot loader is installed here that reads it",
    )
    assert host.run(argument).changed == 0
    host.sh(
        "mkdir -p /boot/grub; cat >/usr/local/sbin/update-grub; chmod 755 /usr/local/sbin/update-grub", GRUB.encode()
    )
    host.sh("update-grub; sed -i 's/ audit_backlog_limit=8192//' /boot/grub/grub.cfg")
    assert host.run(argument, mode="check").operations[0].detail == "is not set"
    assert [host.run(argument).changed, host.run(argument).changed] == [1, 0]
    assert "ro console=ttyS0 audit_backlog_limit=8192" in host.sh("cat /boot/grub/grub.cfg")
    gone = bind("kernel_argument", name="audit_backlog_limit", state="absent")
    assert [host.run(gone).changed, host.run(gone).changed] == [1, 0]
    assert "audit" not in host.sh("cat /boot/grub/grub.cfg /etc/default/grub")
    host.sh("rm -rf /boot/grub /etc/default/grub /usr/local/sbin/update-grub")


def test_of_packages_in_a_row_the_wrong_one_is_blamed(host: Host) -> None:
    operations = bind("package", name="cowsay"), bind("package", at=2, name="no-such-package")
    with pytest.raises(OperationFailed) as caught:
        host.run(*operations)
    assert caught.value.place == "recipe.yaml:2:5"
    assert host.connection.run("test -e /usr/games/cowsay").status == 0


def test_secrets_are_masked_everywhere(host: Host) -> None:
    secret = "s3cret value"
    operation = bind("command", shell=f"echo 'it is {secret}!'; exit 1")
    with pytest.raises(OperationFailed) as caught:
        host.run(operation, secrets=[secret])
    assert "it is (secret)!" in caught.value.output
    assert secret not in caught.value.output + caught.value.message
    assert secret not in repr(host.events)


def test_commands_that_ask_get_no_answer(host: Host) -> None:
    result = host.run(bind("command", shell="! read -r answer"))
    assert result.changed == 1


def test_statuses_that_mean_success(host: Host) -> None:
    assert host.run(bind("command", shell="exit 3", statuses=[0, 3])).changed == 1
    with pytest.raises(OperationFailed):
        host.run(bind("command", shell="exit 0", statuses=[3]))


def test_a_child_that_stays_does_not_hold_the_stage(host: Host) -> None:
    start = time.monotonic()
    host.run(bind("command", shell="sleep 300 &"))
    assert time.monotonic() - start < 120


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_handlers_run_once_in_order_of_definition_if_something_changed(host: Host) -> None:
    handlers = tuple(
        Handler(n, (bind("command", argv=["echo", f"handler {n}"]),)) for n in ("first", "second", "third")
    )
    operations = (
        bind("file", notify=("second", "first"), dest="/srv/handled", content=f"{time.time()}"),
        bind("file", notify=("second",), dest="/srv/handled2", content=f"{time.time()}"),
    )
    host.run(*operations, handlers=handlers)
    assert host.output() == ["handler first", "handler second"]
    host.run(*operations, handlers=handlers)
    assert host.output() == []


def test_a_handler_that_a_failure_kept_from_running_runs_the_next_time(host: Host) -> None:
    handler = Handler("tell", (bind("command", argv=["echo", "handled"]),))
    changed = bind("file", notify=("tell",), dest="/srv/later", content=f"{time.time()}")
    with pytest.raises(OperationFailed):
        host.run(changed, bind("command", argv=["false"]), handlers=(handler,))
    assert host.output() == []
    host.run(changed, handlers=(handler,))
    assert host.output() == ["handled"]


def test_the_handler_that_need_not_be_written_reloads_the_service(host: Host) -> None:
    host.sh(
        "printf '[Service]\\nExecStart=/bin/sleep 1000\\nExecReload=/bin/touch /run/reloaded\\n'"
        " >/etc/systemd/system/sleeper.service"
    )
    service = bind("service", name="sleeper", state="started")
    changed = bind("file", notify=("sleeper",), dest="/etc/sleeper.conf", content=f"{time.time()}")
    handlers = (implied_handler("sleeper", Mark("recipe.yaml", 1, 1)),)
    assert host.run(service, changed, handlers=handlers).changed == 3
    assert host.sh("ls /run/reloaded") == "/run/reloaded"
    host.sh("rm /run/reloaded")
    assert host.run(service, changed, handlers=handlers).changed == 0


def test_a_changed_unit_file_is_read_again(host: Host) -> None:
    text = "[Service]\nExecStart=/bin/sleep {}\n"
    unit = "/etc/systemd/system/unit.service"
    service = bind("service", name="unit", state="started")
    host.run(bind("file", dest=unit, content=text.format(1000)), service)
    host.run(bind("file", dest=unit, content=text.format(2000)), service)
    assert host.sh("systemctl show -p NeedDaemonReload --value unit") == "no"


# --- lost connections -------------------------------------------------------------------------------------------------


@pytest.fixture
def relayed(endpoint: SshEndpoint) -> Iterator[tuple[Host, Relay]]:
    with (
        Relay((endpoint.address, endpoint.port)) as relay,
        ssh.connect(replace(endpoint, address="127.0.0.1", port=relay.port), timeout=60) as connection,
    ):
        yield Host(connection), relay


def test_a_lost_connection_is_made_again_and_nothing_is_done_twice(relayed: tuple[Host, Relay]) -> None:
    host, relay = relayed
    host.sh("rm -f /srv/count")
    script = "echo begun; sleep 2; echo x >>/srv/count; echo done"
    seen: list[str] = []

    def on_event(event: Event) -> None:
        if event.kind == "operation.output":
            seen.append(event.fields["line"])
            if event.fields["line"] == "begun":
                threading.Thread(target=relay.cut).start()

    stage = Stage("cut", (bind("command", shell=script), bind("command", at=2, argv=["echo", "last"])))
    result = run_stage(host.connection, stage, on_event)
    assert [o.status for o in result.operations] == ["changed", "changed"]
    assert seen == ["begun", "done", "last"]
    assert host.sh("cat /srv/count") == "x"
    assert relay.connections == 2


# The connection is cut when this is read: the first connection follows the program by then, and the next one finds its
# directory gone, before the program has noticed.
VANISH = "sleep 1; rm -rf /run/goldenami.*; echo begun"


def test_a_command_is_not_repeated_blindly(relayed: tuple[Host, Relay]) -> None:
    host, relay = relayed

    def on_event(event: Event) -> None:
        if event.kind == "operation.output":
            relay.cut()

    script = f"{VANISH}; sleep 3"
    stage = Stage("cut", (bind("command", at=4, shell=script),))
    with pytest.raises(OperationFailed, match="it is unknown whether it ended") as caught:
        run_stage(host.connection, stage, on_event)
    assert caught.value.place == "recipe.yaml:4:5"


def test_what_is_idempotent_is_run_again(relayed: tuple[Host, Relay]) -> None:
    host, relay = relayed
    host.sh("rm -f /srv/again")
    cuts: list[int] = []

    def on_event(event: Event) -> None:
        if event.kind == "operation.output" and event.fields["line"] == "begun" and not cuts:
            cuts.append(1)
            relay.cut()

    script = f"[ -e /srv/again ] || {{ : >/srv/again; {VANISH}; sleep 3; }}"
    result = run_stage(host.connection, Stage("cut", (bind("command", shell=script, idempotent=True),)), on_event)
    assert result.changed == 1
    assert relay.connections == 2 + len(cuts) - 1


CUTS = (1, 600, 1500, 4000, 7000, 9000)  # bytes: while the command is asked for, the archive sent, the events read


@pytest.mark.parametrize("seed", range(20 if os.environ.get("GOLDENAMI_WHOLE_MATRIX") else 1))
def test_wherever_the_connection_is_cut_everything_is_done_once(relayed: tuple[Host, Relay], seed: int) -> None:
    """Two cuts a run: one at a place that is given, and one anywhere after it."""
    host, relay = relayed
    rng = random.Random(seed)
    connections = []
    for cut in CUTS:
        host.sh("rm -f /srv/effects /srv/part-*")
        stages = [
            Stage(
                name,
                (
                    *(bind("command", shell=f"echo {name}-{n} | tee -a /srv/effects; sleep 0.05") for n in range(4)),
                    bind("file", dest=f"/srv/part-{name}", content=rng.randbytes(900).hex(), notify=("tell",)),
                ),
                (Handler("tell", (bind("command", shell=f"echo {name}-handled >>/srv/effects"),)),),
            )
            for name in ("one", "two")
        ]
        seen: list[tuple[object, object]] = []

        second = [rng.randrange(4000, 16000)]  # connecting again takes some 5000

        def on_event(event: Event, seen: list[tuple[object, object]] = seen, second: list[int] = second) -> None:
            if event.kind == "note" and second:
                relay.cut_after(second.pop())
            if event.kind == "operation.finished":
                seen.append((event.fields["title"], event.fields["status"]))

        before = relay.connections
        relay.cut_after(cut)
        result = run_program(host.connection, stages, on_event)
        relay.cut_after(1 << 40)
        connections.append(relay.connections - before)
        assert [s.changed for s in result.stages] == [6, 6]
        assert len(seen) == len(set(seen)) == 12
        done = host.sh("cat /srv/effects").split()
        assert done == [f"{s}-{n}" for s in ("one", "two") for n in (*range(4), "handled")], cut
    assert all(connections), "each run was cut"


def test_two_programs_on_one_host_do_not_disturb_each_other(host: Host, endpoint: SshEndpoint) -> None:
    """As where drift is looked for while a build is at work: the end of one is not the end of the other's handlers."""
    handler = Handler("tell", (bind("command", argv=["echo", "handled"]),))
    changed = bind("file", notify=("tell",), dest="/srv/beside", content=f"{time.time()}")
    with ssh.connect(endpoint, timeout=60) as other:

        def on_event(event: Event) -> None:
            if event.kind == "operation.output" and event.fields["line"] == "begun":
                run_stage(other, Stage("other", (bind("command", argv=["true"]),)))

        slow = bind("command", shell="echo begun; sleep 2")
        result = run_stage(host.connection, Stage("slow", (slow, changed), (handler,)), on_event)
    assert result.changed == 3


def test_a_program_that_something_kills_is_told(host: Host) -> None:
    with pytest.raises(OperationFailed, match=r"another process ended the program \(SIGKILL\)"):
        host.run(bind("command", shell="kill -9 $(ps -o ppid= $PPID)"))


LIMIT = 48 << 20
# With FIRST, the kernel ends the program before the command that it runs.
FIRST = "echo 1000 >/proc/$(ps -o ppid= $PPID | tr -d ' ')/oom_score_adj\n"
OUT_OF_MEMORY = """
until [ -e /run/limited ]; do sleep 0.1; done
head -c 300m /dev/zero | tail
"""


@contextmanager
def memory_group() -> Iterator[Path]:
    """A control group of this machine with little memory."""
    for top, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(top, f"goldenami-test-{os.getpid()}")
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / name).write_text(str(LIMIT))
                yield group
                return
            finally:
                end = time.monotonic() + 120
                while (group / "cgroup.procs").read_text() and time.monotonic() < end:
                    time.sleep(0.05)
                group.rmdir()
    pytest.skip("NOT PROVEN: this machine limits no memory")


def processes_of(mark: str) -> list[str]:
    """The ids on this machine of the shell of a command that has this environment variable, of the subshell that
    runs it, and of the program."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            command = environment.with_name("cmdline").read_text(errors="replace")
            if command.startswith("sh\0-e") and mark in environment.read_text(errors="replace").split("\0"):
                found = [environment.parent.name]
                for _ in range(2):
                    parent = re.search(r"^PPid:\s*(\d+)", Path("/proc", found[-1], "status").read_text(), re.M)
                    assert parent is not None
                    found.append(parent[1])
                return found
    return []


@pytest.mark.nightly
@pytest.mark.parametrize("first", ["", FIRST], ids=["command", "program"])
def test_a_program_that_the_kernel_kills_for_memory_is_told(host: Host, endpoint: SshEndpoint, first: str) -> None:
    """A real limit of memory, with the program in it. tests/provision/test_log.py has the other ways to die."""
    mark, failed = f"GOLDENAMI_TEST={os.getpid()}", []

    def run() -> None:
        try:
            host.run(bind("command", shell=first + OUT_OF_MEMORY, environment=dict([mark.split("=")])))
        except OperationFailed as error:
            failed.append((error, time.monotonic()))

    host.sh("rm -f /run/limited")
    with memory_group() as group, ssh.connect(endpoint, timeout=60) as other:
        thread = threading.Thread(target=run)
        thread.start()
        until = time.monotonic() + 60
        while not (found := processes_of(mark)):
            assert time.monotonic() < until
            time.sleep(0.1)
        for pid in found:
            (group / "cgroup.procs").write_text(pid)
        begin = time.monotonic()
        other.run(other.as_root("touch /run/limited"))
        thread.join(120)
    [(error, end)] = failed
    assert "for lack of memory" in error.message
    assert "instance_types" in str(error.hint)
    assert end - begin < 60, "within seconds, and not after the timeout of the stage"


@pytest.mark.nightly
def test_a_reboot_that_takes_long(host: Host, endpoint: SshEndpoint) -> None:
    """There is patience, and word of it; and an end to it. The clock runs ten times as fast here."""
    host.sh("mkdir -p /etc/systemd/system/ssh.service.d")
    host.sh("printf '[Service]\\nExecStartPre=/bin/sleep 5\\n' >/etc/systemd/system/ssh.service.d/slow.conf")
    stage = provision.patch_stage(PatchSpec.model_validate({"level": "none", "reboot": "always"}), os="debian")
    notes: list[str] = []

    def on_event(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.fields["message"])

    with ssh.connect(endpoint, timeout=600, clock=lambda: 10 * time.monotonic()) as fast:
        result = run_program(fast, [stage], on_event, reboot_timeout=900)
        assert result.stages[0].rebooted == 1
        assert any("is not reachable" in note and "at most 900 s" in note for note in notes), notes
        with pytest.raises(ssh.NotBack, match="did not come back from its reboot within 20 s"):
            run_program(fast, [stage], reboot_timeout=20)
        fast.reconnect(timeout=900)
    with ssh.connect(endpoint, timeout=60) as again:
        Host(again).sh("rm -r /etc/systemd/system/ssh.service.d; systemctl daemon-reload")


# --- round trips ------------------------------------------------------------------------------------------------------


def test_a_recipe_costs_three_round_trips(endpoint: SshEndpoint) -> None:
    """Opening the channel, asking for the program that reads, and sending it; what comes back is already under way."""
    stages = [
        Stage(name, tuple(bind("file", dest=f"/srv/few/{name}{n}", content="x") for n in range(7)))
        for name in ("patches", "agents", "software", "hardening")
    ]
    items: list[Stage | Fact] = [PACKAGES, *stages, replace(PACKAGES, name="after")]
    with Relay((endpoint.address, endpoint.port)) as relay:
        slow = replace(endpoint, address="127.0.0.1", port=relay.port)
        with ssh.connect(slow, timeout=60) as connection:
            facts = run_program(connection, items).facts
            assert facts["packages"] == facts["after"]
            assert "bash" in {p.name for p in provision.parse_packages(facts["after"])}
            fast = min(run_program(connection, items).seconds for _ in range(3))

            def found(attempt: int) -> int:
                relay.delay = 0.1 * (1 + attempt // 5)
                return round((run_program(connection, items).seconds - fast) / (2 * relay.delay))

            # A busy computer only makes attempts slower. So one attempt with at most three is a proof. The longer the
            # delay, the less do others disturb it.
            assert any(found(attempt) <= 3 for attempt in range(20))


# --- several stages ---------------------------------------------------------------------------------------------------


def test_stages_of_one_program_are_told_apart(host: Host) -> None:
    seen: list[str] = []

    @contextmanager
    def within(name: str) -> Iterator[None]:
        seen.append(f"begin {name}")
        try:
            yield
        except OperationFailed:
            seen.append(f"failed {name}")
            raise
        seen.append(f"end {name}")

    def on_event(event: Event) -> None:
        if event.kind == "operation.finished":
            seen.append(f"{event.fields['index']}/{event.fields['total']} {event.fields['status']}")

    handler = Handler("tell", (bind("command", argv=["echo", "told"]),))
    first = Stage("first", (bind("file", dest="/srv/one", content=f"{time.time()}", notify=("tell",)),), (handler,))
    second = Stage("second", (bind("command", argv=["true"]), bind("command", argv=["false"])))
    third = Stage("third", (bind("command", argv=["true"]),))
    with pytest.raises(OperationFailed):
        run_program(host.connection, [first, second, third], on_event, within=within)
    assert seen == [
        *("begin first", "1/2 changed", "2/2 changed", "end first"),
        *("begin second", "1/2 changed", "2/2 failed", "failed second"),
    ]
    result = run_program(host.connection, [first, third], within=within)
    assert [(s.stage, s.changed, s.ok) for s in result.stages] == [("first", 0, 1), ("third", 1, 0)]


def test_a_stage_that_takes_too_long_is_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is each stage's own, and nothing goes on behind our back. Operations alone move its clock."""
    now = [0.0]
    monkeypatch.setattr(ssh, "Deadline", partial(ssh.Deadline, clock=lambda: now[0]))
    slow = Stage("slow", (bind("command", shell="echo slow"),))
    stuck = Stage("stuck", (bind("command", at=6, shell="echo begun; sleep 888"),))

    def take(event: Event) -> None:
        now[0] += {"slow": 40.0, "begun": 100.0}.get(str(event.fields.get("line")), 0.0)

    run_program(host.connection, [slow, Stage("slow too", slow.operations)], take, timeout=60)
    with pytest.raises(OperationFailed, match=r"the stage stuck did not end within 60 s") as caught:
        run_program(host.connection, [slow, stuck], take, timeout=60)
    assert caught.value.place == "recipe.yaml:6:5"
    assert caught.value.output == "begun"
    assert host.sh("pgrep -f 'sleep [8]88' || :") == ""


# --- patches, facts ------------------------------------------------------------------------------------------------


def test_a_host_without_sudo_rights_is_told(host: Host) -> None:
    host.sh("useradd -m plain 2>/dev/null || :; install -d -m 700 -o plain /home/plain/.ssh")
    host.sh("install -m 600 -o plain /home/admin/.ssh/authorized_keys /home/plain/.ssh/")
    plain = replace(host.connection.endpoint, user="plain")
    with (
        ssh.connect(plain, timeout=60) as connection,
        pytest.raises(BuilderError, match="could not be started") as caught,
    ):
        run_stage(connection, Stage("s", (bind("command", argv=["true"]),)))
    assert "sudo without a password" in (caught.value.hint or "")


@pytest.mark.nightly
def test_patches_and_the_packages_that_they_change(launch: Callable[[str], SshEndpoint]) -> None:
    endpoint = launch("debian-12")
    with ssh.connect(endpoint, timeout=60) as connection:
        before = provision.packages(connection)
        boot = connection.boot_id()
        result = run_stage(
            connection,
            provision.patch_stage(PatchSpec.model_validate({"level": "security", "reboot": "always"}), os="debian"),
        )
        assert result.rebooted == 1
        assert connection.boot_id() != boot
        again = run_stage(
            connection,
            provision.patch_stage(PatchSpec.model_validate({"level": "all", "exclude": ("bash",)}), os="debian"),
        )
        assert again.rebooted in (0, 1)
        last = run_stage(
            connection, provision.patch_stage(PatchSpec.model_validate({"exclude": ("bash",)}), os="debian")
        )
        assert (last.changed, last.rebooted) == (0, 0)
        changes = provision.package_changes(before, provision.packages(connection))
        assert all(c.before is not None for c in changes if c.after is not None and c.name == "bash")
