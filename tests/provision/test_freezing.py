"""A builder is frozen at the end of its sealing: its services end in their order, and EC2 captures it as it is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami import provision, ssh
from goldenami.errors import OperationFailed
from goldenami.filesystems import ELSEWHERE
from goldenami.lifetime import FROZEN_MARK
from goldenami.model import Mark, SshEndpoint
from goldenami.provision import BoundOperation, RunResult, SealReport, freeze, sealing
from goldenami.provision.operation import Operation
from goldenami.provision.program import Beside, Collect, Fact
from goldenami.provision.sealing import Trace
from goldenami.provision.shell import Compilation, Script, Steps, sh
from tests.provision.hosts import Host
from tests.provision.local import run_here

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

# A program that needs a database, both of which take a while to end; two services that have ended, of which one has a
# process and the other a program for its end; and a program that is no service.
SERVICES = """
unit() { printf '[Unit]\\n%s\\n[Service]\\nExecStart=sleep 900\\nExecStop=/usr/local/sbin/ended %s\\n' "$2" "$1" \\
>/run/systemd/system/$1.service; }
cat >/usr/local/sbin/ended <<'END'
#!/bin/sh
sleep 0.3; echo $1 >>/data/ended; echo $1 ends >>/var/log/ended.log
END
chmod 755 /usr/local/sbin/ended
unit database ''; unit app 'Wants=database.service
After=database.service'
cat >/usr/local/sbin/stays <<'END'
#!/bin/sh
trap 'sleep 0.2; echo stays >>/data/ended; exit' TERM
while :; do sleep 0.1; done
END
chmod 755 /usr/local/sbin/stays
over='Type=oneshot\nRemainAfterExit=yes'
printf "[Unit]\nAfter=app.service\n[Service]\n$over\nExecStart=true\nExecStop=/usr/local/sbin/ended over\n" \
>/run/systemd/system/over.service
printf "[Unit]\nAfter=over.service\n[Service]\n$over\nExecStart=sh -c '/usr/local/sbin/stays &'\n" \
>/run/systemd/system/stays.service
systemctl daemon-reload; systemctl start app over stays
setsid sh -c "trap 'echo alone >>/data/ended; exit' TERM; exec >>/data/log
while :; do sleep 0.1; done" </dev/null >/dev/null 2>&1 &
"""
# Reads beside the end of the sealing, with a file of the disk open for writing, until what writes was ended, and /tmp
# is emptied once more; then it sorts with temporary files.
BUSY = Fact(
    "busy",
    Script("""(exec 9>>/var/lib/busy; : >/tmp/busy; left=600
while [ -e /tmp/busy ] && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
seq 100000 | sort -S 256K -r | wc -l)"""),
)
# It works for all file systems but the root.
BROKEN = """cat >/usr/local/sbin/fsfreeze <<'END'
#!/bin/sh
[ "$*" != '--freeze /' ] || { echo 'it is broken' >&2; exit 1; }
exec /usr/sbin/fsfreeze "$@"
END
chmod 755 /usr/local/sbin/fsfreeze"""


@pytest.fixture
def host(launch: Callable[[str], SshEndpoint], real_sandbox: SandboxInfo) -> Iterator[Host]:
    """A host with a data volume at /data, and a user who stays root after the sealing."""
    import boto3

    endpoint = launch("debian-12")
    ec2 = boto3.client("ec2", **real_sandbox.client())
    zone = ec2.describe_instances(InstanceIds=[endpoint.instance_id])["Reservations"][0]["Instances"][0]["Placement"]
    volume = ec2.create_volume(AvailabilityZone=zone["AvailabilityZone"], Size=1)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    ec2.attach_volume(InstanceId=endpoint.instance_id, VolumeId=volume, Device="/dev/sdf")
    with ssh.connect(endpoint, timeout=60) as connection:
        host = Host(connection)
        host.sh('echo "$SUDO_USER ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/test')
        host.sh("until [ -b /dev/nvme1n1 ]; do sleep 0.05; done; mkfs.ext4 -q /dev/nvme1n1; mkdir /data")
        host.sh("mount /dev/nvme1n1 /data")
        yield host
    ec2.terminate_instances(InstanceIds=[endpoint.instance_id])


def seal(host: Host) -> SealReport:
    key = ssh.KeyPair.from_private(host.connection.endpoint.private_key).public_key
    return provision.seal(host.connection, login_key=key, freeze=True, facts_after=[BUSY])


@pytest.mark.root
@pytest.mark.nightly
def test_a_frozen_host_is_captured_as_it_is(host: Host, real_sandbox: SandboxInfo, tmp_path: Path) -> None:
    import boto3

    host.sh(BROKEN)
    assert "it is broken" in seal(host).not_frozen
    host.sh("timeout 20 sh -c 'echo thawed >/data/thawed; echo thawed >/root/thawed'; rm /usr/local/sbin/fsfreeze")
    assert host.sh("ls /run/goldenami-frozen 2>/dev/null || :") == "", "EC2 shuts it down as always"

    host.sh(SERVICES)
    boot = host.connection.boot_id().replace("-", "")
    report = seal(host)
    assert (report.not_frozen, report.facts[BUSY.name].strip()) == ("", "100000")
    ec2: Any = boto3.client("ec2", **real_sandbox.client())
    # Nothing waits for the disk, and what was in memory only can be read.
    assert host.connection.run("cat /data/ended; ls /run/goldenami-frozen").text.split() == [
        "stays",
        "over",
        "app",
        "database",
        "alone",
        "/run/goldenami-frozen",
    ]
    image = ec2.create_image(
        InstanceId=host.connection.endpoint.instance_id, Name=f"frozen-{time.time_ns()}", NoReboot=True
    )
    ec2.get_waiter("image_available").wait(ImageIds=[image["ImageId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    file = tmp_path / "image"
    real_sandbox.request("POST", "export", {"image": image["ImageId"], "output": str(file), "form": "raw"})
    checked = subprocess.run(["e2fsck", "-f", "-n", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout

    def inside(command: str) -> str:
        return subprocess.run(["debugfs", "-R", command, str(file)], capture_output=True, text=True).stdout

    assert "ended.log" in inside("ls /var/log")
    assert inside("cat /var/log/ended.log") == "", "what the services wrote as they ended is sealed as well"
    assert "systemd-private-left-" in inside("ls /var/tmp"), "systemd removes it at the next boot"
    assert boot not in inside("ls /var/tmp") + inside("ls /tmp")


@pytest.mark.root
@pytest.mark.nightly
def test_a_host_that_does_not_become_still_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.sh("printf '#!/bin/sh\\nsleep 50\\n' >/usr/local/sbin/fsfreeze; chmod 755 /usr/local/sbin/fsfreeze")
    monkeypatch.setattr(freeze, "DEADLINE", 3.0)
    with pytest.raises(OperationFailed, match="the stage freeze did not end within 3 s") as caught:
        seal(host)
    assert caught.value.hint is None, "a recipe cannot give it more time"


PLACE = Mark("recipe.yaml", 1, 1)


def trace(find: str, remove: str = ":") -> BoundOperation:
    made = Trace(name="it", what="it", find=Script(find), remove=Script(remove))
    return BoundOperation(freeze.Again(trace=made), PLACE)


class Asking(Operation):
    """What the program says of a host that cannot be frozen."""

    def title(self) -> str:
        return "ask"

    def compile(self, to: Compilation) -> Steps:
        say = sh("printf '%s\\n' @found", found=Script(f'"$({freeze.FROZEN.script.text})"'))
        given_up = freeze.Freeze().compile(to).verify
        return Steps(Script("return 1"), say, given_up)


@pytest.mark.parametrize(
    ("find", "remove", "why"),
    [
        ("echo /x", ":", "what services left as they ended is found again in /x"),
        (r"printf '%s\n' '/a\tb'", ":", r"is found again in /a\tb"),
        ("[ -e $work/gone ] || echo /x", "false; : >$work/gone", "could not be sealed"),
    ],
)
def test_what_cannot_be_sealed_again_is_no_failure(find: str, remove: str, why: str) -> None:
    done = run_here(trace(find, remove), BoundOperation(Asking(), PLACE))
    assert done.statuses == ["changed", "skipped"]
    assert why in done.details[-1]
    assert any(why in line for line in done.output)


def test_what_can_be_sealed_again_leaves_the_host_as_it_is_to_be() -> None:
    done = run_here(trace("[ -e $work/gone ] || echo /x", ": >$work/gone"), BoundOperation(Asking(), PLACE))
    assert done.statuses == ["changed", "changed"]
    assert "unknown" in done.output, "only the mark says that it is frozen"


@pytest.mark.parametrize(
    ("said", "why"), [("frozen\n", ""), (None, "unknown"), ("", "unknown"), ("it hung\n", "it hung")]
)
def test_only_a_host_that_says_so_is_frozen(said: str | None, why: str) -> None:
    assert freeze.not_frozen(said) == why


def test_services_that_have_ended_are_stopped_for_their_end(tmp_path: Path) -> None:
    shown = """Id=own.service
