"""Requests are validated as botocore does, without its walk through those that are certainly valid."""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.model import ShapeResolver
from botocore.validate import ParamValidator

from goldenami.aws.validation import Validator

TAGS = [{"Key": "a", "Value": "b"}]
PARAMETER = {"Name": "/a/b", "Value": "ami-1", "Type": "String", "Overwrite": False, "Tags": TAGS}
FILTERS = [{"Name": "image-id", "Values": ["ami-1", "ami-2"]}]

_SESSION = botocore.session.Session()


@cache
def shape(service: str, operation: str) -> Any:
    return _SESSION.get_service_model(service).operation_model(operation).input_shape


VALID = [
    ("ssm", "PutParameter", PARAMETER),
    ("ssm", "GetParameters", {"Names": ["/a"], "WithDecryption": False}),
    ("ec2", "DescribeImages", {"ImageIds": ["ami-1"], "Filters": FILTERS, "MaxResults": 5}),
    ("ec2", "DeleteTags", {"Resources": ("ami-1", "snap-1"), "Tags": [{"Key": "a"}]}),
    ("ec2", "DescribeImages", {}),
]
OTHERS = [
    ("ssm", "PutParameter", {**PARAMETER, "Nmae": "x"}),
    ("ssm", "PutParameter", {"Name": "/a"}),
    ("ssm", "PutParameter", {**PARAMETER, "Name": ""}),
    ("ssm", "PutParameter", {**PARAMETER, "Value": None}),
    ("ssm", "PutParameter", {**PARAMETER, "Overwrite": "yes"}),
    ("ssm", "PutParameter", {**PARAMETER, "Tags": {"Key": "a", "Value": "b"}}),
    ("ssm", "PutParameter", {**PARAMETER, "Tags": [*TAGS, {"Key": "a"}]}),
    ("ssm", "PutParameter", {**PARAMETER, "Tags": [*TAGS, {"Key": "", "Value": "b"}]}),
    ("ssm", "PutParameter", {**PARAMETER, "Tags": [{"Key": "a", "Value": 1}]}),
    ("ssm", "GetParameters", {"Names": []}),
    ("ssm", "GetParameters", {"Names": ["/a", b"/b"]}),
    ("ssm", "GetParametersByPath", {"Path": "/a", "MaxResults": 0}),
    ("ssm", "GetParametersByPath", {"Path": "/a", "MaxResults": True}),
    ("ec2", "DescribeImages", {"Filters": [{"Name": "image-id", "Values": "ami-1"}]}),
    ("ec2", "DescribeImages", {"MaxResults": "5"}),
    ("ec2", "DescribeImages", ["ImageIds"]),
    # What only botocore's own validator looks at: a time, bytes, a map.
    ("ec2", "EnableImageDeprecation", {"ImageId": "ami-1", "DeprecateAt": "2026-12-01T00:00:00Z"}),
    ("ec2", "EnableImageDeprecation", {"ImageId": "ami-1", "DeprecateAt": "soon"}),
    ("kms", "Sign", {"KeyId": "k", "Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}),
    ("kms", "Sign", {"KeyId": "k", "Message": 1, "SigningAlgorithm": "ECDSA_SHA_256"}),
    ("kms", "Encrypt", {"KeyId": "k", "Plaintext": b"m", "EncryptionContext": {"a": "b"}}),
    ("kms", "Encrypt", {"KeyId": "k", "Plaintext": b"m", "EncryptionContext": {"a": 1}}),
]


@pytest.mark.parametrize(("service", "operation", "request_"), VALID + OTHERS)
def test_the_answer_is_that_of_botocore(service: str, operation: str, request_: Any) -> None:
    asked = shape(service, operation)
    expected = ParamValidator().validate(request_, asked)
    found = Validator().validate(request_, asked)
    assert found.has_errors() == expected.has_errors()
    assert found.generate_report() == expected.generate_report()


@pytest.mark.parametrize(("service", "operation", "request_"), VALID)
def test_a_plain_request_takes_the_short_way(
    service: str, operation: str, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = shape(service, operation)

    def walk(*_: Any) -> Any:
        raise AssertionError("botocore walks through it")

    monkeypatch.setattr(ParamValidator, "validate", walk)
    validator = Validator()
    assert not validator.validate(request_, asked).has_errors()
    assert not validator.validate(request_, asked).has_errors()  # and with the checks that it has made


_SHAPES: Any = {
    "Text": {"type": "string"},
    "OneOf": {"type": "structure", "union": True, "members": {"A": {"shape": "Text"}, "B": {"shape": "Text"}}},
    "Document": {"type": "structure", "document": True, "members": {}},
    "Union": {"type": "structure", "members": {"It": {"shape": "OneOf"}}},
    "Free": {"type": "structure", "members": {"It": {"shape": "Document"}}},
    "Host": {"type": "structure", "members": {"It": {"shape": "Text", "hostLabel": True}}},
    "Json": {
        "type": "structure",
        "members": {"It": {"shape": "Text", "jsonvalue": True, "location": "header", "locationName": "X"}},
    },
}


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("Union", {"It": {"A": "a"}}),
        ("Union", {"It": {"A": "a", "B": "b"}}),
        ("Union", {"It": {}}),
        ("Free", {"It": {"any": [1, None]}}),
        ("Free", {"It": {"any": b"bytes"}}),
        ("Host", {"It": "a"}),
        ("Host", {"It": ""}),
        ("Json", {"It": {"a": 1}}),
        ("Json", {"It": {"a": b"bytes"}}),
    ],
)
def test_rare_shapes_are_left_to_botocore(name: str, request_: Any) -> None:
    asked = ShapeResolver(_SHAPES).get_shape_by_name(name)
    expected = ParamValidator().validate(request_, asked)
    assert Validator().validate(request_, asked).generate_report() == expected.generate_report()


def test_botocore_validates_nothing_else() -> None:
    """A later botocore that validates more of a shape than this would lose that in the short way."""
    known = {"required", "min", "document", "union"}
    assert getattr(ParamValidator, "VALIDATED_METADATA_ATTRS", known) == known
