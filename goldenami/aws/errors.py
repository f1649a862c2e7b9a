"""Translates the errors of botocore into errors of goldenami. No other module does that.

:func:`translate` returns the error for the user. :func:`outcome` returns whether the call may have had its effect,
which decides whether a mutating call may be sent again.

The codes are from "Error codes for the Amazon EC2 API", "Common errors" (all services), and the API references of KMS,
SSM, STS and S3.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

from botocore import exceptions as boto

from goldenami.errors import (
    AccessError,
    CloudError,
    CredentialsRefused,
    GoldenAmiError,
    NotFound,
    Throttled,
    Unreachable,
)
from goldenami.model import Place
from goldenami.nextstep import step

THROTTLE_CODES: Final = frozenset(
    {
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestThrottled",
        "RequestThrottledException",
        "EC2ThrottledException",
        "SlowDown",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "TooManyUpdates",
    }
)

# Too many operations of this kind run at the same time. Another one can start when one ends; a copy can take hours.
QUEUE_CODES: Final = frozenset(
    {"ResourceLimitExceeded", "ConcurrentSnapshotLimitExceeded", "PendingSnapshotLimitExceeded"}
)

UNCERTAIN_CODES: Final = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "InternalServiceErrorException",
        "KMSInternalException",
        "DependencyTimeoutException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Unavailable",
        "Server.InternalError",
        "IDPCommunicationError",
        # S3: a conflicting conditional request is being processed. The next try gets its result.
        "ConditionalRequestConflict",
        "OperationAborted",
    }
)

EXPIRED_CODES: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})

# The credentials do not exist (any more): they are deactivated, deleted or mistyped.
UNKNOWN_CODES: Final = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "InvalidToken"}
)

# AWS returns these also if the signed time is minutes off its own time ("Signature expired", "not yet current").
SKEW_CODES: Final = frozenset(
    {
        "RequestTimeTooSkewed",
        "RequestInTheFuture",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "AuthFailure",
    }
)
_MOST_SKEW: Final = 240.0  # seconds; AWS allows five minutes, S3 fifteen

CREDENTIAL_CODES: Final = frozenset(
    {
        "AuthFailure",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotSignedUp",
        "OptInRequired",
        "SubscriptionRequiredException",
        "Blocked",
        "PendingVerification",
    }
)

DENIED_CODES: Final = frozenset(
    {
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
        "Client.UnauthorizedOperation",
        "NotAuthorized",
        "AuthorizationError",
        "AllAccessDisabled",
        "KMSAccessDeniedException",
    }
)

# EC2 has one code for each kind of missing resource, for example "InvalidSnapshot.NotFound".
MISSING_CODES: Final = frozenset(
    {
        "NotFoundException",
        "ResourceNotFoundException",
        "ParameterNotFound",
        "ParameterVersionNotFound",
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchEntity",
        "InvalidSnapshot.NotFound",
        "InvalidRegion",
        "InvalidSubnetID.NotFound",
        "InvalidVpcID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidKeyPair.NotFound",
        "InvalidVolume.NotFound",
        "InvalidAMIID.NotFound",
        "InvalidAMIID.Malformed",
        "InvalidInstanceID.NotFound",
        "InvalidInstanceID.Malformed",
        "InvalidAMIName.NotFound",
    }
)

# EC2 has no capacity for this instance type now, or does not offer it. Another type, zone or market may work.
CAPACITY_CODES: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InstanceLimitExceeded",
        "VcpuLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "Unsupported",
        "UnsupportedOperation",
        "InvalidInstanceType",
    }
)


# EC2 launches no spot instance of any type in this account: its service-linked role is missing.
NO_SPOT_CODES: Final = frozenset({"AuthFailure.ServiceLinkedRoleCreationNotPermitted"})


class Outcome(enum.Enum):
    """The outcome of a failed call. REFUSED: it had no effect, and a repeated call is refused too.
    NOT_SENT: it had no effect, and may be sent again (throttled). UNKNOWN: it may have had its effect."""

    REFUSED = "refused"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"


def outcome(error: BaseException) -> Outcome:
    """Return the outcome of a call that failed with this error, of :func:`translate` or of botocore."""
    if isinstance(error, Throttled):
        return Outcome.NOT_SENT
    if isinstance(error, Unreachable):
        return Outcome.UNKNOWN
    original = error.__cause__ if isinstance(error, GoldenAmiError) else error
    if isinstance(original, boto.ClientError):
        return Outcome.UNKNOWN if _uncertain(original) else Outcome.REFUSED
    return Outcome.REFUSED


def translate(error: Exception, *, service: str, action: str, place: Place | None) -> GoldenAmiError:
    """Translate an error of botocore into an error of goldenami. Raise the result ``from`` the original.

    A GoldenAmiError is returned unchanged. Any other exception (wrong parameters, for example) becomes a CloudError
    that names the call.
    """
    if isinstance(error, GoldenAmiError):
        return error
    account, region = (place.account, place.region) if place is not None else ("", "")
    where = f"{action} in {place}" if place is not None else action
    if isinstance(error, boto.ClientError):
        return _from_answer(error, service, action, account, region, where)
    kind, hint = _for_local(error)
    # Some messages contain the whole body of an answer. The first line is enough.
    message = f"{where}: {(str(error).splitlines() or [type(error).__name__])[0][:300]}"
    if issubclass(kind, CloudError):
        return kind(message, code=type(error).__name__, action=action, account=account, region=region, hint=hint)
    return kind(message, hint=hint)


def _from_answer(
    error: boto.ClientError, service: str, action: str, account: str, region: str, where: str
) -> GoldenAmiError:
    code, text = _code(error), error.response.get("Error", {}).get("Message") or "no message"
    message = f"{where}: {text} ({code})"

    def cloud(kind: type[CloudError], hint: str | None = None) -> CloudError:
        reason = str(error.response.get("Reason") or "")
        return kind(message, code=code, action=action, account=account, region=region, hint=hint, reason=reason)

    if code in THROTTLE_CODES:
        return cloud(
            Throttled, "The account's request rate is used up. Try again later, or ask AWS for a higher limit."
        )
    if code in QUEUE_CODES:
        return cloud(Throttled, "The account runs too many of these operations. Try again when some have ended.")
    skew = _skew(error) if code in SKEW_CODES else 0.0
    if abs(skew) > _MOST_SKEW or code in ("RequestTimeTooSkewed", "RequestInTheFuture"):
        way = "ahead of" if skew > 0 else "behind"
        return CredentialsRefused(
            f"{message}: this machine's clock is {abs(skew) / 60:.0f} minutes {way} AWS's",
            hint="Set the clock of this machine (`timedatectl set-ntp true`).",
        )
    if code in EXPIRED_CODES:
        return CredentialsRefused(message, hint="The credentials have expired. Renew them.")
    if is_unknown_key(error):
        hint = "Check the credentials with `aws sts get-caller-identity`."
        return CredentialsRefused(message, hint=hint)
    if code == "AuthFailure" and "Not authorized for" in text:
        hint = f"Its owner must share the image, and its snapshots, with account {account}."
        return AccessError(message, hint=hint)
    if code in CREDENTIAL_CODES:
        return AccessError(message, hint="Check the credentials with `aws sts get-caller-identity`.")
    if code in DENIED_CODES:
        needed, resource = refused_access(text) or (f"{service}:{action}", "")
        what = f"{needed} on {resource}" if resource not in ("", "*") else needed
        return AccessError(
            _ENCODED.sub("", message),
            hint=f"The caller needs the permission {what} in account {account}. "
            f"{step('iam policy', '--role', 'builder')} prints its policies; in other accounts, --role publisher.",
        )
    if _uncertain(error):
        return cloud(Unreachable, "The service has an internal error. Try again later.")
    if code in NO_SPOT_CODES:
        return cloud(
            CloudError,
            f"Create the role AWSServiceRoleForEC2Spot once in account {account}: aws iam create-service-linked-role "
            "--aws-service-name spot.amazonaws.com",
        )
    if code in CAPACITY_CODES:
        return cloud(CloudError, "Add more instance types to builder.instance_types in the recipe.")
    return cloud(CloudError)


_REFUSAL = re.compile(r"perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?")
# EC2 adds hundreds of characters that only sts:DecodeAuthorizationMessage can read.
_ENCODED = re.compile(r"\.? Encoded authorization failure message: \S+")


def refused_access(message: str) -> tuple[str, str] | None:
    """Return the action and the resource ("" if unknown) in AWS's message about a refused call; None if there is none.

    The action can be another one than that of the call: ec2:CreateTags, iam:PassRole or kms:CreateGrant.
    """
    found = _REFUSAL.search(message)
    return (found["action"], (found["resource"] or "").rstrip(".")) if found is not None else None


def _skew(error: boto.ClientError) -> float:
    """Return by how many seconds this machine's clock is ahead of the answer's Date header; 0 if it has none."""
    headers: Any = error.response.get("ResponseMetadata", {})
    there = date_of(headers)
    return (datetime.now(UTC) - there).total_seconds() if there is not None else 0.0


def date_of(metadata: Mapping[str, Any]) -> datetime | None:
    """Return when a service answered, by its own clock (the Date header); None if there is no such header."""
    try:
        return _date(metadata["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return None


@lru_cache(maxsize=16)  # many answers come in one second
def _date(text: str) -> datetime:
    return parsedate_to_datetime(text).astimezone(UTC)


def is_answer(error: Exception) -> bool:
    """Return whether an error of botocore is the answer of a service."""
    return isinstance(error, boto.ClientError)


def is_unknown_key(error: Exception) -> bool:
    """Return whether a service does not know the caller's access key, in the region of the call."""
    if not isinstance(error, boto.ClientError):
        return False
    text = error.response.get("Error", {}).get("Message") or ""
    return _code(error) in UNKNOWN_CODES or (_code(error) == "AuthFailure" and "access credentials" in text)