ExecStop={ path=/opt/stop }
FragmentPath=/etc/systemd/system/own.service

Id=packaged.service
ExecStop={ path=/usr/sbin/nft }
FragmentPath=/usr/lib/systemd/system/packaged.service

Id=nothing.service
ControlGroup=/no/such/group
FragmentPath=/etc/systemd/system/nothing.service

Id=generated.service
ExecStop={ path=/etc/init.d/generated }
FragmentPath=/run/systemd/generator.late/generated.service
"""
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\ncase $1 in show) cat <<'END'\n{shown}END\n;; *) echo some.service ;; esac\n")
    program.chmod(0o755)
    functions = Path(freeze.__file__).with_suffix(".sh").read_text()
    done = subprocess.run(
        ["sh", "-c", f"{functions}\nended"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["own.service", "generated.service"]


def test_what_the_program_still_reads_is_not_ended_with_what_writes(tmp_path: Path) -> None:
    """The functions for the host, with its processes in a folder. A reader of the program has the database of rpm open
    for writing; a program of no service has a log."""
    functions = freeze._functions().text.replace("/proc/", f"{tmp_path}/proc/")
    functions = functions.replace("cut -d / -f 3", f"cut -d / -f {len(tmp_path.parts) + 2}")
    code = f"""note() {{ :; }}
