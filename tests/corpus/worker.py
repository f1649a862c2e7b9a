"""Runs inputs one after another in this process, and prints what each did, as a line of JSON.

``python -m tests.corpus.worker DIRECTORY < cases``: a project is written below the directory for each case. A start of
goldenami for each would take most of the time.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from goldenami import bounded
from goldenami.cli.main import main

bounded.SECONDS, bounded._GRACE = 0.1, 0.05  # the same limits, and fewer seconds for all cases together
STUCK = 180  # seconds, after which the process ends and prints where it is


def memory(name: str) -> int:
    """Return VmHWM, the most memory that this process had, or VmRSS, what it has now, in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 1024
    raise AssertionError(name)


def run(case: dict[str, Any], root: Path) -> dict[str, Any]:
    shutil.rmtree(root, ignore_errors=True)
    for name, text in case["files"].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    os.chdir(root)
    before = dict(os.environ)
    os.environ.update(case["variables"])
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts again
    faulthandler.dump_traceback_later(STUCK, exit=True)
    begin, start, used = memory("VmRSS"), time.monotonic(), time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status: object = main(case["arguments"])
    except BaseException as error:
        status = f"{type(error).__name__}: {str(error)[:300]}"
    took, spent = time.monotonic() - start, time.process_time() - used
    faulthandler.cancel_dump_traceback_later()
    most = memory("VmHWM")
    os.environ.clear()
    os.environ.update(before)
    texts = []
    for stream in (out, err):
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        texts.append(stream.buffer.getvalue().decode("utf-8"))
    return {
        "name": case["name"],
        "status": status,
        "seconds": took,
        "cpu": spent,
        "megabytes": most,
        "before": begin,
        "out": texts[0][:2000],
        "err": texts[1][:200_000],
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), place / "project")), flush=True)
