"""The descriptions of services are read as parts, which have all that goldenami's calls need."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import botocore
import botocore.loaders
import botocore.session
import pytest
from botocore import xform_name
from botocore.loaders import JSONFileLoader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.regions import EndpointResolver

import goldenami
from goldenami.aws import descriptions
from goldenami.aws.calls import TABLE

SERVICES = sorted({row.service for row in TABLE})
NAMES = sorted({row.operation for row in TABLE if row.service == "ec2"})
BY_BOTOCORE = {
    "sts": {"AssumeRole", "AssumeRoleWithWebIdentity"},  # its providers of credentials
    "s3": {"CreateSession", "HeadBucket"},  # its handlers: directory buckets, and buckets of other regions
}


def path_of(service: str) -> str:
    loader = botocore.session.Session().get_component("data_loader")
    version = loader.determine_latest_version(service, "service-2")
    # boto3 adds a folder of its own, with other files, once for each of its sessions.
    every = [Path(folder, service, version) for folder in loader.search_paths]
    (found,) = {one for one in every if list(one.glob("service-2.json*"))}
    return str(found / "service-2")


@pytest.fixture
def path() -> str:
    return path_of("ec2")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "goldenami/descriptions"


class Reader:
    """A reader that notes what it reads."""

    def __init__(self, known: Any) -> None:
        self.known = known
        self.read: list[str] = []

    def exists(self, path: str) -> bool:
        return JSONFileLoader().exists(path)

    def load_file(self, path: str) -> Any:
        self.read.append(path)
        return self.known


def forms(shape: Shape | None, seen: dict[str, Any]) -> None:
    """Note the form of a shape and of all that it refers to."""
    if shape is None or shape.name in seen:
        return
    members = getattr(shape, "members", {})
    seen[shape.name] = (shape.type_name, shape.serialization, shape.metadata, [(k, m.name) for k, m in members.items()])
    for one in (*members.values(), getattr(shape, "member", None), getattr(shape, "key", None)):
        forms(one, seen)
    forms(getattr(shape, "value", None), seen)


@pytest.mark.parametrize("service", ["ec2", "kms", "s3", "sts"])
def test_the_part_has_all_that_the_calls_need(service: str, cache: Path) -> None:
    path = path_of(service)
    names = sorted({row.operation for row in TABLE if row.service == service} | BY_BOTOCORE.get(service, set()))
    whole = JSONFileLoader().load_file(path)
    reader = Reader(whole)
    parts = descriptions.Parts(reader)
    assert parts.exists(path)
    for found in (parts.load_file(path), parts.load_file(path)):  # the second one is of the cache
        assert reader.read == [path]
        assert list(found["operations"]) == [name for name in whole["operations"] if name in names]
        assert len(found["shapes"]) < len(whole["shapes"]) * 0.6
        assert found["metadata"] == whole["metadata"]
        expected: dict[str, Any] = {}
        got: dict[str, Any] = {}
        for model, seen in ((whole, expected), (found, got)):
            described = ServiceModel(model, service)
            for name in names:
                operation: OperationModel = described.operation_model(name)
                seen[f"{name}()"] = (operation.http, operation.name, operation.has_streaming_input)
                forms(operation.input_shape, seen)
                forms(operation.output_shape, seen)
        assert got == expected


def test_of_a_simulation_only_what_is_read_is_described() -> None:
    found = descriptions.Parts(JSONFileLoader()).load_file(path_of("iam"))["shapes"]
    whole = JSONFileLoader().load_file(path_of("iam"))["shapes"]
    members = found["EvaluationResult"]["members"]
    assert members.keys() == {"EvalActionName", "EvalResourceName", "EvalDecision"}
    assert all(members[k]["shape"] == whole["EvaluationResult"]["members"][k]["shape"] for k in members)
    assert "StatementListType" not in found, "what belongs only to the members that nobody reads is left out"


def test_what_botocore_calls_by_itself_is_in_the_parts() -> None:
    """It makes clients of its own, and its handlers call the clients that they belong to."""
    code = "".join(file.read_text() for file in sorted(Path(botocore.__file__).parent.glob("*.py")))
    services = {*re.findall(r"""(?:client_creator\(|create_nested_client\(self\._session,)\s*["']([a-z0-9-]+)""", code)}
    assert services == {"sts", "sso", "sso-oidc", "signin"}
    assert services & {*SERVICES} == {"sts"}, "the others are read as a whole"
    called = {*re.findall(r"\bclient\.([a-z0-9_]+)\(|self\._client\.([a-z0-9_]+)\(", code)}
    methods = {one or other for one, other in called}
    assert {"assume_role_with_web_identity", "get_role_credentials", "create_token", "head_bucket"} <= methods
    for service in ("sts", "s3"):  # of the handlers, only those of S3 call
        path = path_of(service)
        whole = JSONFileLoader().load_file(path)
        expected = {name for name in whole["operations"] if xform_name(name) in methods}
        assert expected == BY_BOTOCORE[service]
        assert expected <= {*descriptions.Parts(Reader(whole)).load_file(path)["operations"]}


def test_the_part_of_the_endpoints_has_those_of_all_regions(path: str) -> None:
    file = str(Path(path).parents[2] / "endpoints")
    whole = JSONFileLoader().load_file(file)
    reader = Reader(whole)
    parts = descriptions.Parts(reader)
    # botocore looks for an endpoint by this name, which is another one than that of a few services.
    others = [one for one in SERVICES if one not in whole["partitions"][0]["services"]]
    models = [JSONFileLoader().load_file(path_of(service)) for service in (*others, "sso", "sso-oidc", "signin")]
    names = [*SERVICES, *(model["metadata"]["endpointPrefix"] for model in models)]
    assert {"servicequotas", "portal.sso", "oidc"} < {*names}
    for found in (parts.load_file(file), parts.load_file(file)):
        assert reader.read == [file], "the second one is of the cache"
        before, after = EndpointResolver(whole), EndpointResolver(found)
        assert [*after.get_available_partitions()] == [*before.get_available_partitions()]
        for partition in before.get_available_partitions():
            regions = before.get_available_endpoints("ec2", partition)
            assert after.get_available_endpoints("ec2", partition) == regions
            for region in regions:
                assert after.get_partition_for_region(region) == partition
                for name in names:
                    assert after.construct_endpoint(name, region) == before.construct_endpoint(name, region)


def test_a_service_is_found_without_a_look_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions._Process, "quickly", True)
    monkeypatch.setattr(botocore.session, "create_loader", botocore.loaders.create_loader)
    session = botocore.session.Session()
    descriptions.use(session)
    loader = session.get_component("data_loader")
    every = loader.list_available_services("service-2")
    assert ("kms" in every, "nothing" in every) == (True, False)
    assert not [one for one in loader._cache if one[0] == "list_available_services"]
    assert {*SERVICES} < {*every}
    assert len(every) == len(botocore.loaders.create_loader().list_available_services("service-2"))