systemctl() {{ :; }}
sleep() {{ :; }}
kill() {{ echo "$3"; rm -r "{tmp_path}/proc/$3"; }}
process() {{
mkdir -p "{tmp_path}/proc/$1/fd"; ln -s "$4" "{tmp_path}/proc/$1/fd/3"
echo "0::/user.slice/session-1.scope" >"{tmp_path}/proc/$1/cgroup"
echo "$3" >"{tmp_path}/proc/$1/comm"
echo "$1 ($3) S 1 $1 $2 0 -1" >"{tmp_path}/proc/$1/stat"
}}
process $$ 70 sh /dev/null
process 100 70 'r) S 1 1 9' /var/lib/rpm/rpmdb.sqlite-wal
process 200 80 'a) S 1 1 70' /var/log/app.log
process 300 80 b /run/app.log
{functions}
stop
"""
    done = subprocess.run(["sh", "-c", code], env={**os.environ, "work": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.split() == ["200"], done.stderr
    assert not (tmp_path / "cannot").exists()


def test_the_program_of_the_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may differ as services end is read before, and what is waited for while they are stopped has a limit."""
    given: dict[str, Any] = {}

    def ran(_: object, items: list[Any], *__: object, **options: Any) -> RunResult:
        given.update(options, items=items)
        return RunResult((), {}, 0.0, {}, refused=True)

    monkeypatch.setattr(sealing, "run_program", ran)
    after, before_stop = (Fact(name, Script(":")) for name in ("after", "before_stop"))
    any_of: Any = None
    provision.seal(
        any_of, login_key="ssh-ed25519 AAAA x", facts_after=[after], facts_before_stop=[before_stop], freeze=True
    )
    items, freezes = given["items"], [getattr(item, "name", "") for item in given["items"]].index("freeze")
    assert items[freezes - 1] == Collect(("before_stop",))
    assert Beside((after,)) in items[: freezes - 1]
    assert given["fact_limits"] == {"freeze": freeze.DEADLINE}


