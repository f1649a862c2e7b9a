"""The entry point: find the command, run it, and turn every error into a message, a hint and an exit code.

A module with commands is imported only when one of them is called. So ``goldenami validate`` does not load boto3, and
``goldenami --help`` loads no command at all.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import click

from goldenami import __version__, onecommand, quickclasses, quickcode, quickpatterns
from goldenami.aws import descriptions
from goldenami.cli import ending, output
from goldenami.errors import GoldenAmiError

# name -> (module, attribute, one line of help). The help is here so that a list of commands imports none of them.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("goldenami.cli.recipes", "init", "Start a project: goldenami.yaml, a first recipe and its test."),
    "validate": ("goldenami.cli.recipes", "validate", "Check recipes and environments; report all problems at once."),
    "schema": ("goldenami.cli.recipes", "schema", "Print the JSON Schema of recipes, for editors."),
    "plan": ("goldenami.cli.plan", "plan", "Show what builds would create or move, and why."),
    "graph": ("goldenami.cli.graph", "graph", "Draw which image is built on which, and what is stale."),
    "doctor": ("goldenami.cli.doctor", "doctor", "Check accounts, keys, network and quotas before a build."),
    "build": ("goldenami.cli.build", "build", "Turn a recipe into tested, encrypted, distributed images."),
    "resume": ("goldenami.cli.build", "resume", "Continue a build that was interrupted or failed."),
    "clean": ("goldenami.cli.build", "clean", "Delete what an unfinished or failed build created."),
    "builds": ("goldenami.cli.builds", "builds", "List builds; show one, or its log."),
    "watch": ("goldenami.cli.watch", "watch", "Show a build that another process works on, until it ends."),
    "apply": ("goldenami.cli.hosts", "apply", "Bring a host to the state of a recipe, or report what differs."),
    "test": ("goldenami.cli.hosts", "test", "Run the tests of a recipe on a host, or on a fresh instance of an image."),
    "ssh": ("goldenami.cli.hosts", "ssh", "Log in to the builder of a build that runs or was kept."),
    "schedule": ("goldenami.cli.schedule", "schedule", "Snapshots on a schedule: run, preview, list."),
    "dlm": ("goldenami.cli.dlm", "dlm", "Schedules run by Amazon Data Lifecycle Manager: plan, apply, import."),
    "images": ("goldenami.cli.images", "images", "List releases; show one, its relatives and history."),
    "promote": ("goldenami.cli.channels", "promote", "Point a channel to a release, without a build."),
    "rollback": ("goldenami.cli.channels", "rollback", "Point a channel back to an earlier release."),
    "revoke": ("goldenami.cli.channels", "revoke", "Take a bad release out of use, in all accounts and regions."),
    "restore": ("goldenami.cli.channels", "restore", "End the revocation of a release."),
    "verify": ("goldenami.cli.verify", "verify", "Compare a release with its signature, and its images with both."),
    "fleet": ("goldenami.cli.fleet", "fleet", "Count the instances of each release, in all accounts and regions."),
    "history": ("goldenami.cli.channels", "history", "Show the moves of channels, with callers and reasons."),
    "distribute": ("goldenami.cli.distribution", "distribute", "Bring a release to what its recipe declares now."),
    "drift": ("goldenami.cli.distribution", "drift", "Compare the releases in channels with what is declared now."),
    "catalog": ("goldenami.cli.catalog", "catalog", "Show the catalog, or restore a lost one from the cloud."),
    "notify": ("goldenami.cli.notify", "notify", "Receivers of notifications: send them a test."),
    "resolve": ("goldenami.cli.resolving", "resolve", "Print the image id behind NAME@CHANNEL or NAME@VERSION."),
    "scan": ("goldenami.cli.scan", "scan", "Look for vulnerabilities of releases, without a build."),
    "sbom": ("goldenami.cli.sbom", "sbom", "Software bill of materials of a release: CycloneDX or SPDX."),
    "export": ("goldenami.cli.export", "export", "Snippets for Terraform, CloudFormation, Karpenter and others."),
    "site": ("goldenami.cli.site", "site", "The catalog as a static site for the people who use images."),
    "snapshot": ("goldenami.cli.snapshot", "snapshot", "Snapshots: take, copy, share, restore, archive, lock."),
    "volume": ("goldenami.cli.volumes", "volume", "Replace the volumes of an instance with encrypted ones."),
    "consumers": ("goldenami.cli.consumers", "consumers", "Principals that launch images: their grants on the keys."),
    "ci": ("goldenami.cli.ci", "ci", "GitLab: write the child pipeline that builds recipes, and notes."),
    "recipes": ("goldenami.cli.shipped", "recipes", "List recipes; copy a shipped one as a starting point."),
    "import": ("goldenami.cli.importing", "importing", "Turn templates of Packer and EC2 Image Builder into recipes."),
    "agents": ("goldenami.cli.shipped", "agents", "Agents that recipes can use: list, show, copy to change one."),
    "harden": ("goldenami.cli.harden", "harden", "Hardening: profiles, controls, coverage, drift of a host."),
    "retire": ("goldenami.cli.lifecycle", "retire", "Deprecate, disable and delete releases that no rule keeps."),
    "pin": ("goldenami.cli.lifecycle", "pin", "Keep a release; its retention rules do not apply."),
    "unpin": ("goldenami.cli.lifecycle", "unpin", "Apply the retention rules to a release again."),
    "orphans": ("goldenami.cli.lifecycle", "orphans", "Find resources with goldenami's tags that have no owner."),
    "iam": ("goldenami.cli.iam", "iam", "IAM policies that the roles of an environment need."),
    "sandbox": ("goldenami.cli.sandbox", "command", "The embedded cloud: real instances on this machine."),
}
# Commands of another distribution: their attribute is a function that finds the command.
FOUND = frozenset({"sandbox"})


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        if onecommand.here():  # a list of commands needs few classes, and would not gain from it
            quickcode.install()
        command = getattr(import_module(module), attribute)
        if cmd_name in FOUND:
            command = command()
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # here, as all that only a failure needs

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"There is no command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "auto_envvar_prefix": "GOLDENAMI",
    },
    epilog='Shell completion: eval "$(_GOLDENAMI_COMPLETE=bash_source goldenami)"  (zsh_source, fish_source)',
)
@click.version_option(__version__, prog_name="goldenami")
@click.option(
    "-C",
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Work as if started in this directory.",
)
@click.option(
    "--allow-project-code",
    is_flag=True,
    allow_from_autoenv=False,
    help="Execute the Python files in operations/ of the project also to validate, plan and print schemas. By default "
    "only builds do. GOLDENAMI_ALLOW_PROJECT_CODE=1 is the same.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def program(ctx: click.Context, directory: str | None, allow_project_code: bool, debug: bool) -> None:
    """The golden AMI pipeline: recipes in; tested, encrypted, distributed machine images out."""
    ctx.obj = {"debug": debug}
    if allow_project_code:
        os.environ["GOLDENAMI_ALLOW_PROJECT_CODE"] = "1"
    if directory:
        os.chdir(directory)


def run_process() -> NoReturn:
    """Be the program: run one command with the arguments of this process, and end the process."""
    ending.end(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the table of codes is in goldenami/errors.py. No error leaves it.

    ``arguments``: None for those of this process, whose stdout and stderr are then protected (see ``output``).
    """
    if arguments is None:
        # A command ends soon, and most of what it makes lives until then: to look for garbage seldom is enough.
        gc.set_threshold(50_000, 20, 50)
        onecommand.install()
        quickclasses.install()
        quickpatterns.install()
        descriptions.install()
        # To look for plugins of pydantic in all installed packages takes longer than most commands. None is needed. The
        # module that looks for them is replaced, too: to load what it needs takes a tenth of a short command.
        if os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__") == "__all__":
            sys.modules.setdefault("pydantic.plugin._loader", _without_plugins())
        streams = output.protect()
        code = streams.finish(_run(sys.argv[1:]))
        gc.freeze()  # the process ends, so that its memory need not be searched once more
        return code
    code = _run(arguments)
    gc.unfreeze()  # of ``keeping_memory``
    return code


