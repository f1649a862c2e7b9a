"""A host under test: a connection, and the events of the stages that were run over it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

import pytest

from goldenami import ssh
from goldenami.errors import OperationFailed
from goldenami.events import Event
from goldenami.provision import BoundOperation, Handler, Stage, StageResult, run_stage


@dataclass
class Host:
    connection: ssh.Connection
    events: list[Event] = field(default_factory=list)

    def run(self, *operations: BoundOperation, handlers: tuple[Handler, ...] = (), **options: Any) -> StageResult:
        self.events.clear()
        try:
            return run_stage(self.connection, Stage("test", operations, handlers), self.events.append, **options)
        except OperationFailed as error:
            error.add_note("\n".join(self.output()))  # what pytest shows where this was not expected
            raise

    def changes(self, *operations: BoundOperation) -> list[str]:
        """Run them, and then again, which must change nothing: the details of what the first run changed."""
        first = self.run(*operations)
        again = self.run(*operations)
        assert [(o.title, o.detail) for o in again.operations if o.status == "changed"] == []
        return [o.detail for o in first.operations if o.status == "changed"]

    def fails(self, operation: BoundOperation) -> OperationFailed:
        with pytest.raises(OperationFailed) as caught:
            self.run(operation)
        return caught.value

    def sh(self, command: str, stdin: bytes | None = None) -> str:
        done = self.connection.run(f"sudo -n sh -ec {shlex.quote(command)}", stdin)
        assert done.status == 0, done.stderr.decode()
        return done.text

    def output(self) -> list[str]:
        return [e.fields["line"] for e in self.events if e.kind == "operation.output"]
