"""Every command that asks places: a region that is refused, and credentials that end in the middle.

The commands are those of the command line itself, so that a new one cannot be forgotten: it is in one of the tables
below, or the first test fails.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import recipe
from goldenami.aws.session import Cloud
from goldenami.cli.main import main, program
from goldenami.model import Place
from goldenami.release import channels
from tests.crash.test_credentials import Expiry
from tests.worlds.builds import HOME, Label, Saved, World, logged_in
from tests.worlds.volumes import Estate

WEST = Place(HOME, "eu-west-1")
HERE = Place(HOME, "eu-central-1")


@dataclass(frozen=True)
class Case:
    """A command that asks places. ``refused``: the place that is refused. ``document``: it prints JSON all the same.
    ``unfinished``: there is a build that was killed. ``code``: with a place that is refused."""

    arguments: str
    refused: Place = WEST
    document: bool = True
    unfinished: bool = False
    code: int = 6


# These ask many places, or say what is in one: a place that does not answer is named, and the exit code is 6.
MANY = (
    Case("retire"),
    Case("retire --dry-run"),
    Case("orphans"),
    Case("orphans --delete --yes"),
    Case("clean --expired"),
    Case("clean --expired --dry-run"),
    Case("clean --all", unfinished=True),
    Case("clean --all --dry-run", unfinished=True),
    Case("schedule run"),
    Case("schedule run --dry-run"),
    Case("schedule show nightly"),
    Case("schedule left"),
    Case("dlm plan"),
    Case("dlm apply"),
    Case("dlm import"),
    Case("consumers show"),
    Case("consumers apply"),
    Case("images list"),
    Case("images list --check"),
    Case("fleet"),
    Case("promote web@stable --to live", document=False),  # nothing moves
    Case("rollback web@stable --to {version}", document=False),
    Case("drift"),
    Case("distribute web@stable --plan"),
    Case("distribute web@stable", document=False),  # nothing differs where it could ask
    Case("revoke web@{version} --reason x --yes"),
    Case("restore web@{version}"),
    Case("catalog rebuild"),
    Case("catalog rebuild --yes"),
    Case("images show web --check", document=False),  # --json is the manifest as the catalog has it
    Case("plan web", document=False),  # there is no plan
    Case("doctor web", document=False, code=4),  # its findings are data, and have the exit codes of their errors
    Case("build web", document=False),
    Case("snapshot list --region eu-west-1"),
    Case("snapshot list --everywhere"),
    Case("snapshot lineage web@stable"),
    Case("snapshot lineage vol-0123456789abcdef0 --region eu-west-1"),
    Case("snapshot copy {snapshot} --to-region eu-central-1 --to-region eu-west-1 --kms-key alias/golden-ami"),
    Case("volume kept --region eu-west-1"),
    Case("volume kept --everywhere"),
)
# These are about one thing in one place, which a person named: its error is the command's, and the exit code is 4.
# Nothing is there under these names, which shows after the first question only.
ONE = tuple(
    Case(f"{arguments} --region eu-west-1", document=False, code=4)
    for arguments in (
        "images of i-0123456789abcdef0",
        "snapshot create vol-0123456789abcdef0 --name x",
        "snapshot show snap-0123456789abcdef0",
        "snapshot delete snap-0123456789abcdef0 --yes",
        "snapshot archive snap-0123456789abcdef0 --yes",
        "snapshot restore-archive snap-0123456789abcdef0 --permanent",
        "snapshot lock snap-0123456789abcdef0 --days 1",
        "snapshot unlock snap-0123456789abcdef0",
        "snapshot share snap-0123456789abcdef0 --with apps",
        "snapshot unshare snap-0123456789abcdef0 --with apps",
        "snapshot make-public snap-0123456789abcdef0 --yes",
        "snapshot make-private snap-0123456789abcdef0",
        "snapshot volume snap-0123456789abcdef0 --zone eu-west-1a",
        "snapshot register snap-0123456789abcdef0 --name x --architecture x86_64",
        "snapshot image i-0123456789abcdef0 --name x --yes",
        "snapshot restore i-0123456789abcdef0 --to 1h --yes",
        "volume encrypt i-0123456789abcdef0 --yes",
        "volume forget vol-0123456789abcdef0 --yes",
    )
)
# These ask no places, with the reason. A name stands for a whole group, too.
NONE = {
    "agents": "files of the project",
    "catalog reindex": "the catalog",
    "catalog show": "the catalog",
    "builds": "journals: a directory, or the bucket that the environment names",
    "history": "the catalog",
    "ci": "files of the project, and one merge request of GitLab",
    "export": "the catalog",
    "graph": "the catalog",
    "harden": "files of the project, and a host over SSH",
    "iam": "goldenami.yaml",
    "images history": "the catalog",
    "images diff": "the catalog",
    "images lineage": "the catalog",
    "images show": "with --json: the catalog",
    "init": "writes files",
    "notify": "receivers: one that does not answer is in the table",
    "pin": "the catalog",
    "import": "files of the project",
    "site": "the catalog, and journals in a directory",
    "recipes": "files of the project",
    "resolve": "the catalog: a script gets its id without a call to EC2",
    "verify": "of a signed release: tests/evidence/test_verify.py refuses a place",
    "resume": "a build with hosts: tests/crash/test_policy.py and test_credentials.py do the same with its calls",
    "sandbox": "the embedded cloud on this machine",
    "sbom": "the catalog",
    "scan": "the catalog, and feeds: one that does not answer is told",
    "ssh": "one instance of a build: tests/crash/test_kept.py",
    "apply": "a host over SSH",
    "test": "a host over SSH, or an instance in the home region: tests/crash/test_kept.py",
    "schedule list": "goldenami.yaml",
    "schedule calendar": "goldenami.yaml",
    "schedule next": "goldenami.yaml",
    "schema": "prints a schema",
    "unpin": "the catalog",
    "validate": "files of the project",
    "version": "this program",
    "watch": "a log and a journal",
}
SCHEDULES = """
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        regions: [eu-central-1, eu-west-1]
        when: "0 3 * * *"
        time_zone: Europe/Berlin
        retention: {keep: 5}
