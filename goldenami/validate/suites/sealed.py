"""The built-in suite ``sealed``: an instance of the image has no key, identity or log of its builder.

It runs only at gate "image", at the first boot of a new instance. The instance must have another key pair than the
builder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from shlex import quote
from typing import Any

import pytest

from goldenami.os import MANAGERS
from goldenami.os.sshd import KEY_ENTRIES, key_entries
from goldenami.validate.reading import BOOT_TIMES, WAIT_FOR_BOOT, start_of_boot
from goldenami.validate.traces import Traces

Host = Any  # testinfra's Host; its modules (host.sudo, host.file) are created at run time

pytestmark = [pytest.mark.gate("image"), pytest.mark.reads]

_HOMES = """$(getent passwd | awk -F: '$6 != "/" && !seen[$6]++ { print $6 }')"""
_KEY_FOLDERS = """$(getent passwd | awk -F: '{ sub("/*$", "/.ssh", $6) } !seen[$6]++ { print $6 }')"""


@pytest.fixture(scope="module")
def builder(builder_traces: Traces | None, variables: Mapping[str, Any]) -> Traces:
    """The traces of the builder. Tests of a build fail without them, because they could prove nothing. Elsewhere they
    are skipped, because only the build knows its builder."""
    if builder_traces is None and not dict(variables.get("goldenami") or {}).get("made_here", True):
        pytest.skip("NOT PROVEN: the builder of this image is not known")
    assert builder_traces is not None, "the traces of the builder are missing, so this test can prove nothing"
    return builder_traces


def _key_material(line: str) -> str:
    """Return the base64 field of a public key in OpenSSH's format, without its type and comment."""
    return line.split()[1]


def test_key_of_the_builder_opens_nothing(host: Host, builder: Traces) -> None:
    """The builder's temporary key is not in /etc, in cloud-init's data, in the .ssh folder of an account, or where sshd
    looks for the keys of accounts."""
    keys = [_key_material(line) for line in builder.public_key.splitlines()]
    words = quote("\n".join(keys))
    host.run(WAIT_FOR_BOOT)  # cloud-init writes keys; the suite hygiene gets the same answer
    with host.sudo():
        held = host.run(f"grep -rslF -e {words} -- /etc /run/cloud-init /var/lib/cloud {_KEY_FOLDERS}")
        entries = key_entries(host.run(KEY_ENTRIES).stdout)
    found = {*held.stdout.split(), *(file for file, _, entry in entries if any(key in entry for key in keys))}
    assert not found, f"the builder's temporary key is in {', '.join(sorted(found))}"


def test_host_keys_are_new(host: Host, builder: Traces) -> None:
    lines = host.check_output("cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    ours = {_key_material(line) for line in lines if line.strip()}
    assert ours, "there are no host keys"
    theirs = {_key_material(line) for line in builder.host_keys}
    assert theirs, "the traces of the builder contain no host keys"
    assert not ours & theirs, "the host keys are those of the builder, so all instances would have the same identity"


def test_machine_id_is_new(host: Host, builder: Traces) -> None:
    assert host.check_output("cat /etc/machine-id") != builder.machine_id


def test_journal_begins_with_this_boot(host: Host) -> None:
    with host.sudo():
        boots = host.run("journalctl --list-boots --no-pager").stdout
        kept = host.run("ls /var/log/journal 2>/dev/null").stdout.split()
    assert len(re.findall(r"\b[0-9a-f]{32}\b", boots)) <= 1, f"the journal contains earlier boots:\n{boots}"
    own = host.check_output("cat /etc/machine-id")
    # systemd names the folder of a journal MACHINE_ID, and the one of a namespace MACHINE_ID.NAMESPACE.
    foreign = [name for name in kept if re.match(r"[0-9a-f]{32}", name) and not name.startswith(own)]
    assert not foreign, f"journals of another machine: {', '.join(foreign)}"


def test_no_shell_history(host: Host) -> None:
    with host.sudo():
        found = host.run(f"find {_HOMES} -xdev -maxdepth 1 -name '.*history' -size +0 2>/dev/null").stdout.split()
    assert not found, f"shell history: {', '.join(found)}"


def test_no_package_archives(host: Host) -> None:
    searches = [f"find {' '.join(m.downloads)} -name '*{m.suffix}' 2>/dev/null" for m in MANAGERS.values()]
    with host.sudo():
        found = host.run("; ".join(searches)).stdout.split()
    assert not found, f"downloaded packages: {', '.join(found[:5])}"


def test_cloud_init_knows_this_instance_only(host: Host) -> None:
    """cloud-init has no state of the builder. Otherwise every instance would contain the builder's user-data."""
    with host.sudo():
        kept = host.run(
            "ls /var/lib/cloud/instances 2>/dev/null; echo ===; "
            "cat /var/lib/cloud/data/previous-instance-id 2>/dev/null"
        )
    instances, previous = (part.strip() for part in kept.stdout.split("===\n"))
    found = instances.split()
    assert len(found) <= 1, f"cloud-init has the state of several instances: {', '.join(found)}"
    assert previous in ("", "NO_PREVIOUS_INSTANCE_ID", *found), f"cloud-init has the id of another instance: {previous}"


def test_nothing_ends_instances_of_the_image(host: Host, builder: Traces) -> None:
    """The service that ends the builder after its lifetime is not in the image, and its timer does not run."""
    if not builder.files:
        pytest.skip("the builder had no service that ends it")
    left = host.run("ls -d --" + " %s" * len(builder.files) + " 2>/dev/null", *builder.files).stdout.split()
    assert not left, f"these files of the builder power off every instance of the image: {', '.join(left)}"
    shown = host.check_output("systemctl list-units --all --plain --no-legend 'goldenami-builder-*'")
    assert not shown.strip(), f"units that end the builder: {shown}"


def test_no_login_is_remembered(host: Host) -> None:
    """wtmp and btmp contain no login from before this boot."""
    host.run(WAIT_FOR_BOOT)  # the suite performance gets the same answer, and needs the end of the boot
    boot = start_of_boot(host.run(BOOT_TIMES).stdout)
    if boot is None:
        pytest.skip("systemd does not report the time of the boot")
    # A minute of tolerance, since the clock may be set while the system boots.
    with host.sudo():
        last = host.run("find /var/log -maxdepth 1 -name '[wb]tmp' -size +0 ! -newermt %s", f"@{boot - 60}")
    assert not last.stdout.strip(), f"records of earlier logins: {last.stdout}"
