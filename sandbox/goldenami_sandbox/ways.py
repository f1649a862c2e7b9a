"""The ways in which a sandbox runs instances on this machine, the best first.

    systemd     containers that boot the systemd of their image (``node.runtime``); needs root
    namespace   user namespaces, without systemd, devices and a network of their own (``node.rootless``)
    none        no instances: the APIs alone (``ec2.noguests``); needs nothing

``choose`` takes the first that this machine can do. A sandbox keeps its way, because the files of its volumes belong to
it: the file ``instances`` of its directory has the name. To add a way, write a class as ``Way`` describes it, whose
node implements ``node.api.Node``, and add it to ``WAYS``.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from goldenami_sandbox.errors import PROGRAM, SandboxError, SandboxUnsupported, StateError, UsageError

if TYPE_CHECKING:
    from goldenami_sandbox.node.api import Node
    from goldenami_sandbox.state import Files

AUTO: Final = "auto"
_SWEEP_SECONDS = 60.0


class Way(Protocol):
    """How instances run. ``name``: as on the command line. ``has_instances``: something can connect to them.
    ``stop_seconds``: how long the end of its daemon can take."""

    name: str
    has_instances: bool
    stop_seconds: float

    def check(self) -> None:
        """Check what this machine lacks. Raises SandboxUnsupported with all of it, and how to get it."""

    def command(self, root: Path, argv: Sequence[str]) -> list[str]:
        """Return the command that runs the daemon ``argv`` of the sandbox in ``root``. Killing it ends all of it."""

    def enter(self) -> None:
        """Prepare the process of the daemon. It calls this once, before it starts any thread."""

    def node(self, root: Path, cache: Path) -> Node:
        """Return the node, not started."""

    def connection(self, root: Path) -> list[str]:
        """Return the program, without the id of an instance, whose standard input and output is the connection to its
        SSH server. Empty: TCP to its address."""

    def shell(self, root: Path, instance: str, argv: Sequence[str]) -> list[str] | None:
        """Return the command that runs ``argv`` as root in a running instance. None if its init does not run."""

    def sweep(self, root: Path) -> None:
        """Remove what the kernel keeps of a sandbox that has ended."""

    def clear(self, root: Path) -> None:
        """Delete those files of a stopped sandbox that its user cannot delete."""


class Systemd:
    """Real instances: containers with systemd, a pool of blocks, and a network of their own."""

    name = "systemd"
    has_instances = True
    stop_seconds = 150.0

    def check(self) -> None:
        from goldenami_sandbox.node import preflight

        preflight.check()

    def command(self, root: Path, argv: Sequence[str]) -> list[str]:
        from goldenami_sandbox.node import namespaces

        return namespaces.enclosed_argv(namespaces.sandbox_id(root), argv)

    def enter(self) -> None:
        from goldenami_sandbox.node import namespaces

        namespaces.enter()

    def node(self, root: Path, cache: Path) -> Node:
        from goldenami_sandbox.node.runtime import RealNode

        return RealNode(root, cache)

    def connection(self, root: Path) -> list[str]:
        return []

    def shell(self, root: Path, instance: str, argv: Sequence[str]) -> list[str] | None:
        from goldenami_sandbox.node import namespaces

        return namespaces.guest_argv(namespaces.sandbox_id(root), instance, argv)

    def sweep(self, root: Path) -> None:
        """Remove an empty cgroup, and the nft table and frozen filesystems of a sandbox that was killed."""
        from goldenami_sandbox.node import leftovers, namespaces, network

        leftovers.thaw(root / "node" / "pool.xfs")
        sandbox = namespaces.sandbox_id(root)
        if (cgroups := namespaces.cgroup2_root()) is not None:
            cgroup = cgroups / namespaces.cgroup_name(sandbox)
            deadline = time.monotonic() + _SWEEP_SECONDS
            while cgroup.exists() and time.monotonic() < deadline:  # killed processes need a moment to end
                namespaces.remove_cgroup(cgroup)
                time.sleep(0.01)
        network.clear(sandbox)

    def clear(self, root: Path) -> None:
        """All of them belong to root."""


class Namespaces:
    """Instances in user namespaces: an ordinary user can run them. They have no systemd."""

    name = "namespace"
    has_instances = True
    stop_seconds = 270.0  # the files of its guests are written back: ``RootlessGuest.patience``

    def check(self) -> None:
        from goldenami_sandbox.node import rootless

        rootless.check()

    def command(self, root: Path, argv: Sequence[str]) -> list[str]:
        from goldenami_sandbox.node import namespaces, rootless

        return rootless.enclosed_argv(namespaces.sandbox_id(root), argv)

    def enter(self) -> None:
        """The command has mounted /proc. Nothing else is needed."""

    def node(self, root: Path, cache: Path) -> Node:
        from goldenami_sandbox.node.rootless import RootlessNode

        return RootlessNode(root, cache)

    def connection(self, root: Path) -> list[str]:
        from goldenami_sandbox import connect

        return [sys.executable, "-I", "-S", connect.__file__, str(root / "node/ssh.sock")]

    def shell(self, root: Path, instance: str, argv: Sequence[str]) -> list[str] | None:
        from goldenami_sandbox.node import rootless

        return rootless.guest_argv(root, instance, argv)

    def sweep(self, root: Path) -> None:
        """The kernel keeps nothing."""

    def clear(self, root: Path) -> None:
        """Delete the files of guests, which have owners that exist in the user namespace only."""
        from goldenami_sandbox.node import rootless

        rootless.delete(root / "node")


class NoInstances:
    """The APIs alone. Instances, volumes and snapshots exist in answers only, and survive a restart."""

    name = "none"
    has_instances = False
    stop_seconds = 150.0

    def check(self) -> None:
        """Every machine can do it."""

    def command(self, root: Path, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def enter(self) -> None:
        """Nothing is mounted, and no process is started."""

    def node(self, root: Path, cache: Path) -> Node:
        from goldenami_sandbox.ec2.noguests import NoGuestsNode

        return NoGuestsNode(root / "node")

    def connection(self, root: Path) -> list[str]:
        return []

    def shell(self, root: Path, instance: str, argv: Sequence[str]) -> list[str]:
        raise SandboxError(f"{instance} does not run: this sandbox has no instances")

    def sweep(self, root: Path) -> None:
        """The kernel keeps nothing."""

    def clear(self, root: Path) -> None:
        """All of them belong to the user."""


WAYS: Final[Mapping[str, Way]] = {way.name: way for way in (Systemd(), Namespaces(), NoInstances())}


@dataclass(frozen=True, slots=True)
class Choice:
    """A way, and why no better one was taken: ``lacks`` and ``hint`` of the best one, empty if this is the best."""

    way: Way
    lacks: str = ""
    hint: str = ""


def choose(wanted: str, files: Files) -> Choice:
    """Choose the way of a sandbox: that of its state, if it has some, else ``wanted``, else the first that this machine
    can do.

    Raises UsageError if its state is of another way than ``wanted``, SandboxUnsupported if this machine cannot do it.
    """
    kept = kept_by(files)
    if kept is not None:
        if wanted not in (AUTO, kept.name):
            raise UsageError(
                f"--instances {wanted}: this sandbox was made with --instances {kept.name}",
                hint=f"Use another one (--name), or delete its state: `{PROGRAM} reset`.",
            )
        try:
            kept.check()
        except SandboxUnsupported as error:
            other = "Its state is kept. To start a new sandbox with what this machine can do, add --name NAME."
            raise SandboxUnsupported(error.message, hint=" ".join(filter(None, (error.hint, other)))) from error
        return Choice(kept, *_reason(kept))
    if wanted != AUTO:
        WAYS[wanted].check()
        return Choice(WAYS[wanted], *_reason(WAYS[wanted]))
    for way in WAYS.values():
        with contextlib.suppress(SandboxUnsupported):
            way.check()
            return Choice(way, *_reason(way))
    raise AssertionError("the last way needs nothing")


def kept_by(files: Files) -> Way | None:
    """Return the way of the state of a sandbox; None if it has no state."""
    try:
        name = files.instances.read_text().strip()
    except OSError:  # no state, or one of a version that knew systemd only
        return WAYS["systemd"] if files.state.exists() else None
    if name not in WAYS:
        raise StateError(
            f"the file {files.instances} names an unknown way to run instances: {name!r}",
            hint="Use the version of the sandbox that wrote it.",
        )
    return WAYS[name]


def _reason(chosen: Way) -> tuple[str, str]:
    """Return what this machine lacks for each better way, and what to do about it."""
    lacks: list[str] = []
    hints: list[str] = []
    for way in WAYS.values():
        if way is chosen:
            break
        try:
            way.check()
        except SandboxUnsupported as error:
            lacks.append(error.message)
            if error.hint:
                hints.append(f"Or for instances in user namespaces: {error.hint}" if hints else error.hint)
        else:
            lacks.append(f"it was made with --instances {chosen.name}")
            hints.append(f"For better ones, delete its state: `{PROGRAM} reset`.")
            break
    return "; ".join(lacks), " ".join(hints)


def tell(choice: Choice, say: Callable[[str], None]) -> None:
    """Say what a sandbox of this way cannot do, and what to do about it. Says nothing of the best way."""
    lines = {
        "none": (
            "NO INSTANCES: this sandbox serves the APIs only. RunInstances answers, but nothing can connect to an",
            "instance, so builds and tests of images stop before they launch one.",
        ),
        "namespace": (
            "WITHOUT ROOT: instances run in user namespaces, without systemd. What needs systemd is not executed, and",
            "reports say so. Instances have no data volumes, no metadata service, and no ports below 1024.",
        ),
    }.get(choice.way.name)
    if lines is None:
        return
    for line in (*lines, f"reason: {choice.lacks}", choice.hint and f"hint: {choice.hint}"):
        if line:
            say(line)
