"""What `goldenami test` says before it makes anything."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from goldenami.aws import images
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.events import Event
from goldenami.model import TestReport
from goldenami.stages import host_work
from goldenami.stages.build import BuildContext
from tests.worlds.builds import World, logged_in
from tests.worlds.volumes import HOME_PLACE


def test_an_image_is_looked_up_before_anything_is_made(
    build_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build_world.fresh()
    monkeypatch.chdir(build_world.path)
    monkeypatch.setattr(Cloud, "of", logged_in)

    def said(*arguments: str, code: int) -> str:
        assert main(["test", *arguments, "-e", "test"]) == code
        return capsys.readouterr().err

    found = images.find_base(
        build_world.cloud, HOME_PLACE, owners=["136693071363"], filters={"name": ["debian-12-*"]}, architecture="arm64"
    )
    arm = found.image_id
    for more in ([], ["--recipe", "web"]):
        shown = said("ami-0123456789abcdef0", *more, code=3)
        assert "image ami-0123456789abcdef0 does not exist in 111111111111/eu-central-1" in shown
        assert "Name that of the image with --region." in shown
    assert f"{arm} is for arm64, and web for x86_64" in said(arm, "--recipe", "web", code=2)
    assert f"{arm} is for arm64, found --architecture x86_64" in said(arm, "--architecture", "x86_64", code=2)
    assert "found --ssh-key and no --on" in said("web", "--ssh-key", "key", code=2)
    assert build_world.builds == []


@pytest.mark.parametrize(("failed", "status"), [(0, "ok"), (1, "failed")])
def test_a_stage_that_reports_failed_tests_without_an_error_ends_as_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, failed: int, status: str
) -> None:
    """Every view of the build, and its timeline, has the status of this event."""
    events: list[Event] = []
    report = TestReport("image", "x86_64", passed=1, failed=failed, skipped=0, flaky=0, seconds=1.0)
    monkeypatch.setattr(host_work, "run_tests", lambda *_, **__: report)
    monkeypatch.setattr(host_work, "watched", lambda *_: nullcontext())
    none: Any = None
    build = BuildContext(
        plan=SimpleNamespace(recipe=None),  # type: ignore[arg-type]
        environment=none,
        ledger=none,
        emit=events.append,
        version="1.0.20261124.1",
        reports=tmp_path,
        stop=SimpleNamespace(is_set=lambda: False),  # type: ignore[arg-type]
        host_work=none,
        transport=none,
    )
    host = SimpleNamespace(endpoint=None)
    assert host_work.run_gate(build, "x86_64", host, gate="image", outputs={}, required=False) is report  # type: ignore[arg-type]
    assert [event.fields.get("status") for event in events] == [None, status]
