"""The program without hosts, for a process of its own (``process``): ``build|resume|clean [BUILD_ID]``.

It exits and prints as the command line does. Of waiting it does little: the clouds it is run against are ready at once.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from goldenami import pipeline, report
from goldenami import recipe as recipes
from goldenami.aws import journals
from goldenami.aws.session import Cloud
from goldenami.cli import output
from goldenami.errors import GoldenAmiError
from goldenami.events import Emit, Event
from goldenami.interrupts import Interrupts
from tests.worlds.paper import PATIENCE, RECIPE, PaperHostWork


def main(verb: str, build_id: str | None = None) -> int:
    project = recipes.load_project(Path.cwd())
    environment = recipes.environment(project, "test")
    try:
        with show() as emit, Interrupts() as interrupts:
            cloud = Cloud.of(environment, sleep=interrupts.sleep, patience=PATIENCE)
            options: dict[str, Any] = {"cloud": cloud, "interrupts": interrupts, "emit_to": emit}
            if verb == "build":
                request = pipeline.Request(project, environment, RECIPE)
                pipeline.build(request, host_work=PaperHostWork(), **options)
            elif verb == "resume":
                pipeline.resume(project, environment, build_id, host_work=PaperHostWork(), **options)
            else:
                build = pipeline.choose_build(journals.open_journals(environment), build_id, environment)
                return 0 if pipeline.clean(environment, build.build_id, **options).complete else 1
    except GoldenAmiError as error:
        sys.stderr.write(f"{time.time():.3f} {type(error).__name__}: {error.message}\n")
        return error.exit_code
    return 0


def show() -> AbstractContextManager[Emit]:
    return report.progress() if sys.stderr.isatty() else nullcontext(tell)


def tell(event: Event) -> None:
    if event.kind == "note":
        sys.stderr.write(f"{time.time():.3f} {event.fields['message']}\n")


def run() -> int:
    """Run as the process's only work, with the arguments of its command line."""
    streams = output.protect()
    return streams.finish(main(*sys.argv[1:]))
