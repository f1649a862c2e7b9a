"""A cloud without contents, and a build in it."""

from __future__ import annotations

import json
import os
import random
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from goldenami.aws import tags
from goldenami.aws.guard import reads_only
from goldenami.aws.ledger import Ledger
from goldenami.aws.limits import Retry
from goldenami.aws.ownership import Proofs
from goldenami.aws.recent import Patience
from goldenami.aws.session import Cloud
from goldenami.journal import Journal
from goldenami.model import Account, Place
from goldenami.polling import Interval

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

HOME = Account("home", "111111111111")
APPS = Account("apps", "222222222222", "arn:aws:iam::222222222222:role/goldenami-publisher")
HOME_PLACE = Place(HOME.id, "eu-central-1")
HOME_WEST = Place(HOME.id, "eu-west-1")
APPS_PLACE = Place(APPS.id, "eu-central-1")
BUILD = "20261124-030000-abcd"
CATALOG = "0123456789abcdef"
PROOFS = Proofs.of_key(bytes(32))

# Quick: what is looked for is there at once unless a test delays it.
PATIENCE = Patience(visible=1.0, known=1.0, pauses=Interval(0.02, 1.5, 0.1))
RETRY = Retry(first=0.01, longest=0.05, throttled=3.0, unreachable=1.0, queued=3.0)


class Crash(Exception):
    """The process "dies" here: nothing that would come after it happens."""


@dataclass
class Trap:
    """A journal's ``sync`` that ends the "process" at the n-th record of a kind from now: before that record is on the
    disk (``lost``), or right after it is."""

    record: str = ""
    lost: bool = False
    nth: int = 1

    def __call__(self, descriptor: int) -> None:
        if not self.record or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        try:
            content = os.pread(descriptor, 1 << 24, 0)
        except OSError:  # a secret's file: written, never read
            return
        start = content.rfind(b"\n", 0, -1) + 1
        if content[start:].startswith(b'{"n":') and json.loads(content[start:])["record"] == self.record:
            self.nth -= 1
            if self.nth > 0:
                return
            if self.lost:
                os.ftruncate(descriptor, start)
            raise Crash


@dataclass
class World:
    """One cloud and one build; ``restart`` is what a new process sees."""

    paper: PaperCloud
    builds: Path
    journal: Journal
    ledger: Ledger
    trap: Trap
    clients: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    @property
    def cloud(self) -> Cloud:
        return self.ledger.cloud

    def restart(self) -> None:
        self.journal.close()
        self.trap = Trap()
        self.journal = Journal.open(self.journal.directory, sync=self.trap)
        self.ledger = make_ledger(self.journal)

    def raw(self, service: str, place: Place = HOME_PLACE) -> Any:
        """A plain client: the truth, and what somebody else does."""
        key = (service, place.account, place.region)
        if key not in self.clients:
            self.clients[key] = new_session().create_client(service, **self.paper.client(place.region, place.account))
        return self.clients[key]

    def mutations(self, since: int = 0) -> Counter[str]:
        """How often each mutating action was called."""
        calls = self.paper.calls[since:]
        return Counter(c["action"] for c in calls if not reads_only(c["service"], c["action"]))

    def mark(self) -> int:
        return len(self.paper.calls)

    def tagged(self, kind: str, place: Place = HOME_PLACE) -> dict[str, Any]:
        """What really exists with this build's tag, by plain describes."""
        from goldenami.aws.kinds import KINDS

        row = KINDS[kind]
        assert row.has_tags
        found = row.tagged(self.cloud, place, tags.BUILD_ID, BUILD)
        return {k: v for k, v in found.items() if not row.is_gone(self.cloud, place, k)}


LOADER = botocore.session.Session().get_component("data_loader")


def have_only(variables: Mapping[str, str], patch: pytest.MonkeyPatch) -> None:
    """Let the process have these AWS_* variables, and no credentials of who runs the tests."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)


def new_session() -> botocore.session.Session:
    """A session of its own that has read botocore's service descriptions already: they take half a second."""
    session = botocore.session.Session()
    session.register_component("data_loader", LOADER)
    return session


def make_cloud(**options: Any) -> Cloud:
    accounts = {a.name: a for a in (HOME, APPS)}
    defaults = {"retry": RETRY, "patience": PATIENCE, "jitter": random.Random(1), "caller": new_session()}
    return Cloud(accounts, HOME_PLACE, **{**defaults, **options})


def make_ledger(journal: Journal, **options: Any) -> Ledger:
    every = tags.build_tags(recipe="debian-12-web", version="1.4", build_id=BUILD, own={"owner": "platform-team"})
    return Ledger(make_cloud(), journal, every, **{"proofs": PROOFS, **options})