def _without_plugins() -> ModuleType:
    """Return the module of pydantic that finds its plugins, so that it finds none."""
    module = ModuleType("pydantic.plugin._loader")
    vars(module).update(get_plugins=tuple)
    return module


def _run(given: Sequence[str]) -> int:
    arguments = list(given)
    if "_GOLDENAMI_COMPLETE" in os.environ:
        return _complete(arguments)
    try:
        outcome: Any = program.main(args=arguments, prog_name="goldenami", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        print("Interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except Exception as error:
        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        return _told(error)
    return outcome if isinstance(outcome, int) else 0


def _complete(arguments: list[str]) -> int:
    """Answer a shell that completes a word. Nothing is printed but words: an error means that there are none."""
    from goldenami.cli import shells

    shells.prepare()
    try:
        program.main(args=arguments, prog_name="goldenami", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception:
        return 1
    return 0


def _told(error: Exception) -> int:
    """Print an error, and return its exit code."""
    from goldenami.printable import escaped
    from goldenami.report.problems import render_error

    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(file=shown)
        click.echo(escaped(shown.getvalue()), nl=False, err=True)
        return error.exit_code
    if not isinstance(error, GoldenAmiError):
        error = _unexpected(error)
    render_error(error)
    return error.exit_code


def _unexpected(error: Exception) -> GoldenAmiError:
    """Return an error of the operating system, or a bug, as one sentence, and write the traceback to a private file."""
    import tempfile
    import traceback

    if isinstance(error, OSError) and error.strerror:
        if error.errno == errno.ENOENT and error.filename is None:
            return GoldenAmiError("the working directory does not exist any more", hint="Change to another directory.")
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file"
        message = f"{name if len(name) <= 200 else f'{name[:200]}…'} cannot be used: {error.strerror}"
    else:
        message = f"goldenami failed because of a bug: {type(error).__name__}"
    try:
        file, path = tempfile.mkstemp(prefix="goldenami-", suffix=".txt")  # with the permissions 0600
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as details:  # noqa: PTH123
            print(f"goldenami {__version__}, Python {sys.version}", file=details)
            traceback.print_exception(error, file=details)
    except OSError:
        return GoldenAmiError(message, hint="Run it again with --debug for the details.")
    return GoldenAmiError(message, hint=f"The details are in {path}.")


if __name__ == "__main__":
    run_process()
