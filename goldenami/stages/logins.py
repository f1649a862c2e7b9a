"""Logins to the temporary instances of a build or task that runs or was kept: with OpenSSH, and as an SshEndpoint.

The private key and the host key are secrets of the journal. OpenSSH needs them as files: ``ssh/`` in the local
directory of the build has the key (mode 0600) and a known_hosts file with the pinned host key. ``goldenami clean``
deletes them with the secrets of the journal.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from goldenami import ssh
from goldenami.aws import instances, tags
from goldenami.aws.session import Cloud
from goldenami.errors import GoldenAmiError, NotFound, UsageError
from goldenami.journal import LOGINS, Journals, Resource, Summary
from goldenami.model import DIRECT, Environment, SshEndpoint, Transport, utc_text
from goldenami.nextstep import command, step
from goldenami.ssh import openssh
from goldenami.stages.build import BuildContext
from goldenami.stages.hosts import secret_name
from goldenami.stages.userdata import KEY_KINDS

_ALIVE = ("pending", "running")


@dataclass(frozen=True, slots=True)
class Login:
    """An instance, and how to log in to it. ``key``: its name in the build ("builder/x86_64"). ``expires``: when
    ``goldenami clean --expired`` may delete it; a little later it powers itself off."""

    build_id: str
    key: str
    endpoint: SshEndpoint
    expires: datetime | None


def find(
    environment: Environment,
    cloud: Cloud,
    journals: Journals,
    build_id: str,
    *,
    name: str | None = None,
    user: str | None = None,
    opener: Transport | None = None,
) -> Login:
    """Return the login to an instance of a build. ``name``: its key, or its purpose ("builder"); None: the only one,
    or the only builder. ``user``: the login user; None: that of the recipe.

    Raises NotFound if the build has no such instance that runs, or its keys are deleted; UsageError if several fit.
    """
    summary = journals.read(build_id)
    if summary.header is not None and summary.header.environment != environment.name:
        raise UsageError(
            f"build {build_id} is of the environment {summary.header.environment!r}, not {environment.name!r}",
            hint=f"Use --environment {summary.header.environment}.",
        )
    resource = _choose(summary, name)
    found = instances.describe_many(cloud, resource.place, [resource.id]).get(resource.id)
    if found is None or found.state not in _ALIVE:
        raise NotFound(
            f"instance {resource.id} ({resource.key}) of build {build_id} is {found.state if found else 'deleted'}",
            hint=f"{step('clean', build_id)} deletes what is left of the build.",
        )
    purpose, _, architecture = resource.key.partition("/")
    private = _keys(journals, build_id, f"{purpose}-login-key")
    hosts = _keys(journals, build_id, f"{purpose}-{architecture}-host-key")
    if not private or not hosts:
        raise NotFound(f"the keys for {resource.id} of build {build_id} are deleted")
    endpoint = SshEndpoint(
        address=instances.address(found, environment.network),
        user=user or _user(summary, architecture),
        private_key="".join(private),
        host_key="\n".join(ssh.KeyPair.from_private(text).public_key for text in hosts),
        port=_port(summary, purpose, architecture),
        transport=opener,
        instance_id=resource.id,
        region=resource.place.region,
    )
    return Login(build_id, resource.key, endpoint, _expiry(resource))


def _keys(journals: Journals, build_id: str, name: str) -> list[str]:
    """Return the private keys of a build that have this name; an earlier version made only the first one."""
    found = (journals.storage.secret(build_id, secret_name(name, kind)) for kind in KEY_KINDS)
    return [secret.decode() for secret in found if secret is not None]


def _choose(summary: Summary, name: str | None) -> Resource:
    """Return the chosen instance of a build. Raises NotFound or UsageError."""
    every = [r for r in summary.resources if r.kind == "instance" and r.spoiled is None]
    fit = [r for r in every if name in (None, r.key, r.key.partition("/")[0])]
    if name is None and len(fit) > 1:
        fit = [r for r in fit if r.key.startswith("builder/")] or fit
    names = ", ".join(r.key for r in every)
    if not fit:
        raise NotFound(
            f"build {summary.build_id} has no instance" + (f" {name!r}" if name else ""),
            hint=f"It has {names}." if names else "With --on-failure keep, a build keeps its builder after a failure.",
        )
    if len(fit) > 1:
        raise UsageError(
            f"build {summary.build_id} has {len(fit)} instances: {', '.join(r.key for r in fit)}",
            hint="Choose one of them with --host.",
        )
    return fit[0]


def _user(summary: Summary, architecture: str) -> str:
    """Return the login user that a build or task has recorded. Raises UsageError if it recorded none."""
    data = summary.header.data if summary.header is not None else {}
    users = data.get("users") or data.get("arguments", {}).get("users") or {}
    if architecture not in users:
        raise UsageError(
            f"the journal of build {summary.build_id} names no login user for {architecture}",
            hint="Give the user: --user admin.",
        )
    return str(users[architecture])


def _port(summary: Summary, purpose: str, architecture: str) -> int:
    """Return the port of the SSH server that a build or task has recorded; an earlier version recorded none."""
    data = summary.header.data if summary.header is not None else {}
    ports = data.get("ports") or data.get("arguments", {}).get("ports") or {}
    builder, image = ports.get(architecture, (22, 22))
    return int(builder if purpose == "builder" else image)


def _expiry(resource: Resource) -> datetime | None:
    for specification in resource.request.get("TagSpecifications", ()):
        if specification.get("ResourceType") == "instance":
            return tags.parse_timestamp(tags.from_list(specification.get("Tags")).get(tags.EXPIRES_AT, ""))
    return None


def ssh_command(login: Login, directory: Path, environment: Environment, project: Path) -> list[str]:
    """Write the files for OpenSSH, and return its command up to the host. It reads no configuration of the user.

    ``directory``: the local directory of the build. ``project``: the directory of goldenami.yaml, for a transport that
    ``goldenami ssh --proxy`` has to open. Raises OSError if the files cannot be written.
    """
    folder = directory / LOGINS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, known = folder / login.key.replace("/", "-"), folder / "known_hosts"
    alias = f"{login.build_id}-{login.key.replace('/', '-')}"
    files = openssh.write_keys(login.endpoint, key)
    before = known.read_text() if known.exists() else ""
    if new := [line for line in openssh.known_lines(login.endpoint, alias) if line not in before]:
        openssh.write_private(known, before + "".join(new))
    options = openssh.options(known, alias)
    if environment.network.transport != DIRECT or login.endpoint.transport is not None:
        program = [sys.executable, "-m", "goldenami.cli.main", "-C", str(project)]
        user = ["--user", login.endpoint.user]
        proxy = [*program, "ssh", "-e", environment.name, *user, "--host", login.key, "--proxy", login.build_id]
        options["ProxyCommand"] = shlex.join(proxy).replace("%", "%%")
    words = openssh.words(options)
    port = ["-p", str(login.endpoint.port)] if login.endpoint.port != 22 else []
    identities = [word for file in files for word in ("-i", str(file))]
    return ["ssh", "-F", "none", *identities, *port, *words, f"{login.endpoint.user}@{login.endpoint.address}"]


def announce(build: BuildContext, journals: Journals, project: Path) -> None:
    """Emit how to log in to each kept instance of a build, and how long it runs. An error is a note only."""
    for resource in build.journal.resources("instance"):
        _announce(build, journals, project, resource)


def _announce(build: BuildContext, journals: Journals, project: Path, resource: Resource) -> None:
    try:
        login = find(build.environment, build.cloud, journals, build.journal.build_id, name=resource.key)
        words = ssh_command(login, build.journal.directory, build.environment, project)
    except GoldenAmiError as error:
        build.note(f"{resource.key} {resource.id} is kept: {error.message}", "warning")
    except OSError as error:
        build.note(f"{resource.key} {resource.id} is kept, but its key cannot be written: {error}", "warning")
    else:
        until = f" until {utc_text(login.expires, seconds=False)}" if login.expires is not None else ""
        short = command("ssh", "--host", login.key, login.build_id)
        build.note(f"{login.key} {resource.id} is kept{until}. Log in: {short}; or: {shlex.join(words)}")
