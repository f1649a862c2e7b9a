"""What `goldenami test` says before it makes anything."""

from __future__ import annotations

import pytest

from goldenami.aws import images
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
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
