"""Templates of Packer as recipes: three of different kinds, and what cannot be carried over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment as Jinja

from goldenami import recipe
from goldenami.cli.main import main
from goldenami.errors import InvalidInput
from goldenami.importing import Draft, draft_recipes, read_packer
from goldenami.importing.sources import duration
from goldenami.recipe.scaffold import scaffold

TEMPLATES = Path(__file__).parent / "templates"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project beside the templates; the working directory is the project."""
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    project = tmp_path / "project"
    project.mkdir()
    scaffold(project, example=False)
    monkeypatch.chdir(project)
    return project


def drafts_of(text: str, tmp_path: Path, name: str = "t.pkr.hcl", **given: Any) -> list[Draft]:
    path = tmp_path / name
    path.write_text(text)
    return draft_recipes(read_packer(path, **given))


def source(more: str = "", *, build: str = "", before: str = "") -> str:
    return f"""{before}
source "amazon-ebs" "web" {{
  region        = "eu-central-1"
  ssh_username  = "admin"
  ami_name      = "x"
  instance_type = "t3.small"
  source_ami_filter {{
    filters = {{ name = "debian-12-amd64-*" }}
    owners  = ["136693071363"]
  }}
  {more}
}}
build {{
  sources = ["source.amazon-ebs.web"]
  {build}
}}
"""


def notes(draft: Draft) -> list[tuple[int, str]]:
    return [(note.line, note.text.partition(":")[0]) for note in draft.lost]


