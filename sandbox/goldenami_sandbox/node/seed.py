"""Prepares the root of an instance before it boots, with the results and rules of cloud-init.

Per instance (if /var/lib/cloud/data/instance-id has another id, as in an image, or is missing): hostname, default user,
keys, host keys, files and the scripts of user data. At every boot: resolver, hosts file, boot commands. Commands and
scripts run in the guest, by the units cloud-init.service and cloud-final.service of the base root.
/var/lib/cloud/instance/boot-finished appears when all is done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import hostkeys, userdata, users
from goldenami_sandbox.node.api import InstanceSpec
from goldenami_sandbox.node.rootfs import Rootfs

_HOST_KEY_KINDS = ("ed25519", "ecdsa", "rsa", "dsa")
_SUDOERS = "/etc/sudoers.d/90-cloud-init-users"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The guest's environment. ``new_host_keys`` returns contents by file name; it is called on a first boot only."""

    address: str
    nameservers: Sequence[str]
    new_host_keys: Callable[[str], dict[str, str]]


def seed(root: Rootfs, spec: InstanceSpec, around: Surroundings) -> str:
    """Prepare the root for its next boot. Returns the lines that cloud-init would print on the console."""
    _check(root)
    first = root.read("/var/lib/cloud/data/instance-id").strip() != spec.instance
    data = userdata.parse(spec.user_data)
    said: list[str] = []
    hostname = data.hostname or spec.hostname
    _every_boot(root, hostname, around, first)
    if first:
        said += [f"cloud-init: warning: {warning}" for warning in data.warnings]
        steps: list[Callable[[], None]] = [
            lambda: root.write("/etc/hostname", hostname + "\n"),
            lambda: _users(root, spec, data),
            lambda: said.extend(_host_keys(root, hostname, data, around)),
            lambda: _files(root, data),
        ]
        for step in steps:
            try:
                step()
            except (SandboxError, OSError) as e:
                # As with cloud-init, the failure of a module is reported and the instance boots.
                said.append(f"cloud-init: error: {e}")
        _record(root, spec, data)
    return "".join(f"{line}\n" for line in said)


def _check(root: Rootfs) -> None:
    if not any(root.exists(init) for init in ("/sbin/init", "/usr/lib/systemd/systemd")):
        raise SandboxError("the root volume has no init", hint="Its image was not made from a bootable root.")


def _every_boot(root: Rootfs, hostname: str, around: Surroundings, first: bool) -> None:
    resolver = "".join(f"nameserver {server}\n" for server in around.nameservers)
    root.write("/etc/resolv.conf", resolver)
    if first or not root.exists("/etc/hosts"):
        short = hostname.partition(".")[0]
        names = hostname if hostname == short else f"{hostname} {short}"
        root.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {names}\n::1 localhost ip6-localhost ip6-loopback\n")


def _users(root: Rootfs, spec: InstanceSpec, data: userdata.UserData) -> None:
    keys = [key for key in (spec.ssh_public_key, *data.authorized_keys) if key]
    rules: list[str] = []
    if data.default_user:
        name = spec.default_user
        users.ensure_user(root, userdata.User(name, groups=("adm", "sudo")))
        _authorize(root, name, keys)
        rules.append(f"# User rules for {name}\n{name} ALL=(ALL) NOPASSWD:ALL\n")
        if root.user("root") and keys:
            notice = f'Please login as the user \\"{name}\\" rather than the user \\"root\\".'
            command = f"echo '{notice}';echo;sleep 10;exit 142"
            options = f'no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command="{command}"'
            _authorize(root, "root", [f"{options} {key}" for key in keys])
    for user in data.users:
        users.ensure_user(root, user)
        _authorize(root, user.name, list(user.keys))
        if user.sudo:
            rules.append(f"# User rules for {user.name}\n" + "".join(f"{user.name} {rule}\n" for rule in user.sudo))
    if rules and root.exists("/etc/sudoers.d"):
        root.write(_SUDOERS, "# Created by cloud-init\n\n" + "\n".join(rules), mode=0o440)


def _authorize(root: Rootfs, name: str, keys: list[str]) -> None:
    """Add missing keys. Keys that the image contains are kept, as with cloud-init."""
    user = root.user(name)
    if user is None or not keys:
        return
    uid, gid, home = user
    root.mkdir(f"{home}/.ssh", 0o700, (uid, gid))
    file = f"{home}/.ssh/authorized_keys"
    lines = root.read(file).splitlines()
    lines += [key.strip() for key in keys if key.strip() not in lines]
    root.write(file, "\n".join(lines) + "\n", 0o600, (uid, gid))


