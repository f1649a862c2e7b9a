"""What reads and what changes, and that the second kind needs an intent."""

from __future__ import annotations

import threading

import botocore.session
import pytest

from goldenami.aws.guard import permitted, reads_only, refuse_unjournaled
from goldenami.errors import UnjournaledMutation

SERVICES = ("ec2", "ssm", "kms", "sts", "s3", "iam", "ebs")
# Verbs that change nothing in the services above; everything else must be refused.
HARMLESS = ("Describe", "Get", "List", "Head", "Search", "Simulate", "Lookup", "Validate", "BatchGet")


@pytest.fixture(scope="module")
def session() -> botocore.session.Session:
    return botocore.session.Session()


@pytest.mark.parametrize("service", SERVICES)
def test_everything_but_reading_verbs_is_refused(session: botocore.session.Session, service: str) -> None:
    model = session.get_service_model(service)
    let_through = {name for name in model.operation_names if reads_only(service, name)}
    exceptions = {name for name in let_through if not name.startswith(HARMLESS)}
    assert exceptions <= {
        "AssumeRole",
        "DecodeAuthorizationMessage",
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
    }
    for name in set(model.operation_names) - let_through:
        with pytest.raises(UnjournaledMutation, match=f"{service}:{name}"):
            refuse_unjournaled(model.operation_model(name))


def test_a_permit_is_for_one_operation_in_one_thread(session: botocore.session.Session) -> None:
    model = session.get_service_model("ec2")
    with permitted("ec2", "CopyImage", "token"):
        refuse_unjournaled(model.operation_model("CopyImage"))
        with pytest.raises(UnjournaledMutation):
            refuse_unjournaled(model.operation_model("CreateImage"))
        elsewhere: list[BaseException] = []

        def other() -> None:
            try:
                refuse_unjournaled(model.operation_model("CopyImage"))
            except UnjournaledMutation as error:
                elsewhere.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert elsewhere
    with pytest.raises(UnjournaledMutation):
        refuse_unjournaled(model.operation_model("CopyImage"))
