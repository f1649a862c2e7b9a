"""The EBS direct APIs over the blocks that snapshots really have: what there is, what changed, and reading it.

Block tokens are the service's own affair: they name a block of one snapshot and are of use for GetSnapshotBlock only.
So tokens of two snapshots never look alike here, even where the blocks are the same; who wants to know what changed has
to ask ListChangedBlocks, which compares within one lineage only (EBS direct APIs reference: UNRELATED_SNAPSHOTS).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote

from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.hooks import KeyRefused
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.http import Response
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey, Node
from goldenami_sandbox.protocol import Call, rest_json_response
from goldenami_sandbox.surface import Unsupported

_MOST = 10_000  # results of a page, and the default; the fewest that can be asked for are 100
_FEWEST = 100
_TOKEN_SECONDS = 7 * 24 * 3600.0  # block tokens expire after seven days


class Refused(Exception):
    """A refusal in the service's words: its error code, status and reason."""

    def __init__(self, code: str, message: str, reason: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.reason, self.status = code, message, reason, status


class Ebs:
    """Serves the calls of the service ``ebs``."""

    def __init__(self, ec2: Ec2, node: Node, clock: Callable[[], float]) -> None:
        self._ec2 = ec2
        self._node = node
        self._clock = clock

    def serve(self, call: Call) -> Response:
        actions: Mapping[str, Callable[[Call, dict[str, str]], Response]] = {
            "ListSnapshotBlocks": self._list,
            "ListChangedBlocks": self._changed,
            "GetSnapshotBlock": self._get,
        }
        if call.action not in actions:
            raise Unsupported(f"the sandbox's EBS direct APIs only read: there is no {call.action}")
        try:
            return actions[call.action](call, dict(parse_qsl(call.request.query)))
        except Refused as refusal:
            return rest_json_response(
                {"Message": refusal.message, "Reason": refusal.reason}, refusal.status, refusal.code
            )

    # --- the actions --------------------------------------------------------------------------------------------------

    def _list(self, call: Call, query: dict[str, str]) -> Response:
        snapshot = _path(call)[1]
        tokens = self._blocks(call, snapshot)
        indices, more = _page(sorted(tokens), query)
        blocks = [{"BlockIndex": i, "BlockToken": _token(snapshot, i, tokens[i])} for i in indices]
        return self._listed(call, snapshot, {"Blocks": blocks}, more)

    def _changed(self, call: Call, query: dict[str, str]) -> Response:
        second, first = _path(call)[1], query.get("firstSnapshotId")
        after = self._blocks(call, second)
        before: Mapping[int, str] = {}
        if first is not None:
            before = self._blocks(call, first)
            if not self._ec2.related(first, second):
                raise Refused(
                    "ValidationException",
                    f"The snapshots {first} and {second} are not of the same lineage.",
                    "UNRELATED_SNAPSHOTS",
                )
        indices, more = _page(sorted(i for i in before.keys() | after.keys() if before.get(i) != after.get(i)), query)
        changed = []
        for i in indices:
            entry: dict[str, object] = {"BlockIndex": i}
            if i in before and first is not None:
                entry["FirstBlockToken"] = _token(first, i, before[i])
            if i in after:
                entry["SecondBlockToken"] = _token(second, i, after[i])
            changed.append(entry)
        return self._listed(call, second, {"ChangedBlocks": changed}, more)

    def _get(self, call: Call, query: dict[str, str]) -> Response:
        _, snapshot, _, number = _path(call)
        tokens = self._blocks(call, snapshot)
        index = int(number) if number.isdigit() else -1
        if index not in tokens or query.get("blockToken") != _token(snapshot, index, tokens[index]):
            raise Refused("ValidationException", "The block token is not valid for this block.", "INVALID_BLOCK_TOKEN")
        contents, key = self._open(call, snapshot)
        data = self._node.read_block(contents, index, DataKey(key) if key is not None else None)
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return Response(
            200,
            data,
            [
                ("Content-Type", "application/octet-stream"),
                ("x-amz-Data-Length", str(len(data))),
                ("x-amz-Checksum", checksum),
                ("x-amz-Checksum-Algorithm", "SHA256"),
            ],
        )

    # --- what they share ----------------------------------------------------------------------------------------------

    def _blocks(self, call: Call, snapshot: str) -> Mapping[int, str]:
        return self._node.blocks(self._open(call, snapshot)[0])

    def _open(self, call: Call, snapshot: str) -> tuple[str, bytes | None]:
        if not snapshot.startswith("snap-"):
            raise Refused("ValidationException", f"{snapshot!r} is not a snapshot id.", "INVALID_SNAPSHOT_ID")
        try:
            return self._ec2.contents_of(call.account, call.region, snapshot)
        except KeyRefused as refusal:
            raise Refused("AccessDeniedException", refusal.message, "DEPENDENCY_ACCESS_DENIED", 403) from refusal
        except Ec2Error as error:
            if error.code.endswith("NotFound"):
                message = f"The snapshot '{snapshot}' does not exist."
                raise Refused("ResourceNotFoundException", message, "SNAPSHOT_NOT_FOUND", 404) from error
            raise Refused("ValidationException", error.message, "INVALID_SNAPSHOT_ID") from error

    def _listed(self, call: Call, snapshot: str, answer: dict[str, object], more: str | None) -> Response:
        answer |= {
            "BlockSize": BLOCK_SIZE,
            "VolumeSize": self._ec2.snapshot_size(snapshot),
            "ExpiryTime": self._clock() + _TOKEN_SECONDS,
        }
        return rest_json_response(answer | ({"NextToken": more} if more else {}))


def _path(call: Call) -> list[str]:
    return unquote(call.request.path).strip("/").split("/")


def _page(indices: list[int], query: Mapping[str, str]) -> tuple[list[int], str | None]:
    """The indices of one page, and the token of the next."""
    text = query.get("maxResults", str(_MOST))
    limit = int(text) if text.isdigit() else 0
    if not _FEWEST <= limit <= _MOST:
        message = f"MaxResults is to be between {_FEWEST} and {_MOST}."
        raise Refused("ValidationException", message, "INVALID_PARAMETER_VALUE")
    start = query.get("pageToken") or query.get("startingBlockIndex", "0")
    if not start.isdigit():
        raise Refused("ValidationException", "The page token is not valid.", "INVALID_PAGE_TOKEN")
    rest = [i for i in indices if i >= int(start)]
    return rest[:limit], str(rest[limit]) if len(rest) > limit else None


def _token(snapshot: str, index: int, token: str) -> str:
    return base64.b64encode(hashlib.sha256(f"{snapshot} {index} {token}".encode()).digest()).decode()
