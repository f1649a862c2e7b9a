"""Who calls, how it is refused, and what can be set while the cloud runs."""

from __future__ import annotations

from dataclasses import dataclass, field


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


@dataclass(slots=True)
class Pending:
    """For how many seconds at least a new thing of each kind is in its first state; real work may take longer."""

    instance: float = 0.0
    stop: float = 0.0  # stopping and shutting-down
    status: float = 0.0  # from running to status checks "ok"; "initializing" before
    image: float = 0.0
    snapshot: float = 0.0
    volume: float = 0.0
    copy: float = 0.0  # snapshots and images made by CopySnapshot and CopyImage
    tier: float = 0.0  # moves to the archive tier and back


@dataclass(slots=True)
class Settings:
    """May be changed at any time; what is already under way keeps its moment of readiness."""

    pending: Pending = field(default_factory=Pending)
    visibility_delay: float = 0.0  # seconds for which a new id is unknown to describes
    concurrent_snapshot_copies: int = 20  # per account and destination region (AWS's default quota)
    concurrent_image_copies: int = 100  # the same for CopyImage
