"""The EBS direct APIs over the blocks of snapshots: list blocks, list changed blocks, read a block.

A block token names a block of one snapshot and is valid for GetSnapshotBlock only. So tokens of two snapshots always
differ here, also if their blocks are equal. Clients find changes by ListChangedBlocks, which compares snapshots of one
lineage only (EBS direct APIs reference: UNRELATED_SNAPSHOTS).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.constraints import Problem, message
from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.hooks import KeyRefused
from goldenami_sandbox.http import Response
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import service
from goldenami_sandbox.services.modelled import Action, Modelled, Refused

_MOST = 10_000  # results of a page by default
_TOKEN_SECONDS = 7 * 24 * 3600.0  # block tokens expire after seven days


@service("ebs")
class Ebs(Modelled):
    """The service. moto's version only knows snapshots that were written through it."""

    def actions(self) -> Mapping[str, Action]:
        return {
            "ListSnapshotBlocks": self._list,
            "ListChangedBlocks": self._changed,
            "GetSnapshotBlock": self._get,
        }

    def refusal(self, problems: list[Problem]) -> Refused:
        reasons = {
            "SnapshotId": "INVALID_SNAPSHOT_ID",
            "FirstSnapshotId": "INVALID_SNAPSHOT_ID",
            "SecondSnapshotId": "INVALID_SNAPSHOT_ID",
            "BlockToken": "INVALID_BLOCK_TOKEN",
            "NextToken": "INVALID_PAGE_TOKEN",
        }
        names = [str(problem.path[0]) for problem in problems]
        reason = next((reasons[name] for name in names if name in reasons), "INVALID_PARAMETER_VALUE")
        return Refused(self.invalid, message(problems), Reason=reason)

    # --- the actions --------------------------------------------------------------------------------------------------

    def _list(self, call: Call, params: dict[str, Any]) -> Mapping[str, Any]:
        snapshot = params["SnapshotId"]
        tokens = self._blocks(call, snapshot)
        indices, more = _page(sorted(tokens), params)
        blocks = [{"BlockIndex": i, "BlockToken": _token(snapshot, i, tokens[i])} for i in indices]
        return self._listed(snapshot, {"Blocks": blocks}, more)

    def _changed(self, call: Call, params: dict[str, Any]) -> Mapping[str, Any]:
        second, first = params["SecondSnapshotId"], params.get("FirstSnapshotId")
        after = self._blocks(call, second)
        before: Mapping[int, str] = {}
        if first is not None:
            before = self._blocks(call, first)
            if not self.world.ec2.related(first, second):
                message = f"The snapshots {first} and {second} are not of the same lineage."
                raise Refused(self.invalid, message, Reason="UNRELATED_SNAPSHOTS")
        indices, more = _page(sorted(i for i in before.keys() | after.keys() if before.get(i) != after.get(i)), params)
        changed = []
        for i in indices:
            entry: dict[str, object] = {"BlockIndex": i}
            if i in before and first is not None:
                entry["FirstBlockToken"] = _token(first, i, before[i])
            if i in after:
                entry["SecondBlockToken"] = _token(second, i, after[i])
            changed.append(entry)
        return self._listed(second, {"ChangedBlocks": changed}, more)

    def _get(self, call: Call, params: dict[str, Any]) -> Response:
        snapshot, index = params["SnapshotId"], params["BlockIndex"]
        tokens = self._blocks(call, snapshot)
        if index not in tokens or params["BlockToken"] != _token(snapshot, index, tokens[index]):
            message = "The block token is not valid for this block."
            raise Refused(self.invalid, message, Reason="INVALID_BLOCK_TOKEN")
        contents, key = self._open(call, snapshot)
        data = self.world.node.read_block(contents, index, DataKey(key) if key is not None else None)
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
        return self.world.node.blocks(self._open(call, snapshot)[0])

    def _open(self, call: Call, snapshot: str) -> tuple[str, bytes | None]:
        try:
            return self.world.ec2.contents_of(Caller(call.account, call.principal), call.region, snapshot)
        except KeyRefused as refused:
            reason = "DEPENDENCY_ACCESS_DENIED"
            raise Refused("AccessDeniedException", refused.message, 403, Reason=reason) from refused
        except Ec2Error as error:
            if error.code.endswith("NotFound"):
                message = f"The snapshot '{snapshot}' does not exist."
                raise Refused("ResourceNotFoundException", message, 404, Reason="SNAPSHOT_NOT_FOUND") from error
            raise Refused(self.invalid, error.message, Reason="INVALID_SNAPSHOT_ID") from error

    def _listed(self, snapshot: str, answer: dict[str, object], more: str | None) -> Mapping[str, Any]:
        answer |= {
            "BlockSize": BLOCK_SIZE,
            "VolumeSize": self.world.ec2.snapshot_size(snapshot),
            "ExpiryTime": self.world.clock() + _TOKEN_SECONDS,
        }
        return answer | ({"NextToken": more} if more else {})


def _page(indices: list[int], params: Mapping[str, Any]) -> tuple[list[int], str | None]:
    """Return the indices of one page, and the token of the next."""
    limit = params.get("MaxResults", _MOST)
    start = params.get("NextToken") or str(params.get("StartingBlockIndex", 0))
    if not start.isdigit():
        raise Refused("ValidationException", "The page token is not valid.", Reason="INVALID_PAGE_TOKEN")
    rest = [i for i in indices if i >= int(start)]
    return rest[:limit], str(rest[limit]) if len(rest) > limit else None


def _token(snapshot: str, index: int, token: str) -> str:
    return base64.b64encode(hashlib.sha256(f"{snapshot} {index} {token}".encode()).digest()).decode()
