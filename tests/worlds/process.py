"""The program as a separate process, without hosts: ``python -m tests.worlds.process build|resume|clean [BUILD_ID]``.

It loads as the command line does (``goldenami.cli.main``), which saves a fifth of the time of its start.
"""

from __future__ import annotations

import gc
import sys

from goldenami import quickclasses

if __name__ == "__main__":
    gc.set_threshold(50_000, 20, 50)
    quickclasses.install()

    from tests.worlds import driver

    sys.exit(driver.run())
