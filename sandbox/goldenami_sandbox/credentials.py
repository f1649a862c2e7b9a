"""Access keys: the account and principal of each key, and its expiry.

There are three kinds. Each configured account has an administrator, whose key is derived from the account id and the
secret of the sandbox. IAM users have keys, which moto keeps. STS returns temporary keys.

Requests over HTTP must be signed with the secret key. Calls in the same process (``direct``) have no signature.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from goldenami_sandbox import signatures
from goldenami_sandbox.accounts import AccessKey, admin_key
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.surface import Surface


@dataclass(frozen=True, slots=True)
class Session:
    """The principal of a temporary key. ``expires``: seconds since the epoch. ``policies``: documents that limit the
    session in addition to the policies of its principal (session policies).
    """

    access_key_id: str
    secret_access_key: str
    session_token: str
    account: str
    arn: str
    user_id: str
    expires: float
    policies: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller, with the fields of GetCallerIdentity. ``session_policies``: see ``Session``."""

    account: str
    arn: str
    user_id: str
    session_policies: tuple[str, ...] = ()

    @property
    def caller(self) -> Caller:
        return Caller(self.account, self.arn)


NOBODY = Identity("", "", "")  # the caller of an action that takes no signature


class Refused(Exception):
    """The credentials are not valid. ``response`` is the error in the form of the called service."""

    def __init__(self, response: Response) -> None:
        super().__init__("credentials refused")
        self.response = response


class Credentials:
    def __init__(self, accounts: Mapping[str, str], surface: Surface, clock: Callable[[], float], secret: str) -> None:
        """``accounts``: ids by name. ``secret``: who knows it is an administrator of every account."""
        self._secret = secret
        self.account_ids = frozenset(accounts.values())
        self.admins = frozenset(f"arn:aws:iam::{account}:user/admin" for account in self.account_ids)
        self._clock = clock
        self._surface = surface
        self._guard = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._admins = {
            key.access_key_id: (
                key.secret_access_key,
                Identity(account, f"arn:aws:iam::{account}:user/admin", "AIDA" + key.access_key_id[4:]),
            )
            for account, key in ((account, self.admin_key(account)) for account in accounts.values())
        }

    def admin_key(self, account: str) -> AccessKey:
        """Return the administrator's key of an account."""
        return admin_key(account, self._secret)

    def identify(self, call: Call) -> Identity:
        """Return the identity of a key.

        Raises Refused if the key is unknown, inactive or expired, if a session token is missing or wrong, or if the
        signature was not made with the secret key, or not now.
        """
        secret, identity = self._find(call)
        if call.wire:
            if not signatures.is_valid(call.request, secret):
                raise Refused(_wrong_signature(call))
            # The time of this machine, by which clients sign, also where the cloud's clock is a virtual one.
            if not signatures.is_timely(call.request, call.service, time.time()):
                raise Refused(_wrong_time(call))
        return identity

    def _find(self, call: Call) -> tuple[str, Identity]:
        """Return the secret key and the identity of an access key."""
        if admin := self._admins.get(call.access_key):
            return admin
        session = self._sessions.get(call.access_key)
        if session is not None:
            if call.token != session.session_token:
                raise Refused(unknown_key(call))
            if session.expires <= self._clock():
                raise Refused(_expired(call))
            policies = tuple(session.policies)
            return session.secret_access_key, Identity(session.account, session.arn, session.user_id, policies)
        if user := self._iam_user(call.access_key):
            return user
        raise Refused(unknown_key(call))

    def open_session(
        self, account: str, arn: str, user_id: str, seconds: float, policies: Sequence[str] = ()
    ) -> Session:
        session = Session(
            access_key_id="ASIA" + base64.b32encode(secrets.token_bytes(10)).decode(),
            secret_access_key=secrets.token_urlsafe(30),
            session_token="FwoGZXIvYXdzE" + secrets.token_urlsafe(120),
            account=account,
            arn=arn,
            user_id=user_id,
            expires=self._clock() + seconds,
            policies=list(policies),
        )
        with self._guard:
            now = self._clock()
            # An expired key is kept for a day, so that its owner gets the error "expired" instead of "invalid".
            self._sessions = {k: s for k, s in self._sessions.items() if s.expires > now - 86400}
            self._sessions[session.access_key_id] = session
        return session

    def session_policies(self, arn: str) -> tuple[str, ...]:
        """Return the session policies of the newest session with this ARN."""
        found = [session for session in list(self._sessions.values()) if session.arn == arn]
        return tuple(found[-1].policies) if found else ()

    def dump(self) -> list[dict[str, Any]]:
        with self._guard:
            return [asdict(session) for session in self._sessions.values()]

    def load(self, state: list[dict[str, Any]]) -> None:
        with self._guard:
            self._sessions = {item["access_key_id"]: Session(**item) for item in state}

    def _iam_user(self, access_key: str) -> tuple[str, Identity] | None:
        with self._surface.active():
            from moto.iam.models import iam_backends

            for account, regions in list(iam_backends.items()):
                for backend in list(regions.values()):
                    key = backend.access_keys.get(access_key)
                    if key is not None and key.status == "Active" and key.user_name in backend.users:
                        user = backend.users[key.user_name]
                        return str(key.secret_access_key), Identity(account, user.arn, user.id)
        return None


def unknown_key(call: Call) -> Response:
    """Return the error for an access key that is not known in the region of the call."""
    if call.service == "ec2":
        return call.error("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    if call.protocol == "query":
        return call.error("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
    if call.service == "s3":
        message = "The AWS Access Key Id you provided does not exist in our records."
        return call.error("InvalidAccessKeyId", message, 403)
    status = 400 if call.protocol == "json" else 403
    return call.error("UnrecognizedClientException", "The security token included in the request is invalid.", status)


def _wrong_signature(call: Call) -> Response:
    if call.service == "ec2":
        return call.error("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    message = (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details."
    )
    code = "InvalidSignatureException" if call.protocol in ("json", "rest-json") else "SignatureDoesNotMatch"
    return call.error(code, message, 403)


def _wrong_time(call: Call) -> Response:
    if call.service == "ec2":
        return call.error("RequestExpired", "Request has expired.", 400)
    if call.service == "s3" and "X-Amz-Date=" in call.request.query:
        return call.error("AccessDenied", "Request has expired", 403)
    if call.service == "s3":
        message = "The difference between the request time and the current time is too large."
        return call.error("RequestTimeTooSkewed", message, 403)
    code = "InvalidSignatureException" if call.protocol in ("json", "rest-json") else "SignatureDoesNotMatch"
    return call.error(code, "Signature expired: its time is not within 5 minutes of the current time", 403)


def _expired(call: Call) -> Response:
    if call.service == "ec2":
        return call.error("RequestExpired", "Request has expired.", 400)
    if call.protocol == "json":
        return call.error("ExpiredTokenException", "The security token included in the request is expired", 400)
    return call.error("ExpiredToken", "The security token included in the request is expired", 403)
