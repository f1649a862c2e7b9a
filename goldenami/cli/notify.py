"""`goldenami notify`: sends a test to the receivers of an environment."""

from __future__ import annotations

import click

from goldenami.cli import completing
from goldenami.cli.context import open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option
from goldenami.errors import NotFound, TargetsFailed

TEST_SCHEMA = "goldenami.notify-test/1"


@click.group()
def notify() -> None:
    """Receivers of notifications: who is told about releases, failures and moves of channels.

    goldenami.yaml names them, in `notify` of an environment.
    """


@notify.command("test")
@click.option(
    "--to",
    "only",
    metavar="NAME",
    shell_complete=completing.receivers,
    help="Only this receiver of goldenami.yaml. Default: all of them.",
)
@environment_option
@json_option
def test_receivers(only: str | None, environment_name: str | None, as_json: bool) -> int:
    """Send a test event to the receivers of an environment, and show what they answered.

    Every receiver gets it, whatever its filters are. The exit code is 6 if one of them did not get it.
    """
    from goldenami import report
    from goldenami.release import receivers

    _, environment = open_project(environment_name)
    names = [receiver.name for receiver in environment.notify]
    if not names or only not in (None, *names):
        raise NotFound(
            f"environment {environment.name} has no receiver{f' {only!r}' if only else 's'} of notifications",
            hint=f"Receivers: {', '.join(names)}." if names else "Add some under `notify` in goldenami.yaml.",
        )
    reach(environment)
    with report.progress(report.stderr_console()) as emit:
        task_id, results = receivers.send_test(environment, only=only, emit_to=emit)
    if as_json:
        rows = [{"receiver": r.name, "kind": r.kind, "sent": r.sent, "answer": r.answer} for r in results]
        print_json({"schema": TEST_SCHEMA, "task": task_id, "receivers": rows})
    else:
        print_table(
            ["RECEIVER", "KIND", "SENT", "ANSWER"],
            [[r.name, r.kind, "yes" if r.sent else "no", r.answer] for r in results],
        )
    return 0 if all(r.sent for r in results) else TargetsFailed.exit_code
