"""S3 with the policies of buckets. moto stores buckets and objects.

A bucket belongs to an account. Another account needs a statement in the bucket's policy for each action, and a denial
there applies to the bucket's own account, too. Access control lists and access points give no access here. (Amazon S3
user guide, "How Amazon S3 authorizes a request"; "Verifying bucket ownership with bucket owner condition".)
"""

from __future__ import annotations

from urllib.parse import unquote

from goldenami_sandbox import access as accesses
from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import Access, Decision, decide_resource
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import Service, World, service

_DENIED = "Access Denied"


@service("s3")
class S3(Service):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._surface = world.surface

    def serve(self, call: Call, identity: Identity) -> Response | None:
        headers = call.request.headers
        bucket = unquote(call.request.path).lstrip("/").partition("/")[0]
        if call.action != "CreateBucket" and bucket:
            needed = [need.access for need in accesses.needs(call, lambda *_: None, lambda _: None)]
            if not self._allowed(bucket, headers.get("x-amz-expected-bucket-owner"), needed, identity):
                return call.error("AccessDenied", _DENIED, 403)
        source = unquote(headers.get("x-amz-copy-source", "")).lstrip("/").partition("?")[0]
        if source:
            needed = [Access("s3:GetObject", f"arn:aws:s3:::{source}")]
            owner = headers.get("x-amz-source-expected-bucket-owner")
            if not self._allowed(source.partition("/")[0], owner, needed, identity):
                return call.error("AccessDenied", _DENIED, 403)
        return None

    def _allowed(self, name: str, expected: str | None, needed: list[Access], identity: Identity) -> bool:
        """Return whether the bucket's policy and the expected owner allow these accesses. A missing bucket allows all:
        moto reports it.
        """
        with self._surface.active():
            owner = self._surface.bucket_owner(name)
            if owner is None:
                return True
            bucket = self._surface.backend("s3", owner, "aws").buckets[name]
            policy = (bucket.policy or b"{}").decode()
        if expected not in (None, owner):
            return False
        for access in needed:
            decision = decide_resource(policy, access.action, identity.caller, access.facts, access.resource)[0]
            if decision is Decision.DENIED or (decision is Decision.NEITHER and identity.account != owner):
                return False
        return True
