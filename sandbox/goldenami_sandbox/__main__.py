"""The daemon, as ``python -m goldenami_sandbox``.

Only ``goldenami-sandbox up`` starts it, by the command of a way to run instances (``ways``).
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
from pathlib import Path

from goldenami_sandbox.ways import WAYS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m goldenami_sandbox")
    parser.add_argument("--name", required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--instances", choices=list(WAYS), required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--images", default="")
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--accounts", required=True)
    options = parser.parse_args()

    # With Python's own thresholds, a sixth of the daemon's processor time is looks for garbage, also while it loads.
    gc.set_threshold(50_000, 20, 50)
    from goldenami_sandbox import daemon
    from goldenami_sandbox.errors import SandboxError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    way = WAYS[options.instances]
    starter = daemon.Starter(options.ready_fd)
    try:
        way.enter()
    except SandboxError as error:
        starter.send({"error": error.message, "hint": error.hint})
        return error.exit_code
    return daemon.run(
        daemon.prepare_files(options.state_dir),
        way,
        name=options.name,
        port=options.port,
        images=[release for release in options.images.split(",") if release],
        settings=json.loads(options.settings),
        accounts=json.loads(options.accounts),
        starter=starter,
    )


if __name__ == "__main__":
    sys.exit(main())
