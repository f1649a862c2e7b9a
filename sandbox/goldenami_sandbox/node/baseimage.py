"""Base roots: the equivalent of a vendor's cloud image, made by mmdebstrap from Debian's archive, cached as sparse
ext4.

Several sandboxes can share the cache: each image has a lock, and a complete image is renamed to its name. The name has
a digest of this definition, so that a newer version of the program builds its own image.

Only packages of the release suite are installed, while apt is configured with updates and security too. So updates are
available, as for a cloud image that is a few weeks old.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.command import last_line, run

SIZE = 8 * 2**30  # bytes; the root volume of Debian's AMIs
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGES = (
    "adduser,apt,ca-certificates,dbus,debian-archive-keyring,e2fsprogs,iproute2,kmod,login,netbase,openssh-server,openssh-sftp-server,"
    "passwd,procps,sudo,systemd,systemd-sysv,tzdata,util-linux"
)
# Units without a purpose in a guest that has no hardware and whose network is configured from outside. Each of them
# costs boot time or fails.
_MASKED = (
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty-static.service",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-done.service",
)
# As in Debian's container images: apt reads no translations, a third of what it downloads and unpacks, and dpkg does
# not wait for the disk after each file.
_SETTINGS = {
    "etc/apt/apt.conf.d/90sandbox": 'Acquire::Languages "none";\n',
    "etc/dpkg/dpkg.cfg.d/sandbox": "force-unsafe-io\n",
}
_USER_DATA_UNITS = {
    "cloud-init.service": """\
[Unit]
Description=Cloud-init: early commands of user data
DefaultDependencies=no
After=systemd-tmpfiles-setup.service local-fs.target
Before=sysinit.target ssh.service
ConditionPathExists=/var/lib/cloud/instance/boot.sh

[Service]
Type=oneshot
ExecStart=/bin/sh /var/lib/cloud/instance/boot.sh
StandardOutput=journal+console
StandardError=journal+console
TimeoutSec=0

[Install]
WantedBy=sysinit.target
""",
    "cloud-final.service": """\
[Unit]
Description=Cloud-init: packages, commands and scripts of user data
After=network-online.target ssh.service
ConditionPathExists=/var/lib/cloud/instance/final.sh

[Service]
Type=oneshot
ExecStart=/bin/sh /var/lib/cloud/instance/final.sh
RemainAfterExit=yes
TimeoutSec=0
KillMode=process
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
""",
}


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release. ``name``: for callers. ``suite``: Debian's codename."""

    name: str
    suite: str


RELEASES = {r.name: r for r in (Release("debian-12", "bookworm"), Release("debian-13", "trixie"))}


def image(release: str, cache: Path) -> Path:
    """Return the path of the cached image of ``release``. It is made first if missing: 30 seconds, and access to the
    archive.
    """
    if release not in RELEASES:
        raise SandboxError(f"there is no base root {release!r}", hint=f"Use one of {', '.join(RELEASES)}.")
    definition = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    target = cache / f"{release}-amd64-{definition}.ext4"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _make(RELEASES[release], target)
            for old in cache.glob(f"{release}-amd64-*.ext4"):
                if old != target:
                    old.unlink()
    return target


def _make(release: Release, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{release.name}-", dir=target.parent) as directory:
        root = Path(directory) / "root"
        root.mkdir()
        _bootstrap(release, root)
        furnish(root, release)
        new = Path(directory) / "image"
        with new.open("wb") as file:
            file.truncate(SIZE)
        options = "lazy_itable_init=0,lazy_journal_init=0"
        run("mke2fs", "-q", "-t", "ext4", "-L", "cloudimg-rootfs", "-E", options, "-d", str(root), str(new))
        new.rename(target)


def _bootstrap(release: Release, root: Path) -> None:
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory", f"--include={_PACKAGES}"]
    if Path(_KEYRING).exists():
        argv.append(f"--keyring={_KEYRING}")
    argv += [release.suite, str(root), MIRROR]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise SandboxError(
            "mmdebstrap is not installed", hint="Install it: apt-get install mmdebstrap debian-archive-keyring"
        ) from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise SandboxError(
            f"mmdebstrap could not make a root of {release.name}: {errors[0] if errors else last_line(done.stderr)}",
            hint=f"It needs to reach {MIRROR}, by http_proxy if that is set, and about 1 GB of disk.",
        )


def furnish(root: Path, release: Release) -> None:
    """Turn a bare Debian root into a cloud image: apt sources and settings, no machine identity, and no units that
    fail in a guest.
    """
    sources = root / "etc/apt/sources.list.d"
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for old in sources.glob("*"):
        old.unlink()
    (sources / "debian.sources").write_text(_sources(release))
    for name, text in _SETTINGS.items():
        (root / name).write_text(text)
    units = root / "etc/systemd/system"
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for name, text in _USER_DATA_UNITS.items():
        (root / "usr/lib/systemd/system" / name).write_text(text)
        wants = units / (text.rpartition("WantedBy=")[2].strip() + ".wants")
        wants.mkdir(exist_ok=True)
        (wants / name).symlink_to(f"/usr/lib/systemd/system/{name}")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")
    with suppress(FileNotFoundError):
        (root / "var/lib/dbus/machine-id").unlink()
    (root / "etc/hostname").write_text("localhost\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/fstab").write_text("# The root is given by the host.\n")
    for directory in ("var/lib/apt/lists", "var/cache/apt", "var/log/apt", "tmp", "var/tmp"):
        for path in (root / directory).glob("*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for directory in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (root / directory).mkdir(parents=True, exist_ok=True)
        (root / directory).chmod(0o700)
    (root / "var/cache/apt/archives").chmod(0o755)


def _sources(release: Release) -> str:
    def stanza(uri: str, suites: str) -> str:
        return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {_KEYRING}\n"

    suite = release.suite
    return stanza(MIRROR, f"{suite} {suite}-updates") + "\n" + stanza(SECURITY_MIRROR, f"{suite}-security")
