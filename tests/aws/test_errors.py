"""Every error that botocore can raise becomes one of ours, and what is known of the call's effect is right."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from botocore import exceptions as boto

from goldenami.aws import errors
from goldenami.aws.errors import Outcome
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

PLACE = Place("111111111111", "eu-central-1")


def client_error(code: str, status: int = 400, message: str = "the message") -> boto.ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(answer, "CopyImage")


def raised(error: Exception, service: str = "ec2") -> GoldenAmiError:
    try:
        raise errors.translate(error, service=service, action="CopyImage", place=PLACE) from error
    except GoldenAmiError as ours:
        return ours


def make(kind: type[Exception]) -> Exception:
    """An instance of a botocore error, whatever its message wants to be filled with."""
    if issubclass(kind, boto.ClientError):
        return kind({"Error": {"Code": "X", "Message": "m"}}, "CopyImage")
    error = kind.__new__(kind)
    Exception.__init__(error, "the message")
    return error


UNCERTAIN = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
)

EVERY = [
    kind
    for _, kind in inspect.getmembers(boto, inspect.isclass)
    if issubclass(kind, (boto.BotoCoreError, boto.ClientError))
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_no_error_of_botocore_is_missed(kind: type[Exception]) -> None:
    ours = raised(make(kind))
    assert isinstance(ours, (CloudError, AccessError, NotFound))
    assert "CopyImage" in ours.message
    assert (errors.outcome(ours) is Outcome.UNKNOWN) == issubclass(kind, UNCERTAIN)


def test_the_walk_found_them() -> None:
    assert len(EVERY) > 70


@pytest.mark.parametrize(
    ("code", "status", "ours", "outcome"),
    [
        ("RequestLimitExceeded", 503, Throttled, Outcome.NOT_SENT),
        ("ThrottlingException", 400, Throttled, Outcome.NOT_SENT),
        ("ResourceLimitExceeded", 400, Throttled, Outcome.NOT_SENT),
        ("InternalError", 500, Unreachable, Outcome.UNKNOWN),
        ("Unavailable", 503, Unreachable, Outcome.UNKNOWN),
        ("SomethingNew", 502, Unreachable, Outcome.UNKNOWN),
        ("UnauthorizedOperation", 403, AccessError, Outcome.REFUSED),
        ("AuthFailure", 401, AccessError, Outcome.REFUSED),
        ("ExpiredToken", 400, CredentialsRefused, Outcome.REFUSED),
        ("RequestExpired", 400, CredentialsRefused, Outcome.REFUSED),
        ("ExpiredTokenException", 400, CredentialsRefused, Outcome.REFUSED),
        ("InvalidClientTokenId", 403, CredentialsRefused, Outcome.REFUSED),
        ("UnrecognizedClientException", 400, CredentialsRefused, Outcome.REFUSED),
        ("InvalidAccessKeyId", 403, CredentialsRefused, Outcome.REFUSED),
        ("SignatureDoesNotMatch", 403, AccessError, Outcome.REFUSED),
        ("ConditionalRequestConflict", 409, Unreachable, Outcome.UNKNOWN),
        ("InvalidAMIID.NotFound", 400, CloudError, Outcome.REFUSED),
        ("InsufficientInstanceCapacity", 400, CloudError, Outcome.REFUSED),
        ("InvalidParameterValue", 400, CloudError, Outcome.REFUSED),
    ],
)
def test_answers(code: str, status: int, ours: type[GoldenAmiError], outcome: Outcome) -> None:
    error = raised(client_error(code, status))
    assert type(error) is ours
    assert errors.outcome(error) is outcome
    assert code in error.message
    assert "the message" in error.message
    if isinstance(error, CloudError):
        assert (error.code, error.action, error.account, error.region) == (
            code,
            "CopyImage",
            PLACE.account,
            PLACE.region,
        )


@pytest.mark.parametrize("minutes", [-600, -20, -3, 0, 3, 20, 600])
@pytest.mark.parametrize("code", sorted(errors.SKEW_CODES - errors.EXPIRED_CODES))
def test_a_clock_that_is_wrong_is_told_from_credentials_that_are(code: str, minutes: int) -> None:
    """A signature is refused for its date in as many words as for its key; the date of the answer tells them apart."""
    refused = client_error(code, 403)
    there = datetime.now(UTC) - timedelta(minutes=minutes)
    refused.response["ResponseMetadata"]["HTTPHeaders"] = {"date": format_datetime(there, usegmt=True)}
    error = raised(refused)
    if abs(minutes) > 4 or code in ("RequestTimeTooSkewed", "RequestInTheFuture"):
        assert isinstance(error, CredentialsRefused)
        assert "clock" in (error.hint or "")
        if minutes:
            assert f"{abs(minutes)} minutes {'ahead of' if minutes > 0 else 'behind'} AWS's" in error.message
    else:
        assert "clock" not in error.message


def test_credentials_that_botocore_could_not_renew_are_told_as_such() -> None:
    error = raised(RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."))
    assert isinstance(error, CredentialsRefused)
    assert "Log in again" in (error.hint or "")


def test_a_resource_of_another_account_is_no_matter_of_credentials() -> None:
    """EC2 has one code for both."""
    assert type(raised(client_error("AuthFailure", 403, "Not authorized for images: [ami-1]"))) is AccessError
    message = "AWS was not able to validate the provided access credentials"
    assert type(raised(client_error("AuthFailure", 401, message))) is CredentialsRefused


def test_capacity_has_a_code_of_its_own_even_with_a_server_status() -> None:
    """EC2 sends InsufficientInstanceCapacity with status 500; nothing was made, and another type may be tried."""
    error = raised(client_error("InsufficientInstanceCapacity", 500))
    assert type(error) is CloudError
    assert errors.outcome(error) is Outcome.REFUSED


def test_what_is_missing_is_recognized_by_its_code() -> None:
    assert errors.is_missing(raised(client_error("InvalidSnapshot.NotFound")))
    assert errors.is_missing(raised(client_error("InvalidSomethingNew.NotFound")))
    assert not errors.is_missing(raised(client_error("InvalidParameterValue")))
    assert not errors.is_missing(raised(client_error("AuthFailure")))
    gone = raised(client_error("ParameterNotFound"))
    assert isinstance(gone, CloudError)
    assert errors.not_found(gone, "parameter /x").exit_code == 3


def test_a_permission_that_is_missing_is_named() -> None:
    error = raised(client_error("UnauthorizedOperation", 403))
    assert "ec2:CopyImage in account 111111111111" in (error.hint or "")


def test_our_own_errors_pass_unchanged() -> None:
    own = NotFound("region xx-1 does not exist")
    assert errors.translate(own, service="ec2", action="X", place=PLACE) is own


def test_a_body_that_cannot_be_read_is_one_line() -> None:
    from botocore.parsers import ResponseParserError

    error = raised(ResponseParserError("Unable to parse response\n<html>" + "x" * 1000))
    assert type(error) is Unreachable
    assert errors.outcome(error) is Outcome.UNKNOWN
    assert len(error.message.splitlines()) == 1
