"""What the process that runs tests is told, and the lines it answers with.

The settings hold the private key, so they travel in an anonymous file in memory that only the child inherits: nothing
on disk, nothing in the arguments or the environment. The environment variable ``VARIABLE`` carries three file
descriptors: the settings, the pipe of answers, and a pipe that stays open as long as the parent lives.

Answers are JSON objects, one a line, told apart by ``event``:

==============  ==================================================================================
collected       total
problem         file, line, column, message         a test file that cannot be imported
empty           labels                              named test files that hold no test
started         name
finished        name, outcome, seconds, message, place
infrastructure  message, hint, lost                 the host cannot be reached (any more)
end             (always the last; a child that ends without it did not end by itself)
==============  ==================================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from goldenami.model import Architecture, SshEndpoint
from goldenami.validate.traces import Traces

VARIABLE = "GOLDENAMI_VALIDATE"


@dataclass(frozen=True, slots=True)
class TestPath:
    """A file (or folder) of tests. ``label`` is what people see in its place: "base", "tests/web_test.py".
    ``installed``: it belongs to a package, not to the project."""

    __test__ = False
    path: Path
    label: str
    installed: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the child needs. Times are seconds."""

    endpoint: SshEndpoint = field(repr=False)
    tests: tuple[TestPath, ...]
    gate: str
    architecture: Architecture
    variables: Mapping[str, Any] = field(repr=False)
    traces: Traces | None  # of the builder, for the suite "sealed"
    secrets: tuple[str, ...] = field(repr=False)
    connect_timeout: float  # until the host must have answered
    test_timeout: float  # for the set-up and for the body of one test, repetitions included
    retries: int  # repetitions of a failed test that did not ask for its own
    retry_delay: float  # before each of them
    retry_budget: float  # of such delays in the whole run, so that a broken host does not cost minutes

    def to_file(self) -> int:
        """An inheritable-by-choice descriptor of an anonymous file, at its beginning. The caller closes it."""
        data = asdict(self)
        data["tests"] = [[str(test.path), test.label] for test in self.tests]
        descriptor = os.memfd_create("goldenami-settings")
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            json.dump(data, file)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    @classmethod
    def from_file(cls, descriptor: int) -> Settings:
        """Read what ``to_file`` wrote, and close it."""
        with open(descriptor, encoding="utf-8") as file:
            data = json.load(file)
        data["endpoint"] = SshEndpoint(**data["endpoint"])
        data["tests"] = tuple(TestPath(Path(path), label) for path, label in data["tests"])
        if data["traces"] is not None:
            data["traces"] = Traces(**data["traces"] | {"host_keys": tuple(data["traces"]["host_keys"])})
        data["secrets"] = tuple(data["secrets"])
        return cls(**data)
