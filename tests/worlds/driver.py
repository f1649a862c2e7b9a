"""The program as a separate process, without hosts: ``python driver.py build|resume|clean [BUILD_ID]``.

It exits as the command line does. Of waiting it does little: the clouds it is run against are ready at once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from goldenami import pipeline
from goldenami import recipe as recipes
from goldenami.aws import journals
from goldenami.aws.kinds import Kind
from goldenami.errors import GoldenAmiError
from tests.worlds.builds import RECIPE, PaperHostWork

# These clouds show at once what was created. On AWS, "not found" proves a deletion only after minutes.
Kind.visible_within = 2.0


def main(verb: str, build_id: str | None = None) -> int:
    project = recipes.load_project(Path.cwd())
    environment = recipes.environment(project, "test")
    try:
        if verb == "build":
            request = pipeline.Request(project, environment, RECIPE)
            pipeline.build(request, host_work=PaperHostWork())
        elif verb == "resume":
            pipeline.resume(project, environment, build_id, host_work=PaperHostWork())
        else:
            done = pipeline.clean(
                environment, pipeline.choose_build(journals.open_journals(environment), build_id, environment).build_id
            )
            return 0 if done.complete else 1
    except GoldenAmiError as error:
        sys.stderr.write(f"{time.time():.3f} {type(error).__name__}: {error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
