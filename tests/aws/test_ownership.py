"""Whose a resource is: ours, theirs or unknown."""

from __future__ import annotations

import pytest

from goldenami.aws import tags
from goldenami.aws.kinds import grant_name
from goldenami.aws.ownership import Owner, Proofs
from goldenami.model import Place

OURS, THEIRS = "0123456789abcdef", "fedcba9876543210"
BUILD = "20261124-030000-0123abcd"
OWNER = Owner(OURS, "test")


@pytest.mark.parametrize(
    ("own", "whose"),
    [
        ({tags.CATALOG: OURS, tags.ENVIRONMENT: "test"}, "ours"),
        ({tags.CATALOG: OURS, tags.ENVIRONMENT: "other"}, "theirs"),
        ({tags.CATALOG: THEIRS, tags.ENVIRONMENT: "test"}, "theirs"),
        ({tags.CATALOG: THEIRS}, "theirs"),
        ({tags.CATALOG: OURS}, "unknown"),
        ({tags.ENVIRONMENT: "test"}, "unknown"),
        ({tags.BUILD_ID: BUILD}, "unknown"),
        ({}, "unknown"),
        ({tags.CATALOG: OURS, tags.ENVIRONMENT: "test", "aws:dlm:lifecycle-policy-id": "policy-1"}, "theirs"),
        ({"GoldenAMI:Catalog": OURS, tags.ENVIRONMENT: "test"}, "unknown"),
    ],
)
def test_by_its_tags(own: dict[str, str], whose: str) -> None:
    answer = OWNER.of_tags(own)
    assert answer.whose == whose
    assert answer.is_ours == (whose == "ours")
    assert bool(answer.reason) == (whose != "ours")
    assert Owner(None, "test").of_tags(own).whose != "ours", "a catalog without an id owns nothing"


def test_a_grant_by_its_name() -> None:
    token = "a" * 40
    assert OWNER.of_grant(grant_name(BUILD, OURS, token)).is_ours
    assert OWNER.of_grant(grant_name(BUILD, THEIRS, token)).whose == "theirs"
    assert OWNER.of_grant(f"goldenami-{BUILD}-{token}").whose == "unknown", "of an earlier version"
    for name in ("", "goldenami", f"goldenami-{OURS}", f"x-{grant_name(BUILD, OURS, token)}"):
        assert OWNER.of_grant(name).whose == "theirs"
    assert not Owner(None, "test").of_grant(grant_name(BUILD, OURS, token)).is_ours


def test_a_proof_is_of_one_resource_one_place_and_one_key() -> None:
    proofs, here = Proofs.of_key(b"k" * 32), Place("111111111111", "eu-central-1")
    own = {tags.CATALOG: OURS, tags.ENVIRONMENT: "test", tags.BUILD_ID: BUILD, tags.KEY: "key", tags.TOKEN: "0" * 40}
    proven = {**own, tags.PROOF: proofs.make("key-pair", here, own, "name"), "Name": "any", tags.EXPIRES_AT: "any"}
    assert proofs.check("key-pair", here, proven, ["other", "name"])
    assert not proofs.check("key-pair", here, proven, ["other"])
    assert not proofs.check("key-pair", here, proven, [])
    assert not proofs.check("security-group", here, proven, ["name"])
    for there in (Place("111111111111", "eu-west-1"), Place("222222222222", "eu-central-1")):
        assert not proofs.check("key-pair", there, proven, ["name"])
    for key in own:
        assert not proofs.check("key-pair", here, {**proven, key: "other"}, ["name"]), key
    for wrong in ("", "0" * 40, "\u00e9"):
        assert not proofs.check("key-pair", here, {**proven, tags.PROOF: wrong}, ["name"])
    assert not Proofs.of_key(b"o" * 32).check("key-pair", here, proven, ["name"])
    assert not Proofs(lambda: None, lambda: b"").check("key-pair", here, proven, ["name"]), "a catalog without a key"
