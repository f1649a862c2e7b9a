"""One or more examples of every kind of operation, as a recipe would give them; what a test runs on a real host."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from goldenami.model import Mark
from goldenami.provision import OPERATIONS, BoundOperation, Payload
from goldenami.provision.operation import Entry
from goldenami.ssh import generate_keypair

ODD = 'it\'s "odd" $HOME `id` \\n %s ; * & | < > ~ é'  # what breaks where quoting is forgotten


PROFILE = """Name: a delay after a failure
Default: yes
Priority: 10
Auth-Type: Primary
Auth:
\toptional\t\t\tpam_faildelay.so delay=1000000
"""


@cache
def certificate() -> str:
    """Of an authority that is nobody's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Example Authority")])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def bind(
    kind: str,
    at: int = 1,
    notify: tuple[str, ...] = (),
    payload: Payload | None = None,
    retries: int = 0,
    **fields: Any,
) -> BoundOperation:
    """An operation, at a line of a recipe; ``payload`` is that of its one source field."""
    cls = OPERATIONS[kind]
    payloads: Mapping[str, Payload] = {next(iter(cls.sources)): payload} if payload else {}
    return BoundOperation(
        cls.model_validate(fields), Mark("recipe.yaml", at, 5), notify=notify, payloads=payloads, retries=retries
    )


def tree() -> Payload:
    """A directory as a payload: with a name that quoting must survive, a program, an empty directory and a link."""
    entries = (
        Entry("odd", "directory"),
        Entry(f"odd/{ODD.replace('/', '')}", "file", Payload.of(ODD.encode(), 0o644)),
        Entry("odd/run.sh", "file", Payload.of(b"#!/bin/sh\n", 0o755)),
        Entry("odd/to", "link", target="/nowhere/at all"),
        Entry("empty", "directory"),
    )
    return Payload("0" * 64, 0, tree=entries)


