"""The caller of an action, and the errors of the EC2 API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ctx:
    """The context of one call. ``principal`` is the caller's ARN."""

    account: str
    region: str
    principal: str
    request_id: str


class Ec2Error(Exception):
    """An error in the form of the EC2 API. ``status`` is EC2's HTTP status for that code."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