"""


def commands(group: click.Group, *above: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield " ".join((*above, name))


def test_no_command_is_forgotten() -> None:
    listed = set(commands(program))
    asking = {next(c for c in listed if f"{case.arguments} ".startswith(f"{c} ")) for case in (*MANY, *ONE)}
    other = {c for c in listed if any(f"{c} ".startswith(f"{name} ") for name in NONE)}
    assert listed - asking - other == set(), "a new command: add a case, or say why it asks no place"


@pytest.fixture(scope="module")
def prepared(build_world: World) -> tuple[Estate, Saved]:
    """A release, a schedule, and what a cloud holds besides: made once, and copied for each test."""
    world = build_world
    world.fresh()
    estate = Estate(world)
    file = world.path / "goldenami.yaml"
    file.write_text(file.read_text() + SCHEDULES.lstrip("\n"))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")
    world.build()
    return estate, world.save()


@pytest.fixture
def scene(
    prepared: tuple[Estate, Saved], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Estate:
    estate, saved = prepared
    estate.world.fresh(saved=saved)
    monkeypatch.setattr(Cloud, "of", logged_in)
    monkeypatch.chdir(estate.world.path)
    found = copy(estate)
    found.capsys = capsys
    return found


def prepare(scene: Estate, case: Case) -> list[str]:
    if case.unfinished:
        world = scene.world
        world.change_recipe("another")
        world.build_until(Label("ec2", "CopyImage", HOME, "eu-west-1", 1), "after")
        world.cloud.start_process()
    snapshot = scene.snapshot() if "{snapshot}" in case.arguments else ""
    version = scene.world.catalog.versions("web")[0]
    arguments = case.arguments.format(snapshot=snapshot, version=version)
    if case.arguments.startswith("rollback "):
        scene.world.change_recipe("another")
        scene.world.build()
    if case.arguments.startswith("restore "):
        channels.revoke(scene.world.environment, "web", version, reason="x", cloud=scene.world.cloud)
    if case.arguments.startswith("build "):  # another one is built already
        scene.world.change_recipe("another")
    return [*arguments.split(), "--environment", "test"]


class Refusal:
    """A place says no to every call, each service in its words; the others answer."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if (label.account, label.region) != (self.place.account, self.place.region) or label.service == "sts":
            return serve()
        code = "UnauthorizedOperation" if call.service == "ec2" else "AccessDeniedException"
        return call.error(code, "You are not authorized to perform this operation.", 403)


def unreachable_in(document: Any) -> set[str]:
    """The places that a document names as unreachable, anywhere in it."""
    if isinstance(document, list):
        return {place for value in document for place in unreachable_in(value)}
    if not isinstance(document, dict):
        return set()
    found = {place for value in document.values() for place in unreachable_in(value)}
    # What cannot be deleted is named by its kind and place.
    left = {what.rpartition(" in ")[2] for key in ("left", "failures") for what in document.get(key) or ()}
    return found | set(document.get("unreachable") or ()) | {w.rpartition(" to ")[2] for w in left}


