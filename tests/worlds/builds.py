"""A whole build without hosts: a project, a cloud on paper, host work that ends at once, and a process that can die.

Each case has a fresh cloud (three milliseconds), behind a gate that can disturb any call. The program's clients are
botocore's, and hand their requests to the gate directly, in this process (``goldenami_sandbox.direct``); with ``wire``
they send them over HTTP, at four times the cost. ``test_wire`` holds the two side by side. Time is virtual: whoever
sleeps, moves it on.

Dying: ``Death`` is no Exception, so nothing that handles errors handles it. Once it struck in one thread, every other
one meets it at its next call or sleep; a call that is under way has its effect, and its answer is not read. That is
what SIGKILL does, seen from the cloud and from the journal. ``test_process`` holds the two side by side.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import botocore.session
import pytest
from goldenami_sandbox import guard
from goldenami_sandbox.accounts import ACCOUNTS, admin_key
from goldenami_sandbox.authorization import Use
from goldenami_sandbox.cloud import Cloud as SandboxCloud
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.ec2.paper import PaperNode
from goldenami_sandbox.http import Request as HttpRequest
from goldenami_sandbox.http import Response, Server
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.protocol import Call, new_request_id, parse
from goldenami_sandbox.settings import Settings
from goldenami_sandbox.surface import in_use
from goldenami_sandbox.testing import PaperCloud, held_port

from goldenami import pipeline
from goldenami import recipe as recipes
from goldenami.aws import journals
from goldenami.aws.guard import reads_only
from goldenami.aws.reach import Reach
from goldenami.aws.recent import Recent
from goldenami.aws.session import Cloud, Timeouts
from goldenami.errors import GoldenAmiError
from goldenami.events import Event
from goldenami.journal import Journals
from goldenami.model import Environment, Place
from goldenami.pipeline import Outcome, Request
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Version
from tests.worlds.inprocess import called_directly
from tests.worlds.ledgers import have_only
from tests.worlds.paper import PATIENCE
from tests.worlds.paper import RECIPE as RECIPE
from tests.worlds.paper import PaperHostWork as PaperHostWork

T = TypeVar("T")

# Seconds for an answer, real ones. Where it is over too early on a busy machine, that is one more fault to live with.
TIMEOUT = 2.0
HOME, APPS = "111111111111", "222222222222"
REGIONS = ("eu-central-1", "eu-west-1")
PLACES = tuple(Place(account, region) for account in (HOME, APPS) for region in REGIONS)
CHANNEL = "stable"

PROJECT = {
    "goldenami.yaml": """
environments:
  test:
    home: {account: "111111111111", region: eu-central-1}
    network: {source_cidr: 192.0.2.7/32}
    accounts:
      apps: {id: "222222222222", role: "arn:aws:iam::222222222222:role/goldenami-publisher"}
    targets:
      - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-central-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-west-1], mode: share}
    tags: {owner: platform-team}
""",
    "recipes/web.yaml": """
name: web
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none}
software:
  - file: {dest: /etc/motd, content: hello}
tests: [base]
image: {root_volume: {size_gib: 8}}
retention: {deprecate_after: 90d}
distribution: {channel: stable}
""",
}


# Where another machine finds them: lines for the environment above.
IN_A_BUCKET = "    catalog: s3://shared/golden/catalog\n    builds: s3://shared/golden\n"
IN_A_DIRECTORY = "    catalog: .goldenami/test/catalog\n"


def follows(later: str, earlier: str) -> bool:
    """Whether a version is the next one after another. The day of a build is that of the machine: after midnight, the
    next one is the first of its day."""
    new, old = Version.parse(later), Version.parse(earlier)
    first = new.day > old.day and new == replace(old, day=new.day, number=1)
    return first or new == replace(old, number=old.number + 1)


class Death(BaseException):
    """The process is gone."""


class Label(NamedTuple):
    """One call of a build, the same in every run: threads race, but how often a place hears a call does not change."""

    service: str
    action: str
    account: str
    region: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.service}:{self.action} #{self.ordinal} in {self.account}/{self.region}"


# The clock of the machine may be set back in the middle of a test.
_START = time.time() - time.monotonic()


class Clock:
    """Virtual seconds since the epoch. Sleeping moves it, and gives other threads a turn.

    ``settle`` is called before: what the cloud works at, takes none of the virtual time, however busy the machine is.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._mutex = threading.Lock()
        self.settle: Callable[[], object] = lambda: None

    def now(self) -> float:
        return _START + time.monotonic() + self._offset

    def sleep(self, seconds: float) -> None:
        self.settle()
        with self._mutex:
            self._offset += seconds
        time.sleep(0.0002)

    @property
    def offset(self) -> float:
        return self._offset

    def reset(self, offset: float = 0.0) -> None:
        self._offset = offset


