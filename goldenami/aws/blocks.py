"""The EBS direct APIs: the blocks of a snapshot, and the blocks that differ between two snapshots.

Block tokens are valid for one snapshot only. So only ListChangedBlocks can compare two snapshots, and only within one
lineage ("EBS direct APIs", EBS user guide). To read an encrypted snapshot, the caller needs permission to use its key.
An archived snapshot must be restored first.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

from goldenami.aws import errors
from goldenami.aws.session import Cloud
from goldenami.errors import AccessError, CloudError
from goldenami.model import Place

BLOCK_SIZE: Final = 512 * 1024  # bytes
_PAGE: Final = 10_000  # the maximum number of blocks in one answer

Why = Literal["unrelated", "unreadable"]


class NotComparable(Exception):
    """Two snapshots have no common lineage ("unrelated"), or one cannot be read ("unreadable"). ``detail``: why."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why: Why = why
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Changes:
    """The indices of blocks that differ from an earlier snapshot. ``written``: blocks with data now. ``emptied``:
    blocks without data now."""

    written: frozenset[int]
    emptied: frozenset[int]


def list_blocks(cloud: Cloud, place: Place, snapshot_id: str) -> frozenset[int]:
    """Return the indices of all blocks of a snapshot that contain data.

    Makes one call for each 10,000 blocks (5 GiB). Raises NotComparable ("unreadable") if the caller may not read them.
    """
    found = _listed(cloud, place, "ListSnapshotBlocks", "Blocks", {"SnapshotId": snapshot_id})
    return frozenset(int(b["BlockIndex"]) for b in found)


def list_changes(cloud: Cloud, place: Place, first: str, second: str) -> Changes:
    """Return the blocks of ``second`` that differ from ``first``. Raises NotComparable."""
    request = {"FirstSnapshotId": first, "SecondSnapshotId": second}
    written: set[int] = set()
    emptied: set[int] = set()
    for block in _listed(cloud, place, "ListChangedBlocks", "ChangedBlocks", request):
        (written if block.get("SecondBlockToken") else emptied).add(int(block["BlockIndex"]))
    return Changes(frozenset(written), frozenset(emptied))


def _listed(cloud: Cloud, place: Place, operation: str, result: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return list(cloud.pages(place, "ebs", operation, result, {**request, "MaxResults": _PAGE}))
    except AccessError as error:
        raise NotComparable("unreadable", error.message) from error
    except CloudError as error:
        if error.reason == "UNRELATED_SNAPSHOTS":
            raise NotComparable("unrelated", "they have no common lineage") from error
        if error.reason in ("INVALID_SNAPSHOT_ID", "SNAPSHOT_NOT_FOUND"):
            raise NotComparable("unreadable", error.message) from error
        raise


# --- contents ---------------------------------------------------------------------------------------------------------


def list_tokens(cloud: Cloud, place: Place, snapshot_id: str) -> dict[int, str]:
    """Return the tokens for :func:`read`, by index, of all blocks of a snapshot that contain data. They are valid for
    some days, and for this snapshot only. Raises NotComparable ("unreadable")."""
    found = _listed(cloud, place, "ListSnapshotBlocks", "Blocks", {"SnapshotId": snapshot_id})
    return {int(b["BlockIndex"]): str(b["BlockToken"]) for b in found}


def read(cloud: Cloud, place: Place, snapshot_id: str, index: int, token: str | None) -> bytes:
    """Return the decrypted contents of a block; zeros if the snapshot does not have the block (no token). Raises
    CloudError if the checksum is wrong."""
    if token is None:
        return bytes(BLOCK_SIZE)
    request = {"SnapshotId": snapshot_id, "BlockIndex": index, "BlockToken": token}
    answer = cloud.call(place, "ebs", "GetSnapshotBlock", request)
    body = answer["BlockData"]
    try:
        data: bytes = body.read() if hasattr(body, "read") else body  # a stream, or bytes from a test's interceptor
    except Exception as error:
        raise errors.translate(error, service="ebs", action="GetSnapshotBlock", place=place) from error
    if base64.b64encode(hashlib.sha256(data).digest()).decode() != answer.get("Checksum"):
        raise CloudError(
            f"block {index} of {snapshot_id} has another SHA-256 checksum than the one that EBS sent",
            hint="The data was damaged on the way. Run the command again.",
        )
    return data
