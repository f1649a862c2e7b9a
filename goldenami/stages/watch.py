"""Whether a temporary instance is still there while something is done on it.

SSH notices a host that went away after a minute of silence, and cannot tell why. EC2 knows at once, and knows the
reason: terminated by somebody, reclaimed (spot), failed. So it is asked every few seconds, by a thread of its own, and
once more when something went wrong: what fails on a host that is not there has not failed by itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from goldenami.aws import instances
from goldenami.aws.instances import RECLAIMED_CODES, Instance
from goldenami.errors import (
    BuilderError,
    ConnectionLost,
    GoldenAmiError,
    HostLost,
    Interrupted,
    OperationDoubtful,
)
from goldenami.stages.build import BuildContext, Host

SECONDS = 5.0  # between two looks; describing may be done 20 times a second in each account and region
_STOP_SECONDS = 0.5  # between two looks whether somebody asked for the end
_CONSOLE_LINES = 15


class Watch(threading.Event):
    """Set once the instance is known to be lost, or somebody asked for the end. ``reached``: whether it ever answered
    over SSH."""

    def __init__(self, build: BuildContext, host: Host) -> None:
        super().__init__()
        self._build = build
        self._host = host
        self._over = threading.Event()
        self.lost: HostLost | None = None
        self.reached = False
        self.on_loss: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return super().is_set() or self._build.stop.is_set()

    def check(self) -> None:
        """Raise HostLost if the instance is known to be lost, Interrupted if somebody asked for the end."""
        if self.lost is not None:
            raise self.lost
        if self._build.stop.is_set():
            raise Interrupted("interrupted")

    def look(self) -> HostLost | None:
        """Ask EC2 now. What EC2 cannot answer proves nothing."""
        if self.lost is None:
            with contextlib.suppress(GoldenAmiError):
                found = instances.describe_many(self._build.cloud, self._build.home, [self._host.instance_id])
                self.lost = loss(self._host.instance_id, found.get(self._host.instance_id))
        return self.lost

    def run(self) -> None:
        """Look every few seconds until ``end``. At a loss, and when somebody asked for the end, wake up whatever waits
        for the host."""
        looked = time.monotonic()
        while not self._over.wait(_STOP_SECONDS):
            due = time.monotonic() - looked >= SECONDS
            if self._build.stop.is_set() or (due and self.look() is not None):
                self.set()
                for wake in self.on_loss:
                    wake()
                return
            looked = time.monotonic() if due else looked

    def end(self) -> None:
        self._over.set()


def loss(instance_id: str, instance: Instance | None) -> HostLost | None:
    """What a description of an instance says about its being there; None is one that is not described any more."""
    if instance is not None and instance.state in ("pending", "running"):
        return None
    state = instance.state if instance is not None else "gone"
    reclaimed = instance is not None and instance.reason_code in RECLAIMED_CODES
    if reclaimed:
        reason = "EC2 reclaimed the spot instance"
    else:
        said = instance.reason if instance is not None else ""
        reason = f"it is {state}" + (f": {said}" if said else "")
    return HostLost(
        f"instance {instance_id} was lost: {reason}", instance_id=instance_id, reason=reason, reclaimed=reclaimed
    )


@contextmanager
def watched(build: BuildContext, host: Host) -> Iterator[Watch]:
    """Do something on a host under watch.

    Raises HostLost for whatever fails because the instance is not there any more, or has stopped to answer, or may
    have been left in the middle of something; other failures to reach it say what its console shows last. Raises
    Interrupted when somebody asked for the end, also where the work runs in another thread than the one that is asked.
    """
    watch = Watch(build, host)
    thread = threading.Thread(target=watch.run, name=f"watch {host.instance_id}", daemon=True)
    thread.start()
    try:
        yield watch
    except GoldenAmiError as error:
        if error.ends_everything or isinstance(error, HostLost):
            raise
        if build.stop.is_set():
            if isinstance(error, BuilderError):  # the connection was closed because of it
                raise Interrupted("interrupted") from error
        else:
            lost = watch.look() or _silent(watch, host, error)
            if lost is not None:
                lost.message += last_of_console(build, host)
                lost.args = (lost.message,)
                raise lost from error
            if isinstance(error, BuilderError):
                error.message += last_of_console(build, host)
                error.args = (error.message,)
        raise
    finally:
        watch.end()


def _silent(watch: Watch, host: Host, error: GoldenAmiError) -> HostLost | None:
    """It runs, says EC2. A host that has answered before and does not any more is as good as gone: a kernel that
    panicked, a network that broke. One that never answered is more likely to be the recipe's fault, or the network's:
    another one would not answer either."""
    from goldenami.ssh import NotReachable  # paramiko takes a while to load

    if isinstance(error, OperationDoubtful):
        reason = "it went away while something ran on it that must not be run twice"
    elif isinstance(error, ConnectionLost) or (isinstance(error, NotReachable) and watch.reached):
        reason = "it runs, but does not answer any more"
    else:
        return None
    message = f"instance {host.instance_id} was lost: {reason}: {error.message}"
    return HostLost(message, instance_id=host.instance_id, reason=reason)


def last_of_console(build: BuildContext, host: Host) -> str:
    """The last lines that an instance wrote on its console, to be added to a message; empty if they cannot be had."""
    try:
        output = instances.console_output(build.cloud, build.home, host.instance_id)
    except GoldenAmiError:
        return ""
    tail = [line.rstrip() for line in output.splitlines() if line.strip()][-_CONSOLE_LINES:]
    return "\nThe last lines of its console:\n" + "\n".join(f"    {line}" for line in tail) if tail else ""
