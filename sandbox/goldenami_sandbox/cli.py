"""The commands of the sandbox: ``goldenami-sandbox``, and ``goldenami sandbox``.

Both programs use the click group ``sandbox`` of this module. The group converts each SandboxError into a click
exception with the same message, hint and exit code. So a program that includes the group needs no class of the sandbox.
Messages contain the program's name as the user typed it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from goldenami_sandbox.errors import PROGRAM, InvalidSettings, SandboxError, UsageError, called

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

_NAME = click.option(
    "--name", default="default", show_default=True, help="Name of the sandbox. Several can run at once."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_YES = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
_LITTLE = 3 * 2**30  # bytes; with less room, `up` warns
PENDING_KINDS = ("instance", "stop", "status", "image", "snapshot", "volume", "copy", "parameter", "tier")


class Failed(click.ClickException):
    """A SandboxError for click, printed as ``error: …`` and ``hint: …``. The process ends with its exit code."""

    def __init__(self, error: SandboxError, program: str) -> None:
        super().__init__(called(error.message, program))
        vars(self)["exit_code"] = error.exit_code  # click's type stubs declare exit_code as a class variable
        self.hint = called(error.hint, program) if error.hint else None
        self.problems = error.problems if isinstance(error, InvalidSettings) else ()

    def show(self, file: IO[Any] | None = None) -> None:
        def line(*parts: tuple[str, dict[str, Any]]) -> None:
            plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
            text = "".join(click.style(part, **style) for part, style in parts)
            click.echo(text, file=file or sys.stderr, color=False if plain else None)

        red: dict[str, Any] = {"fg": "red", "bold": True}
        for problem in self.problems:
            line(("settings: ", {"bold": True}), ("error: ", red), (problem, {}))
        line(("" if self.problems else "error: ", red), (self.message, red if self.problems else {"bold": True}))
        if self.hint:
            line(("hint: ", {"fg": "cyan"}), (self.hint, {}))


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SandboxError as error:
            raise Failed(error, ctx.command_path) from error


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "auto_envvar_prefix": "GOLDENAMI_SANDBOX",
    },
)
@click.version_option(package_name="goldenami-sandbox", prog_name=PROGRAM)
def sandbox() -> None:
    """Run a local AWS endpoint for tests: EC2, SSM, KMS, STS, IAM and S3, with real instances on this machine.

    An instance is a systemd container with an address, reached over SSH. Volumes, snapshots and encryption are real.
    The command env prints the variables that direct any AWS client to the sandbox.
    """


def main() -> None:
    """Run the console script ``goldenami-sandbox`` and end the process."""
    sandbox(prog_name=PROGRAM)


@sandbox.command()
@_NAME
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1. Default: the last port used, or a free one."
)
@click.option(
    "--images",
    default="debian-12",
    show_default=True,
    help="Debian releases to prepare, separated by commas. '' prepares none.",
)
@click.option(
    "--pending-time",
    "pending",
    multiple=True,
    metavar="[KIND=]SECONDS",
    help="How long new resources stay pending: for all kinds, or for one kind ("
    + ", ".join(PENDING_KINDS)
    + "). May be repeated.",
)
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="NAME=ID",
    help="Add an account to home (111111111111) and apps (222222222222). May be repeated. The sandbox keeps it.",
)
@click.option(
    "--instances",
    type=click.Choice(("auto", "systemd", "namespace", "none")),
    default="auto",
    show_default=True,
    help="How instances run: as containers with systemd (needs root), in user namespaces without systemd, or not at "
    "all. auto: the best that this machine can do.",
)
@_JSON
def up(
    name: str,
    port: int | None,
    images: str,
    pending: tuple[str, ...],
    accounts: tuple[str, ...],
    instances: str,
    as_json: bool,
) -> None:
    """Start the sandbox, or change the settings of the running one.

    Instances with systemd need root. Without it, instances run in user namespaces (the way `namespace`), without
    systemd. Where those cannot run either, the sandbox serves the APIs only. It says what is missing.

    The first start downloads Debian from its archive (about 30 seconds) and caches it for all sandboxes. Later starts
    restore the state of the last stop and boot the instances that were running.
    """
    from goldenami_sandbox import control
    from goldenami_sandbox.accounts import ACCOUNTS

    settings = {"pending": _pending(pending)} if pending else None
    before = time.monotonic()
    found = control.find(name)
    releases = [item.strip() for item in images.split(",") if item.strip()]
    every = {**ACCOUNTS, **_accounts(accounts)}
    info = control.up(
        name,
        port=port or 0,
        images=releases,
        settings=settings,
        accounts=every,
        progress=_print_message,
        instances=instances,
    )
    if missing := [number for number in every.values() if number not in info.accounts.values()]:
        raise UsageError(
            f"--account: the sandbox {name!r} is already running without the account {missing[0]}",
            hint=f"Stop it with `{PROGRAM} down{_flag(name)}`, then start it again.",
        )
    _warn_of_little_room(info)
    if as_json:
        _print_json({"name": info.name, "endpoint": info.endpoint, "pid": info.pid, "directory": str(info.directory)})
        return
    _print_message(
        f"sandbox {name!r} is already running"
        if found
        else f"sandbox {name!r} started in {time.monotonic() - before:.1f} s"
    )
    _print_message(f'its endpoint is {info.endpoint}; configure clients with: eval "$({_program()} env{_flag(name)})"')


def _warn_of_little_room(info: SandboxInfo) -> None:
    free = info.status()["storage"]["free_bytes"]
    if free < _LITTLE:
        _print_message(
            f"warning: {_bytes(free)} are left for volumes and snapshots; the build of an image takes about 1 GiB. "
            f"Delete what nothing uses with `{_program()} gc`, delete images, or raise storage_gib if it is set."
        )


@sandbox.command()
@_NAME
def down(name: str) -> None:
    """Stop the sandbox and its instances. The state is kept, and `up` restores it."""
    from goldenami_sandbox import control

    _print_message(f"sandbox {name!r} is stopped" if control.down(name) else f"sandbox {name!r} was not running")


@sandbox.command()
@_NAME
@_JSON
def status(name: str, as_json: bool) -> None:
    """Show the endpoint, what the disk holds, and the instances, images and snapshots of all accounts.

    Exits with 3 if the sandbox is not running.
    """
    from goldenami_sandbox import control

    facts = control.require(name).status()
    if as_json:
        facts["storage"]["kinds"] = _disk(facts)
        _print_json(facts)
        return
    click.echo(f"sandbox    {facts['name']}  ({facts['endpoint']}, up for {_duration(facts['uptime_seconds'])})")
    click.echo(f"directory  {facts['directory']}")
    click.echo(f"instances  {facts['instances_run']}")
    storage = facts["storage"]
    allowed = f" of {_bytes(storage['limit_bytes'])} (storage_gib)" if storage["limit_bytes"] is not None else ""
    click.echo(f"storage    {_bytes(storage['used_bytes'])} used{allowed}, {_bytes(storage['free_bytes'])} free")
    click.echo("disk       " + ", ".join(f"{kind} {_bytes(size)}" for kind, size in _disk(facts).items()))
    for account, number in facts["accounts"].items():
        click.echo(f"account    {account:<10} {number}")
    _table("instances", facts["instances"], ("instance_id", "account", "region", "state", "address", "name"))
    _table("images", facts["images"], ("image_id", "account", "region", "state", "encrypted", "name"))
    rows = [
        {**row, "stored": _bytes(row["stored_bytes"]), "full": _bytes(row["full_bytes"])} for row in facts["snapshots"]
    ]
    _table("snapshots", rows, ("snapshot_id", "account", "region", "encrypted", "full", "stored"))


@sandbox.command()
@_NAME
@click.option("--dry-run", is_flag=True, help="Delete nothing, and show what would be deleted.")
@_JSON
def gc(name: str, dry_run: bool, as_json: bool) -> None:
    """Delete what nothing uses any more: base images of older versions, unfinished and old files, sandboxes of tests
    that were killed, and contents without a record in the running sandbox.

    Images, snapshots, volumes and instances of any sandbox are kept.
    """
    import tempfile

    from goldenami_sandbox import control, garbage, state

    found = garbage.find(state.default_home(), state.default_cache(), Path(tempfile.gettempdir()))
    rows: list[dict[str, Any]] = [
        {"kind": one.kind, "what": str(one.path), "bytes": one.size, "failure": None} for one in found
    ]
    for one, row in zip(found, rows, strict=True) if not dry_run else ():
        try:
            garbage.remove(one)
        except OSError as error:
            row["failure"] = f"cannot be deleted: {error.strerror or error}"
        except SandboxError as error:
            row["failure"] = f"cannot be deleted: {error.message}"
    info = control.find(name)
    if info is not None:
        lost = info.collect(dry_run=dry_run)
        ids = [*lost["volumes"], *lost["snapshots"]]
        if ids:
            kind = "contents without a record"
            rows.append({"kind": kind, "what": " ".join(ids), "bytes": lost["bytes"], "failure": None})
    freed = sum(row["bytes"] for row in rows if row["failure"] is None)
    if as_json:
        _print_json({"dry_run": dry_run, "freed_bytes": freed, "found": rows})
    else:
        for row in rows:
            failure = f"  {row['failure']}" if row["failure"] else ""
            click.echo(f"{row['kind']:<36} {_bytes(row['bytes']):>9}  {row['what']}{failure}")
        _print_message(f"{_bytes(freed)} {'would be' if dry_run else 'are'} free")
    if any(row["failure"] for row in rows):
        raise SandboxError("not everything could be deleted", hint="Run it as the user that these files belong to.")


@sandbox.command()
@_NAME
@click.option(
    "--account", default="home", show_default=True, help="Account whose administrator key is used: a name, or an id."
)
@click.option("--region", default="eu-central-1", show_default=True, help="The default region.")
@_JSON
def env(name: str, account: str, region: str, as_json: bool) -> None:
    """Print the environment variables for AWS clients. Use it as: eval "$(... env)"."""
    from goldenami_sandbox import control

    variables = control.require(name).variables(account, region)
    if as_json:
        _print_json(variables)
        return
    for variable, value in variables.items():
        click.echo(f"export {variable}={shlex.quote(value) if value else ''}")


@sandbox.command()
@_NAME
@_YES
def reset(name: str, yes: bool) -> None:
    """Stop the sandbox and delete all its state, with the catalog of its images. Cached base images are kept."""
    from goldenami_sandbox import control

    _confirm(f"Delete every image and instance of the sandbox {name!r}, and their catalog?", yes)
    control.reset(name)
    _print_message(f"sandbox {name!r} is empty")


@sandbox.command(context_settings={"ignore_unknown_options": True})
@_NAME
@click.argument("instance")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(name: str, instance: str, command: tuple[str, ...]) -> None:
    """Open a root shell in INSTANCE, or run COMMAND there. It needs no network and no sshd."""
    from goldenami_sandbox import control

    argv = control.shell_argv(control.require(name), instance, command)
    sys.stdout.flush()
    os.execvp(argv[0], argv)


@sandbox.command()
@_NAME
@click.option("--follow", "-f", is_flag=True, help="Print new output until Ctrl-C.")
@click.argument("instance")
def console(name: str, instance: str, follow: bool) -> None:
    """Print the console output of INSTANCE."""
    from goldenami_sandbox import control

    info = control.require(name)
    _print_console(info, instance, follow, time.sleep)


def _print_console(info: SandboxInfo, instance: str, follow: bool, sleep: Callable[[float], None]) -> None:
    """Print the console once, or until interrupted.

    The node keeps the last 64 KiB only, so new output is found by the end of the output that was already printed.
    """
    printed = b""
    while True:
        text = info.request("GET", f"console/{instance}")
        tail = printed[-1024:]
        start = text.rfind(tail) + len(tail) if tail and tail in text else 0
        sys.stdout.buffer.write(text[start:])
        sys.stdout.buffer.flush()
        if not follow:
            return
        printed = text or printed
        sleep(0.3)


@sandbox.command()
@_NAME
@click.option(
    "--notice",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between the interruption notice and the interruption.",
)
@click.argument("instance")
def reclaim(name: str, notice: float, instance: str) -> None:
    """Interrupt the spot instance INSTANCE, as EC2 does when it needs the capacity.

    The interruption notice appears in the status of the spot request, and in the instance metadata at
    spot/instance-action.
    """
    from goldenami_sandbox import control

    control.require(name).reclaim(instance, notice)


@sandbox.command()
@_NAME
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="A directory, or a .tar, .raw or .img file. It must not exist.",
)
@click.argument("image")
def export(name: str, output: Path, image: str) -> None:
    """Write the contents of the root volume of IMAGE to OUTPUT.

    The name of OUTPUT selects the form: .tar is a tar archive, .raw or .img a filesystem image, any other name a
    directory.
    """
    from goldenami_sandbox import control

    form = {".tar": "tar", ".raw": "raw", ".img": "raw"}.get(output.suffix, "dir")
    target = output.absolute()
    if target.exists() and not (form == "dir" and target.is_dir() and not any(target.iterdir())):
        raise UsageError(
            f"--output: {output} exists already",
            hint="Choose a name that does not exist. Export does not overwrite files.",
        )
    if not target.parent.is_dir():
        raise UsageError(f"--output: {target.parent} is not a directory", hint="Create the directory first.")
    control.require(name).request("POST", "export", {"image": image, "output": str(target), "form": form}, timeout=900)
    _print_message(f"{image} is in {output}")


@sandbox.group()
def settings() -> None:
    """Show or change pending times, latency, throttling and faults of a running sandbox."""


@settings.command("get")
@_NAME
def settings_get(name: str) -> None:
    """Print the settings as JSON."""
    from goldenami_sandbox import control

    _print_json(json.loads(control.require(name).request("GET", "settings")))


@settings.command("set")
@_NAME
@click.argument("change")
def settings_set(name: str, change: str) -> None:
    """Merge CHANGE into the settings. CHANGE is a JSON object, or - to read it from standard input.

    \b
    {"pending": {"image": 5}}                         images are pending for at least 5 seconds
    {"latency": {"*": 0.02}}                          every call takes 20 ms longer
    {"throttle": {"ec2:CopyImage": {"rate": 1, "burst": 2}}}
    {"faults": [{"action": "ec2:CreateImage", "nth": 2, "when": "after", "how": "drop"}]}
    """
    from goldenami_sandbox import control

    text = sys.stdin.read() if change == "-" else change
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise InvalidSettings([f"not JSON: {error}; a JSON object is expected"]) from error
    reply = control.require(name).request("PUT", "settings", value)
    _print_json(json.loads(reply))


# --- rendering --------------------------------------------------------------------------------------------------------


def _print_message(text: str) -> None:
    click.echo(text, err=True)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _confirm(question: str, yes: bool) -> None:
    """Ask for confirmation on a terminal. Raises UsageError if there is no terminal and --yes is missing, click.Abort
    for no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question.rstrip('?')}: there is no terminal to confirm on", hint="Add --yes to confirm.")
    click.confirm(question, abort=True, err=True)


