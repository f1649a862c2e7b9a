"""Who calls, and how a call is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ctx:
    """One call's circumstances. ``principal`` is the caller's ARN."""

    account: str
    region: str
    principal: str
    request_id: str


class Ec2Error(Exception):
    """An error as the EC2 API answers it. ``status`` is the HTTP status, as EC2 gives it for that code."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
