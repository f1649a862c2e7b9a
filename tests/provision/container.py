"""A small host on this machine: an SSH server in its own mount and process namespaces.

Its programs are those of this machine. /etc is a copy, and everything else is empty and in memory, so that a program
which runs there as root changes nothing here. It has no systemd.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.model import SshEndpoint
from tests.worlds.sshd import listening

_ROOT = """set -e
root=$1
mount -t tmpfs -o "size=$5" none "$root"
cd "$root"
mkdir -p usr proc dev run tmp root home var/log var/tmp var/mail var/lib srv
chmod 1777 tmp var/tmp
for name in bin sbin lib lib32 lib64 libx32; do
if [ -L "/$name" ]; then cp -a "/$name" "$name"
elif [ -d "/$name" ]; then mkdir "$name"; mount --rbind "/$name" "$name"
fi
done
mount --rbind /usr usr
mount -o remount,bind,ro usr
mount -t tmpfs none usr/local
mkdir usr/local/bin usr/local/sbin
cp -a /etc etc
rm -rf etc/ssh/sshd_config.d
mkdir -p etc/ssh/sshd_config.d
mount -t proc none proc
mount --rbind /dev dev
mount -t tmpfs -o "size=$2" none run
mkdir run/sshd
cp "$3"/* etc/ssh/
chmod 600 etc/ssh/host* etc/ssh/keys
mkdir -m 700 root/.ssh
cp etc/ssh/keys root/.ssh/authorized_keys
chroot . useradd -m -s /bin/bash admin
chroot . usermod -p '*' admin
chroot . sh -ec "$4"
exec chroot . /usr/sbin/sshd -D -e -f /etc/ssh/config -p "$6"
"""


@contextlib.contextmanager
def container(
    folder: Path,
    *,
    run_size: str = "64m",
    root_size: str = "256m",
    user: str = "root",
    setup: str = "",
    sshd: Mapping[str, str] | None = None,
    host_key: ssh.KeyPair | None = None,
    login_key: ssh.KeyPair | None = None,
) -> Iterator[SshEndpoint]:
    """Start a host. ``run_size``, ``root_size``: of /run, and of the rest. ``setup``: shell code that root runs there
    first. ``sshd``: settings.
    """
    if shutil.which("unshare") is None or not Path("/usr/sbin/sshd").exists():
        pytest.skip("NOT PROVEN: unshare or sshd is not installed")
    host, login = host_key or ssh.generate_keypair(), login_key or ssh.generate_keypair()
    also_host, also_login = ssh.generate_keypair("ecdsa"), ssh.generate_keypair("ecdsa")  # as builders have
    settings = {
        "ListenAddress": "127.0.0.1",
        "HostKey": "/etc/ssh/host\nHostKey /etc/ssh/host-ecdsa",
        "AuthorizedKeysFile": "/etc/ssh/keys.%u .ssh/authorized_keys",
        "StrictModes": "no",
        "PidFile": "none",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        **(sshd or {}),
    }
    etc, root = folder / "etc", folder / "root"
    for path in (etc, root):
        path.mkdir(parents=True)
    (etc / "host").write_text(host.private_key)
    (etc / "host-ecdsa").write_text(also_host.private_key)
    for name in ("keys", "keys.admin"):
        (etc / name).write_text(f"{login.public_key}\n{also_login.public_key}\n")
    (etc / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    command = [*unshare, "sh", "-c", _ROOT, "sh", str(root), run_size, str(etc), setup, root_size]
    with listening(lambda port: [*command, str(port)], folder / "log") as (port, _):
        private, public = login.private_key + also_login.private_key, f"{host.public_key}\n{also_host.public_key}"
        yield SshEndpoint("127.0.0.1", user, private, public, port)


def as_root(connection: ssh.Connection, script: str) -> str:
    """Run a script, and return its output. The connection is root's, since the host has no sudo."""
    done = connection.run(f"sh -ec {shlex.quote(script)}")
    assert done.status == 0, done.stderr.decode() + done.text
    return done.text