class MortalCloud(Cloud):
    """The product's cloud in a process that can be told where to die."""

    def __init__(self, clock: Clock, accounts: Mapping[str, Any], home: Place, direct: Direct | None) -> None:
        self._time = clock
        self._direct = direct
        self._doom: tuple[Label, str] | None = None
        self._dead = False
        self.ahead = timedelta()
        self._count: Counter[tuple[str, ...]] = Counter()
        self._guard = threading.Lock()
        self.mutations: list[Label] = []
        super().__init__(
            accounts,
            home,
            clock=clock.now,
            sleep=self._sleep,
            jitter=random.Random(1),
            timeouts=Timeouts(connect=5, read=TIMEOUT),
            caller=_session(),
        )

    def now(self) -> datetime:
        """The cloud's clock, which a case may have gone on."""
        return super().now() + self.ahead

    @property
    def dead(self) -> bool:
        return self._dead

    @property
    def doomed(self) -> bool:
        """Whether this process is dead, or will die at a call."""
        return self._dead or self._doom is not None

    def start_process(self, label: Label | None = None, when: str = "") -> None:
        """A new process. With a label: it dies ``when`` ("before", "after") that mutating call has its effect."""
        self._doom = (label, when) if label is not None else None
        self._dead = False
        self._count.clear()
        self.mutations = []
        self._paces.clear()  # what a process learnt about throttling ends with it
        learnt = (self.own_parameters, self.subnets, self.missing_parameters, self.key_uses, self.durations)
        for known in (*learnt, self.allowed, self._refusals):
            known.clear()
        self.recent = Recent(self._time.now)
        self._reach = Reach(self._time.now, self._retry.unreachable)

    def call(
        self, place: Place, service: str, operation: str, request: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        self._live()
        answer = super().call(place, service, operation, request)
        self._live()
        return answer

    def send(self, place: Place, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self._live()
        with self._guard:
            identity = (service, operation, place.account, place.region)
            self._count[identity] += 1
            label = Label(*identity, self._count[identity])
            self.mutations.append(label)
        when = self._doom[1] if self._doom is not None and self._doom[0] == label else None
        if when == "before":
            self._die()
        try:
            answer = super().send(place, service, operation, request)
        except GoldenAmiError as error:
            if self.recent.may_pass(error, request):  # sent again, it is the same call
                with self._guard:
                    self._count[identity] -= 1
                    self.mutations.remove(label)
            raise
        if when == "after":
            self._die()
        self._live()
        return answer

    def _make_client(self, service: str, place: Place, role: str | None) -> Any:
        client = super()._make_client(service, place, role)
        if self._direct is not None:
            self._direct.attach(client)
        return client

    def _sleep(self, seconds: float) -> None:
        self._live()
        self._time.sleep(seconds)

    def _live(self) -> None:
        if self._dead:
            raise Death

    def _die(self) -> None:
        self.die()
        raise Death

    def die(self) -> None:
        """From now on, whoever makes a call or waits."""
        self._dead = True


Disturb = Callable[[Label, Call, Callable[[], Response]], Response]


class Gate:
    """What the server serves: the cloud of the case, behind what the case does to calls."""

    def __init__(self) -> None:
        self.target: SandboxCloud | None = None
        self.disturb: Disturb | None = None
        self.recording: list[Label] | None = None
        self._count: Counter[tuple[str, ...]] = Counter()
        self._guard = threading.Lock()

    def start(self, disturb: Disturb | None = None, *, record: bool = False) -> None:
        """Count calls from now on, and disturb them."""
        self.disturb = disturb
        self.recording = [] if record else None
        self._count.clear()

    def stop(self) -> None:
        self.disturb, self.recording = None, None

    def __call__(self, request: HttpRequest) -> Response:
        """A call that came over HTTP."""
        call = parse(request, new_request_id())
        if self.target is None:
            return Response(0, drop=True)
        return self.target(request) if call is None else self.serve(call)

    def serve(self, call: Call) -> Response:
        target = self.target
        if target is None:
            return Response(0, drop=True)
        if self.disturb is None and self.recording is None:
            return target.serve(call)
        with self._guard:
            # The account is known by the key that signed, to the cloud behind; here the key itself does as well.
            identity = (call.service, call.action, _account(target, call), call.region)
            self._count[identity] += 1
            label = Label(*identity, self._count[identity])
            if self.recording is not None:
                self.recording.append(label)
        if self.disturb is None:
            return target.serve(call)
        return self.disturb(label, call, lambda: target.serve(call))


def _account(target: SandboxCloud, call: Call) -> str:
    try:
        return target.credentials.identify(call).account
    except Exception:
        return "?"


SECRET = "that of all worlds, so that clients need not log in again"
_LOADER = botocore.session.Session().get_component("data_loader")


def _session() -> botocore.session.Session:
    """A session of its own that has read botocore's service descriptions already: they take half a second."""
    session = botocore.session.Session()
    session.register_component("data_loader", _LOADER)
    return session


def logged_in(environment: Environment, **options: Any) -> Cloud:
    """``Cloud.of`` without reading botocore's descriptions again, and with little patience."""
    every = {"caller": _session(), "patience": PATIENCE, **options}
    return Cloud(environment.accounts, environment.home_place, connection=environment.connection, **every)


class Saved(NamedTuple):
    """What other cases begin with: the files of a project, and a cloud at rest, some virtual seconds from now."""

    path: Path
    node: PaperNode
    own: Mapping[str, Any]
    services: Mapping[str, bytes]
    seconds: float


Files = Mapping[str, tuple[bytes | None, int]]  # content (None: a directory) and mode, by path


class Standing(NamedTuple):
    """A state that several worlds can be in. A world is in it as long as it has had so many ``changes``, and its clock
    is on so many ``seconds``. ``name``: of the state, without the files and what the worlds are given."""

    name: object
    changes: int
    seconds: float


class Reached(NamedTuple):
    """What a program did in a world: what it returned, what the world was like afterwards, and what is known of the
    program's process. ``name``: of the state."""

    name: int
    result: Any
    files: Files
    node: PaperNode
    own: Mapping[str, Any]
    services: Mapping[str, bytes]
    seconds: float
    calls: list[dict[str, Any]]
    counted: Counter[tuple[str, ...]]
    mutations: list[Label]
    events: list[Event]
    prepared: list[str]
    proved: list[str]
    used: frozenset[Use]


# What the tests of a worker have in common: by the state of the world before, and what was made in it.
_MADE: Final[dict[object, Reached]] = {}


@dataclass
class World:
    """One case after the other: ``fresh`` begins one."""

    base: Path
    clock: Clock
    gate: Gate
    server: Server
    wire: bool
    paper: PaperCloud = field(init=False)
    path: Path = field(init=False)
    cloud: MortalCloud = field(init=False)
    host_work: PaperHostWork = field(init=False)
    events: list[Event] = field(init=False)
    project: Any = field(init=False)
    environment: Any = field(init=False)
    accounts: Mapping[str, str] = field(default_factory=lambda: dict(ACCOUNTS))  # of the next cloud
    _node: PaperNode | None = None
    _standing: Standing | None = None
    _in_a_bucket: bool = False
    _witness: Cloud | None = None
    _paths: list[Path] = field(default_factory=list)
    _saved: list[Path] = field(default_factory=list)
    _clients: dict[tuple[str, Place], Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _seen: int = 0  # calls before the last ``forget``

    def fresh(self, *, new_process: bool = False, bucket: bool = False, saved: Saved | None = None) -> None:
        """An empty cloud and an empty project, or saved ones. ``new_process``: its clients log in again, too (which
        takes a while). ``bucket``: journals and catalog are kept in one."""
        self.end()
        self._seen = 0
        self.clock.reset(saved.seconds if saved is not None else 0.0)
        sessions = self.gate.target.credentials.dump() if self.gate.target is not None else []
        self._open(PaperNode() if saved is None else saved.node.copy())
        if saved is not None:
            self._behind.load(saved.own, saved.services)
            assert self._behind.settle()
        if sessions and not new_process:
            self._behind.credentials.load(sessions)
        self._in_a_bucket = bucket
        self._paths = []
        if bucket:
            location = {"LocationConstraint": REGIONS[0]}
            self.client("s3", PLACES[0]).create_bucket(Bucket="shared", CreateBucketConfiguration=location)
        self.other_machine(saved.path if saved is not None else None)
        if new_process or not hasattr(self, "cloud"):
            direct = None if self.wire else Direct(self.gate.serve)
            self.cloud = MortalCloud(self.clock, self.environment.accounts, self.environment.home_place, direct)
        self.host_work = PaperHostWork()
        self.events = []
        self.cloud.start_process()
        self.gate.stop()
        name = (saved.path if saved is not None else None, bucket, tuple(self.accounts.items()), self.wire)
        self._standing = Standing(name, self._changes(), self.clock.offset)

    def _open(self, node: PaperNode) -> None:
        """Serve an empty cloud."""
        node.start()
        behind = SandboxCloud(
            node,
            accounts=self.accounts,
            clock=self.clock.now,
            sleep=self.clock.sleep,
            settings=Settings(),
            secret=SECRET,
        )
        behind.seed()
        self._node, self.gate.target, self.clock.settle = node, behind, behind.ec2.settle
        endpoint = f"http://127.0.0.1:{self.server.port}"
        self.paper = PaperCloud(endpoint, dict(self.accounts), behind, node)

    def save(self) -> Saved:
        """The case as it is, to begin others with it."""
        assert self._node is not None
        assert self._behind.settle()
        path = self.base / f"saved-{next(self._numbers)}"
        shutil.copytree(self.path, path)
        self._saved.append(path)
        return Saved(path, self._node.copy(), *self._behind.dump(), self.clock.offset)

    def remember(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returns; the world is as it is after that, in a new process. It is made once in a worker
        for each state of the world: for every other test, the world becomes what it was after that. Only for what a
        test begins with: what it is about has to happen in it.

        ``what``: names what is made, and all that it depends on beside the world. What is returned must not change.
        A process that died, or will, stays as it is where nothing can be remembered.
        """
        state = self._state()
        if state is None:
            return self._made_here(make)
        host, made = self.host_work, _MADE.get((what, state))
        if made is None:
            before = (len(self.paper.calls), len(self.events), len(host.prepared), len(host.proved))
            self.project = recipes.load_project(self.path)  # the files are part of the state, older ones are not
            result = self._made_here(make)
            made = self._reached(result, *before)
            if made is None:
                return result
            _MADE[what, state] = made
        else:
            self._become(made)
            self.events += made.events
            host.prepared += made.prepared
            host.proved += made.proved
        self.project = recipes.load_project(self.path)
        self.environment = recipes.environment(self.project, "test")
        self._go_on(made.counted, made.mutations)
        self._standing = Standing(made.name, self._changes(), self.clock.offset)
        return made.result  # type: ignore[no-any-return]

    def _made_here(self, make: Callable[[], T]) -> T:
        result = make()
        if not self.cloud.doomed:
            self._go_on(Counter(self.cloud._count), list(self.cloud.mutations))
        return result

    def _go_on(self, counted: Counter[tuple[str, ...]], mutations: list[Label]) -> None:
        """A new process, which counts the calls of the one before as its own."""
        self.cloud.start_process()
        self.cloud._count.update(counted)
        self.cloud.mutations += mutations

    def _state(self) -> Hashable | None:
        """What decides what a program makes in this world. None if the world was used since ``fresh`` or ``remember``,
        or was given what this does not tell."""
        standing, host, node, cloud = self._standing, self.host_work, self._node, self.cloud
        assert node is not None
        if standing is None:
            return None
        project = recipes.load_project(self.path)
        work = {name: value for name, value in vars(host).items() if name not in ("prepared", "proved")}
        if (
            (self._changes(), self.clock.offset) != standing[1:]
            or cloud.ahead
            or cloud.doomed
            or self.gate.disturb is not None
            or self.gate.recording is not None
            or any(map(callable, work.values()))
            or " at 0x" in repr(work)  # an address, and not what is there
            or node.gates
            or node.failures
            or self._behind.settings.visibility_delay  # the sandbox does not save what is not visible yet
            or self.project != project
            or self.environment != recipes.environment(project, "test")
        ):
            return None
        settings = json.dumps(self._behind.settings.to_json(), sort_keys=True)
        given = (settings, type(host), repr(work), repr(node.on_volumes), node.room)
        # The keys are those of the same names in all worlds of a worker.
        process = (type(cloud), repr(cloud._accounts), cloud.home, os.environ.get("AWS_ACCESS_KEY_ID"))
        return standing.name, tuple(read_files(self.path).items()), *given, *process

    def _changes(self) -> int:
        """How many calls so far have changed something. A login changes nothing."""
        return sum(not reads_only(c["service"], c["action"]) and c["service"] != "sts" for c in self.paper.calls)

    def _reached(self, result: object, calls: int, events: int, prepared: int, proved: int) -> Reached | None:
        """The case as it is. The numbers: of what was there before. None if its cloud has what cannot be saved."""
        assert self._node is not None
        assert self._behind.settle()
        own, services = self._behind.dump()
        with self._behind.surface.active():
            if {backends.service_name for backends in in_use()} - services.keys():
                return None
        return Reached(
            len(_MADE),
            result,
            read_files(self.path),
            self._node.copy(),
            own,
            services,
            self.clock.offset,
            self.paper.calls[calls:],
            Counter(self.cloud._count),
            list(self.cloud.mutations),
            self.events[events:],
            self.host_work.prepared[prepared:],
            self.host_work.proved[proved:],
            frozenset(self._behind.authorization.used),
        )

    def _become(self, made: Reached) -> None:
        """Make the cloud and the files those of a state that another world reached from the state of this one."""
        assert self._node is not None
        self.clock.reset(made.seconds)
        sessions, calls = self._behind.credentials.dump(), self.paper.calls
        used = self._behind.authorization.used | made.used
        if self.paper.calls:  # only one without any is empty: a read is enough for the public images of a region
            self._behind.close()
            self._node.close()
            self._open(made.node.copy())
            self._behind.log.load(calls)
        else:
            self._node.become(made.node)
        self._behind.load(made.own, made.services)
        self._behind.credentials.load(sessions)
        assert self._behind.settle()
        self._behind.log.load(made.calls)
        self._behind.authorization.used = used
        write_files(self.path, made.files)

    def other_machine(self, saved: Path | None = None) -> None:
        """A checkout of the project where nothing else is, or what was saved; what others left in the bucket is a while
        ago."""
        self.path = self.base / f"case-{next(self._numbers)}"
        self._paths.append(self.path)
        for name, text in PROJECT.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            stores = IN_A_BUCKET if self._in_a_bucket else IN_A_DIRECTORY
            file.write_text(text + (stores if name == "goldenami.yaml" else ""))
        if saved is not None:
            shutil.copytree(saved, self.path, dirs_exist_ok=True)
        self.project = recipes.load_project(self.path)
        self.environment = recipes.environment(self.project, "test")
        if self._in_a_bucket:
            self.leases_run_out()

    def leases_run_out(self) -> None:
        """S3's clock goes on, and nobody renews."""
        surface = self.behind.surface
        with surface.active():
            bucket = surface.backend("s3", HOME, "aws").buckets["shared"]
            for key in bucket.keys.values():
                key.last_modified -= timedelta(seconds=3600)

    @property
    def behind(self) -> SandboxCloud:
        """The cloud of the case, from the inside. Whoever has it may change it without a call, so what is known of the
        state of this world is so no more."""
        self._standing = None
        return self._behind

    def settled(self) -> SandboxCloud:
        """The same, when nothing is under way, for those who only look."""
        assert self._behind.settle()
        return self._behind

    @property
    def _behind(self) -> SandboxCloud:
        assert self.gate.target is not None
        return self.gate.target

    def end(self) -> None:
        """Nothing of the last case stays, on the disk neither."""
        if self._node is not None and self.gate.target is not None:
            self.gate.stop()
            self.gate.target.close()
            self._node.close()
            for path in self._paths:
                shutil.rmtree(path)
            self._node = None

    def put_on_volumes(self, blocks: Mapping[int, str]) -> None:
        """Give every volume these blocks: number -> a word that decides what the block contains."""
        assert self._node is not None
        self._node.on_volumes = dict(blocks)

    def blocks_of(self, place: Place, snapshot_id: str) -> dict[int, str]:
        """The blocks of a snapshot, which can be changed."""
        assert self._node is not None
        behind, _ = self._behind.ec2.contents_of(Caller(place.account, None), place.region, snapshot_id)
        return self._node.written[behind]

    # --- the program --------------------------------------------------------------------------------------------------

    def build(self, *, move: bool = True) -> Outcome:
        return pipeline.build(
            Request(self.project, self.environment, RECIPE),
            move=move,
            emit_to=self.events.append,
            host_work=self.host_work,
            cloud=self.cloud,
        )

    def built(self) -> Outcome:
        """An ordinary build's outcome, for tests of what comes after it (see ``remember``)."""
        return self.remember("build", self.build)

    def killed(self, label: Label, when: str) -> None:
        """``build_until``, for tests of what comes after it (see ``remember``)."""
        self.remember(("killed", label, when), lambda: self.build_until(label, when))

    def resume(self, build_id: str | None = None) -> Outcome:
        self.cloud.start_process()
        return pipeline.resume(
            self.project,
            self.environment,
            build_id,
            emit_to=self.events.append,
            host_work=self.host_work,
            cloud=self.cloud,
        )

    def clean(self, build_id: str) -> Any:
        self.cloud.start_process()
        return self.clean_again(build_id)

    def clean_again(self, build_id: str) -> Any:
        """Clean, in the process that is there."""
        return pipeline.clean(self.environment, build_id, emit_to=self.events.append, cloud=self.cloud)

    def build_until(self, label: Label, when: str) -> None:
        """Build, in a process that dies there."""
        self.cloud.start_process(label, when)
        try:
            self.build()
        except Death:
            return
        raise AssertionError(f"the build never came to {label}")

    def rewrite(self, old: str, new: str, name: str = "goldenami.yaml") -> None:
        """Change a file of the project, and read it again."""
        file = self.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        self.project = recipes.load_project(self.path)
        self.environment = recipes.environment(self.project, "test")

    def forget(self) -> None:
        """Begin a new process. :meth:`made` has its calls only."""
        self._seen = len(self.paper.calls)
        self.cloud.start_process()

    def made(self, since: int | None = None) -> list[str]:
        """Return the changing calls since this number of calls, or since :meth:`forget`."""
        calls = self.paper.calls[self._seen if since is None else since :]
        return [c["action"] for c in calls if not reads_only(c["service"], c["action"])]

    def change_recipe(self, content: str) -> None:
        """Other inputs: the next build is a new one."""
        file = self.path / "recipes" / "web.yaml"
        file.write_text(file.read_text().replace("content: hello", f"content: {content}"))
        self.project = recipes.load_project(self.path)  # what is read is read once in a process

    @property
    def witness(self) -> Cloud:
        """A cloud of somebody who looks on, in a process of their own."""
        if self._witness is None:
            self._witness = Cloud.of(self.environment, caller=_session())
        return self._witness

    @property
    def catalog(self) -> Catalog:
        return Catalog.of(self.environment, self.witness)

    @property
    def journals(self) -> Journals:
        return journals.open_journals(self.environment, self.witness)

    @property
    def builds(self) -> list[str]:
        return [s.build_id for s in self.journals.list()]

    # --- witnesses ----------------------------------------------------------------------------------------------------

    def client(self, service: str, place: Place) -> Any:
        """A plain client, which shares no code with what is tested."""
        if (service, place) not in self._clients:
            arguments = self.paper.client(place.region, place.account)
            client = _session().create_client(service, **arguments)
            Direct(self.gate.serve).attach(client)
            self._clients[service, place] = client
        return self._clients[service, place]

    def calls_elsewhere(self) -> list[str]:
        """Mutating calls in places where the build has no business."""
        return [
            f"{c['service']}:{c['action']} in {c['account']}/{c['region']}"
            for c in self.paper.calls
            if not reads_only(c["service"], c["action"]) and Place(c["account"], c["region"]) not in PLACES
        ]


def read_files(path: Path) -> Files:
    """All that is below a directory."""
    found = sorted(path.rglob("*"))
    content = {file: file.read_bytes() if file.is_file() else None for file in found}
    return {str(file.relative_to(path)): (content[file], file.stat().st_mode & 0o777) for file in found}


def write_files(path: Path, files: Files) -> None:
    """Make these all that is below a directory."""
    for name in sorted(read_files(path).keys() - files.keys(), reverse=True):
        gone = path / name
        gone.rmdir() if gone.is_dir() else gone.unlink()
    for name, (content, mode) in files.items():
        file = path / name
        if content is None:
            file.mkdir(exist_ok=True)
        else:
            file.write_bytes(content)
        file.chmod(mode)


@contextmanager
def open_world(
    base: Path, *, wire: bool = False, clock: Clock | None = None, kind: type[World] = World
) -> Iterator[World]:
    """A world; its first case begins with ``fresh``. The environment variables have to name its endpoint and keys.
    ``wire``: the program's calls go over HTTP, not directly to the cloud. ``kind``: its class."""
    gate = Gate()
    with held_port() as port:  # a test may close the server, and open another one there
        server = Server(gate, port)
        server.serve_in_thread()
        world = kind(base, clock or Clock(), gate, server, wire)
        try:
            with nullcontext() if wire else called_directly(f"http://127.0.0.1:{port}", gate.serve):
                yield world
        finally:
            world.end()
            for saved in world._saved:
                shutil.rmtree(saved)
            world.server.close()


@contextmanager
def a_world(
    path: Path,
    patch: pytest.MonkeyPatch,
    *,
    wire: bool = False,
    clock: Clock | None = None,
    kind: type[World] = World,
) -> Iterator[World]:
    # Thousands of journals are flushed to the disk: in memory that costs nothing.
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else path
    base = base / f"goldenami-test-{os.getpid()}-{path.name}"
    base.mkdir()
    guard.remove_later(base)
    try:
        with open_world(base, wire=wire, clock=clock, kind=kind) as world:
            key = admin_key(HOME, SECRET)
            variables = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{world.server.port}",
                "AWS_ACCESS_KEY_ID": key.access_key_id,
                "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
                "AWS_DEFAULT_REGION": "eu-central-1",
            }
            have_only(variables, patch)
            # How long the waits of another run took decides when a build looks, and so how many calls it makes.
            patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
            yield world
    finally:
        base.rmdir()
