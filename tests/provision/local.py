"""Runs a stage's program right here, for operations that are about files in a folder: the program that a host would
run, without the host.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from goldenami.provision import BoundOperation, BuildNetwork, Item, Stage
from goldenami.provision.program import compile_program
from goldenami.provision.stream import Drifted, FactRead, Finished, Message, Reader, RefusedByGuard

MARK = "mark-of-this-test"


@dataclass
class Here:
    """What came of one run: statuses and details in order, and what was printed."""

    statuses: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    output: deque[str] = field(default_factory=deque)
    drift: list[Drifted] = field(default_factory=list)
    refused: bool = False  # by a guard
    facts: dict[str, tuple[int, str, int]] = field(default_factory=dict)  # status, text, operations that had ended
    left: list[str] = field(default_factory=list)  # temporary directories that are still there at the end

    def message(self, message: Message) -> None:
        if isinstance(message, Drifted):
            self.drift.append(message)
        if isinstance(message, RefusedByGuard):
            self.refused = True
        if isinstance(message, FactRead):
            self.facts[message.name] = message.status, message.text, len(self.statuses)
        if isinstance(message, Finished):
            self.statuses.append(message.status)
            self.details.append(message.detail)


def run_here(
    *operations: BoundOperation,
    mode: Literal["apply", "check"] = "apply",
    shell: str = "sh",
    path: str = "",
    network: BuildNetwork | None = None,
    in_user_namespace: bool = False,
) -> Here:
    """``path``: directories whose programs go before the system's."""
    return run_items_here(
        [Stage("here", operations)],
        mode=mode,
        shell=shell,
        path=path,
        network=network,
        in_user_namespace=in_user_namespace,
    )


def run_items_here(
    items: Sequence[Item],
    *,
    mode: Literal["apply", "check"] = "apply",
    shell: str = "sh",
    path: str = "",
    network: BuildNetwork | None = None,
    in_user_namespace: bool = False,
) -> Here:
    program = compile_program(items, network)
    here = Here()
    reader = Reader(MARK, here.message, here.output.append)
    with tempfile.TemporaryDirectory() as work, program.archive() as archive:
        subprocess.run(["tar", "-xzf", "-", "-C", work], stdin=archive, check=True)
        file = Path(work, "program")
        text = file.read_text()
        # A directory that sandboxes on this machine use for themselves: removing it would take away their mounts.
        assert "\nflags=/run/goldenami " in text
        text = text.replace("\nflags=/run/goldenami ", f"\nflags={work}/flags ", 1)
        # Others use /var/tmp at the same time.
        text = text.replace("/var/tmp/goldenami.", f"{work}/scratch.")
        if path:
            text = text.replace("\nPATH=", f"\nPATH={path}:", 1)
        file.write_text(text)
        done = subprocess.run(
            [
                *(shell, f"{work}/program", work, MARK, mode, "0"),
                *(("", "", "without-systemd") if in_user_namespace else ()),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # names of files can be any bytes
            timeout=300,
        )
        for line in done.stdout.splitlines():
            reader.feed(line)
        here.left = [path.name for path in Path(work).glob("scratch.*")]
    return here
