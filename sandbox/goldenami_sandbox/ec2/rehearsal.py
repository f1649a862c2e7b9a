"""Dry runs: an action with all its checks, on a copy of the state that is discarded.

The copy has a node and a queue of work that do nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.work import Task, Work
from goldenami_sandbox.node.api import Node, Space


class _NoWork(Work):
    def __init__(self) -> None:
        super().__init__(threads=1)

    def submit(self, key: str, task: Task) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(None)
        return done


class _NoNode:
    def __init__(self, space: Space) -> None:
        self._space = space

    def space(self) -> Space:
        return self._space

    def allocate_address(self, instance: str) -> str:
        return "198.18.0.0"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: ""


def succeeded() -> Ec2Error:
    """Return the error with which EC2 answers a dry run that would have succeeded."""
    return Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def copy_of(cloud: Ec2Cloud) -> Ec2Cloud:
    """Return a cloud for one dry run. Called with the lock held, which the copy shares."""
    rehearsal = Ec2Cloud(cast(Node, _NoNode(cloud.node.space())), cloud.clock, cloud.hooks, cloud.settings)
    rehearsal.store = copy.deepcopy(cloud.store)
    rehearsal.lock = cloud.lock
    rehearsal.work.close()
    rehearsal.work = _NoWork()
    return rehearsal
