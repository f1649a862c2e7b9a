"""The same program against any endpoint: an environment that spells everything out, and AWS_* variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = pytest.mark.root

PRODUCTION = """\
environments:
  production:
    home:
      account: "111111111111"
      region: eu-west-1
      role: arn:aws:iam::111111111111:role/goldenami-builder
    accounts:
      apps: {id: "222222222222", role: "arn:aws:iam::222222222222:role/goldenami-publisher"}
    targets:
      - {account: home, regions: [eu-west-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-central-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-west-1], mode: share}
    catalog: releases
    parameter_prefix: /images/golden
    tags: {owner: platform-team}
"""


def test_environment_that_is_no_sandbox(workspace: Workspace, cloud: Cloud) -> None:
    from tests.worlds.machines import APPS, HOME

    workspace.write("goldenami.yaml", PRODUCTION)
    workspace.recipe("elsewhere", "image: {tags: {team: web}}\n", targets="all")
    # A machine on which no sandbox was ever started: were one looked for, it would be started there.
    nowhere = workspace.root / "no-sandboxes"
    variables = workspace.variables(GOLDENAMI_SANDBOX_HOME=str(nowhere))
    done = workspace.run("build", "elsewhere", "--json", variables=variables)
    assert done.status == 0, done.stderr
    assert not nowhere.exists()
    manifest = done.manifest
    rows = {(r["account"], r["region"]): r for r in manifest["images"]}
    assert sorted(rows) == [(HOME, "eu-west-1"), (APPS, "eu-central-1"), (APPS, "eu-west-1")]
    assert manifest["environment"] == "production"
    assert rows[HOME, "eu-west-1"]["image_id"] == rows[APPS, "eu-west-1"]["image_id"]
    for place, row in rows.items():
        image = cloud.image(place, row["image_id"])
        assert image["State"] == "available"
        if place != (APPS, "eu-west-1"):  # tags are seen by the owner only
            tags = {t["Key"]: t["Value"] for t in image["Tags"]}
            assert (tags["owner"], tags["team"]) == ("platform-team", "web")
        name = "/images/golden/elsewhere/x86_64/stable/image-id"
        assert cloud.client("ssm", place).get_parameter(Name=name)["Parameter"]["Value"] == row["image_id"]
    assert (workspace.root / "releases").is_dir()
    callers = {c["principal"] for c in cloud.info.calls() if c["action"] in ("RunInstances", "CopyImage")}
    assert any("goldenami-builder" in str(caller) for caller in callers)


def test_endpoint_that_does_not_answer(workspace: Workspace) -> None:
    workspace.write("goldenami.yaml", PRODUCTION)
    workspace.recipe("elsewhere", targets="all")
    variables = workspace.variables(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    done = workspace.run("plan", "elsewhere", variables=variables)
    assert done.status == 1
    assert "http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