def test_every_operation_that_the_code_names_is_in_the_table(path: str) -> None:
    """A client made of the part has no others."""
    operations = JSONFileLoader().load_file(path)["operations"]
    code = "".join(file.read_text() for file in Path(goldenami.__file__).parent.rglob("*.py"))
    named = {one for one in re.findall('"([A-Z][A-Za-z0-9]+)"', code) if one in operations}
    assert named - {*NAMES} == {"ListImagesInRecycleBin", "ListSnapshotsInRecycleBin"}  # only their rates are known


SMALL = {
    "metadata": {"endpointPrefix": "ec2"},
    "operations": {name: {"name": name, "documentation": "Text."} for name in [*NAMES, "Another"]},
    "shapes": {},
}


def test_an_older_botocore_lacks_operations(path: str, cache: Path) -> None:
    older = SMALL | {"operations": {"RunInstances": {"name": "RunInstances"}}}
    reader = Reader(older)
    parts = descriptions.Parts(reader)
    assert parts.load_file(path) == parts.load_file(path) == older
    assert reader.read == [path], "the second one is of the cache"


@pytest.mark.parametrize("damage", ["[1]", "{", "{}", '{"operations": {}}', "[" * 100_000])
def test_an_entry_that_cannot_be_used_is_written_again(path: str, cache: Path, damage: str) -> None:
    reader = Reader(SMALL)
    parts = descriptions.Parts(reader)
    first = parts.load_file(path)
    (file,) = cache.iterdir()
    file.write_text(damage)
    assert parts.load_file(path) == first == parts.load_file(path)
    assert reader.read == [path, path]
    assert first["operations"]["RunInstances"] == {"name": "RunInstances"}
    assert "Another" not in first["operations"]


def test_another_file_of_botocore_is_read_itself(tmp_path: Path) -> None:
    file = tmp_path / "ec2/2016-11-15/service-2.json"
    file.parent.mkdir(parents=True)
    path = str(file)[: -len(".json")]
    reader = Reader(SMALL)
    parts = descriptions.Parts(reader)
    for number in range(2):
        file.write_text("{}")
        os.utime(file, ns=(0, number))  # a later version
        parts.load_file(path)
    parts.load_file(path)
    assert reader.read == [path, path]
    others = [str(tmp_path / "ec2/2016-11-15/waiters-2"), str(tmp_path / "sqs/2012-11-05/service-2")]
    assert [parts.load_file(one) for one in others] == [SMALL, SMALL]
    assert reader.read[2:] == others


def test_a_user_without_a_cache_reads_the_whole(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert descriptions.Parts(Reader(SMALL)).load_file(path) is SMALL


def test_only_a_process_of_the_command_line_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions._Process, "quickly", False)
    monkeypatch.setattr(botocore.session, "create_loader", botocore.loaders.create_loader)
    session = botocore.session.Session()
    descriptions.use(session)
    assert isinstance(session.get_component("data_loader").file_loader, JSONFileLoader)
    monkeypatch.setattr(descriptions._Process, "quickly", True)
    shared = session.get_component("data_loader")
    descriptions.use(session)
    assert isinstance(shared.file_loader, JSONFileLoader), "another session may have it"
    assert {*session.create_client("ec2", "eu-west-1").meta.method_to_api_mapping.values()} == {*NAMES}
