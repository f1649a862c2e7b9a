"""Whole runs with exactly the permissions that `goldenami iam policy` prints; and the table of calls against them."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import random
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.authorization import Use

from goldenami.aws.calls import TABLE, Role, rows_of
from goldenami.aws.guard import reads_only
from goldenami.aws.policies import Scope, missing_permission, probes, role_policies
from goldenami.cli.main import main
from goldenami.errors import AccessError, GoldenAmiError, TargetsFailed
from goldenami.events import Event
from tests.worlds import inventory
from tests.worlds.builds import APPS, HOME, PLACES, RECIPE, World
from tests.worlds.flows import FLOWS, Flow, Stage, build_and_release, play
from tests.worlds.roles import Restricted, is_ours

NAMES = {"servicequotas": "service-quotas"}  # as requests are signed, and as botocore calls it


@dataclass
class Run:
    """A flow that was played: its calls, the permissions that it used, and how it failed."""

    calls: list[dict[str, Any]]
    used: set[Use]
    error: BaseException | None


@pytest.fixture(scope="module")
def runs(build_world: World) -> dict[str, Run]:
    """Every flow, played once."""
    made: dict[str, Run] = {}
    for name, flow in FLOWS.items():
        error: BaseException | None = None
        with pytest.MonkeyPatch.context() as patch:
            try:
                play(build_world, flow, patch)
            except (Exception, AssertionError) as problem:
                error = problem
        calls = [
            {**call, "service": NAMES.get(call["service"], call["service"])}
            for call in build_world.paper.calls
            if is_ours(call["principal"])
        ]
        made[name] = Run(calls, set(build_world.behind.authorization.used), error)
    return made


@pytest.mark.parametrize("name", FLOWS)
def test_a_run_has_all_permissions_that_it_needs(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert [call["denied"] for call in run.calls if "denied" in call] == []
    if run.error is not None:
        raise run.error
    assert run.calls


def role_of(principal: str, flow: str) -> Role:
    if ":assumed-role/" not in principal:
        return Role.CALLER
    if FLOWS[flow].planner:
        return Role.PLANNER
    return Role.BUILDER if "goldenami-builder" in principal else Role.PUBLISHER


def test_the_table_has_every_call_of_every_run(runs: dict[str, Run]) -> None:
    unknown = set()
    for name, run in runs.items():
        for call in run.calls:
            role = role_of(call["principal"], name)
            if not any(role in row.roles for row in rows_of(call["service"], call["action"])):
                unknown.add(f"{call['service']}:{call['action']} as {role} in the flow {name}")
    assert unknown == set(), "add a row to goldenami/aws/calls.py for each, with its permissions"


def test_every_row_of_the_table_is_called_by_a_run_or_says_why_not(runs: dict[str, Run]) -> None:
    called = {(call["service"], call["action"]) for run in runs.values() for call in run.calls}
    own = [row for row in TABLE if row.roles != {Role.CONSUMER}]
    silent = {row.name for row in own if (row.service, row.operation) not in called and not row.unrecorded}
    assert silent == set(), "no flow in tests/worlds/flows.py makes these calls"
    excused = {row.name for row in own if (row.service, row.operation) in called and row.unrecorded}
    assert excused == set(), "these calls are made, so `unrecorded` is wrong"


def test_every_permission_of_the_policies_is_used_by_a_run(runs: dict[str, Run], build_world: World) -> None:
    used = {use.action for run in runs.values() for use in run.used if "role/goldenami-" in use.principal}
    excused = {p.action for row in TABLE if row.unrecorded for p in row.permissions}
    given = {p.action for row in TABLE if row.roles & {Role.BUILDER, Role.PUBLISHER} for p in row.permissions}
    assert given - used - excused == set()


# --- a statement is taken away ----------------------------------------------------------------------------------------


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def serves(statement: dict[str, Any], use: Use) -> bool:
    return use.action in listed(statement["Action"]) and any(
        fnmatch.fnmatchcase(use.resource, pattern) for pattern in listed(statement["Resource"])
    )


ONLY_ASKED = ("OwnIdentity",)  # it is for the questions of doctor: builds go on without it, with a warning
FALLS_BACK = ("InstanceSecurityGroup",)  # without it, a group is deleted later, when its instance has ended


def examine_and_release(stage: Stage) -> None:
    """Ask doctor first. What it found is in the world's events."""
    stage.patch.chdir(stage.world.path)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main(["doctor", RECIPE, "-e", "test", "--json"])
    before = [call for call in stage.restricted.calls() if not reads_only(call["service"], call["action"])]
    assert before == [], "doctor makes only reads"
    findings = json.loads(output.getvalue())["findings"]
    stage.world.events.append(Event("doctor", {"said": [finding["message"] for finding in findings]}))
    stage.world.cloud.start_process()
    build_and_release(stage)


