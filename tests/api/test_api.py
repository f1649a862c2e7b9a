"""The public Python API, over a cloud without hosts."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

import goldenami
from goldenami import errors, model
from goldenami.background import OnEvent
from goldenami.release.catalog import Catalog

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

RECIPE = """\
name: tiny
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none, reboot: never}
vars: {motd: hello}
software:
  - file: {dest: /etc/motd, content: "{{ vars.motd }}"}
distribution: {targets: [home/eu-central-1], channel: stable}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true}\n")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def cloud(paper_cloud: Callable[..., PaperCloud]) -> PaperCloud:
    return paper_cloud()


@pytest.fixture
def project(directory: Path, cloud: PaperCloud) -> goldenami.Project:
    return goldenami.Project(directory, connection=connection(cloud))


def connection(cloud: PaperCloud) -> goldenami.Connection:
    return goldenami.Connection.from_variables(cloud.variables())


def instances(cloud: PaperCloud) -> list[str]:
    """Those that were ever launched and are not terminated."""
    ec2 = boto3.client("ec2", **cloud.client())
    found = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    return [i["InstanceId"] for i in found if i["State"]["Name"] not in ("terminated", "shutting-down")]


def launches(cloud: PaperCloud) -> int:
    return sum(call["action"] == "RunInstances" for call in cloud.calls)


def manifest(version: str) -> model.ImageManifest:
    image = model.ManifestImage("x86_64", "111111111111", "eu-central-1", f"ami-{version}", "n", "copy", True, ())
    return model.ImageManifest(
        schema=model.MANIFEST_SCHEMA,
        recipe="tiny",
        version=version,
        build_id=f"b-{version}",
        digest="0" * 64,
        environment="sandbox",
        created="2026-11-24T03:00:00Z",
        base={},
        images=(image,),
        tests=(),
        packages={},
        changes={},
    )


# --- the package ------------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import goldenami; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["goldenami"]


def test_every_public_name_is_there_and_typed() -> None:
    assert goldenami.__file__ is not None
    tree = ast.parse(Path(goldenami.__file__).read_text())
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (node.module or "").startswith("goldenami")
    }
    assert typed | {"__version__"} == set(goldenami.__all__)
    for name in goldenami.__all__:
        value = getattr(goldenami, name)
        assert name == "__version__" or value.__doc__, name
        assert name in dir(goldenami)
    with pytest.raises(AttributeError, match="no attribute 'paln'"):
        goldenami.paln  # type: ignore[attr-defined]  # noqa: B018


def test_the_function_plan_stays_when_the_submodules_are_imported(directory: Path) -> None:
    import goldenami.planning

    assert callable(goldenami.plan)
    assert goldenami.errors is errors


# --- plan and build ---------------------------------------------------------------------------------------------------


def test_a_plan_tells_what_would_be_built(project: goldenami.Project, cloud: PaperCloud) -> None:
    plan = goldenami.plan(project, "tiny", variables={"motd": "ahoy"})
    assert [target.label for target in plan.targets] == ["home/eu-central-1"]
    assert plan.to_json()["digest"] == plan.digest
    assert "tiny 1.0 in the environment sandbox" in str(plan)
    assert plan.digest != goldenami.plan(project, "tiny").digest
    assert launches(cloud) == 0


def test_nothing_of_the_process_is_touched(
    project: goldenami.Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of another cloud, and of a profile that does not exist, play no part."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")

    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return handlers, dict(os.environ), Path.cwd(), list(sys.path)

    others = set(threading.enumerate())
    before = state()
    during: list[tuple[object, ...]] = []
    plan = goldenami.plan(project, "tiny")
    with pytest.raises(KeyboardInterrupt):
        goldenami.build(plan, on_event=_interrupt_at_launch(lambda: during.append(state())))
    assert during
    assert all(seen == before for seen in during)
    assert state() == before
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("goldenami"):
            thread.join(120)  # it has been told to end
            assert not thread.is_alive(), thread.name
    assert capfd.readouterr() == ("", "")


def _interrupt_at_launch(look: Callable[[], None] = lambda: None) -> OnEvent:
    def on_event(event: goldenami.Event) -> None:
        look()
        if event.kind == "stage.started" and event.fields["stage"] == "launch":
            raise KeyboardInterrupt

    return on_event


def test_ctrl_c_deletes_what_was_made_and_is_raised(project: goldenami.Project, cloud: PaperCloud) -> None:
    kinds: list[str] = []

    def on_event(event: goldenami.Event) -> None:
        kinds.append(event.kind)
        if event.kind == "stage.started" and event.fields["stage"] == "launch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        goldenami.build(project, "tiny", on_event=on_event)
    assert kinds[-1] == "build.finished"  # the clean-up is told as well
    assert isinstance(caught.value.__cause__, errors.Interrupted)
    assert "everything it made is deleted" in str(caught.value.__cause__)
    assert instances(cloud) == []