@pytest.mark.parametrize("case", [*MANY, *ONE], ids=lambda case: case.arguments.replace(" ", "_"))
@pytest.mark.sample(3)
def test_one_region_is_refused(scene: Estate, case: Case) -> None:
    world, arguments = scene.world, prepare(scene, case)
    world.gate.start(Refusal(case.refused))
    code, out, err = scene.try_(*arguments)
    assert code == case.code, err
    assert str(case.refused) in (out if case.arguments.startswith("doctor") else err), "the place is named"
    assert "Traceback" not in err
    if case.document:
        code, out, err = scene.try_(*arguments, "--json")
        assert code == case.code, err
        assert unreachable_in(json.loads(out)) == {str(case.refused)}, out


@pytest.mark.parametrize("case", [*MANY, *ONE], ids=lambda case: case.arguments.replace(" ", "_"))
@pytest.mark.sample(3)
def test_credentials_end_in_the_middle(scene: Estate, case: Case) -> None:
    """At the first call after the caller was asked who he is, in the middle of all calls, and at the last one."""
    world, arguments = scene.world, prepare(scene, case)
    asked: list[Label] = []
    guard = threading.Lock()

    class Once(Expiry):
        """Only calls that are not STS's count: who calls, is asked before."""

        def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
            if label.service == "sts":
                return serve()
            with guard:
                asked.append(label)
            return super().__call__(label, call, serve)

    middle = 3 if case.arguments.startswith("build ") else None
    if middle is None and case not in ONE and "--delete" not in arguments and not {"clean", "restore"} & set(arguments):
        if case.arguments.startswith("rollback "):
            scene.try_(*arguments)  # a second one finds the channel where it is to be, and makes fewer calls
        world.gate.start(Once(10_000, "expired"))
        scene.try_(*arguments)
        middle = max(1, len(asked) // 2)
    for nth in {1, middle or 1}:
        world.gate.start(Once(nth, "expired"))
        code, _, err = scene.try_(*arguments)
        assert code == 4, (nth, err)
        assert "expired" in err
        assert "did not answer" not in err, "it is no fault of a place"
        assert "goldenami resume" not in err or case.arguments.startswith("build"), "there is nothing to resume"


def test_an_account_whose_role_cannot_be_assumed_is_one_of_many(scene: Estate) -> None:
    """Its places do not answer; the home account's do."""
    world = scene.world

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "AssumeRole":
            return call.error("AccessDenied", "not authorized to perform: sts:AssumeRole", 403)
        return serve()

    for command in ("retire", "orphans", "clean --expired", "images list", "dlm plan"):
        world.gate.start(refuse)
        code, out, err = scene.try_(*command.split(), "--environment", "test", "--json")
        assert code == 6, err
        assert unreachable_in(json.loads(out)) == {
            "222222222222/eu-central-1",
            "222222222222/eu-west-1",
        }, command


def test_without_a_cloud_the_list_is_of_the_catalog(scene: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, out, err = scene.try_("images", "list", "--environment", "test")
    assert code == 0
    assert "web" in out
    assert "not checked" in err
    code, out, err = scene.try_("images", "list", "--environment", "test", "--no-check")
    assert (code, err) == (0, "")
    code, _, err = scene.try_("images", "list", "--environment", "test", "--check")
    assert code == 4, err


def test_the_states_of_images(scene: Estate) -> None:
    code, out, err = scene.try_("images", "list", "--environment", "test")
    assert (code, err) == (0, "")
    assert "4 available" in out
    (row,) = scene.run("images", "list", "--environment", "test")["releases"]
    image = next(i for i in row["states"] if (i["account"], i["region"]) == (HERE.account, HERE.region))
    later = datetime.now(UTC) + timedelta(days=365)
    scene.ec2().enable_image_deprecation(ImageId=image["image_id"], DeprecateAt=later)
    assert "deprecated" not in scene.try_("images", "list", "--environment", "test")[1], "not yet"
    assert scene.run("images", "list", "--environment", "test", "--state", "deprecated")["releases"] == []
    scene.ec2().deregister_image(ImageId=image["image_id"])
    code, out, err = scene.try_("images", "list", "--environment", "test")
    assert code == 0
    assert "3 available, 1 missing" in out
    assert main(["images", "show", "web", "--environment", "test"]) == 0
