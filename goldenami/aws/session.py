"""Sessions and clients for API calls: credentials, endpoints and retries.

The credentials are the caller's, or those of the role that the environment has for an account; they are refreshed while
the build runs. The caller's credentials are those of the ``Connection``, or those of botocore's default chain
(environment, profile, SSO, container, instance role). AWS_ENDPOINT_URL and the other variables and settings of botocore
apply, unless the connection sets another value. Before the first call to an account, the account of the credentials is
checked.

botocore's own retries are off. They repeat a call whose reply was lost without finding out its outcome, which could
create a second image. Here a read is repeated (``limits.Retry``). Only the ledger repeats a mutating call, after it has
looked for the resource.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.configprovider import ConstantProvider
from botocore.credentials import Credentials, DeferredRefreshableCredentials
from botocore.handlers import BUILTIN_HANDLERS, REGISTER_FIRST, REGISTER_LAST
from botocore.hooks import EventAliaser
from botocore.response import StreamingBody
from botocore.utils import EVENT_ALIASES

import goldenami
from goldenami.aws import descriptions, errors, validation
from goldenami.aws.answers import SERVICES, Answers
from goldenami.aws.crowds import Crowds
from goldenami.aws.guard import reads_only, refuse_unjournaled, refuse_unscoped
from goldenami.aws.limits import (
    SCARCE,
    Clock,
    Pace,
    Retries,
    Retry,
    Shares,
    Sleep,
    boot_clock,
    page_size,
    shared_bucket,
)
from goldenami.aws.reach import Reach
from goldenami.aws.recent import PAUSES, Patience, Recent
from goldenami.aws.room import Room
from goldenami.errors import (
    AccessError,
    CloudError,
    GoldenAmiError,
    PlaceUnreachable,
    Throttled,
    UnjournaledMutation,
    Unreachable,
)
from goldenami.model import Account, Connection, Environment, Place
from goldenami.polling import poll

T = TypeVar("T")

SESSION_NAME: Final = "goldenami"
ENABLE_REGION: Final = "Enable the region (`aws account enable-region`), or remove it from goldenami.yaml."
# Seconds. If an endpoint does not answer the first call, it is probably wrong, so the limit for retries is short.
_FIRST_CONTACT: Final = 5.0
_LONGEST_CHAINED: Final = 3600  # seconds, of a session that another role's session assumed
_TRUST: Final = (
    "The role must trust the caller (with its external_id, if the trust policy requires one), and the caller needs the "
    "permission sts:AssumeRole."
)
REPEATS: Final = 2  # of a throttled read that only informs
# Seconds for which a refused role is not asked for again. The reads before a build need each role several times.
_STAYS_REFUSED: Final = 10.0
_MANY_PACES: Final = 1000  # at so many, those at rest are removed
# Names in events that botocore changed: a part of an event, or several.
_CHANGED: Final = frozenset(name for name in EVENT_ALIASES if "." not in name)
_DOTTED: Final = tuple(name for name in EVENT_ALIASES if "." in name)


# The member with the token of the next page, and the parameter that takes it. The services name them differently.
_TOKENS: Final = {"NextToken": "NextToken", "nextToken": "nextToken", "NextMarker": "Marker", "Marker": "Marker"}


def next_page(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameter that asks for the page after this answer; empty after the last page."""
    return next(({name: str(answer[token])} for token, name in _TOKENS.items() if answer.get(token)), {})


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a caller, from STS GetCallerIdentity, or that of a role, from AssumeRole."""

    account: str
    arn: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The timeouts of one try, in seconds. EC2 answers CreateImage and CopyImage within a few seconds. Two tries
    end within a minute, and with them the work of a place that does not answer."""

    connect: float = 5.0
    read: float = 25.0


@dataclass
class _Heard:
    """The last answer that had a time: the service's time, and this machine's clock. Copies of a cloud share it."""

    last: tuple[datetime, float] | None = None