TWICE = "a file system that cannot be frozen is still mounted at"


@pytest.mark.parametrize(
    ("others", "comes", "why"),
    [
        ([], "", ""),
        (["/efi"], "", f"{TWICE} /efi"),
        (["/boot/efi"], "", f"{TWICE} /boot/efi"),
        ([], "vfat", "a file system was mounted meanwhile, at /boot/efi"),
        ([], "ext4", "a file system was mounted meanwhile, at /boot/efi"),
    ],
)
def test_what_is_released_must_not_be_mounted_a_second_time(
    tmp_path: Path, others: list[str], comes: str, why: str
) -> None:
    """The functions for the host, with its mounts in a file, and programs that do nothing else. ``comes``: what an
    automount mounts while the root is being frozen."""
    mounts, programs = tmp_path / "proc/self/mountinfo", tmp_path / "bin"
    mounts.parent.mkdir(parents=True)
    esp = [f"{30 + i} 22 8:15 / {at} rw - vfat /dev/sda15 rw\n" for i, at in enumerate(["/boot/efi", *others])]
    mounts.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(esp))
    programs.mkdir()
    umount = f"awk -v at=\"$1\" '$5 != at || done++' '{mounts}' >'{tmp_path}/new'; mv '{tmp_path}/new' '{mounts}'"
    does = {"umount": umount, "stat": "echo tmpfs", "fsfreeze": f"echo $* >>'{tmp_path}/frozen'"}
    if comes:
        again = esp[0].strip().replace("vfat", comes)
        does["fsfreeze"] += f"\ncase $1 in --freeze) echo '{again}' >>'{mounts}' ;; esac"
    for name in ("fsfreeze", "mount", "stat", "swapoff", "sync", "systemd-run", "umount"):
        (programs / name).write_text(f"#!/bin/sh\n{does.get(name, ':')}\n")
        (programs / name).chmod(0o755)
    functions = freeze._functions().text.replace("/proc/", f"{tmp_path}/proc/").replace(FROZEN_MARK, f"{tmp_path}/mark")
    end = "trap '' TERM; kill -s TERM 0"  # what would end a freeze that hangs waits otherwise
    done = subprocess.run(
        ["sh", "-c", f"note() {{ :; }}\n{functions}\nfreeze\n{end}"],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "work": str(tmp_path)},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    said, frozen = tmp_path / "cannot", tmp_path / "frozen"
    assert (said.read_text() if why else "") == why, done.stderr
    assert (said.exists(), (tmp_path / "mark").exists()) == (bool(why), not why)
    calls = frozen.read_text().splitlines() if frozen.exists() else []
    assert calls == (["--freeze /", "--unfreeze /"] if comes else ["--freeze /"] if not why else [])


def test_a_file_system_that_is_mounted_elsewhere_or_in_part_is_found() -> None:
    root = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
    part = "30 22 8:1 /srv /export rw - ext4 /dev/sda1 rw"
    memory = "31 22 0:25 /x /run/x rw - tmpfs tmpfs rw"
    other = "40 22 8:17 /data /var/lib/data rw - xfs /dev/sdb1 rw"
    reading = "41 22 7:1 /x /snap/x ro - squashfs /dev/loop1 ro"

    def found(here: list[str], others: list[str]) -> str:
        text = "\n".join([*here, "", *others, ""])
        return subprocess.run(["awk", ELSEWHERE.text], input=text, capture_output=True, text=True, check=True).stdout

    assert found([root, part, memory], [root, part, memory, reading]) == ""
    assert found([root], [root, other.replace(" rw -", " ro -")]) == "", "nobody can write there"
    assert found([root], [root, other, other]) == "/var/lib/data\n"
    assert found([root, other], [root, other]) == "/var/lib/data\n", "of which only a part is mounted"
