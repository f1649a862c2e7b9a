"""Snippets that name a release: each is read by the parser of its language, and what it names exists."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hcl2
import pytest
import yaml

from goldenami.errors import NotFound, UsageError
from goldenami.model import Account, Environment, ImageManifest, Network
from goldenami.release.catalog import Catalog
from goldenami.release.export import FORMATS, Exported, gather
from goldenami.release.versions import Reference
from tests.release.conftest import APPS, HOME, ManifestFactory

if TYPE_CHECKING:
    from tests.worlds.releases import World

NAME = "debian-12-web"
REGIONS = ("eu-central-1", "eu-west-1", "us-east-1")
PARAMETERS = {f"/golden-ami/{NAME}/{architecture}/stable/image-id" for architecture in ("arm64", "x86_64")}
HOME_ACCOUNT = Account("home", HOME)
ENVIRONMENT = Environment(
    name="production",
    home=HOME_ACCOUNT,
    home_region=REGIONS[0],
    accounts={"home": HOME_ACCOUNT, "apps": Account("apps", APPS)},
    targets=(),
    network=Network(),
    catalog="",
    builds="",
)


@pytest.fixture
def release(catalog: Catalog, manifest: ManifestFactory) -> ImageManifest:
    """Two architectures in three regions of two accounts, in the channel stable. The ids look like those of EC2."""
    made = manifest(architectures=("x86_64", "arm64"))
    rows = (replace(row, image_id=f"ami-{number:017x}") for number, row in enumerate(made.images))
    made = replace(made, images=tuple(rows))
    catalog.add(made)
    catalog.move(NAME, "stable", made.version, now=datetime(2026, 11, 24, tzinfo=UTC))
    return made


def export(catalog: Catalog, form: str, reference: str = f"{NAME}@stable", **more: Any) -> str:
    return FORMATS[form](facts(catalog, reference, **more))


def facts(catalog: Catalog, reference: str = f"{NAME}@stable", account: str = HOME, **more: Any) -> Exported:
    return gather(catalog, ENVIRONMENT, Reference.parse(reference), account, **more)


def ids(release: ImageManifest, account: str = HOME) -> set[str]:
    return {row.image_id for row in release.images if row.account == account}


def named(text: str) -> tuple[set[str], set[str]]:
    """The parameters and the image ids in a snippet, without its comments."""
    code = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    return set(re.findall(r"/golden-ami/[\w./-]+", code)), set(re.findall(r"ami-[0-9a-f]{17}", code))


@pytest.mark.parametrize("form", FORMATS)
def test_a_channel_is_followed_and_a_version_is_pinned(catalog: Catalog, release: ImageManifest, form: str) -> None:
    following, pinned = export(catalog, form), export(catalog, form, f"{NAME}@{release.version}")
    assert named(following)[0] == PARAMETERS
    assert named(pinned)[0] == set()
    if form == "karpenter":  # by the names of the images, which are the same in each region
        assert {f'"{row.name}"' for row in release.images} <= set(re.findall(r'"[^"]+"', pinned))
    else:
        assert named(pinned)[1] == ids(release)
    if form != "json":
        assert named(following)[1] == set()
        assert f"# {NAME}@stable, account {HOME}, regions {', '.join(REGIONS)}" in following
        assert f"# {NAME} {release.version}, account" in pinned


@pytest.mark.parametrize("form", ["cloudformation", "eks"])
@pytest.mark.parametrize("following", [True, False], ids=["following", "pinned"])
def test_cloudformation_accepts_the_template(
    catalog: Catalog, release: ImageManifest, form: str, following: bool
) -> None:
    from cfnlint.api import lint_all  # a second, which only the worker that runs this needs
    from cfnlint.decode import decode_str

    text = export(catalog, form, following=following)
    assert [str(match) for match in lint_all(text) if match.rule.id[0] in "EW"] == []
    template, _ = decode_str(text)
    assert template is not None
    templates = [r for r in template["Resources"].values() if r["Type"] == "AWS::EC2::LaunchTemplate"]
    for one in templates:
        image = one["Properties"]["LaunchTemplateData"]["ImageId"]
        if following:
            parameter = template["Parameters"][image["Ref"]]
            assert parameter["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
            assert parameter["Default"] in PARAMETERS
        else:
            mapping, _, key = image["Fn::FindInMap"]
            found = {region: keys[key] for region, keys in template["Mappings"][mapping].items()}
            assert found in [
                {row.region: row.image_id for row in release.images if row.account == HOME and row.architecture == a}
                for a in ("x86_64", "arm64")
            ]
    assert len(templates) == 2


@pytest.mark.parametrize("form", ["terraform", "packer"])
@pytest.mark.parametrize("following", [True, False], ids=["following", "pinned"])
def test_hcl_is_parsed_and_each_expression_names_a_block(
    catalog: Catalog, release: ImageManifest, form: str, following: bool
) -> None:
    tree = hcl2.loads(export(catalog, form, following=following))
    known = {f"data.{kind}.{name}" for kind, name in blocks(tree, "data")}
    known |= {f"local.{name}" for group in tree.get("locals", ()) for name in group}
    known |= {f"var.{name.strip(chr(34))}" for group in tree.get("variable", ()) for name in group}
    sources = blocks(tree, "resource" if form == "terraform" else "source")
    assert len(sources) == 2
    values = [body["image_id" if form == "terraform" else "source_ami"] for body in sources.values()]
    for value in values:
        for reference in re.findall(r"data\.[\w-]+\.\w+|local\.\w+|var\.\w+", value):
            assert reference in known
    if following:
        kind = "aws_ssm_parameter" if form == "terraform" else "amazon-parameterstore"
        found = {json.loads(body["name"]) for (of, _), body in blocks(tree, "data").items() if of == kind}
        assert found == PARAMETERS


def blocks(tree: dict[str, Any], kind: str) -> dict[tuple[str, str], Any]:
    return {
        (type.strip('"'), name.strip('"')): body
        for block in tree.get(kind, ())
        for type, named in block.items()
        for name, body in named.items()
    }


@pytest.mark.parametrize("following", [True, False], ids=["following", "pinned"])
def test_the_cdk_module_is_python_with_a_function_for_each_architecture(
    catalog: Catalog, release: ImageManifest, following: bool
) -> None:
    tree = ast.parse(export(catalog, "cdk", following=following))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions] == ["ami_debian_12_web_arm64", "ami_debian_12_web_x86_64"]
    for function in functions:
        (answer,) = function.body
        assert isinstance(answer, ast.Return)
        assert isinstance(answer.value, ast.Call)
        what = ast.literal_eval(answer.value.args[0])
        assert what in PARAMETERS if following else sorted(what) == sorted(REGIONS)


def test_karpenter_selects_by_parameter_or_by_name_and_owner(catalog: Catalog, release: ImageManifest) -> None:
    following = yaml.safe_load(export(catalog, "karpenter"))
    assert (following["apiVersion"], following["kind"]) == ("karpenter.k8s.aws/v1", "EC2NodeClass")
    assert {term["ssmParameter"] for term in following["spec"]["amiSelectorTerms"]} == PARAMETERS
    pinned = yaml.safe_load(export(catalog, "karpenter", following=False))["spec"]["amiSelectorTerms"]
    assert {(t["name"], t["owner"]) for t in pinned} == {(r.name, HOME) for r in release.images if r.account == HOME}


def test_variables_are_read_by_a_shell(catalog: Catalog, release: ImageManifest, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(export(catalog, "env", following=False))
    script = f". {file}; echo $AMI_DEBIAN_12_WEB_X86_64_EU_WEST_1"
    shown = subprocess.run(["sh", "-euc", script], check=True, capture_output=True, text=True).stdout.strip()
    assert shown in ids(release)


@pytest.mark.parametrize("form", ["terraform", "cloudformation"])
def test_what_a_parameter_in_a_launch_template_costs_is_said(
    catalog: Catalog, release: ImageManifest, form: str
) -> None:
    assert "cannot\n# roll back" in export(catalog, form)
    assert "resolve:ssm" not in named(export(catalog, form))[0]


def test_what_cannot_be_exported_is_refused(catalog: Catalog, release: ImageManifest) -> None:
    with pytest.raises(UsageError, match="cannot be followed, because a version never changes"):
        facts(catalog, f"{NAME}@{release.version}", following=True)
    with pytest.raises(NotFound, match="has no image for account 333333333333"):
        facts(catalog, account="333333333333")
    catalog.marks.revoke(NAME, release.version, "it leaks", "arn", datetime(2026, 11, 25, tzinfo=UTC))
    with pytest.raises(NotFound, match="it leaks"):
        facts(catalog)


def test_an_account_with_a_share_is_pinned_unless_it_has_parameters(
    catalog: Catalog, manifest: ManifestFactory
) -> None:
    made = manifest("1.4.20261124.2")
    rows = tuple(replace(row, shared_with=(APPS,)) for row in made.images if row.account == HOME)
    catalog.add(replace(made, images=rows))
    catalog.move(NAME, "stable", made.version, now=datetime(2026, 11, 24, tzinfo=UTC))
    with pytest.raises(UsageError, match="only shared"):
        facts(catalog, account=APPS)
    pinned = facts(catalog, account=APPS, following=False)
    assert {image.owner for image in pinned.images["x86_64"]} == {HOME}
    informed = replace(ENVIRONMENT, accounts={"apps": Account("apps", APPS, parameters=True)})
    told = gather(catalog, informed, Reference.parse(f"{NAME}@stable"), APPS)
    assert list(told.parameters.values()) == [f"/golden-ami/{NAME}/x86_64/stable/image-id"]


def test_the_parameters_that_a_snippet_names_exist(world: World) -> None:
    from tests.release.test_publish import go, make

    ledger, manifest = make(world, "1.4.20261124.1")
    go(world, ledger, manifest)
    exported = gather(world.catalog, ENVIRONMENT, Reference.parse(f"{NAME}@stable"), APPS)
    rows = [row for row in manifest.images if row.account == APPS]
    assert [image.region for image in exported.images["x86_64"]] == sorted(row.region for row in rows)
    for row in rows:
        assert world.parameter(row.place, exported.parameters["x86_64"]) == row.image_id
