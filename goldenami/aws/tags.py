"""The tags on everything that is made, and the limits AWS sets for them.

Source: "Tag your Amazon EC2 resources": at most 50 tags a resource, keys of 128 and values of 256 UTF-8 characters,
keys not starting with "aws:". SSM and KMS allow letters, digits, spaces and ``_ . : / = + - @`` only, which ours keep
to as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.errors import UsageError
from goldenami.journal import token

NAME: Final = "Name"
PREFIX: Final = "goldenami:"
RECIPE: Final = "goldenami:recipe"
VERSION: Final = "goldenami:version"
BUILD_ID: Final = "goldenami:build-id"
TOKEN: Final = "goldenami:token"
KEY: Final = "goldenami:key"
GIT_COMMIT: Final = "goldenami:git-commit"
BASE_AMI: Final = "goldenami:base-ami"
EXPIRES_AT: Final = "goldenami:expires-at"
TASK: Final = "goldenami:task"

_MOST = 50
_MOST_ATTEMPTS = 1000


def build_tags(
    *,
    recipe: str,
    version: str,
    build_id: str,
    own: Mapping[str, str],
    git_commit: str | None = None,
    base_ami: str | None = None,
) -> dict[str, str]:
    """What is the same for everything that a build makes. ``own``: the environment's tags; they cannot replace ours."""
    ours = {RECIPE: recipe, VERSION: version, BUILD_ID: build_id, GIT_COMMIT: git_commit, BASE_AMI: base_ami}
    return {**own, **{k: v for k, v in ours.items() if v}}


def task_tags(*, kind: str, build_id: str, own: Mapping[str, str]) -> dict[str, str]:
    """What is the same for everything that a task makes: as ``build_tags``, for work without a recipe."""
    return {**own, TASK: kind, BUILD_ID: build_id}


def checked(tags: Mapping[str, str]) -> dict[str, str]:
    """The same tags, long values cut. Raises UsageError where AWS would refuse them, before anything is made."""
    if len(tags) > _MOST:
        raise UsageError(f"a resource would have {len(tags)} tags, expected {_MOST} at most (limit of AWS)")
    for key in tags:
        if not key or len(key) > 128 or key.lower().startswith("aws:"):
            raise UsageError(f"tag key {key!r} is invalid, expected 1 to 128 characters that do not start with aws:")
    return {k: v[:256] for k, v in tags.items()}


def to_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """The form that API calls take."""
    return [{"Key": k, "Value": v} for k, v in sorted(tags.items())]


def from_list(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """The form that describes give, as a mapping."""
    return {t["Key"]: t["Value"] for t in tags or ()}


def made_by(tags: Mapping[str, str], build_id: str) -> bool:
    """Whether these are the tags of something that this build made: its id, and a token that belongs to its key.

    Tags that look alike, or that somebody copied in part, do not pass.
    """
    mark, key = tags.get(TOKEN), tags.get(KEY)
    if tags.get(BUILD_ID) != build_id or not mark or not key:
        return False
    return any(token(build_id, key, attempt) == mark for attempt in range(1, _MOST_ATTEMPTS))


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(value: str) -> datetime | None:
    """The moment of an expiry tag, or None if it is not one of ours."""
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
