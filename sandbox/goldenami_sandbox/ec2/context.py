"""The caller of an action, and the errors of the EC2 API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from goldenami_sandbox.policy import Caller


@dataclass(frozen=True, slots=True)
class Ctx:
    """The context of one call. ``principal`` is the caller's ARN."""

    account: str
    region: str
    principal: str
    request_id: str

    @property
    def caller(self) -> Caller:
        return Caller(self.account, self.principal or None)


@dataclass(frozen=True, slots=True)
class Found:
    """What conditions of policies can be about an existing resource. ``owner``: an account id. ``alias``: the owner's
    alias ("amazon"). ``tags``: those of the caller's account, which sees no tags of another account.
    """

    owner: str
    tags: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None
    public: bool = False


class Ec2Error(Exception):
    """An error in the form of the EC2 API. ``status`` is EC2's HTTP status for that code."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