# --- the three templates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "names"),
    [("web/web.pkr.hcl", ["web"]), ("legacy/base.json", ["base"]), ("fleet/fleet.pkr.hcl", ["arm", "intel"])],
)
def test_imported_recipes_validate(
    folder: Path, capsys: pytest.CaptureFixture[str], template: str, names: list[str]
) -> None:
    assert main(["import", "packer", f"../templates/{template}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "goldenami.import/1"
    assert ([one["name"] for one in document["recipes"]], document["problems"]) == (names, [])
    project = recipe.load_project(folder)
    for name in names:
        recipe.load(project, name, recipe.environment(project))
    assert main(["validate"]) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["import", "packer", f"../templates/{template}"]) == 0, "a second import writes the same"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_web_server(folder: Path) -> None:
    (draft,) = draft_recipes(read_packer(TEMPLATES / "web" / "web.pkr.hcl"))
    loaded = yaml.safe_load(draft.to_yaml())
    assert loaded == draft.recipe
    assert loaded["base"] == {"filter": "debian-12-amd64-*", "owners": ["136693071363"]}
    assert loaded["builder"] == {
        "instance_types": ["t3.small"],
        "ssh_user": "admin",
        "ssh_timeout": "90m",
        "hop_limit": 2,
        "tags": {"Team": "web", "CostCenter": "4711", "Purpose": "image build"},
    }
    assert loaded["image"]["root_volume"] == {"size_gib": 20, "type": "gp3", "throughput": 250}
    assert loaded["image"]["volumes"] == [{"device": "/dev/sdf", "size_gib": 50, "type": "gp3"}]
    assert loaded["image"]["tags"]["Service"] == "web-eu-central-1"
    assert loaded["distribution"]["share"] == {"accounts": ["222222222222"]}
    assert loaded["vars"] == {
        "nginx_version": "",
        "region": "eu-central-1",
        "registry_token": {"secret": {"env": "PKR_VAR_registry_token"}},
        "workers": 4,
    }
    upload, install, inline, reboot, playbook = loaded["software"]
    assert playbook == {
        "ansible": {
            "src": "files/web/web",
            "groups": ["web"],
            "extra_vars": {"size": "large", "colour": "red"},
            "tags": ["base", "web"],
        }
    }
    assert {"files/web/web/site.yml", "files/web/web/roles/web/tasks/main.yml"} < set(draft.files)
    assert reboot == {"reboot": "always"}
    tree = {"src": "files/web/site", "dest": "/srv/www", "owner": "admin", "group": "admin"}
    assert upload == {"tree": tree}, "of a source with a slash at its end: its contents"
    assert {"files/web/site/index.html", "files/web/site/css/main.css"} < set(draft.files)
    assert "user" not in install["script"], "with sudo in execute_command it runs as root"
    assert install["script"]["environment"]["WORKERS"] == "{{ vars.workers | string }}"
    assert draft.files["files/web/install.sh"].contents.startswith(b"#!/bin/bash")
    assert inline["script"]["user"] == "admin"
    rendered = Jinja().from_string(inline["script"]["content"]).render(vars={"region": "eu-central-1"})
    assert rendered.splitlines() == [
        "#!/bin/bash -ex",
        "docker inspect --format '{{ .State }}' web || true",
        "files=(a b); echo ${#files[@]}",
        "cat > /tmp/motd <<MOTD",
        "region eu-central-1",
        "MOTD",
    ]
    assert draft.environment["targets"] == [
        {"account": "home", "regions": ["eu-central-1", "us-east-1"], "kms_key": "alias/acme"},
        {"account": "home", "regions": ["eu-west-1"], "kms_key": "alias/acme-west"},
    ]
    lost = notes(draft)
    assert lost == [
        (16, "variable nginx_version has no default"),
        (116, "scripts"),
        (116, "scripts"),
        (143, "inline"),
        (149, "extra_arguments"),
        (149, "extra_arguments"),
        (157, "post-processor shell-local"),
    ]
    assert all(f"web.pkr.hcl:{line}:" in draft.to_yaml() for line, _ in lost)


def test_a_json_template(folder: Path) -> None:
    (draft,) = draft_recipes(read_packer(TEMPLATES / "legacy" / "base.json"))
    loaded = draft.recipe
    assert loaded["builder"]["spot"] is True
    assert loaded["builder"]["instance_types"] == ["t3.medium", "t3a.medium"]
    assert loaded["image"] == {"root_volume": {"size_gib": 30, "type": "gp3"}}
    first, second = loaded["software"]
    assert first["script"]["environment"] == {"VAULT": "{{ vars.vault_password }}", "REGION": "{{ vars.region }}"}
    assert loaded["vars"]["vault_password"] == {"secret": {"env": "VAULT_PASSWORD"}}
    assert (second["retries"], second["script"]["statuses"]) == (3, [0, 1])
    assert draft.environment["network"] == {"subnet": {"tags": {"Tier": "build"}}, "transport": "ssm"}
    assert [line for line, _ in notes(draft)] == [16, 29, 37, 38, 40, 66, 71]
    assert "gcloud" not in draft.to_yaml(), "a provisioner for another source"


def test_two_architectures(folder: Path) -> None:
    arm, intel = draft_recipes(read_packer(TEMPLATES / "fleet" / "fleet.pkr.hcl"))
    assert arm.recipe["architectures"] == ["arm64"]
    assert arm.recipe["base"]["ssm"].endswith("-arm64")
    assert arm.recipe["distribution"]["deregistration_protection"] == "with-cooldown"
    assert arm.environment["home"]["account"] == "333333333333"
    assert (intel.recipe["description"], intel.recipe["builder"]["instance_types"]) == ("Intel", ["m7i.large"])
    contents = [one.recipe["software"][0]["script"]["content"] for one in (arm, intel)]
    assert ["nginx" in contents[0], "httpd" in contents[1]] == [True, True], "only and except"
    assert any("amazon-chroot" in note.text for note in arm.lost)


# --- the command ------------------------------------------------------------------------------------------------------


def test_files_of_the_project_are_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "recipes" / "web.yaml"
    target.parent.mkdir(exist_ok=True)
    target.write_text("mine\n")
    assert main(["import", "packer", "../templates/web/web.pkr.hcl"]) == 2
    assert "recipes/web.yaml" in capsys.readouterr().err
    assert target.read_text() == "mine\n"
    assert not (folder / "recipes" / "files").exists(), "nothing was written"
    assert main(["import", "packer", "../templates/web/web.pkr.hcl", "--force"]) == 0
    assert target.read_text().startswith("# Imported from web.pkr.hcl.")


def test_a_dry_run_needs_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", "packer", str(TEMPLATES / "fleet"), "--dry-run"]) == 0, "a folder of files .pkr.hcl"
    out = capsys.readouterr().out
    assert "# recipes/arm.yaml" in out
    assert "regions: [us-east-1]" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "place", "message"),
    [
        ("t.pkr.hcl", 'source "amazon-ebs" "x" {\n  a = = 1\n}\n', (2, 7), "not HCL2"),
        ("t.json", '{\n  "builders": [,]\n}\n', (2, 16), "not JSON"),
        ("t.json", "[]", (1, 1), "a JSON object"),
        ("t.json", '{"builders": [{"type": "docker"}]}', (1, 1), "no source of type amazon-ebs"),
        ("t.txt", "", (1, 1), "neither HCL2 nor JSON"),
    ],
)
def test_mistakes_have_places(tmp_path: Path, name: str, text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        drafts_of(text, tmp_path, name)
    (problem,) = refused.value.problems
    assert ((problem.line, problem.column), message in problem.message) == (place, True), problem


# --- values -----------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    """Each setting that the recipe does not have is told: also one that no version of Packer knows yet."""
    text = source(
        'new_setting = "x"\n  user_data = "#!/bin/sh"\n  new_block {\n    a = 1\n  }',
        build='provisioner "shell" {\n inline = ["true"]\n new_option = true\n}\nprovisioner "chef-solo" {\n}',
    )
    (draft,) = drafts_of(text, tmp_path)
    told = " ".join(note.text for note in draft.lost)
    for word in ("new_setting", "user_data", "new_block", "new_option", "chef-solo"):
        assert word in told


def test_values_of_variables(tmp_path: Path) -> None:
    before = """
variable "size" { default = 10 }
variable "kind" { default = "gp2" }
variable "on" { default = false }
locals {
  double = "${local.name}-${local.name}"
  name   = upper(join("-", ["a", var.kind]))
  loop   = local.loop
}
"""
    more = """
  boot_mode   = var.on ? "uefi" : "legacy-bios"
  ami_users   = concat(["111111111111"], var.on == false ? ["222222222222"] : [])
  tags        = { a = local.double, b = lookup({ x = "y" }, "x", ""), c = format("%s/%d", "n", 3) }
  launch_block_device_mappings {
    device_name = "/dev/sda1"
    volume_size = var.size
    volume_type = var.kind
  }
"""
    text = source(more, before=before)
    (draft,) = drafts_of(text, tmp_path)
    assert draft.recipe["image"] == {
        "root_volume": {"size_gib": 10, "type": "gp2"},
        "boot_mode": "legacy-bios",
        "tags": {"a": "A-GP2-A-GP2", "b": "y", "c": "n/3"},
    }
    assert draft.recipe["distribution"]["share"]["accounts"] == ["111111111111", "222222222222"]
    file = tmp_path / "more.pkrvars.hcl"
    file.write_text('size = 33\nkind = "gp3"\n')
    (draft,) = drafts_of(text, tmp_path, var_files=[file], given={"kind": "standard"})
    assert draft.recipe["image"]["root_volume"] == {"size_gib": 33, "type": "standard"}
    (draft,) = drafts_of(source("ami_description = local.loop", before=before), tmp_path)
    assert any("local.loop" in note.text for note in draft.lost), "a local that depends on itself"


def test_only_files_near_the_template_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    monkeypatch.chdir(folder)
    build = f"""
  provisioner "file" {{
    source      = "{secret}"
    destination = "/tmp/a"
  }}
  provisioner "file" {{
    source      = "link"
    destination = "/tmp/b"
  }}
"""
    (draft,) = drafts_of(source(build=build), folder)
    assert draft.files == {}
    assert [text for _, text in notes(draft)] == ["source", "source"]


def test_the_base_that_is_unknown_is_told(tmp_path: Path) -> None:
    text = source().replace("debian-12-amd64-*", "acme-internal-*")
    (draft,) = drafts_of(text, tmp_path)
    assert draft.recipe["os"] == "debian"
    assert "guess" in " ".join(note.text for note in draft.lost)
    (draft,) = drafts_of(text.replace('"admin"', '"ec2-user"'), tmp_path)
    assert "os" not in draft.recipe
    assert "amzn" in " ".join(note.text for note in draft.lost)


@pytest.mark.parametrize(
    ("given", "expected"), [("5m", "5m"), ("1h30m", "90m"), ("90s", "90s"), ("1.5h", "90m"), ("10", None), ("1d", None)]
)
def test_durations(given: str, expected: str | None) -> None:
    assert duration(given) == expected