def test_an_exception_of_the_callback_ends_the_build(project: goldenami.Project, cloud: PaperCloud) -> None:
    seen = 0

    def on_event(event: goldenami.Event) -> None:
        nonlocal seen
        if event.kind == "stage.started":
            seen += 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        goldenami.build(project, "tiny", on_event=on_event)
    assert seen == 1  # it is not called again
    assert instances(cloud) == []


def test_the_callback_runs_in_the_thread_of_the_caller(project: goldenami.Project) -> None:
    threads = set()
    stop = threading.Event()

    def on_event(event: goldenami.Event) -> None:
        threads.add(threading.current_thread())
        if event.kind == "stage.started":
            stop.set()

    with pytest.raises(errors.Interrupted):
        goldenami.build(project, "tiny", on_event=on_event, stop=stop)
    assert threads == {threading.current_thread()}


def test_a_build_in_the_background_is_followed_and_stopped(project: goldenami.Project, cloud: PaperCloud) -> None:
    run = goldenami.start(goldenami.build, project, "tiny")
    kinds = []
    for event in run:
        kinds.append(event.kind)
        if event.kind == "stage.started" and event.fields["stage"] == "launch":
            run.stop()
    assert run.done
    assert next(kind for kind in kinds if kind != "note") == "build.started"
    assert kinds[-1] == "build.finished"
    assert list(run) == []
    with pytest.raises(errors.Interrupted):
        run.result()
    assert launches(cloud) == 1
    assert instances(cloud) == []
    with pytest.raises(errors.NotFound, match="no build is unfinished"):
        goldenami.clean(project)


def test_what_changed_since_the_plan_is_not_built(directory: Path, cloud: PaperCloud) -> None:
    plan = goldenami.plan(goldenami.Project(directory, connection=connection(cloud)), "tiny")
    (directory / "recipes" / "tiny.yaml").write_text(RECIPE.replace("hello", "goodbye"))
    # The plan's project has read its files; a new process has not.
    again = replace(plan, project=goldenami.Project(directory, connection=connection(cloud)))
    with pytest.raises(errors.UsageError, match="the plan of tiny has changed"):
        goldenami.build(again)
    assert launches(cloud) == 0


def test_two_projects_in_two_threads_have_their_own_clouds(
    directory: Path, paper_cloud: Callable[..., PaperCloud]
) -> None:
    clouds = [paper_cloud() for _ in range(2)]
    runs = [
        goldenami.start(goldenami.plan, goldenami.Project(directory, connection=connection(cloud)), "tiny")
        for cloud in clouds
    ]
    assert len({run.result(600).digest for run in runs}) == 2  # the same recipe, over other base images and keys
    assert all(any(call["action"] == "DescribeImages" for call in cloud.calls) for cloud in clouds)


def test_mistakes_are_told_before_a_cloud_is_asked(directory: Path) -> None:
    (directory / "recipes" / "tiny.yaml").write_text(RECIPE.replace("dest:", "dst:"))
    nowhere = goldenami.Connection("http://127.0.0.1:9", "key", "secret")
    project = goldenami.Project(directory, connection=nowhere)
    with pytest.raises(errors.InvalidInput) as caught:
        goldenami.build(project, "tiny")
    assert caught.value.problems == project.check()
    assert project.check("tiny")[0].line == 7


def test_what_is_wrong_with_the_call_is_a_type_error(project: goldenami.Project) -> None:
    with pytest.raises(TypeError, match="the recipe is missing"):
        goldenami.build(project)  # type: ignore[call-overload]


# --- releases ---------------------------------------------------------------------------------------------------------


def test_releases_and_images_are_found_without_a_cloud(directory: Path) -> None:
    project = goldenami.Project(directory)
    catalog = Catalog(project.environment.catalog)
    now = datetime(2026, 11, 24, tzinfo=UTC)
    for version in ("1.0.20261123.1", "1.0.20261124.1"):
        catalog.add(manifest(version))
    catalog.move("tiny", "stable", "1.0.20261123.1", now=now)
    found = goldenami.releases(project)
    assert [(r.name, r.version, r.channels) for r in found] == [
        ("tiny", "1.0.20261124.1", ()),
        ("tiny", "1.0.20261123.1", ("stable",)),
    ]
    assert found == goldenami.releases(project, "tiny")
    assert goldenami.resolve(project, "tiny@stable") == found[1].images[0]
    assert goldenami.resolve(project, "tiny", region="eu-central-1", account="home") == found[0].images[0]
    with pytest.raises(errors.NotFound, match="has no image in 222222222222/eu-central-1"):
        goldenami.resolve(project, "tiny@stable", account="apps")
    with pytest.raises(errors.NotFound, match="no release has the name 'tidy'"):
        goldenami.releases(project, "tidy")
