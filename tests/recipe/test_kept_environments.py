"""The environments of goldenami.yaml are kept in the user's cache, and are read again whenever they may differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from goldenami import model, recipe, usercache
from goldenami.errors import InvalidInput
from goldenami.recipe import keptenvironments
from goldenami.recipe.problems import Problems

Write = Callable[[dict[str, str]], Path]

PRODUCTION = """\
environment: production
allow_outside: [/srv/shared]
environments:
  production:
    home: {account: "111111111111", region: eu-central-1, role: "arn:aws:iam::111111111111:role/builder"}
    network:
      subnet: {tags: {tier: build}}
      source_cidr: [192.0.2.0/24, 198.51.100.7/32]
      transport:
        bastion: {host: bastion.example, user: jump, host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==",
                  private_key: {file: keys/bastion}}
    accounts: {apps: {id: "222222222222", parameters: true}}
    targets:
      - {account: home, regions: [eu-central-1, us-east-1], kms_key: alias/home}
      - {account: apps, regions: [us-east-1], mode: share}
    consumers: [{account: apps, services: [autoscaling], principals: ["arn:aws:iam::222222222222:role/fleet"]}]
    launch_templates: [{template: web, recipe: web, channel: stable}]
    catalog: catalog
    tags: {owner: platform}
    lifetime: 90m
    channels: {stable: {from: [candidate], soak: 24h, signature: true}}
    vulnerabilities:
      feeds: [{file: feed.json, max_age: 2d}, {url: "https://feeds.example/u", format: updateinfo, covers: "rocky 9"}]
      waivers: {CVE-2026-0001: {reason: not used, expires: 2027-03-01, packages: [zlib]}}
    notify:
      chat: {webhook: {url: {secret: {env: HOOK}}, headers: {X-Team: platform, Authorization: {secret: {file: token}}}}}
      topic: {sns: {topic: "arn:aws:sns:eu-central-1:111111111111:images"}, on: [release]}
      bus: {eventbridge: {bus: default}}
      program: {command: {argv: [notify-send, done], environment: [DISPLAY]}}
    signing: {key: {kms: alias/signing}, trusted: [keys/trusted.pem]}
  sandbox: {sandbox: true}
"""
PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return Path(os.environ["XDG_CACHE_HOME"]) / "goldenami/environments"


@pytest.fixture
def root(write_project: Write) -> Path:
    files = {"goldenami.yaml": PRODUCTION, "keys/trusted.pem": PUBLIC_KEY, "one/x": "", "two/x": ""}
    written = write_project(files)
    (written / "catalog").symlink_to("one")
    return written


def kept(root: Path, endpoint: str | None = None) -> dict[str, model.Environment] | None:
    return keptenvironments.read(recipe.load_project(root), endpoint)


def read(root: Path) -> dict[str, model.Environment]:
    return dict(recipe.environments(recipe.load_project(root)))


def test_what_is_kept_equals_what_is_read(root: Path) -> None:
    assert kept(root) is None
    first = read(root)
    assert first["production"].catalog == str(root / "one")
    project = recipe.load_project(root)
    found = keptenvironments.read(project, None)
    assert found == first
    assert [dict(one.marks) for one in found.values()] == [dict(one.marks) for one in first.values()]
    assert project.settings == ("production", ("/srv/shared",))
    assert not project._read  # goldenami.yaml was not parsed
    to: Any = found["production"].notify[0].to
    (root / "token").write_text("secret")
    assert to.headers["Authorization"].files.read_bytes(root / "token") == b"secret"


def kinds(of: Any, known: set[type]) -> set[type]:
    """Return the dataclasses that are in a type."""
    for part in get_args(of):
        kinds(part, known)
    if isinstance(of, type) and is_dataclass(of) and of not in known:
        known.add(of)
        hints = get_type_hints(of)
        for field in fields(of):
            kinds(hints[field.name], known)
    return known


def test_each_kind_of_value_can_be_kept() -> None:
    assert kinds(model.Environment, set()) == {*keptenvironments._KINDS.values(), model.SecretSource}


@pytest.mark.parametrize("file", ["goldenami.yaml", "keys/trusted.pem", "catalog", "sandbox"])
def test_a_change_of_what_it_leads_to_is_seen(root: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(root)
    assert kept(root) == before
    if file == "catalog":
        (root / "catalog").unlink()
        (root / "catalog").symlink_to("two")
    elif file == "sandbox":
        monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(root / "sandboxes"))
    elif file == "goldenami.yaml":
        (root / file).write_text(PRODUCTION.replace("lifetime: 90m", "lifetime: 91m"))
    else:
        (root / file).write_text(f"\n{PUBLIC_KEY}")
    assert kept(root) is None
    after = read(root)
    assert after != before
    assert kept(root) == after


def test_a_key_that_is_gone_is_a_problem_again(root: Path) -> None:
    read(root)
    (root / "keys/trusted.pem").unlink()
    with pytest.raises(InvalidInput) as caught:
        read(root)
    assert "trusted.pem" in caught.value.problems[0].message


def test_a_file_with_problems_is_not_kept(root: Path, cache: Path) -> None:
    (root / "goldenami.yaml").write_text(PRODUCTION.replace("lifetime: 90m", "lifetime: 90x"))
    for _ in range(2):
        with pytest.raises(InvalidInput) as caught:
            read(root)
        assert "lifetime" in caught.value.problems[0].message
    assert not list(cache.iterdir())


def test_nothing_is_believed_that_another_user_may_have_written(root: Path, cache: Path) -> None:
    read(root)
    (entry,) = cache.iterdir()
    entry.chmod(0o666)
    assert kept(root) is None
    entry.chmod(0o600)
    assert kept(root) is not None
    cache.chmod(0o777)
    assert kept(root) is None
    read(root)  # and nothing is written there
    assert list(cache.iterdir()) == [entry]


def test_the_cache_is_bounded(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keptenvironments, "_MOST", 2)
    for minutes in range(10, 14):
        (root / "goldenami.yaml").write_text(PRODUCTION.replace("90m", f"{minutes}m"))
        read(root)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_entry_is_read_again(root: Path, cache: Path) -> None:
    first = read(root)
    (entry,) = cache.iterdir()
    for content in (b"", b"\xff", b'{"default": null}', b"[]"):
        entry.write_bytes(content)
        assert read(root) == first


def test_a_short_command_loads_neither_pydantic_nor_yaml(root: Path) -> None:
    read(root)
    program = (
        "import sys; from goldenami import recipe; from pathlib import Path; "
        "recipe.environment(recipe.load_project(Path.cwd())); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert not {"pydantic", "yaml", "jinja2", "boto3"} & {*done.stdout.split()}
    assert "goldenami.recipe.keptenvironments" in done.stdout.split()


def test_an_entry_has_no_secret(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example/T0K3N")
    (root / "token").write_text("T0K3N")
    read(root)
    (entry,) = cache.iterdir()
    assert "T0K3N" not in entry.read_text()
    assert json.loads(entry.read_text())["default"] == "production"


def test_a_change_while_it_is_read_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "goldenami.yaml"
    file.write_text("environments:\n  before: {sandbox: true}\n")
    project = recipe.load_project(tmp_path)
    assert project.document(project.file, Problems()) is not None
    file.write_text("environments:\n  after: {sandbox: true}\n")
    assert list(recipe.environments(project)) == ["before"]
    assert list(recipe.environments(recipe.load_project(tmp_path))) == ["after"]


def test_a_folder_that_can_only_be_read_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("goldenami.usercache.os.open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    usercache.write(tmp_path / "entry", b"{}", 4)
    assert list(tmp_path.iterdir()) == []
