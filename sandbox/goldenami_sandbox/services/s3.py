"""S3: refuses calls for a bucket whose owner is not the expected one. moto answers all other calls."""

from __future__ import annotations

from collections.abc import Mapping

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import Service, service

_EXPECTED_OWNER = "x-amz-expected-bucket-owner"


@service("s3")
class S3(Service):
    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the refusal if the bucket has another owner than the request expects; None leaves the call to moto."""
        expected = call.request.headers.get(_EXPECTED_OWNER)
        if expected is None:
            return None
        bucket = call.request.path.lstrip("/").split("/", 1)[0]
        owner = self._owner(bucket)
        if owner is None or owner == expected:
            return None
        return call.error("AccessDenied", "Access Denied", 403)

    def _owner(self, bucket: str) -> str | None:
        with self.world.surface.active():
            from moto.s3.models import s3_backends

            known: Mapping[str, tuple[str, str]] = s3_backends.bucket_accounts  # name -> partition, account
            return known[bucket][1] if bucket in known else None