def _host_keys(root: Rootfs, hostname: str, data: userdata.UserData, around: Surroundings) -> list[str]:
    if not root.exists("/etc/ssh"):
        return []
    if data.delete_host_keys:
        for kind in _HOST_KEY_KINDS:
            for suffix in ("", ".pub", "-cert.pub"):
                root.remove(f"/etc/ssh/ssh_host_{kind}_key{suffix}")
    keys = data.host_keys or around.new_host_keys(f"root@{hostname}")
    for name, text in keys.items():
        public = name.endswith(".pub")
        if data.delete_host_keys or not root.exists(f"/etc/ssh/{name}"):
            root.write(f"/etc/ssh/{name}", text, 0o644 if public else 0o600)
    lines = [root.read(f"/etc/ssh/ssh_host_{kind}_key.pub").strip() for kind in _HOST_KEY_KINDS]
    lines = [line for line in lines if line]
    # The form in which AWS documents reading the host keys from the console.
    said = ["ec2: ", "ec2: " + "#" * 61, "ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----"]
    for line in lines:
        said.append(f"ec2: {hostkeys.fingerprint(line)} {' '.join(line.split()[2:])} ({line.split()[0]})")
    said += ["ec2: -----END SSH HOST KEY FINGERPRINTS-----", "ec2: " + "#" * 61]
    return [*said, "-----BEGIN SSH HOST KEY KEYS-----", *lines, "-----END SSH HOST KEY KEYS-----"]


def _files(root: Rootfs, data: userdata.UserData) -> None:
    for file in data.files:
        root.write(file.path, file.content, file.mode, root.owner(file.owner), file.append)


def _record(root: Rootfs, spec: InstanceSpec, data: userdata.UserData) -> None:
    """Write cloud-init's files under /var/lib/cloud, and the scripts that the guest runs."""
    home = f"/var/lib/cloud/instances/{spec.instance}"
    root.mkdir(f"{home}/scripts", 0o700)
    root.remove("/var/lib/cloud/instance")
    root.path("/var/lib/cloud").joinpath("instance").symlink_to(home)
    root.write(f"{home}/user-data.txt", spec.user_data, 0o600)
    if data.boot_commands:
        root.write(f"{home}/boot.sh", "#!/bin/sh\n" + "\n".join(data.boot_commands) + "\n", 0o700)
    final = _final_script(root, home, data)
    if final:
        root.write(f"{home}/final.sh", final, 0o700)
    else:
        root.write(f"{home}/boot-finished", "Cloud-init finished before boot: there was nothing to run.\n")
    root.mkdir("/var/lib/cloud/data")
    root.write("/var/lib/cloud/data/instance-id", spec.instance + "\n")


def _final_script(root: Rootfs, home: str, data: userdata.UserData) -> str:
    lines: list[str] = []
    if data.package_update or data.packages or data.package_upgrade:
        lines.append("apt-get -q update || status=1")
    if data.package_upgrade:
        lines.append("apt-get -qy dist-upgrade || status=1")
    if data.packages:
        lines.append(f"apt-get -qy install {shlex.join(data.packages)} || status=1")
    if data.run_commands:
        root.write(f"{home}/scripts/runcmd", "#!/bin/sh\n" + "\n".join(data.run_commands) + "\n", 0o700)
        lines.append(f'{home}/scripts/runcmd || {{ echo "cloud-init: runcmd failed with status $?"; status=1; }}')
    for number, script in enumerate(data.scripts, 1):
        path = f"{home}/scripts/part-{number:03d}"
        root.write(path, script, 0o700)
        lines.append(f'{path} || {{ echo "cloud-init: script part-{number:03d} failed with status $?"; status=1; }}')
    if not lines:
        return ""
    # It runs once: an instance that is stopped and started must not run it again.
    return "\n".join(
        [
            "#!/bin/sh",
            f"mv {home}/final.sh {home}/final.done",
            "export DEBIAN_FRONTEND=noninteractive HOME=/root",
            "status=0",
            *lines,
            f'echo "Cloud-init finished at $(date -R), status $status" | tee {home}/boot-finished',
            "exit $status",
            "",
        ]
    )