def test_without_one_statement_a_build_fails_and_names_it(
    runs: dict[str, Run], build_world: World, whole: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        restricted: Restricted = play(build_world, Flow(lambda stage: None), patch)
    scope: Scope = restricted.scope
    needed = []
    for one in restricted.policies:
        principal = one.role if one.kind is not Role.CALLER else f"arn:aws:iam::{HOME}:user/ci"
        uses = sorted(use for use in runs["build"].used if use.principal == principal)
        for use in uses:
            serving = [s for s in one.statements if serves(s, use)]
            if len(serving) == 1 and (one.kind, one.account.id, serving[0]["Sid"]) not in needed:
                needed.append((one.kind, one.account.id, serving[0]["Sid"]))
    assert len(needed) > 20
    wrong = []
    for kind, account, sid in needed if whole else random.Random(1).sample(needed, 5):
        try:
            _build_without(build_world, scope, kind, account, sid)
        except AssertionError as error:
            wrong.append(str(error).partition("\n")[0])
    assert wrong == []


def _build_without(world: World, scope: Scope, kind: Role, account: str, sid: str) -> None:
    """Build without a statement. Raises AssertionError if that is not the failure, or not the warning, of its lack."""
    failure = None
    with pytest.MonkeyPatch.context() as patch:
        try:
            play(world, Flow(examine_and_release), patch, keep=lambda k, s: (k, s["Sid"]) != (kind, sid))
        except GoldenAmiError as error:
            failure = error
    (doctor,) = [event.fields["said"] for event in world.events if event.kind == "doctor"]
    where = f"{kind} {account} {sid}: {failure.message if failure is not None else doctor}"
    if sid in ONLY_ASKED:
        assert failure is None, where
        assert any("iam:SimulatePrincipalPolicy" in text for text in doctor), where
        return
    if kind is not Role.CALLER:
        assert any(f"the statement {sid} of the {kind}'s policy" in text for text in doctor), where
    if sid in FALLS_BACK:
        assert failure is None, where
        assert not any(": security-group " in line for line in inventory.take(world)), where
        return
    assert failure is not None, where
    assert failure.exit_code in (1, 4, 6), where
    if any("denied" in call for call in world.paper.calls):
        assert isinstance(failure, AccessError | TargetsFailed), where
        found = missing_permission(scope, account, _message_of(failure), kind=kind)
        assert found is not None, where
        assert found.sid == sid, where


def _message_of(error: GoldenAmiError) -> str:
    return " ".join([error.message, *getattr(error, "failures", {}).values()])


# --- consumers, and probes --------------------------------------------------------------------------------------------


def test_a_consumer_launches_released_images_and_no_others(build_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(stage: Stage) -> None:
        stage.world.built()

    restricted = play(build_world, Flow(work), monkeypatch)
    (policies,) = (p for p in role_policies(restricted.scope, Role.CONSUMER) if p.account.id == APPS)
    admin = build_world.client("iam", PLACES[2])
    admin.create_user(UserName="consumer")
    for number, document in enumerate(policies.documents):
        made = admin.create_policy(PolicyName=f"consumer-{number}", PolicyDocument=json.dumps(document))["Policy"]
        admin.attach_user_policy(UserName="consumer", PolicyArn=made["Arn"])
    key = admin.create_access_key(UserName="consumer")["AccessKey"]
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    def client(service: str, region: str) -> Any:
        factory: Any = boto3.client
        return factory(service, region_name=region, endpoint_url=build_world.paper.endpoint, **keys)

    def launch(image: str, region: str) -> str:
        ec2 = client("ec2", region)
        made = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
        build_world.behind.ec2.settle()
        place = next(p for p in PLACES if (p.account, p.region) == (APPS, region))
        (found,) = build_world.client("ec2", place).describe_instances(InstanceIds=[made[0]["InstanceId"]])[
            "Reservations"
        ]
        return str(found["Instances"][0]["State"]["Name"])

    for region in ("eu-central-1", "eu-west-1"):  # its own copy, and the home account's image
        name = "/golden-ami/web/x86_64/stable/image-id"
        image = client("ssm", region).get_parameter(Name=name)["Parameter"]["Value"]
        assert launch(image, region) == "running"
    base = client("ec2", "eu-central-1").describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        launch(base, "eu-central-1")
    with pytest.raises(ClientError, match="AccessDenied"):
        client("ssm", "eu-central-1").get_parameter(Name="/aws/service/debian/release/12/latest/amd64")


def test_probes_find_the_statement_that_is_missing(build_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "InstanceOurs"
    restricted = play(
        build_world,
        Flow(lambda stage: None),
        monkeypatch,
        keep=lambda kind, s: (kind, s["Sid"]) != (Role.BUILDER, gone),
    )
    iam = build_world.client("iam", PLACES[0])
    home = build_world.environment.home
    denied = set()
    for probe in probes(restricted.scope, Role.BUILDER, home):
        answer = iam.simulate_principal_policy(
            PolicySourceArn=home.role,
            ActionNames=probe.actions,
            ResourceArns=probe.resources,
            ContextEntries=probe.context,
        )
        if any(one["EvalDecision"] != "allowed" for one in answer["EvaluationResults"]):
            denied.add(probe.sid)
    assert denied == {gone}
