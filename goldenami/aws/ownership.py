"""Ownership: whether a resource belongs to this catalog and environment, to another one, or cannot be determined.

Every command that changes or deletes a resource which its own journal does not name asks here first. There are three
answers:

- *ours*: the tags name this catalog and this environment.
- *theirs*: the tags name another catalog or another environment, or another service put its own tags on the resource.
  It is listed, and never changed.
- *unknown*: the tags name no catalog. The owner cannot be determined, so the resource is kept.

A grant has no tags. Its name contains the id of the catalog (``kinds.grant_name``).

Everybody who may tag resources can copy these tags. So before a resource is deleted that is found by its tags, the tag
``goldenami:proof`` must prove that goldenami created this resource (``Proofs``, ``kinds.Kind.owner_of``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from goldenami.aws import tags
from goldenami.model import Place

Whose = Literal["ours", "theirs", "unknown"]

_GRANT: Final = re.compile(r"goldenami-(?P<catalog>[0-9a-f]{16})-(?P<build>\d{8}-\d{6}-[0-9a-f]{4,32})-[0-9a-f]{40}")
_CONSUMER_GRANT: Final = re.compile(r"goldenami-(?P<catalog>[0-9a-f]{16})-consumer-[0-9a-f]{8}-[0-9a-f]{16}")
_EARLIER_GRANT: Final = re.compile(r"goldenami-(?P<build>\d{8}-\d{6}-[0-9a-f]{4,32})-[0-9a-f]{40}")
# Services that copy the tags of their source to what they create, and add their own.
_SERVICES: Final = {"aws:dlm:": "Data Lifecycle Manager", "aws:backup:": "AWS Backup"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whose a resource is. ``reason``: for users, the continuation of "it is ..."; empty for ours."""

    whose: Whose
    reason: str = ""

    @property
    def is_ours(self) -> bool:
        return self.whose == "ours"


_OURS: Final = Answer("ours")


# The tags that a proof covers. Others may be changed: the expiry, the name, the environment's own tags.
_COVERED: Final = (tags.CATALOG, tags.ENVIRONMENT, tags.BUILD_ID, tags.KEY, tags.TOKEN)


class Proofs:
    """Makes and checks the proofs that goldenami created a resource.

    A proof is a MAC under the secret key of the environment, which is in the store of its catalog. It covers account,
    region, type, the tags that identify the creating call, and the *facts* of the resource: what the creating call
    fixes and no tag can set, such as the name of a key pair or the ClientToken of an instance (``Kind.facts``). So a
    proof that was copied to another resource is wrong there. It is made before the call, so it is also on a resource
    whose creating call was not answered.

    The key is read when it is first needed, and created with the first proof.
    """

    def __init__(self, read: Callable[[], bytes | None], ensure: Callable[[], bytes]) -> None:
        self._read = read
        self._ensure = ensure
        self._key: bytes | None = None
        self._mutex = threading.Lock()

    @classmethod
    def of_key(cls, key: bytes) -> Proofs:
        return cls(lambda: key, lambda: key)

    def make(self, type: str, place: Place, own: Mapping[str, str], facts: str) -> str:
        """Return the proof for a resource that is about to be created. ``type``: of EC2 ("key-pair"), or the kind.
        ``own``: its tags."""
        with self._mutex:
            self._key = key = self._key or self._ensure()
        return _mac(key, type, place, own, facts)

    def check(self, type: str, place: Place, own: Mapping[str, str], facts: Iterable[str]) -> bool:
        """Return whether the tags have a proof for one of these facts."""
        given = own.get(tags.PROOF, "")
        if not given:
            return False
        with self._mutex:
            self._key = key = self._key or self._read()
        return key is not None and any(
            hmac.compare_digest(given.encode(), _mac(key, type, place, own, one).encode()) for one in facts
        )


def _mac(key: bytes, type: str, place: Place, own: Mapping[str, str], facts: str) -> str:
    covered = [type, place.account, place.region, *(own.get(name, "") for name in _COVERED), facts]
    return hmac.new(key, json.dumps(covered).encode(), hashlib.sha256).hexdigest()[:40]


UNPROVEN: Final = Answer(
    "unknown", f"the tag {tags.PROOF} does not prove that goldenami created it: its tags were copied or changed"
)


@dataclass(frozen=True, slots=True)
class Owner:
    """A catalog and an environment, for which a command acts. ``catalog``: its id; None if it has none yet, so that no
    resource is ours. ``proofs``: those of the environment; None for a command that deletes nothing by its tags."""

    catalog: str | None
    environment: str
    proofs: Proofs | None = field(default=None, repr=False, compare=False)

    def of_tags(self, own: Mapping[str, str]) -> Answer:
        """Return whose a resource with these tags is."""
        service = next((name for prefix, name in _SERVICES.items() if any(key.startswith(prefix) for key in own)), None)
        if service is not None:
            return Answer("theirs", f"created by {service}")
        return self._of_names(own.get(tags.CATALOG), own.get(tags.ENVIRONMENT))

    def of_grant(self, name: str) -> Answer:
        """Return whose a grant with this name is. The name does not contain the environment, so a grant of another
        environment with the same catalog is ours as well."""
        found = _GRANT.fullmatch(name) or _CONSUMER_GRANT.fullmatch(name)
        if found is not None:
            return self._of_names(found["catalog"], self.environment)
        if _EARLIER_GRANT.fullmatch(name):
            return self._of_names(None, None)
        return Answer("theirs", "not a grant of goldenami")

    def _of_names(self, catalog: str | None, environment: str | None) -> Answer:
        if not catalog:
            return Answer("unknown", f"without the tag {tags.CATALOG}: the owner cannot be determined")
        if catalog != self.catalog:
            also = f", environment {environment}" if environment else ""
            return Answer("theirs", f"of the catalog {catalog}{also}")
        if not environment:
            return Answer("unknown", f"without the tag {tags.ENVIRONMENT}: the owner cannot be determined")
        if environment != self.environment:
            return Answer("theirs", f"of the environment {environment}, which has the same catalog")
        return _OURS
