"""Ownership: whether a resource belongs to this catalog and environment, to another one, or cannot be determined.

Every command that changes or deletes a resource which its own journal does not name asks here first. There are three
answers:

- *ours*: the tags name this catalog and this environment.
- *theirs*: the tags name another catalog or another environment, or another service put its own tags on the resource.
  It is listed, and never changed.
- *unknown*: the tags name no catalog. The owner cannot be determined, so the resource is kept.

A grant has no tags. Its name contains the id of the catalog (``kinds.grant_name``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from goldenami.aws import tags

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


@dataclass(frozen=True, slots=True)
class Owner:
    """A catalog and an environment, for which a command acts. ``catalog``: its id; None if it has none yet, so that no
    resource is ours."""

    catalog: str | None
    environment: str

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
