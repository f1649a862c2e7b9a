"""The command line as a separate process, whose builds do their work on hosts on paper.

``python -m tests.worlds.program ARGUMENTS`` takes the arguments of goldenami.
"""

from __future__ import annotations

import sys
from functools import partial

from goldenami.cli.main import main

if __name__ == "__main__":
    if "build" in sys.argv:
        from goldenami import many
        from tests.worlds.paper import PaperHostWork

        many.Options = partial(many.Options, host_work=PaperHostWork())  # type: ignore[misc, assignment]
    sys.exit(main())
