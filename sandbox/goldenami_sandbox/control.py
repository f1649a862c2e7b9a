"""Functions that start, find and stop sandboxes, as the command `goldenami-sandbox` does.

    info = ensure_up("default")           # a running sandbox, started if necessary
    os.environ.update(info.variables())   # AWS clients use the sandbox from now on

Each sandbox has a directory, a port, a network and instances. Real instances need root (``ways``).
"""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami_sandbox import launcher, state, ways
from goldenami_sandbox.accounts import ACCOUNTS, REGIONS, AccessKey, admin_key
from goldenami_sandbox.errors import InvalidSettings, NotFound, SandboxError, UsageError


def _ignore_progress(_: str) -> None:
    """Discard progress messages."""


_INIT_SECONDS = 60.0  # in which the init of a running instance runs, on a busy machine
DEFAULT_IMAGES = ("debian-12",)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class SandboxInfo:
    """A running sandbox. ``accounts``: ids by name. ``pid``: the process id on the host; killing it ends the whole
    sandbox.
    """

    name: str
    endpoint: str
    directory: Path
    pid: int
    token: str
    accounts: Mapping[str, str]
    secret: str
    instances: str = "systemd"  # the way in which they run (``ways``)
    lacks: str = ""  # why this machine cannot run them in the best way
    hint: str = ""  # what to do about it

    def key(self, account: str = "home") -> AccessKey:
        """Return the administrator's key of an account, by name or id. Raises UsageError for an unknown account."""
        if account not in self.accounts and account not in self.accounts.values():
            raise UsageError(
                f"the sandbox has no account {account!r}",
                hint="Use one of " + ", ".join(f"{name} ({number})" for name, number in self.accounts.items()) + ".",
            )
        if not self.secret:
            raise SandboxError(
                f"the sandbox {self.name!r} was started by an older version",
                hint=f"Start it again: `goldenami-sandbox down{_flag(self.name)}`, then `up`.",
            )
        return admin_key(self.accounts.get(account, account), self.secret)

    def variables(self, account: str = "home", region: str = REGIONS[0]) -> dict[str, str]:
        """Return the environment variables that direct any AWS client to this sandbox."""
        return variables(self.endpoint, self.key(account), region)

    def client(self, region: str = REGIONS[0], account: str = "home") -> dict[str, Any]:
        """Return keyword arguments for ``boto3.client``, to pass after the name of the service."""
        key = self.key(account)
        return {
            "region_name": region,
            "endpoint_url": self.endpoint,
            "aws_access_key_id": key.access_key_id,
            "aws_secret_access_key": key.secret_access_key,
        }

    def request(self, method: str, path: str, body: object = None, timeout: float = 60.0) -> bytes:
        """Call a control endpoint. ``timeout`` is in seconds.

        Raises NotFound, InvalidSettings or SandboxError, depending on the answer.
        """
        request = urllib.request.Request(
            f"{self.endpoint}/_sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Sandbox-Token": self.token, "Content-Type": "application/json"},
        )
        # The sandbox is on this machine, so the proxies of the environment must not be used.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as response:
                data: bytes = response.read()
                return data
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except OSError as error:
            raise SandboxError(f"the sandbox {self.name!r} does not answer: {error}") from error

    def set(self, **change: Any) -> dict[str, Any]:
        """Change settings, given in their JSON form. Returns all settings."""
        result: dict[str, Any] = json.loads(self.request("PUT", "settings", change))
        return result

    def calls(self) -> list[dict[str, Any]]:
        """Return the last calls, oldest first, with the fields of the call log."""
        result: list[dict[str, Any]] = json.loads(self.request("GET", "calls"))
        return result

    def reclaim(self, instance: str, notice: float = 120.0) -> None:
        """Interrupt a spot instance, ``notice`` seconds after the interruption notice.

        Raises SandboxError if the instance is not a running spot instance.
        """
        self.request("POST", "reclaim", {"instance": instance, "notice": notice})

    def collect(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Delete volumes and snapshots that no record has. Returns ``volumes`` and ``snapshots`` (ids), and ``bytes``:
        what they occupied alone. With ``dry_run`` nothing is deleted."""
        result: dict[str, Any] = json.loads(self.request("POST", "gc", {"dry_run": dry_run}))
        return result

    def status(self) -> dict[str, Any]:
        """Return the output of ``goldenami-sandbox status --json``."""
        result: dict[str, Any] = json.loads(self.request("GET", "status"))
        about = {"endpoint": self.endpoint, "pid": self.pid, "directory": str(self.directory)}
        return {**result, **about, "instances_run": self.instances}


def shell_argv(info: SandboxInfo, instance: str, command: Sequence[str] = ()) -> list[str]:
    """Return the command that opens a root shell in a running guest, or that runs ``command`` there.

    Waits for the init of a running instance: it may reboot. Raises SandboxError if the instance is not running.
    """
    way, wanted = ways.WAYS[info.instances], tuple(command) or ("/bin/bash", "-l")
    deadline = time.monotonic() + _INIT_SECONDS
    while (found := way.shell(info.directory, instance, wanted)) is None:
        states = {row["instance_id"]: row["state"] for row in info.status()["instances"]}
        if states.get(instance) != "running" or time.monotonic() > deadline:
            raise SandboxError(
                f"instance {instance} is not running in this sandbox",
                hint="`goldenami-sandbox status` lists the instances and their states.",
            )
        time.sleep(0.1)
    return found


def variables(endpoint: str, key: AccessKey, region: str) -> dict[str, str]:
    """Return the environment variables of an AWS client.

    The session token is set to an empty string, so that a token left in the environment does not reach the sandbox.
    Clients use S3's path style if the endpoint is an address. The metadata service is disabled, because clients on the
    host must not use the one of the host.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_SESSION_TOKEN": key.session_token or "",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def find(name: str = "default", home: Path | None = None) -> SandboxInfo | None:
    """Return the sandbox with that name if it is running, else None."""
    root = _root(name, home)
    record = launcher.running(state.Files(root))
    if record is None:
        return None
    return SandboxInfo(
        name,
        f"http://127.0.0.1:{record['port']}",
        root,
        record["pid"],
        record["token"],
        record["accounts"],
        record.get("secret", ""),
        record.get("instances", "systemd"),
        record.get("lacks", ""),
        record.get("hint", ""),
    )


def at_endpoint(endpoint_url: str, home: Path | None = None) -> SandboxInfo | None:
    """Return the running sandbox of this machine that has an endpoint; None if there is none."""
    files = state.at_endpoint(endpoint_url, home)
    return None if files is None else find(files.root.name, files.root.parent)


def require(name: str = "default", home: Path | None = None) -> SandboxInfo:
    """Return the running sandbox with that name. Raises NotFound if it is not running."""
    info = find(name, home)
    if info is None:
        raise NotFound(
            f"the sandbox {name!r} is not running", hint=f"Start it with `goldenami-sandbox up{_flag(name)}`."
        )
    return info


def up(
    name: str = "default",
    *,
    home: Path | None = None,
    port: int = 0,
    images: Sequence[str] = DEFAULT_IMAGES,
    settings: Mapping[str, Any] | None = None,
    accounts: Mapping[str, str] = ACCOUNTS,
    progress: launcher.Progress = _ignore_progress,
    die_with_parent: bool = False,
    instances: str = ways.AUTO,
) -> SandboxInfo:
    """Start the sandbox. If it is already running, only the settings are applied.

    ``instances``: the way in which they run (``ways``); by default the best that this machine can do, and ``progress``
    is told what is missing for a better one. ``images``: Debian releases to prepare, so that their first instance
    starts at once. ``die_with_parent``: the kernel kills the sandbox when the calling thread ends for any reason.
    Raises SandboxError, SandboxUnsupported or UsageError.
    """
    from goldenami_sandbox import daemon

    root = _root(name, home)
    choice = ways.choose(instances, state.Files(root))
    files = daemon.prepare_files(root)
    with state.locked(files.up_lock, wait=True):
        running = find(name, home)
        if running is not None:
            if port and not running.endpoint.endswith(f":{port}"):
                raise UsageError(
                    f"--port {port}: the sandbox {name!r} is already running at {running.endpoint}",
                    hint=f"Stop it with `goldenami-sandbox down{_flag(name)}`, then start it with this port.",
                )
            if settings:
                running.set(**settings)
            return running
        launcher.end_half_started(files)
        ways.tell(choice, progress)
        launcher.spawn(files, name, port, images, settings or {}, accounts, choice, progress, die_with_parent)
        return require(name, home)


def ensure_up(
    name: str = "default", *, home: Path | None = None, progress: launcher.Progress = _ignore_progress
) -> SandboxInfo:
    """Return the running sandbox with that name, or start one."""
    return find(name, home) or up(name, home=home, progress=progress)


def down(name: str = "default", *, home: Path | None = None) -> bool:
    """Stop the sandbox and keep its state. Returns False if it was not running."""
    root = _root(name, home)
    files = state.Files(root)
    if not root.is_dir():
        return False
    with state.locked(files.up_lock, wait=True):
        info = find(name, home)
        if info is not None:
            launcher.stop(files, info.pid)
        else:
            launcher.end_half_started(files)
        launcher.sweep(files)
        return info is not None


def reset(name: str = "default", *, home: Path | None = None) -> None:
    """Stop the sandbox and delete its state. The port and the cached base images are kept."""
    down(name, home=home)
    root = _root(name, home)
    if not root.is_dir():
        return
    files = state.Files(root)
    with state.locked(files.up_lock, wait=True):
        if (way := ways.kept_by(files)) is not None:
            way.clear(root)
        for entry in root.iterdir():
            if entry.name in ("up.lock", "port"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _flag(name: str) -> str:
    return "" if name == "default" else f" --name {name}"


def _root(name: str, home: Path | None) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r} cannot be a sandbox's name", hint="Use at most 31 lower-case letters, digits and hyphens."
        )
    return (home or state.default_home()) / name


def _refusal(error: urllib.error.HTTPError) -> SandboxError:
    try:
        answer = json.loads(error.read())
    except ValueError:
        return SandboxError(f"the sandbox answered with HTTP status {error.code} and no JSON")
    if problems := answer.get("problems"):
        return InvalidSettings(problems)
    if error.code == 404:
        return NotFound(answer["error"], hint=answer.get("hint"))
    return SandboxError(answer["error"], hint=answer.get("hint"))