def examples(served: Path, sums: Mapping[str, str]) -> list[BoundOperation]:
    """In an order in which they work. ``served``: a folder on the host, with files that ``sums`` has checksums of."""
    key = generate_keypair().public_key
    archive: dict[str, Any] = {"url": f"file://{served}/archive.tar.gz", "sha256": sums["archive.tar.gz"]}
    deb: dict[str, Any] = {"url": f"file://{served}/example.deb", "sha256": sums["example.deb"]}
    # fmt: off
    return [
        bind("package", name="tree"),
        bind("package", name=["bc", "less"], recommends=False),
        bind("package", name="hello", version=">=2.0", hold=True),
        bind("package", name="ed", state="latest"),
        bind("package", name="nano", state="absent"),
        # Without a mail server, which cron recommends; ca-certificates is there, and its update takes longest of all.
        bind("package", name=["cron", "locales", "tzdata"], recommends=False),
        bind("group", name="staff2", gid=4242),
        bind("group", name="nobodies", state="absent"),
        bind("user", name="deploy", group="staff2", groups=["adm"], home="/srv/deploy home", shell="/bin/sh",
             comment="O'Deploy", locked=True, expires="2099-01-31", authorized_keys=[key + " someone@somewhere"]),
        bind("user", name="daemon2", system=True),
        bind("user", name="aged", password_hash="$6$saltsalt$" + "a" * 86, expires="never"),
        bind("user", name="gone", state="absent"),
        bind("sudoers", name="deploy", content="deploy ALL=(ALL) NOPASSWD: /usr/bin/true"),
        bind("sudoers", name="deploy-too", src="sudoers.j2",
             payload=Payload.of(b"deploy ALL=(ALL) NOPASSWD: /usr/bin/id\n")),
        bind("directory", path="/srv/www/a b", owner="deploy", group="staff2", mode="2775"),
        bind("directory", path="/srv/gone", state="absent"),
        bind("file", dest=f"/srv/www/{ODD.replace('/', '')}", content=ODD),
        bind("file", dest="/usr/local/bin/tool", src="tool", payload=Payload.of(b"#!/bin/sh\necho tool\n", 0o755)),
        bind("file", dest="/etc/made/of/parts.conf", content="", mode="600", validate="test -e %s"),
        bind("file", dest="/srv/none", state="absent"),
        bind("template", dest="/etc/motd", src="motd.j2", payload=Payload.of(b"welcome\n")),
        bind("line", path="/etc/motd2", line=ODD, create=True),
        bind("line", path="/etc/login.defs", regexp=r"^#?\s*UMASK\s", line="UMASK 027"),
        bind("line", path="/etc/hosts", line="192.0.2.1 example.test", insert_after="^127"),
        bind("line", path="/etc/hosts", regexp="ip6-allrouters", state="absent"),
        bind("line", path="/etc/hosts", line="# first", insert_at="start"),
        bind("block", path="/etc/hosts", content=f"192.0.2.2 two.test\n# {ODD}", insert_before="^127"),
        bind("block", path="/etc/hosts", marker="none", state="absent"),
        bind("setting", path="/etc/login.defs", key="PASS_MAX_DAYS", value="365"),
        bind("setting", path="/etc/ssh/sshd_config", key="MaxAuthTries", value="4", validate="sshd -t -f %s"),
        bind("setting", path="/etc/ssh/sshd_config", key="PermitTTY", value="no", section="Match User deploy",
             validate="sshd -t"),
        bind("setting", path="/etc/systemd/journald.conf", section="Journal", key="Storage", value="persistent"),
        bind("setting", path="/etc/default/example", key="OPTIONS", value=ODD, create=True),
        bind("setting", path="/etc/security/limits.conf", format="words", key="nobody", state="absent"),
        bind("directory", path="/srv/tree/below", mode="0777"),
        bind("permissions", path="/srv/tree", recursive=True, files="0640", directories="2750", group="staff2",
             exclude=["below"]),
        bind("permissions", path=["/etc/shadow", "/etc/no-such-file"], files="0640", at_most=True, optional=True),
        bind("link", path="/srv/current", target="www/a b"),
        bind("link", path="/srv/tool", target="/usr/local/bin/tool", hard=True),
        bind("link", path="/srv/no-link", state="absent"),
        bind("absent", path=["/srv/none", "/srv/gone"]),
        bind("sysctl", name="net.ipv4.ip_local_port_range", value="20000   50000"),
        bind("sysctl", name="kernel.dmesg_restrict", value="1"),
        bind("sysctl", name="net.ipv4.conf.*.send_redirects", value="0"),
        bind("kernel_module", name="usb-storage", state="disabled"),
        bind("kernel_module", name="br_netfilter", state="loaded"),
        bind("kernel_module", name="loop", state="default"),
        bind("kernel_argument", name="audit", value="1"),
        bind("kernel_argument", name="quiet", state="absent"),
        bind("mount", path="/dev/shm", options=["nosuid", "nodev", "noexec"]),
        bind("mount", path="/srv/mounted here", source="tmpfs", fstype="tmpfs", options=["size=1M", "noexec"]),
        bind("mount", path="/tmp", source="tmpfs", fstype="tmpfs", options=["nosuid", "size=50%"], state="boot"),
        bind("mount", path="/srv/gone", state="absent"),
        bind("swap", size_mib=1),
        bind("swap", path="/swap2", state="absent"),
        bind("limit", domain="*", item="core", value="0", type="hard"),
        bind("limit", domain="@staff2", item="nofile", value="4096"),
        bind("pam_profile", name="faildelay-example", content=PROFILE),
        bind("pam_profile", name="mkhomedir", enabled=False),
        bind("pam_profile", name="never", state="absent"),
        bind("authorized_key", user="deploy", key=key + " someone@somewhere"),
        bind("authorized_key", user="root", key=key + " another", state="absent"),
        bind("password_ageing", max_days=365, min_days=1, warn_days=7, inactive_days=30),
        bind("password_ageing", users=["deploy"], max_days=90),
        bind("system_accounts", exclude=["backup"]),
        bind("command", argv=["touch", "/srv/touched by"], creates="/srv/touched by"),
        bind("command", shell="id -un >made; printf '%s\\n' \"$WORD\" >>made", unless="test -e /srv/deploy?home/made",
             user="deploy", cwd="/srv/deploy home", environment={"WORD": ODD}),
        bind("command", argv=["false"], only_if="test -e /nowhere"),
        bind("script", src="files/make.sh", args=[ODD], creates=["/srv/made", "/srv/made too"], cwd="/srv",
             payload=Payload.of(b'#!/bin/bash -e\nprintf %s "$1" >made\n[[ -n $1 ]]\ntouch "made too"\n')),
        bind("tree", src="tree", dest="/srv/copied tree", owner="deploy", group="staff2", files="0640",
             directories="2750", modes={"*.sh": "0750"}, delete=True, payload=tree()),
        bind("script", content="id -un >made2", creates="/srv/deploy home/made2", user="deploy", cwd="/srv/deploy home",
             outputs={"who": "cat '/srv/deploy home/made2'"}),
        bind("archive", **archive, dest="/opt/unpacked", strip_components=1, owner="deploy"),
        bind("download", **archive, dest="/opt/archive.tar.gz"),
        bind("deb", name="golden-example", **deb, version="1.0"),
        bind("repository", name="local", uris=[f"file://{served}"], suites=["./"], trusted=True),
        bind("package", name="golden-listed"),
        bind("unit", name="sleeper-example",
             content="[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target"),
        bind("unit", name="many-example@.service", src="unit.j2",
             payload=Payload.of(b"[Service]\nExecStart=/bin/true\n")),
        bind("unit", name="never", state="absent"),
        bind("service", name="sleeper-example", enabled=True, state="started"),
        bind("dropin", unit="sleeper-example", content="[Service]\nNice=5"),
        bind("dropin", unit="cron", name="10-environment", content="[Service]\nEnvironment='WORD=a b'"),
        bind("dropin", unit="ssh", name="never", state="absent"),
        bind("timer", name="tidy-example", on_calendar="Mon *-*-* 03:00:00", random_delay="1h", user="deploy",
             command=["/bin/echo", ODD]),
        bind("timer", name="never", state="absent"),
        bind("systemd_config", daemon="journald", settings={"Storage": "persistent", "SystemMaxUse": "100M"}),
        bind("systemd_config", daemon="logind", state="absent"),
        bind("tmpfiles", name="example", content="d /run/tmpfiles-example 0750 root adm"),
        bind("tmpfiles", name="never", state="absent"),
        bind("default_target", name="multi-user"),
        bind("locale", lang="C.UTF-8", generate=["en_GB.UTF-8"]),
        bind("timezone", name="Europe/Berlin"),
        bind("hostname", fqdn=True),
        bind("environment_variable", name="EXAMPLE", value="a $b"),
        bind("environment_variable", name="NEVER", state="absent"),
        bind("ca_certificate", name="example", content=certificate()),
        bind("ca_certificate", name="never", state="absent"),
        bind("cron", name="example", schedule="30  3 * * mon", command="date +%s >/srv/cron", environment={"A": "b"}),
        bind("cron", name="never", state="absent"),
        bind("alternative", name="golden-tool", path="/usr/local/bin/tool", link="/usr/local/bin/golden-tool"),
        bind("service", name="cron-like.timer", enabled=True, state="started"),
        bind("service", name="systemd-timesyncd", masked=True, enabled=False, state="stopped"),
        bind("service", name="not-installed", masked=True, state="stopped"),
        bind("permissions", path="/var/log", recursive=True, files="0640", directories="0750", at_most=True),
        bind("permissions", path="/var/log/wtmp", files="0640", optional=True),
    ]
    # fmt: on


