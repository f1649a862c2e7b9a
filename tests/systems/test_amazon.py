"""Amazon Linux: the packages of a release, and of the newest one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from goldenami import planning, recipe
from goldenami.errors import InvalidInput
from goldenami.model import PackageRepository, PackageSources
from goldenami.provision.patches import PatchSpec, patch_stage
from goldenami.provision.program import compile_program
from goldenami.stages import freshness
from goldenami.updates.fetch import Memory
from goldenami.updates.lookup import Found

HEAD = 'name: web\nversion: "1.0"\ndescription: Web\nowner: team\nbase: {id: ami-0123456789abcdef0}\n'


def load(folder: Path, os: str, release: str) -> recipe.Recipe:
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    (folder / "recipes/web.yaml").write_text(
        HEAD + f"os: {os}\npatches: {{level: security, releasever: {release}}}\ntests: [base]\n"
    )
    project = recipe.load_project(folder)
    return recipe.load(project, "web", recipe.environment(project, "sandbox"))


def test_latest_is_for_systems_whose_repositories_have_it(tmp_path: Path) -> None:
    assert load(tmp_path, "amzn", "latest").patches["x86_64"].releasever == "latest"
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, "rocky", "latest")
    assert "the repositories of Rocky Linux have no release named latest" in caught.value.problems[0].message
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, "debian", "latest")
    assert "Debian has no release versions" in caught.value.problems[0].message


@pytest.mark.parametrize("release", ["latest", "2023.9.20261105"])
def test_the_variable_of_dnf_has_the_release(release: str) -> None:
    stage = patch_stage(PatchSpec.model_validate({"releasever": release}), os="amzn")
    shown = "the newest release" if release == "latest" else f"release {release}"
    assert f"packages of {shown}" in [bound.label for bound in stage.operations]
    text = compile_program([stage]).text
    assert f"printf '%s\\n' {release} >/etc/dnf/vars/releasever" in text


@pytest.mark.parametrize(("release", "asked"), [("latest", True), ("2023.9.20261105", False)])
def test_the_newest_release_is_a_fact_and_a_named_one_is_an_input(
    release: str, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Nothing new" of ``latest`` is what the repositories of the newest release say, not those of the image. A named
    release cannot change, so that nothing is looked up."""
    looked: list[PackageSources] = []

    def find(packages: Any, sources: PackageSources, *_: Any, **__: Any) -> Found:
        looked.append(sources)
        return Found((), (), 1)

    base = "https://al2023-repos.s3.amazonaws.com/core"
    kept = PackageRepository("core", (), f"{base}/mirrors/2023.8.20260901/x86_64/mirror.list")
    monkeypatch.setattr("goldenami.updates.lookup.find", find)
    loaded = load(tmp_path, "amzn", release)

    class Plan:
        recipe = loaded

    class Last:
        label = "web 1.0.20261101.1"
        sources = {"x86_64": PackageSources("dnf", (kept,))}  # noqa: RUF012
        packages = {"x86_64": ()}  # noqa: RUF012

    freshness._look_up(Plan, Last, "x86_64", None, Memory(), datetime.now(UTC))  # type: ignore[arg-type]
    moved = replace(kept, mirrors=f"{base}/mirrors/latest/x86_64/mirror.list")
    assert looked == ([PackageSources("dnf", (moved,))] if asked else [])
    shown = "the newest release" if asked else release
    assert planning._patches(Plan, "x86_64").startswith(f"security; packages of {shown}; ")  # type: ignore[arg-type]