def code_of(error: BaseException) -> str:
    """Return the service's error code of a translated error, of any class; empty if no service answered."""
    if isinstance(error, CloudError):
        return error.code
    return _code(error.__cause__) if isinstance(error.__cause__, boto.ClientError) else ""


def is_missing(error: BaseException) -> bool:
    """Return whether a service answered that the resource does not exist. It may exist all the same if it is new: see
    ``recent``."""
    return isinstance(error, CloudError) and (error.code in MISSING_CODES or error.code.endswith(".NotFound"))


def not_found(error: CloudError, what: str, *, hint: str | None = None) -> NotFound:
    """Return the NotFound error (exit code 3) for a :func:`is_missing` error. ``what``: what the user named."""
    return NotFound(f"{what} does not exist in {error.account}/{error.region} ({error.code})", hint=hint)


# These hints do not name a command to continue: builds and tasks add their own command.
_RENEW = "Log in again, for example with `aws sso login` or `aws login`."
_CONFIGURE = (
    f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE. For the sandbox, use {step('sandbox env')}."
)
_NETWORK = "Check the network, AWS_ENDPOINT_URL and the proxy settings."
_CONFIG = "Check ~/.aws/config and the AWS_ variables."

# The first row that an error is an instance of applies. A test checks that every class of botocore.exceptions has one.
_LOCAL: Final[tuple[tuple[type[Exception], type[GoldenAmiError], str | None], ...]] = (
    # credentials
    (boto.NoCredentialsError, AccessError, _CONFIGURE),
    (boto.PartialCredentialsError, AccessError, _CONFIGURE),
    (boto.ProfileNotFound, AccessError, _CONFIG),
    (boto.CredentialRetrievalError, CredentialsRefused, _RENEW),
    (boto.UnknownCredentialError, AccessError, _CONFIG),
    (boto.ConfigParseError, AccessError, _CONFIG),
    (boto.ConfigNotFound, AccessError, _CONFIG),
    (boto.InvalidConfigError, AccessError, _CONFIG),
    (boto.NoAuthTokenError, CredentialsRefused, _RENEW),
    (boto.TokenRetrievalError, CredentialsRefused, _RENEW),
    (boto.UnknownTokenProviderError, AccessError, _CONFIG),
    (boto.SSOError, CredentialsRefused, _RENEW),
    (boto.LoginError, CredentialsRefused, _RENEW),
    (boto.RefreshWithMFAUnsupportedError, CredentialsRefused, _RENEW),
    (boto.MetadataRetrievalError, AccessError, _CONFIGURE),
    (boto.InvalidIMDSEndpointError, AccessError, _CONFIG),
    (boto.InvalidIMDSEndpointModeError, AccessError, _CONFIG),
    # the network, or an answer that cannot be used: the call may have had its effect
    (boto.ConnectionError, Unreachable, _NETWORK),
    (boto.HTTPClientError, Unreachable, _NETWORK),
    (boto.IncompleteReadError, Unreachable, _NETWORK),
    (boto.ChecksumError, Unreachable, _NETWORK),
    (boto.FlexibleChecksumError, Unreachable, _NETWORK),
    # a region or endpoint that is not there
    (boto.InvalidRegionError, NotFound, None),
    (boto.UnknownRegionError, NotFound, None),
    (boto.NoRegionError, AccessError, _CONFIG),
    (boto.UnknownEndpointError, NotFound, None),
    (boto.EndpointProviderError, NotFound, None),
    (boto.ServiceNotInRegionError, NotFound, None),
    # all the rest of botocore: wrong parameters, wrong configuration, missing data files
    (boto.BotoCoreError, CloudError, None),
)


def _for_local(error: Exception) -> tuple[type[GoldenAmiError], str | None]:
    # For an invalid response body, botocore raises botocore.parsers.ResponseParserError, a plain Exception.
    if type(error).__name__ == "ResponseParserError":
        return Unreachable, _NETWORK
    # botocore requested new credentials and received expired ones. It has no class for that.
    if isinstance(error, RuntimeError) and "refreshed credentials are still expired" in str(error):
        return CredentialsRefused, _RENEW
    return next(((kind, hint) for row, kind, hint in _LOCAL if isinstance(error, row)), (CloudError, None))


def _uncertain(error: boto.ClientError) -> bool:
    # EC2 answers InsufficientInstanceCapacity with status 500, but the call is refused for certain.
    code = _code(error)
    return code in UNCERTAIN_CODES or (_status(error) >= 500 and code not in CAPACITY_CODES)


def _code(error: boto.ClientError) -> str:
    detail: Any = error.response.get("Error", {})
    return str(detail.get("Code") or "Unknown")


def _status(error: boto.ClientError) -> int:
    metadata: Any = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode") or 0)
