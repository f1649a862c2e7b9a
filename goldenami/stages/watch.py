"""Detects that a temporary instance is lost while the build works on it.

SSH detects a lost host only after a minute without an answer, and without a reason. EC2 reports the loss at once, with
the reason: terminated by a user, reclaimed (spot), failed. So a separate thread describes the instance every few
seconds. It is described once more after an error, because the loss of the instance may be the cause of that error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from goldenami.aws import instances, waiters
from goldenami.aws.instances import RECLAIMED_CODES, Instance
from goldenami.errors import (
    BuilderError,
    ConnectionLost,
    GoldenAmiError,
    HostLost,
    Interrupted,
    OperationDoubtful,
    PlaceUnreachable,
)
from goldenami.stages.build import BuildContext, Host

SECONDS = 5.0  # between two DescribeInstances calls; EC2 allows 20 a second in each account and region
UNREACHABLE = "it is running but unreachable"  # why an instance is lost that EC2 has not lost
_PROBE_SECONDS = 3.0  # for an SSH connection while EC2 does not answer
_STOP_SECONDS = 0.5  # between two checks whether the build was interrupted
_CONSOLE_LINES = 15


class Watch(threading.Event):
    """Set when the instance is lost or the build is interrupted.

    ``reached``: whether the instance has answered over SSH. ``lost``: the loss of the instance. ``gone``: the error of
    EC2 if neither EC2 nor the instance answers. ``on_loss``: functions that end the wait for the host.
    """

    def __init__(self, build: BuildContext, host: Host) -> None:
        super().__init__()
        self._build = build
        self._host = host
        self._over = threading.Event()
        self.lost: HostLost | None = None
        self.gone: PlaceUnreachable | None = None
        self._missing_since: float | None = None
        self.reached = False
        self.on_loss: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return super().is_set() or self._build.stop.is_set()

    def check(self) -> None:
        """Raise HostLost if the instance is lost, PlaceUnreachable if nothing answers, and Interrupted if the build is
        interrupted."""
        if self.lost is not None:
            raise self.lost
        if self.gone is not None:
            raise self.gone
        if self._build.stop.is_set():
            raise Interrupted("interrupted")

    def describe(self) -> HostLost | None:
        """Describe the instance now. Returns the loss, or None.

        An error of EC2 does not count as a loss. If EC2 does not answer at all, the instance is asked over SSH. A
        describe without the instance counts only if EC2 omits it for a minute, because a terminated instance stays
        visible for an hour.
        """
        if self.lost is None:
            try:
                id, cloud = self._host.instance_id, self._build.cloud
                found = instances.describe_many(cloud, self._host.place or self._build.home, [id]).get(id)
                if found is None:
                    self._missing_since = self._missing_since if self._missing_since is not None else cloud.clock()
                    if cloud.clock() - self._missing_since < waiters.STANDARD.visible:
                        return None
                else:
                    self._missing_since = None
                self.lost = loss(id, found)
            except PlaceUnreachable as error:
                self.gone = None if self._answers() else error
            except GoldenAmiError:
                pass
        return self.lost

    def _answers(self) -> bool:
        """Return whether the instance answers over SSH."""
        from goldenami import ssh  # here, because paramiko loads slowly

        try:
            ssh.connect(self._host.endpoint, timeout=_PROBE_SECONDS).close()
        except GoldenAmiError as error:
            return not isinstance(error, ssh.NotReachable)
        return True

    def run(self) -> None:
        """Describe the instance every few seconds until ``end``.

        After a loss or an interruption, call ``on_loss`` and return.
        """
        described = time.monotonic()
        while not self._over.wait(_STOP_SECONDS):
            due = time.monotonic() - described >= SECONDS
            if self._build.stop.is_set() or (due and (self.describe() is not None or self.gone is not None)):
                self.set()
                for wake in self.on_loss:
                    wake()
                return
            described = time.monotonic() if due else described

    def end(self) -> None:
        self._over.set()


def loss(instance_id: str, instance: Instance | None) -> HostLost | None:
    """Return the loss of an instance, or None if it is pending or running.

    ``instance``: its description; None if EC2 does not describe it any more.
    """
    if instance is not None and instance.state in ("pending", "running"):
        return None
    state = instance.state if instance is not None else "deleted"
    reclaimed = instance is not None and instance.reason_code in RECLAIMED_CODES
    if reclaimed:
        reason = "EC2 reclaimed the spot instance"
    else:
        cause = instance.reason if instance is not None else ""
        reason = f"it is {state}" + (f": {cause}" if cause else "")
    return HostLost(
        f"instance {instance_id} was lost: {reason}", instance_id=instance_id, reason=reason, reclaimed=reclaimed
    )


@contextmanager
def watched(build: BuildContext, host: Host) -> Iterator[Watch]:
    """Work on a host under watch.

    Raises HostLost instead of an error of the work if the instance was lost, became unreachable, or was disconnected
    during an operation that must not run twice. Other connection errors get the last lines of the console. Raises
    Interrupted if the build is interrupted, even if the work runs in another thread than the signal handler.
    """
    watch = Watch(build, host)
    thread = threading.Thread(target=watch.run, name=f"watch {host.instance_id}", daemon=True)
    thread.start()
    try:
        yield watch
    except GoldenAmiError as error:
        # When the watch sees a loss, the tests end with Interrupted, as after a signal.
        lost = watch.lost if isinstance(error, Interrupted) and not build.stop.is_set() else None
        gone = watch.gone is not None and not build.stop.is_set()
        if lost is None and not gone and (error.ends_everything or isinstance(error, HostLost)):
            raise
        if build.stop.is_set():
            if isinstance(error, BuilderError):  # the interruption closed the connection
                raise Interrupted("interrupted") from error
        else:
            lost = lost or watch.describe()
            if lost is None and watch.gone is not None:
                raise watch.gone from error
            lost = lost or _unreachable(watch, host, error)
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


def _unreachable(watch: Watch, host: Host, error: GoldenAmiError) -> HostLost | None:
    """Return the loss of an instance that EC2 reports as running but that is unreachable; otherwise None.

    An instance that answered before is lost: its kernel panicked, or its network failed. An instance that never
    answered is not lost: the cause is probably the recipe or the network, so a replacement would be unreachable too.
    """
    from goldenami.ssh import NotReachable  # here, because paramiko loads slowly

    if isinstance(error, OperationDoubtful):
        reason = "it became unreachable during an operation that must not run twice"
    elif isinstance(error, ConnectionLost) or (isinstance(error, NotReachable) and watch.reached):
        reason = UNREACHABLE
    else:
        return None
    message = f"instance {host.instance_id} was lost: {reason}: {error.message}"
    return HostLost(message, instance_id=host.instance_id, reason=reason)


def last_of_console(build: BuildContext, host: Host) -> str:
    """Return the last lines of an instance's console as an addition to a message; empty if EC2 returns none."""
    try:
        output = instances.console_output(build.cloud, host.place or build.home, host.instance_id)
    except GoldenAmiError:
        return ""
    tail = [line.rstrip() for line in output.splitlines() if line.strip()][-_CONSOLE_LINES:]
    return "\nThe last lines of its console:\n" + "\n".join(f"    {line}" for line in tail) if tail else ""