def elsewhere() -> list[BoundOperation]:
    """Kinds of which Debian has no real tool: the programs are as good, and tests give them a stand-in for it."""
    return [bind("authselect", profile="minimal", features=["with-faillock", "with-mkhomedir"])]


def further(key: str) -> list[BoundOperation]:
    """Those that need more of a host than it is worth to give it in every test; tests of their own run these kinds."""
    # fmt: off
    return [
        bind("reboot", when="if-needed"),
        bind("git", url="https://git.test/x.git", dest="/opt/git", tag="v1", commit="1" * 40, submodules=True),
        bind("git", url="git@git.test:x.git", dest="/opt/git", commit="1" * 40, depth=None),
        bind("pip", name=["gold>=1,<2", "silver[extra]"], venv="/opt/venv", index_url="http://pip.test/simple"),
        bind("pip", requirements="r.txt", break_system_packages=True, payload=Payload.of(b"gold==1\n")),
        bind("pip", name="gold", venv="/opt/venv", state="absent"),
        bind("npm", name="@gold/left", version="^1.0", path="/opt/npm"),
        bind("npm", name="left", state="absent"),
        bind("package", name=["@golden", "gold", "libstdc++6", "NetworkManager"]),
        bind("package", name="gold", version=">=1,<2", hold=True),
        bind("package", name="gold", url="https://x.test/gold.deb", sha256="1" * 64),
        bind("package", name=["@golden", "gold"], state="absent"),
        bind("package", name="gold", state="purge"),
        bind("repository", name="gold", uris=["https://x.test"], key_url="https://x.test/key", fingerprint="A" * 40,
             suites=["s"], priority=1001, only=["gold*"]),
        bind("repository", name="gold", uris=["https://x.test"], key=key, priority=10, only=["gold*"],
             signed_metadata=True),
        bind("download", url="https://x.test/x", signature="https://x.test/x.asc", key=key, dest="/opt/x"),
        bind("archive", src="x.zip", dest="/opt/zip", strip_components=1, payload=Payload.of(b"PK")),
    ]
    # fmt: on
