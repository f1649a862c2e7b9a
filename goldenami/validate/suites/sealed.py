"""The built-in suite ``sealed``: an instance of the image shares nothing with the builder it was captured from.

It runs at gate "image" only, on the first boot of a fresh instance, which must have been given another key pair.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from goldenami.os import MANAGERS
from goldenami.validate.traces import Traces

Host = Any  # testinfra's; its modules (host.sudo, host.file) come to be at run time only

pytestmark = pytest.mark.gate("image")

_HOMES = "$(getent passwd | cut -d: -f6 | sort -u | grep -vx /)"
_KEY_FOLDERS = "$(getent passwd | cut -d: -f6 | sort -u | sed 's,/*$,/.ssh,')"


@pytest.fixture(scope="module")
def builder(builder_traces: Traces | None) -> Traces:
    """What was read from the builder. A proof that cannot be made is a failure, not a skipped test."""
    assert builder_traces is not None, "nothing is known of the builder, so nothing can be proven"
    return builder_traces


def _key_material(line: str) -> str:
    """The middle field of a public key in OpenSSH's format: what counts, without type and comment."""
    return line.split()[1]


def test_key_of_the_builder_opens_nothing(host: Host, builder: Traces) -> None:
    """It is in no authorized_keys, and nowhere else where an account's keys, or cloud-init's data, could hold it."""
    command = f"grep -rslF -e %s -- /etc /run/cloud-init /var/lib/cloud {_KEY_FOLDERS}"
    with host.sudo():
        found = host.run(command, _key_material(builder.public_key)).stdout.split()
    assert not found, f"the builder's temporary key is in {', '.join(found)}"


def test_host_keys_are_new(host: Host, builder: Traces) -> None:
    lines = host.check_output("cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    ours = {_key_material(line) for line in lines if line.strip()}
    assert ours, "there are no host keys"
    theirs = {_key_material(line) for line in builder.host_keys}
    assert theirs, "nothing is known of the builder's host keys"
    assert not ours & theirs, "host keys are the builder's: every instance would have the same identity"


def test_machine_id_is_new(host: Host, builder: Traces) -> None:
    assert host.check_output("cat /etc/machine-id") != builder.machine_id


def test_journal_begins_with_this_boot(host: Host) -> None:
    with host.sudo():
        boots = host.run("journalctl --list-boots --no-pager").stdout
        kept = host.run("ls /var/log/journal 2>/dev/null").stdout.split()
    assert len(re.findall(r"\b[0-9a-f]{32}\b", boots)) <= 1, f"the journal remembers earlier boots:\n{boots}"
    own = host.check_output("cat /etc/machine-id")
    # systemd names a machine's journal after its id, and a namespace's journal ID.NAMESPACE.
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
    """The state of the builder's instance, with its user-data, would stay in every instance for good."""
    with host.sudo():
        found = host.run("ls /var/lib/cloud/instances 2>/dev/null").stdout.split()
        previous = host.run("cat /var/lib/cloud/data/previous-instance-id 2>/dev/null").stdout.strip()
    assert len(found) <= 1, f"cloud-init remembers {', '.join(found)}"
    assert previous in ("", "NO_PREVIOUS_INSTANCE_ID", *found), f"cloud-init remembers {previous}"


def test_no_login_is_remembered(host: Host) -> None:
    """wtmp and btmp hold this boot's logins at most: none of them is older than the machine."""
    boot = host.run("systemctl show --property=UserspaceTimestamp --timestamp=unix --value").stdout.strip()
    if not re.fullmatch(r"@\d+", boot):
        pytest.skip("this systemd cannot tell when it was started")
    # A minute of tolerance, since the clock may be set while the system boots.
    with host.sudo():
        last = host.run("find /var/log -maxdepth 1 -name '[wb]tmp' -size +0 ! -newermt %s", f"@{int(boot[1:]) - 60}")
    assert not last.stdout.strip(), f"records of earlier logins: {last.stdout}"
