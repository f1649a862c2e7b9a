"""Rate limits and retries of API calls. All threads share one rate for each account, region and kind of call.

AWS has token buckets for each account, region and action. Two of them are small by default: those calls are counted
here, and wait instead of being refused (``SCARCE``). All other calls are sent without delay until the service throttles
them, because accounts have different limits, and other programs use the same limits. Then the rate is cut to half of
the current rate, and rises slowly again (additive increase, multiplicative decrease, as in TCP). If other processes of
the same catalog run (``sharing``), each takes its part of AWS's default limits before any throttling: they cannot see
each other's calls, and would all find the limit at the same time. Retries wait with full
jitter ("Exponential Backoff And Jitter", AWS Architecture Blog), so that threads that were throttled together do not
retry together.
"""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from goldenami.aws.errors import QUEUE_CODES
from goldenami.errors import PlaceUnreachable, Throttled, Unreachable

# EC2: "The maximum number of filter values specified on a single call is 200" (FilterLimitExceeded).
FILTER_VALUES: Final = 200

Clock = Callable[[], float]  # monotonic seconds
Sleep = Callable[[float], None]

_WINDOW: Final = 2.0  # seconds over which the current rate is measured
_SLOWEST: Final = 1.0  # calls a second: the lower limit of the rate (the slowest refill that AWS documents)
_LEAST_CUT: Final = 4.0  # calls a second: a lower current rate counts as this one when it is cut
_REGAIN: Final = 1.0  # calls a second by which the rate rises in each second without throttling
_LONGEST_UNREACHABLE: Final = 5.0  # seconds between two calls to an endpoint that does not answer
_UNLIMITED_AFTER: Final = 200.0  # calls a second: at this rate the limit is removed


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: ``burst`` calls at once, refilled by ``rate`` calls a second."""

    burst: float
    rate: float


# "Request throttling for the Amazon EC2 API": the actions that have a small bucket of their own.
SCARCE: Final[Mapping[tuple[str, str], Bucket]] = {
    ("ec2", "CopyImage"): Bucket(100, 1),
    ("ec2", "RunInstances"): Bucket(5, 2),
}


# The default buckets of all other actions of EC2: each action has its own ("Request token bucket sizes and refill
# rates", the categories of non-mutating and of resource-intensive actions). They apply only among several processes.
_READS: Final = Bucket(100, 20)
_MUTATIONS: Final = Bucket(50, 5)


def shared_bucket(service: str, operation: str, *, reads: bool) -> Bucket | None:
    """Return the bucket that processes share before AWS throttles an action; None if its limit is not known."""
    if service != "ec2":
        return None
    return SCARCE.get((service, operation)) or (_READS if reads else _MUTATIONS)


@dataclass(slots=True)
class Shares:
    """How many processes share the limits. A process counts itself, so it is 1 at least."""

    count: int = 1


# The largest pages that the API references allow. Without a size, EC2 counts a call against a smaller bucket, and other
# services return small pages ("Request throttling for the Amazon EC2 API", "unfiltered and unpaginated"). Operations
# that are missing here have no page size.
PAGE_SIZES: Final[Mapping[tuple[str, str], tuple[str, int]]] = {
    ("ec2", "DescribeFastSnapshotRestores"): ("MaxResults", 200),
    ("ec2", "DescribeFleets"): ("MaxResults", 1000),
    ("ec2", "DescribeImageReferences"): ("MaxResults", 1000),
    ("ec2", "DescribeImageUsageReportEntries"): ("MaxResults", 1000),
    ("ec2", "DescribeImageUsageReports"): ("MaxResults", 500),
    ("ec2", "DescribeImages"): ("MaxResults", 1000),
    ("ec2", "DescribeInstanceStatus"): ("MaxResults", 1000),
    ("ec2", "DescribeInstanceConnectEndpoints"): ("MaxResults", 50),
    ("ec2", "DescribeInstanceTypeOfferings"): ("MaxResults", 1000),
    ("ec2", "DescribeInstanceTypes"): ("MaxResults", 100),
    ("ec2", "DescribeInstances"): ("MaxResults", 1000),
    ("ec2", "DescribeLaunchTemplateVersions"): ("MaxResults", 200),
    ("ec2", "DescribeLaunchTemplates"): ("MaxResults", 200),
    ("ec2", "DescribeLockedSnapshots"): ("MaxResults", 1000),
    ("ec2", "DescribeNetworkInterfaces"): ("MaxResults", 1000),
    ("ec2", "DescribeReplaceRootVolumeTasks"): ("MaxResults", 50),
    ("ec2", "DescribeRouteTables"): ("MaxResults", 100),
    ("ec2", "DescribeSecurityGroups"): ("MaxResults", 1000),
    ("ec2", "DescribeSnapshotTierStatus"): ("MaxResults", 1000),
    ("ec2", "DescribeSnapshots"): ("MaxResults", 1000),
    ("ec2", "DescribeSpotFleetRequests"): ("MaxResults", 1000),
    ("ec2", "DescribeSpotInstanceRequests"): ("MaxResults", 1000),
    ("ec2", "DescribeSubnets"): ("MaxResults", 1000),
    ("ec2", "DescribeVolumes"): ("MaxResults", 500),
    ("ec2", "ListImagesInRecycleBin"): ("MaxResults", 1000),
    ("ec2", "ListSnapshotsInRecycleBin"): ("MaxResults", 1000),
    ("autoscaling", "DescribeAutoScalingGroups"): ("MaxRecords", 100),
    ("autoscaling", "DescribeLaunchConfigurations"): ("MaxRecords", 100),
    ("batch", "DescribeComputeEnvironments"): ("maxResults", 100),
    ("eks", "ListClusters"): ("maxResults", 100),
    ("eks", "ListNodegroups"): ("maxResults", 100),
    ("inspector2", "ListCoverage"): ("maxResults", 200),
    ("inspector2", "ListFindings"): ("maxResults", 100),
    ("kms", "ListGrants"): ("Limit", 100),
    ("rbin", "ListRules"): ("MaxResults", 1000),
    ("ssm", "DescribeParameters"): ("MaxResults", 50),
    ("ssm", "GetParameterHistory"): ("MaxResults", 50),
    ("ssm", "GetParametersByPath"): ("MaxResults", 10),
    ("iam", "SimulatePrincipalPolicy"): ("MaxItems", 1000),
}


def page_size(service: str, operation: str, request: Mapping[str, object]) -> dict[str, int]:
    """Return the parameter for the size of a page; empty for a request with ids, which some operations refuse with a
    page size, and for an operation without it."""
    name, size = PAGE_SIZES.get((service, operation), ("", 0))
    has_ids = any(key.endswith("Ids") and key != "OwnerIds" for key in request)
    return {name: size} if name and not has_ids else {}


def boot_clock() -> float:
    """Return a monotonic time in seconds that includes suspended time, if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Pace:
    """Limits the rate of calls of one account, region and kind (reads, mutations, a scarce action). Thread-safe.

    There can be very many, so each is small. ``bucket``: the limit of a scarce action, which applies before any
    throttling. ``shared``: the limit that applies if several processes share it. Each has its part of both, but may
    always send one call at once.
    """

    __slots__ = (
        "_bucket",
        "_clock",
        "_filled",
        "_gained",
        "_mutex",
        "_next",
        "_rate",
        "_sent",
        "_shared",
        "_shares",
        "_sleep",
        "_tokens",
    )

    def __init__(
        self,
        clock: Clock,
        sleep: Sleep,
        bucket: Bucket | None = None,
        *,
        shared: Bucket | None = None,
        shares: Shares | None = None,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._bucket = bucket
        self._shared = shared
        self._shares = shares or Shares()
        full = bucket or shared
        self._tokens = full.burst if full is not None else 0.0  # below 0: waiting calls took tokens in advance
        self._filled = clock()
        self._mutex = threading.Lock()
        self._sent: list[float] = []
        self._rate: float | None = None  # None: never throttled, no limit
        self._next = 0.0  # when the next call may go
        self._gained = 0.0  # when the rate was last raised

    def acquire(self) -> None:
        """Wait until this call may be sent."""
        with self._mutex:
            now = self._clock()
            if self._sent and self._sent[0] < now - _WINDOW:
                del self._sent[: bisect(self._sent, now - _WINDOW)]
            wait = 0.0
            if self._rate is not None:
                self._regain(now)
            if self._rate is not None:
                wait = max(0.0, self._next - now)
                self._next = now + wait + 1.0 / self._rate
            bucket = self._bucket or (self._shared if self._shares.count > 1 else None)
            if bucket is not None:
                wait = max(wait, self._take(bucket, now))
            self._sent.append(now + wait)
        if wait > 0:
            self._sleep(wait)

    def throttled(self) -> None:
        """Cut the rate, because the service throttled a call."""
        with self._mutex:
            now = self._clock()
            sending = len(self._sent) / _WINDOW
            current = self._rate if self._rate is not None else max(sending, _LEAST_CUT)
            # Calls that were sent together are throttled together: the rate is cut once for all of them.
            if self._rate is None or now - self._gained >= 1.0 / current:
                self._rate = max(_SLOWEST, current / 2)
                self._gained = now

    def is_at_rest(self) -> bool:
        """Return whether the calls so far have no effect on the next one, as if there had been none."""
        with self._mutex:
            now = self._clock()
            self._regain(now)
            if self._rate is not None or (self._sent and self._sent[-1] >= now - _WINDOW):
                return False
            bucket, parts = self._bucket or self._shared, self._shares.count
            return bucket is None or self._tokens + (now - self._filled) * bucket.rate / parts >= bucket.burst

    def _take(self, bucket: Bucket, now: float) -> float:
        """Take a token. Return the seconds until it is available."""
        parts = self._shares.count
        burst, rate = max(1.0, bucket.burst / parts), bucket.rate / parts
        self._tokens = min(burst, self._tokens + max(0.0, now - self._filled) * rate) - 1.0
        self._filled = now
        return max(0.0, -self._tokens / rate)

    @property
    def rate(self) -> float | None:
        """The current limit in calls a second; None if there is no limit."""
        with self._mutex:
            return self._rate

    def _regain(self, now: float) -> None:
        if self._rate is None:
            return
        self._rate += (now - self._gained) * _REGAIN
        self._gained = now
        if self._rate >= _UNLIMITED_AFTER:
            self._rate = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The pauses and limits of retries, in seconds. ``first``, ``factor``, ``longest``: the pauses. The others limit
    the time since the first failure of their kind. ``throttled``: the rate is too high. ``unreachable``: no answer
    (see ``reach``); its pauses are short. ``queued``: too many copies run (a copy can take hours). ``repeats``: how
    often a call is repeated at most; None: as often as the time allows."""

    first: float = 0.2
    factor: float = 2.0
    longest: float = 20.0
    throttled: float = 300.0
    unreachable: float = 30.0
    queued: float = 6 * 3600.0
    repeats: int | None = None


class CallAttempts:
    """The retries of one call."""

    def __init__(self, policy: Retry, clock: Clock, sleep: Sleep, jitter: random.Random) -> None:
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._pause = policy.first
        self._repeats = 0
        self._since: dict[float, float] = {}

    def wait(self, error: Exception) -> bool:
        """Pause before the next try, and return True. Return False if a retry cannot help or the limit is reached."""
        longest = self._policy.longest
        if isinstance(error, PlaceUnreachable):
            return False
        if isinstance(error, Throttled):
            limit = self._policy.queued if error.code in QUEUE_CODES else self._policy.throttled
        elif isinstance(error, Unreachable):
            limit, longest = self._policy.unreachable, min(longest, _LONGEST_UNREACHABLE)
        else:
            return False
        now = self._clock()
        if now - self._since.setdefault(limit, now) >= limit or self._repeats == self._policy.repeats:
            return False
        self._repeats += 1
        self._sleep(self._jitter.uniform(0, min(self._pause, longest)))
        self._pause = min(self._pause * self._policy.factor, self._policy.longest)
        return True


class Retries:
    """Creates a :class:`CallAttempts` for each call."""

    def __init__(self, policy: Retry, clock: Clock, sleep: Sleep, jitter: random.Random) -> None:
        self.policy = policy
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    def start(self, *, unreachable: float | None = None) -> CallAttempts:
        """Return the retries of a new call. ``unreachable``: a shorter limit than the policy's for an unreachable
        endpoint, in seconds."""
        policy = self.policy
        if unreachable is not None:
            policy = replace(policy, unreachable=min(unreachable, policy.unreachable))
        return CallAttempts(policy, self._clock, self._sleep, self._jitter)