def _program() -> str:
    """Return the name that the user typed: ``goldenami-sandbox`` or ``goldenami sandbox``."""
    context = click.get_current_context().parent
    return PROGRAM if context is None else context.command_path


def _flag(name: str) -> str:
    return "" if name == "default" else f" --name {name}"


def _pending(entries: tuple[str, ...]) -> dict[str, float]:
    """Parse ``5`` (all kinds) and ``image=5`` to pending times in seconds. A later entry overrides an earlier one."""
    result: dict[str, float] = {}
    for entry in entries:
        kind, equals, text = entry.rpartition("=")
        try:
            seconds = float(text)
        except ValueError:
            raise UsageError(f"--pending-time {entry}: {text!r} is not a number of seconds") from None
        if equals and kind not in PENDING_KINDS:
            raise UsageError(
                f"--pending-time {entry}: unknown kind {kind!r}", hint="Use one of " + ", ".join(PENDING_KINDS) + "."
            )
        result.update(dict.fromkeys([kind] if equals else PENDING_KINDS, seconds))
    return result


def _accounts(entries: tuple[str, ...]) -> dict[str, str]:
    result = {}
    for entry in entries:
        name, _, number = entry.partition("=")
        if not name or not (number.isdigit() and len(number) == 12):
            raise UsageError(f"--account {entry}: NAME=ID is expected, with an id of 12 digits")
        result[name] = number
    return result


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    click.echo(f"\n{title}: {len(rows) or 'none'}")
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max((len(row[index]) for row in cells), default=0) for index in range(len(columns))]
    for row in cells:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "encrypted" if value else "plain"
    return "" if value is None else str(value)


def _disk(facts: dict[str, Any]) -> dict[str, int]:
    """Return the bytes on the disk by kind, with the logs of the sandbox and the caches of all sandboxes."""
    from goldenami_sandbox import state
    from goldenami_sandbox.node import usage

    root = Path(facts["directory"])
    logs = sum(usage.of_tree(path) for path in (*root.glob("*.log*"), *root.glob("*.jsonl*")))
    caches = sum(usage.of_tree(path) for path in state.default_cache().glob("*.ext4"))
    return {**facts["storage"]["kinds"], "logs": logs, "caches of all sandboxes": caches}


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
