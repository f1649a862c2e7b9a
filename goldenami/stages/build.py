"""The context of a build, which every stage gets, and the values that stages pass to each other."""

from __future__ import annotations

import base64
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter

from goldenami.each import Asides
from goldenami.errors import Interrupted
from goldenami.events import emit
from goldenami.model import (
    Architecture,
    ControlResult,
    Package,
    PackageChange,
    PackageSources,
    Place,
    SshEndpoint,
    TestFailure,
    TestReport,
)
from goldenami.planning import BuildPlan
from goldenami.recipe import Recipe
from goldenami.stages.transports import HostTransport
from goldenami.validate import Traces
from goldenami.work import JournaledWork

if TYPE_CHECKING:  # paramiko takes a while to load
    from goldenami.ssh import Connection

_SOURCES: TypeAdapter[PackageSources | None] = TypeAdapter(PackageSources | None)


class HostWork(Protocol):
    """The work on hosts: the interface between the stages and the machines. Tests replace it."""

    def answers(self, address: str, port: int) -> bool:
        """Return whether a server listens there now. Takes a fraction of a second."""

    def log_in(self, build: BuildContext, endpoint: SshEndpoint) -> Connection | None:
        """Log in to an instance that may still be booting, once; None if it does not let anybody in yet. A login proves
        that the instance runs: only it has the host key."""

    def get_ready(self, build: BuildContext, architecture: Architecture) -> None:
        """Do what :meth:`prepare` needs and needs no host, while a builder boots."""

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        """Patch, provision, test (gate 1) and seal a builder. Raises the error of the step that failed."""

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> TestReport:
        """Test an instance of the final image (gate 2). Raises TestsFailed if a test failed."""

    def prove_reboot(self, build: BuildContext, made: Candidate, host: Host, before: TestReport) -> TestReport:
        """Reboot an instance that passed gate 2, and test it again. Raises TestsFailed if a test failed."""


