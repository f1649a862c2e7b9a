"""The settings of the process that runs tests, and the format of its answers.

The settings contain the private key. They are written to an anonymous file in memory, which only the child inherits;
the key is not on disk, in the arguments or in the environment. The child gets file descriptors over its socket: first
the pipe of answers and a pipe that stays open as long as the parent runs, with the order to collect the tests; then the
settings and, if the parent has a transport, the socket from which connections come.

Answers are JSON objects, one per line, with the type in ``event``:

==============  ==================================================================================
collected       total
problem         file, line, column, message         a test file cannot be imported
empty           labels                              these test files contain no test
started         name
fact            name, value                         what a test recorded
finished        name, outcome, seconds, message, place
infrastructure  message, hint, lost                 the host is unreachable, or was lost
end             always the last; without it the child crashed or was killed
==============  ==================================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from goldenami.model import Architecture, SshEndpoint
from goldenami.validate.traces import Traces

SIZE_BYTES = 8  # of the number before an order: its bytes
NOT_EXECUTED = "NOT EXECUTED"  # the begin of the reason for which a test was skipped


@dataclass(frozen=True, slots=True)
class TestPath:
    """A file or folder of tests. ``label`` is its name in reports: "base", "tests/web_test.py". ``installed``: it
    belongs to a Python package, not to the project."""

    __test__ = False
    path: Path
    label: str
    installed: bool = False


@dataclass(frozen=True, slots=True)
class TestSettings:
    """The settings of one run of tests, for the child. Times are seconds."""

    __test__ = False

    endpoint: SshEndpoint = field(repr=False)  # in the child, without its transport
    tests: tuple[TestPath, ...]
    gate: str
    architecture: Architecture
    variables: Mapping[str, Any] = field(repr=False)
    traces: Traces | None  # of the builder, for the suite "sealed"; None at gate "builder"
    secrets: tuple[str, ...] = field(repr=False)
    connect_timeout: float  # limit for each connection to the host
    test_timeout: float  # limit for each phase of one test; its repetitions are included
    retries: int  # repetitions of a failed test without the mark "retry"
    retry_delay: float  # before each repetition
    retry_budget: float  # limit for the sum of these delays, so that a broken host does not cost minutes
    connections: int | None = (
        None  # descriptor from which the child gets connections (ssh.handover); None: it opens TCP
    )

    def to_file(self) -> int:
        """Write the settings to an anonymous file in memory and return its descriptor, positioned at the start.

        The caller passes it to the child (``pass_fds``) and closes it."""
        data = asdict(replace(self, endpoint=replace(self.endpoint, transport=None)))
        data["tests"] = [[str(test.path), test.label] for test in self.tests]
        descriptor = os.memfd_create("goldenami-settings")
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            json.dump(data, file)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    @classmethod
    def from_file(cls, descriptor: int) -> TestSettings:
        """Read the settings that ``to_file`` wrote, and close the descriptor."""
        with open(descriptor, encoding="utf-8") as file:
            data = json.load(file)
        data["endpoint"] = SshEndpoint(**data["endpoint"])
        data["tests"] = tuple(TestPath(Path(path), label) for path, label in data["tests"])
        if data["traces"] is not None:
            given = data["traces"]
            lists = {name: tuple(given[name]) for name in ("host_keys", "files")}
            data["traces"] = Traces(**given | lists)
        data["secrets"] = tuple(data["secrets"])
        return cls(**data)