class Cloud:
    """Clients for the accounts and regions of one environment. Thread-safe: create one and share it.

    It raises only errors of ``goldenami.errors``.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        home: Place,
        *,
        retry: Retry = Retry(),  # noqa: B008  frozen
        timeouts: Timeouts = Timeouts(),
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
        jitter: random.Random | None = None,
        caller: botocore.session.Session | None = None,
        connection: Connection = Connection(),  # noqa: B008  frozen
        patience: Patience = Patience(),  # noqa: B008  frozen
    ) -> None:
        """``accounts``: the accounts that may be used, by name. ``home``: the place of STS calls. ``caller``: the
        session with the caller's credentials; None: a session of ``connection``. ``patience``: for how long these
        services may hide what is new."""
        self.clock = clock
        self.sleep = sleep
        self.home = home
        self.patience = patience
        self._retry, self.jitter = retry, jitter or random.Random()
        self.retry = Retries(retry, clock, sleep, self.jitter)
        self.recent = Recent(clock)
        self.room = Room()
        self.crowds = Crowds(clock, retry, self.jitter)
        self.shares = Shares()
        self.durations: dict[str, float] = {}  # seconds that the last wait of each kind took (``waiters.Watched``)
        self.allowed: dict[str, float] = {}  # digest of a simulation -> when it allowed all, seconds since 1970
        # Parameters that were found to be ours: by place and name, the owner and what was found.
        self.own_parameters: dict[tuple[Place, str], tuple[Any, ...]] = {}
        # What ``network.subnets`` found, and when: by place, and the id and tags that an environment names.
        self.subnets: dict[tuple[Place, str | None, tuple[tuple[str, str], ...]], tuple[float, tuple[Any, ...]]] = {}
        # Parameters of channels that did not exist when the names of a release were searched.
        self.missing_parameters: set[tuple[Place, str]] = set()
        # Why the role of the place's account may not encrypt with the key of an ARN; empty if it has done so.
        self.key_uses: dict[tuple[Place, str], str] = {}
        self._answers: Answers | None = None
        self._known_regions: frozenset[str] | None = None
        self._reach = Reach(clock, retry.unreachable)
        self._accounts = {a.id: a for a in accounts.values()}
        self._timeouts = timeouts
        self._connection = connection
        self._caller = caller or _caller_session(connection)
        _Methods.share(self._caller)
        self._mutex = threading.RLock()
        self._asking = threading.Lock()  # of two threads that need the caller's identity, one asks for it
        self._heard = _Heard()
        self._roles = _Roles(connection, self._caller)
        self._clients: dict[tuple[str, str, bool], Any] = {}  # by service, region, and whether it is the caller's
        self._models: dict[str, Any] = {}  # botocore's descriptions, by service
        self._validators: dict[str, validation.Validator] = {}
        self._identities: dict[str | None, Identity] = {}
        self._refusals: dict[str, tuple[float, str]] = {}  # by role: until when it counts, and the message
        self._paces: dict[tuple[Place, str, str], Pace] = {}
        self._many_paces = _MANY_PACES

    @classmethod
    def of(cls, environment: Environment, **options: Any) -> Cloud:
        """Return the cloud of an environment. ``options``: arguments of the constructor."""
        return cls(environment.accounts, environment.home_place, connection=environment.connection, **options)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that may be used."""
        return tuple(self._accounts.values())

    def with_sleep(self, sleep: Sleep) -> Cloud:
        """Return a copy with another sleep function. It shares the clients and credentials."""
        other = copy.copy(self)
        other.sleep = sleep
        other.retry = Retries(self._retry, self.clock, sleep, self.jitter)
        return other

    def remembering(self) -> Cloud:
        """Return a copy for a caller that only reads: the same request in the same place is sent once, and its answer
        is kept as long as the copy lives. It shares the clients and credentials."""
        other = copy.copy(self)
        other._answers = Answers()
        return other

    def hurried(self) -> Cloud:
        """Return a copy for reads that only inform, which nothing may wait for long: a throttled one is repeated a few
        times, and one without an answer never. It shares the clients and credentials."""
        other = copy.copy(self)
        other._retry = replace(self._retry, unreachable=0.0, queued=0.0, repeats=REPEATS)
        other.retry = Retries(other._retry, self.clock, self.sleep, self.jitter)
        return other

    def rounds(self, seconds: float | None = None) -> Iterator[float]:
        """Yield once for each look at a resource, with pauses, for some seconds. Default: ``patience.visible``."""
        timeout = self.patience.visible if seconds is None else seconds
        return poll(self.clock, self.sleep, timeout=timeout, interval=self.patience.pauses, never_old=True)

    def look(self, find: Callable[[], T | None], seconds: float | None = None) -> T | None:
        """Call ``find`` in :meth:`rounds` until it returns a true value. Return its last value."""
        found: T | None = None
        for _ in self.rounds(seconds):
            found = find()
            if found:
                break
        return found

    # --- identities ---------------------------------------------------------------------------------------------------

    def caller(self) -> Identity:
        """Return the identity of the caller's own credentials, without a role. Only the first call queries STS."""
        return self._identity(None)

    def has_credentials(self) -> bool:
        """Return whether the caller has credentials, without checking that AWS accepts them."""
        try:
            return self._caller.get_credentials() is not None
        except Exception as error:
            raise errors.translate(error, service="sts", action="credentials", place=None) from error

    def check_identity(self) -> Identity:
        """Check the credentials for every account of the environment. Return :meth:`caller`.

        Raises AccessError if credentials are missing, expired, or belong to another account.
        """
        caller = self.caller()
        for account in self._accounts.values():
            self._check(account.id)
        return caller

    def check_caller(self) -> Identity:
        """Check the credentials for the home account only. Return :meth:`caller`. Use it for work in many places: the
        credentials for another account are checked at its first call, so that a failure affects that place only.

        Raises AccessError as :meth:`check_identity` does.
        """
        caller = self.caller()
        self._check(self.home.account)
        return caller

    def check_account(self, account_id: str) -> None:
        """Check the credentials for one account.

        Raises AccessError if they are missing, expired, cannot be used to assume the account's role, or belong to
        another account.
        """
        self._check(account_id)

    def _check(self, account_id: str) -> None:
        """Raise AccessError if an account is not in the environment, or its credentials belong to another account."""
        account = self._accounts.get(account_id)
        if account is None:
            named = ", ".join(f"{a.name} ({a.id})" for a in self._accounts.values())
            raise AccessError(
                f"account {account_id} is not in the environment, which has: {named}",
                hint="If the account is right, add it under `accounts` in goldenami.yaml.",
            )
        identity = self._identity(account.role)
        if identity.account != account.id:
            used = f"role {account.role} belongs" if account.role else "the caller's credentials belong"
            raise AccessError(
                f"{used} to account {identity.account} ({identity.arn}), expected {account.id}, the account "
                f"{account.name!r} of the environment",
                hint=f"Use credentials of account {account.id}, or set a role for `{account.name}` in goldenami.yaml.",
            )

    def _identity(self, role: str | None) -> Identity:
        with self._mutex:
            known = self._identities.get(role)
        if known is not None:
            return known
        if role is not None:
            self._roles.credentials(
                role, lambda: self._assume(role)
            ).get_frozen_credentials()  # assumes the role now, and AssumeRole tells the identity
            with self._mutex:
                return self._identities[role]
        with self._asking:
            if None not in self._identities:
                client = self._client("sts", Place("", self.home.region), None)
                place = Place(self._account_of(None), self.home.region)
                answer = self._reading(place, client, "sts", "GetCallerIdentity", {}, unreachable=_FIRST_CONTACT)
                self._identities[None] = Identity(answer["Account"], answer["Arn"])
            return self._identities[None]

    def _account_of(self, role: str | None) -> str:
        return role.split(":")[4] if role and role.count(":") >= 5 else "the caller's account"

    # --- calls --------------------------------------------------------------------------------------------------------

    def call(
        self, place: Place, service: str, operation: str, request: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make a call that changes nothing. It is retried after throttling, lost connections and internal errors,
        within the limits of ``Retry``, and while EC2 does not find a resource that is new (see ``recent``).

        Raises the translated error, and UnjournaledMutation for a mutating or unknown call.
        """
        if not reads_only(service, operation):
            raise UnjournaledMutation(f"{service}:{operation} is a mutating call, which only the ledger may send")
        request = request or {}
        if self._answers is None or service not in SERVICES:
            return self._call(place, service, operation, request)
        return self._answers.get(
            place, service, operation, request, lambda: self._call(place, service, operation, request)
        )

    def _call(self, place: Place, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        client, pause = self.client(service, place), PAUSES.first
        while True:
            try:
                return self._reading(place, client, service, operation, request)
            except GoldenAmiError as error:
                # Callers read parameters and grants to learn whether they exist, and wait for them if they have to.
                if service != "ec2" or not self.recent.may_pass(error, request):
                    raise
            self.sleep(pause)
            pause = min(pause * PAUSES.factor, PAUSES.longest)

    def pages(
        self, place: Place, service: str, operation: str, result: str, request: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield all items of the list ``result`` ("Images") of all pages. A repeated page token ends the iteration,
        which would be endless otherwise. Pages have the largest size that the operation allows."""
        request = {**page_size(service, operation, request or {}), **(request or {})}
        seen: set[str] = set()
        while True:
            answer = self.call(place, service, operation, request)
            yield from answer.get(result) or ()
            following = next_page(answer)
            token = next(iter(following.values()), "")
            if not token or token in seen:
                return
            seen.add(token)
            request |= following

    def send(self, place: Place, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a call once, without retries. The guard checks mutating calls. For the ledger, which decides about
        retries."""
        return self._once(place, self.client(service, place), service, operation, request)

    def unreachable(self, place: Place) -> PlaceUnreachable | None:
        """Return the error if EC2 in a place does not answer (see ``reach``), otherwise None. Makes no call."""
        return self._reach.unreachable(place, "ec2")

    def client(self, service: str, place: Place) -> Any:
        """Return botocore's client; it is created once. It does not retry and does not translate errors: prefer
        :meth:`call`."""
        self._check(place.account)
        return self._client(service, place, self._accounts[place.account].role)

    def variables(self, place: Place) -> dict[str, str]:
        """Return this process's environment variables with the credentials, region and endpoint of a place, for a
        program that calls AWS. The credentials are those of the account's role, at this moment: they may expire.

        Raises AccessError if there are none.
        """
        self._check(place.account)
        role = self._accounts[place.account].role
        try:
            if role is None:
                with self._mutex:
                    found = self._caller.get_credentials()
            else:
                found = self._roles.credentials(role, lambda: self._assume(role))
            credentials = found.get_frozen_credentials() if found is not None else None
        except Exception as error:
            raise errors.translate(error, service="sts", action="credentials", place=place) from error
        if credentials is None or not credentials.access_key or not credentials.secret_key:
            raise AccessError(f"there are no credentials for account {place.account}")
        chosen = {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.token,
            "AWS_REGION": place.region,
            "AWS_DEFAULT_REGION": place.region,
            "AWS_ENDPOINT_URL": self._connection.endpoint_url or os.environ.get("AWS_ENDPOINT_URL"),
        }
        # A profile would have precedence over the keys in some programs.
        kept = {k: v for k, v in os.environ.items() if k not in {*chosen, "AWS_PROFILE", "AWS_DEFAULT_PROFILE"}}
        return kept | {name: value for name, value in chosen.items() if value}

    def _reading(
        self,
        place: Place,
        client: Any,
        service: str,
        operation: str,
        request: Mapping[str, Any],
        *,
        unreachable: float | None = None,
    ) -> dict[str, Any]:
        attempts = self.retry.start(unreachable=unreachable)
        while True:
            try:
                return self._once(place, client, service, operation, request)
            except GoldenAmiError as error:
                if not attempts.wait(error):
                    raise

    def _once(
        self, place: Place, client: Any, service: str, operation: str, request: Mapping[str, Any]
    ) -> dict[str, Any]:
        pace = self._pace(place, service, operation)
        pace.acquire()
        self._reach.check(place, service)
        began = self.clock()
        try:
            with self._acting_in(place.account):
                answer: dict[str, Any] = getattr(client, xform_name(operation))(**request)
            self._reach.answered(place, service)
            self._record_time(answer.get("ResponseMetadata", {}))
            # The body is read here, so that an incomplete body is translated like a lost reply.
            return {k: v.read() if isinstance(v, StreamingBody) else v for k, v in answer.items()}
        except Exception as error:
            translated = errors.translate(error, service=service, action=operation, place=place)
            if errors.is_answer(error):
                self._reach.answered(place, service)
            elif isinstance(translated, Unreachable):
                translated = self._reach.failed(place, service, began, translated)
            if isinstance(translated, Throttled) and translated.code in errors.THROTTLE_CODES:
                pace.throttled()
            if errors.is_unknown_key(error) and not self._is_enabled(place):
                # For such a region, AWS reports invalid credentials. Only this place is affected.
                translated = AccessError(
                    f"{operation} in {place} was refused: region {place.region} is not enabled for account "
                    f"{place.account}",
                    hint=ENABLE_REGION,
                )
            if translated is error:
                raise
            raise translated from error

    def _is_enabled(self, place: Place) -> bool:
        """Return whether an account has enabled a region (DescribeRegions, in the home region); True if that is
        unknown."""
        if place.region == self.home.region or place.account not in self._accounts:
            return True
        role = self._accounts[place.account].role
        client = self._client("ec2", Place(place.account, self.home.region), role)
        with contextlib.suppress(Exception):
            with self._acting_in(place.account):
                found = client.describe_regions(AllRegions=True, RegionNames=[place.region])["Regions"]
            return bool(found) and found[0].get("OptInStatus") != "not-opted-in"
        return True

    def now(self) -> datetime:
        """Return the time by the cloud's clock: the time of an answer plus the seconds since. It does not depend on the
        time of this machine's clock, and goes back only if the cloud's clock does. Raises CloudError if no answer had a
        time yet."""
        with self._mutex:
            if self._heard.last is None:
                raise CloudError("the endpoint sends no Date header, so its time is unknown")
            there, here = self._heard.last
        return there + timedelta(seconds=boot_clock() - here)

    def _record_time(self, metadata: Mapping[str, Any]) -> None:
        there = errors.date_of(metadata)
        if there is None:
            return
        with self._mutex:
            # A Date header has whole seconds. A time that agrees with it is kept, so that time does not go back.
            if self._heard.last is None or not timedelta() <= self.now() - there < timedelta(seconds=1):
                self._heard.last = (there, boot_clock())

    def _pace(self, place: Place, service: str, operation: str) -> Pace:
        bucket, reads = SCARCE.get((service, operation)), reads_only(service, operation)
        # Each action of EC2 has a bucket of its own.
        kind = operation if service == "ec2" else "reads" if reads else "mutations"
        with self._mutex:
            key = (place, service, kind)
            if key not in self._paces:
                self._remove_paces()
                shared = shared_bucket(service, operation, reads=reads)
                self._paces[key] = Pace(self.clock, self.sleep, bucket, shared=shared, shares=self.shares)
            return self._paces[key]

    def _remove_paces(self) -> None:
        """Remove the paces that are at rest, now and then: with thousands of places there would be ten for each. The
        caller holds the lock."""
        if len(self._paces) >= self._many_paces:
            for key in [key for key, pace in self._paces.items() if pace.is_at_rest()]:
                del self._paces[key]
            self._many_paces = max(_MANY_PACES, 2 * len(self._paces))

    def known_regions(self) -> frozenset[str]:
        """Return the regions in the list of this version of botocore, of all partitions. Makes no call."""
        if self._known_regions is None:
            partitions = self._caller.get_available_partitions()
            self._known_regions = frozenset(
                r for p in partitions for r in self._caller.get_available_regions("ec2", partition_name=p)
            )
        return self._known_regions

    def partition(self, region: str) -> str:
        """Return the partition of a region: "aws", "aws-cn", "aws-us-gov". Makes no call. A region that is newer than
        botocore's data is found by the pattern of its name. Raises NotFound for a name that fits no partition."""
        try:
            return str(self._caller.get_partition_for_region(region))
        except Exception as error:
            raise errors.translate(error, service="ec2", action="partition", place=None) from error

    def account_root(self, account: str, region: str) -> str:
        """Return the ARN that stands for all principals of an account, in the partition of a region."""
        return f"arn:{self.partition(region)}:iam::{account}:root"

    # --- clients ------------------------------------------------------------------------------------------------------

    def _client(self, service: str, place: Place, role: str | None) -> Any:
        with self._mutex:
            key = (service, place.region, role is None)  # the accounts of a region share a client
            if key not in self._clients:
                self._clients[key] = self._make_client(service, place, role)
            return self._clients[key]

    def _make_client(self, service: str, place: Place, role: str | None) -> Any:
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=self._timeouts.connect,
            read_timeout=self._timeouts.read,
            max_pool_connections=32,
            tcp_keepalive=True,
            user_agent_extra=f"goldenami/{goldenami.__version__}",
        )
        try:
            client = self._session(role).create_client(
                service, region_name=place.region, endpoint_url=self._connection.endpoint_url, config=config
            )
        except Exception as error:
            raise errors.translate(error, service=service, action="client", place=place) from error
        client.meta.events.register_first("before-call", refuse_unjournaled)
        client.meta.events.register("before-parameter-build", refuse_unscoped)
        # What a first call finds out about an operation holds in all regions.
        meta: Any = client.meta
        meta._service_model = self._models.setdefault(service, meta.service_model)
        validation.quicken(client, self._validators.setdefault(service, validation.Validator()))
        return client

    def _session(self, role: str | None) -> botocore.session.Session:
        """Return the session for the client of a role, or of the caller."""
        return self._caller if role is None else self._roles.session()

    def _acting_in(self, account: str) -> contextlib.AbstractContextManager[None]:
        """Let this thread call with the role of an account while a ``with`` block lasts."""
        role = self._accounts[account].role if account in self._accounts else None
        if role is None:
            return contextlib.nullcontext()
        return self._roles.acting(self._roles.credentials(role, lambda: self._assume(role)))

    def _assume(self, role: str) -> dict[str, str]:
        """Return credentials of a role, in the form of botocore's refreshable credentials. Raises AccessError if the
        role refuses the caller, or did so in the last seconds."""
        with self._mutex:
            until, message = self._refusals.get(role, (0.0, ""))
        if message and self.clock() < until:
            raise AccessError(message, hint=_TRUST)
        place = Place(self._account_of(role), self.home.region)
        client = self._client("sts", Place("", self.home.region), None)
        request = self._role_request(role)
        try:
            assumed = self._reading(place, client, "sts", "AssumeRole", request)
        except AccessError as error:
            if error.ends_everything:
                raise  # the caller's credentials failed, and the role may be right
            message = f"cannot assume {role}: {error.message}"
            with self._mutex:
                self._refusals[role] = self.clock() + _STAYS_REFUSED, message
            raise AccessError(message, hint=_TRUST) from error
        except CloudError as error:
            if "MaxSessionDuration" not in error.message:
                raise
            raise AccessError(
                f"cannot assume {role}: session_duration is {request['DurationSeconds']} seconds: {error.message}",
                hint="Set a shorter session_duration in goldenami.yaml, or a longer maximum of the role.",
            ) from error
        answer, arn = assumed["Credentials"], assumed["AssumedRoleUser"]["Arn"]
        with self._mutex:
            self._identities[role] = Identity(arn.split(":")[4], arn)
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    def _role_request(self, role: str) -> dict[str, Any]:
        """Return the request for a session of a role. A session of a session ("role chaining") lasts one hour at most,
        however long the role allows (AssumeRole, STS API reference). Sessions are renewed with the caller's
        credentials, so a copy may take longer than a session."""
        account = next((a for a in self._accounts.values() if a.role == role), Account("", ""))
        duration = account.session_seconds
        if duration > _LONGEST_CHAINED and ":assumed-role/" in self.caller().arn:
            duration = _LONGEST_CHAINED
        request: dict[str, Any] = {
            "RoleArn": role,
            "RoleSessionName": f"{SESSION_NAME}-{os.getpid()}",
            "DurationSeconds": duration,
        }
        if account.external_id is not None:
            request["ExternalId"] = account.external_id
        return request


def _caller_session(connection: Connection) -> botocore.session.Session:
    session = _bare_session(botocore.session.Session, connection, connection.profile)
    try:
        session.get_scoped_config()  # a broken configuration is found here, and not at some later call
        descriptions.use(session)
    except Exception as error:
        raise errors.translate(error, service="", action="the AWS configuration", place=None) from error
    if connection.access_key_id is not None and connection.secret_access_key is not None:
        session.set_credentials(connection.access_key_id, connection.secret_access_key, connection.session_token)
    return session


def _utc_now() -> datetime:
    return datetime.now(UTC)


_S = TypeVar("_S", bound=botocore.session.Session)


def _bare_session(kind: type[_S], connection: Connection, profile: str | None) -> _S:
    """Return a session without explicit credentials."""
    session = kind(profile=profile if connection.access_key_id is None else None, include_builtin_handlers=False)
    _register_handlers(session)
    if connection.access_key_id is None:
        return session
    # AWS_PROFILE may contain a profile that does not exist, and botocore would fail although it is not needed.
    session.get_component("config_store").set_config_provider("profile", ConstantProvider(None))
    return session


def _register_handlers(session: botocore.session.Session) -> None:
    """Register botocore's handlers, without those of its documentation: each client copies all of them."""
    EventNames.use(session)
    events = session.get_component("event_emitter")
    ways = {None: events.register, REGISTER_FIRST: events.register_first, REGISTER_LAST: events.register_last}
    for event, handler, *way in BUILTIN_HANDLERS:
        if not event.startswith("docs."):
            ways[way[0] if way else None](event, handler)


class EventNames(EventAliaser):
    """The events of a session. The names of services in events are found once, and not anew for each client. Few events
    have a name that botocore changed; it looks for each of these names in each event, which took a twentieth of the
    first calls of a process."""

    @classmethod
    def use(cls, session: botocore.session.Session) -> None:
        """Let a session find the names of its events so."""
        session.get_component("event_emitter").__class__ = cls

    def __copy__(self) -> Any:
        other: Any = super().__copy__()
        other._alias_name_cache = vars(self).get("_alias_name_cache", {})
        return other

    def _alias_event_name(self, event_name: str) -> str:
        known: dict[str, str] = vars(self).setdefault("_alias_name_cache", {})
        if event_name not in known:
            is_changed = not _CHANGED.isdisjoint(event_name.split(".")) or any(name in event_name for name in _DOTTED)
            botocores: Any = super()
            known[event_name] = botocores._alias_event_name(event_name) if is_changed else event_name
        return known[event_name]


class _Methods:
    """The classes of a session's first clients, by service. botocore makes a class with hundreds of methods for each
    client; a later client of the same service inherits them, which takes a tenth of the memory."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}

    @classmethod
    def share(cls, session: botocore.session.Session) -> None:
        """Let the clients of a session share their methods. A second call for a session changes nothing."""
        events = session.get_component("event_emitter")
        events.register_last("creating-client-class", cls()._inherit, unique_id="goldenami-methods")

    def _inherit(self, class_attributes: dict[str, Any], base_classes: list[type], event_name: str, **_: Any) -> None:
        first = self._classes.get(event_name)
        if first is None:
            first = self._classes[event_name] = type("Client", tuple(base_classes), dict(class_attributes))
        class_attributes.clear()
        base_classes[:] = [first]


class _Acting(Credentials):
    """The credentials of the role with which a thread calls. Clients that many accounts share sign with them."""

    def __init__(self) -> None:
        super().__init__("", "", method="assume-role")
        self._local = threading.local()

    @contextlib.contextmanager
    def of(self, credentials: DeferredRefreshableCredentials) -> Iterator[None]:
        before = getattr(self._local, "credentials", None)
        self._local.credentials = credentials
        try:
            yield
        finally:
            self._local.credentials = before

    def get_frozen_credentials(self) -> Any:
        return self._local.credentials.get_frozen_credentials()


class _RoleSession(botocore.session.Session):
    """A session for all roles."""

    acting: _Acting

    def get_credentials(self) -> Any:
        return self.acting


class _Roles:
    """The credentials of the roles, and the one session for their clients: with many accounts and regions, a session or
    a client for each would take most of the memory."""

    def __init__(self, connection: Connection, caller: botocore.session.Session) -> None:
        self._connection = connection
        self._caller = caller
        self._session: _RoleSession | None = None
        self._acting = _Acting()
        self._mutex = threading.Lock()
        self._credentials: dict[str, DeferredRefreshableCredentials] = {}

    def session(self) -> botocore.session.Session:
        """Return the session. The caller holds a lock."""
        if self._session is None:
            self._session = _bare_session(_RoleSession, self._connection, self._caller.get_config_variable("profile"))
            # The service descriptions are large. With a shared loader each one is read once.
            self._session.register_component("data_loader", self._caller.get_component("data_loader"))
            self._session.acting = self._acting
            _Methods.share(self._session)
        return self._session

    def acting(self, credentials: DeferredRefreshableCredentials) -> contextlib.AbstractContextManager[None]:
        """Let the clients of the session sign the calls of this thread with these credentials, in a ``with`` block."""
        return self._acting.of(credentials)

    def credentials(self, role: str, assume: Callable[[], dict[str, str]]) -> DeferredRefreshableCredentials:
        """Return the credentials of a role. The first use assumes it."""
        with self._mutex:
            if role not in self._credentials:
                # botocore's own clock looks the time zone up, and each call asks it.
                self._credentials[role] = DeferredRefreshableCredentials(
                    refresh_using=assume, method="assume-role", time_fetcher=_utc_now
                )
            return self._credentials[role]