@dataclass(frozen=True, slots=True)
class Host:
    """A temporary instance. ``key``: its key in the ledger. ``login_key``: the public keys of the login key pairs, one
    in a line. ``place``: where it runs; None: the home account and region. ``default_group``: that of its VPC, if the
    instance leaves the group of the build before its end. ``launched``: when EC2 started it last. ``connection``: of
    the login that proved that a builder runs."""

    key: str
    instance_id: str
    endpoint: SshEndpoint
    login_key: str
    place: Place | None = None
    default_group: str | None = None
    launched: str = ""
    connection: Connection | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext(JournaledWork):
    """One build: its plan, version, journal, reports and secrets. ``asides``: does what nothing waits for.
    ``is_launching``: set when a builder is being launched, and at the end: what is not urgent waits for it.
    ``is_ending``: set when only the clean-up is left: what only informs makes no further calls."""

    plan: BuildPlan
    version: str  # MAJOR.MINOR.YYYYMMDD.N
    reports: Path  # a directory of this build, for JUnit files and logs
    stop: threading.Event  # set when a signal interrupted the build
    host_work: HostWork
    transport: HostTransport  # opens the connections to temporary instances
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # name of the variable -> value
    asides: Asides = field(default_factory=Asides, repr=False)
    is_launching: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    is_ending: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def home(self) -> Place:
        return self.environment.home_place

    @property
    def recipe(self) -> Recipe:
        return self.plan.recipe

    @property
    def secrets_not_in_image(self) -> dict[str, str]:
        """The secrets that must not be on the disk of the image."""
        return {ref.name: self.secrets[ref.name] for ref in self.recipe.secrets if not ref.in_image}

    @property
    def label(self) -> str:
        return f"{self.recipe.name} {self.version}"

    @contextmanager
    def stage(
        self, name: str, architecture: Architecture | None = None, *, beside: bool = False
    ) -> Iterator[Callable[[], None]]:
        """Emit the start and the end of a stage. It fails with an error, or if the yielded function is called: for a
        failure that is reported without an error. ``beside``: other stages run at the same time. Raises Interrupted if
        the build was interrupted before the stage."""
        if self.stop.is_set():
            raise Interrupted("interrupted")
        started = time.monotonic()
        emit(self.emit, "stage.started", stage=name, architecture=architecture, beside=beside or None)
        status = "failed"
        failures: list[str] = []
        try:
            yield lambda: failures.append(name)
            status = "failed" if failures else "ok"
        finally:
            seconds = round(time.monotonic() - started, 3)
            emit(self.emit, "stage.finished", stage=name, architecture=architecture, status=status, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A builder that is provisioned, tested and sealed, so that only its capture remains; and the results.

    ``traces``: the keys and the machine id of the builder; no instance of the image may have them.
    ``outputs``: name -> value, from scripts. ``sources``: where its package manager takes packages from, if known.
    ``contents``: the digest of its files, if the recipe has ``refresh.skip_same``. ``set_id``: the set-id files of its
    base, if the recipe has the suite hygiene.
    ``frozen``: its file systems are frozen until its end, so that EC2 captures it as it is. ``launched``: when EC2
    started it last, empty if unknown: one that was started again is neither frozen nor sealed.
    ``inventory``: what is in it, as text of ``evidence.packages``; ``state``: its files, services and the like, as a
    document of ``evidence.state``. Both are empty if unknown.
    """

    architecture: Architecture
    instance_id: str
    report: TestReport
    packages: tuple[Package, ...]
    changes: tuple[PackageChange, ...]
    traces: Traces
    outputs: Mapping[str, str] = field(default_factory=dict)
    sources: PackageSources | None = None
    contents: str = ""
    set_id: tuple[str, ...] | None = None
    inventory: str = ""
    state: bytes = b""
    frozen: bool = False
    launched: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "instance_id": self.instance_id,
            "frozen": self.frozen,
            "launched": self.launched,
            "report": report_to_json(self.report),
            "packages": [[p.name, p.version, p.architecture] for p in self.packages],
            "changes": [[c.name, c.before, c.after] for c in self.changes],
            "outputs": dict(self.outputs),
            "sources": _SOURCES.dump_python(self.sources, mode="json"),
            "contents": self.contents,
            "set_id": None if self.set_id is None else list(self.set_id),
            "state": base64.b64encode(self.state).decode(),  # compressed already
            "inventory": base64.b64encode(zlib.compress(self.inventory.encode())).decode(),  # a sixth of its size
            "traces": [
                self.traces.public_key,
                list(self.traces.host_keys),
                self.traces.machine_id,
                list(self.traces.files),
            ],
        }

    @classmethod
    def from_json(cls, architecture: Architecture, data: Mapping[str, Any]) -> Prepared:
        public_key, host_keys, machine_id, *files = data["traces"]  # journals of older versions have no files
        return cls(
            architecture,
            data["instance_id"],
            report_from_json(data["report"]),
            tuple(Package(*p) for p in data["packages"]),
            tuple(PackageChange(*c) for c in data["changes"]),
            Traces(public_key, tuple(host_keys), machine_id, tuple(*files)),
            dict(data.get("outputs", {})),
            _SOURCES.validate_python(data.get("sources")),
            str(data.get("contents", "")),
            tuple(data["set_id"]) if data.get("set_id") is not None else None,
            zlib.decompress(base64.b64decode(data["inventory"])).decode() if "inventory" in data else "",
            base64.b64decode(data.get("state", "")),
            bool(data.get("frozen")),
            str(data.get("launched", "")),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """The image captured from a prepared builder: available, not released, and encrypted if the builder was.
    ``earlier``: what the tests of the last release recorded, by name."""

    prepared: Prepared
    image_id: str
    earlier: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> Architecture:
        return self.prepared.architecture


def report_to_json(report: TestReport) -> dict[str, Any]:
    """Encode a test report for the journal."""
    return {
        "gate": report.gate,
        "architecture": report.architecture,
        "passed": report.passed,
        "failed": report.failed,
        "skipped": report.skipped,
        "flaky": report.flaky,
        "seconds": report.seconds,
        "failures": [[f.name, f.message, f.place] for f in report.failures],
        "junit": report.junit,
        "controls": [[c.control, c.outcome, c.message, c.until] for c in report.controls],
        "facts": dict(report.facts),
        "place": report.place,
        "not_executed": report.not_executed,
    }


def report_from_json(data: Mapping[str, Any]) -> TestReport:
    """Decode a test report from the journal. Reports of earlier versions without controls are accepted."""
    failures = tuple(TestFailure(*f) for f in data["failures"])
    controls = tuple(ControlResult(*c) for c in data.get("controls", ()))
    return TestReport(**{**data, "failures": failures, "controls": controls})
