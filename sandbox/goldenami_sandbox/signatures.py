"""Signature Version 4: whether a request was signed with the secret key of its access key.

It checks signatures in the Authorization header and in the query of presigned URLs, and their time. (IAM user guide,
"AWS Signature Version 4 for API requests"; S3 API reference, "Authenticating requests".) Signatures of single chunks of
a body (``STREAMING-AWS4-HMAC-SHA256-PAYLOAD``) are not checked; botocore sends none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote

from goldenami_sandbox.http import Request

_HEADER = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<scope>[^,\s]+),\s*SignedHeaders=(?P<names>[^,\s]+),\s*Signature=(?P<hex>\w+)"
)
_DATE = re.compile(r"\d{8}T\d{6}Z")
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST = 7 * 86400
_SPACES = re.compile(r" +")
_EMPTY = hashlib.sha256(b"").hexdigest()


def is_valid(request: Request, secret: str) -> bool:
    """Return whether the request's signature was made with this secret key."""
    header = _HEADER.match(request.headers.get("authorization", ""))
    if header is not None:
        moment = request.headers.get("x-amz-date", "")
        return _check(request, secret, header["scope"], header["names"], header["hex"], moment, request.query, False)
    pairs = [part.partition("=") for part in request.query.split("&")]
    signed = "&".join("".join(pair) for pair in pairs if pair[0] != "X-Amz-Signature")
    given = dict(parse_qsl(request.query, keep_blank_values=True))
    if given.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
        return False
    scope, names = given.get("X-Amz-Credential", ""), given.get("X-Amz-SignedHeaders", "")
    moment, signature = given.get("X-Amz-Date", ""), given.get("X-Amz-Signature", "")
    return _check(request, secret, scope, names, signature, moment, signed, True)


def is_timely(request: Request, service: str, now: float) -> bool:
    """Return whether a valid signature was made within the last minutes, or, if it is in the query, is still good.

    ``now``: seconds since the epoch. AWS allows 5 minutes, S3 15. A presigned URL is good for ``X-Amz-Expires``
    seconds, at most 7 days, and without that parameter as long as a header.
    """
    skew = 900.0 if service == "s3" else 300.0
    given = dict(parse_qsl(request.query, keep_blank_values=True))
    presigned = "authorization" not in request.headers
    moment = given.get("X-Amz-Date", "") if presigned else request.headers.get("x-amz-date", "")
    signed_at = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    good_for = given.get("X-Amz-Expires") if presigned else None
    if good_for is None:
        return abs(now - signed_at) <= skew
    seconds = int(good_for) if good_for.isdecimal() and len(good_for) < 10 else 0
    return 0 < seconds <= _LONGEST and signed_at - skew <= now <= signed_at + seconds


def _check(
    request: Request, secret: str, scope: str, names: str, signature: str, moment: str, query: str, presigned: bool
) -> bool:
    parts = scope.split("/")
    if len(parts) != 5 or not _DATE.fullmatch(moment) or moment[:8] != parts[1]:
        return False
    signed = names.split(";")
    if "host" not in signed:
        return False
    _, day, region, service, _ = parts
    payload = _payload(request, service, presigned)
    if payload is None:
        return False
    headers = "".join(f"{name}:{_SPACES.sub(' ', request.headers.get(name, '').strip())}\n" for name in signed)
    canonical = "\n".join((request.method, _path(request.path, service), _query(query), headers, names, payload))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{'/'.join(parts[1:])}\n{digest}"
    expected = hmac.digest(_key(secret, day, region, service), text.encode(), "sha256").hex()
    return hmac.compare_digest(expected, signature)


def _payload(request: Request, service: str, presigned: bool) -> str | None:
    """Return the last line of the canonical request, or None if the header contradicts the body."""
    stated = request.headers.get("x-amz-content-sha256")
    if stated is None:
        return "UNSIGNED-PAYLOAD" if presigned and service == "s3" else _digest(request.body)
    if _HASH.fullmatch(stated) and stated != _digest(request.body):
        return None
    return stated


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else _EMPTY


def _path(path: str, service: str) -> str:
    """Return the canonical path. S3 takes it as it was sent; the others normalize it and encode it once more."""
    if service == "s3":
        return path or "/"
    if path in ("", "/"):
        return "/"
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    text = "/" + "/".join(kept) + ("/" if path.endswith("/") and kept else "")
    return quote(text, safe="/-_.~")


def _query(query: str) -> str:
    if not query:
        return ""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


@lru_cache(maxsize=1024)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    """Return the key that signs requests of a day in a region to a service. Its derivation takes four HMACs."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
