"""Archives, downloads, git, pip and npm: real programs against what a server on loopback has, in a folder here."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from goldenami.provision import BoundOperation, Payload
from tests.provision.archives import Key, Served, run, served
from tests.provision.examples import bind
from tests.provision.local import Here, run_here

pytestmark = pytest.mark.root  # files are given owners


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web"), "127.0.0.1") as server:
        yield server


def changes(*operations: BoundOperation, path: str = "") -> list[str]:
    """Run them, and then again, which must change nothing: the details of what the first run changed."""
    first = run_here(*operations, path=path)
    assert "failed" not in first.statuses, "\n".join(first.output)
    again = run_here(*operations, path=path)
    assert set(again.statuses) == {"ok"}, (again.details, *again.output)
    return [d for s, d in zip(first.statuses, first.details, strict=True) if s == "changed"]


def refused(operation: BoundOperation, path: str = "") -> str:
    here: Here = run_here(operation, path=path)
    assert here.statuses == ["failed"], here
    assert not here.left
    return "\n".join(here.output)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- archives and downloads -------------------------------------------------------------------------------------------

FILES = {"top/bin/tool": "#!/bin/sh\n", "top/read me": "text\n"}


def packed(form: str, files: dict[str, str] = FILES) -> bytes:
    output = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(output, "w") as archive:
            for name, text in files.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFREG | (0o755 if "bin/" in name else 0o644)) << 16
                archive.writestr(entry, text)
        return output.getvalue()
    mode = cast(Literal["w:gz", "w:xz", "w:bz2"], "w:" + form)
    with tarfile.open(fileobj=output, mode=mode) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o755 if "bin/" in name else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return output.getvalue()


@pytest.mark.parametrize("form", ["gz", "xz", "bz2", "zip"])
@pytest.mark.parametrize("beside", [True, False])
def test_an_archive_is_unpacked_once(form: str, beside: bool, web: Served, tmp_path: Path) -> None:
    if form == "zip" and shutil.which("unzip") is None:
        pytest.skip("NOT PROVEN: unzip is not installed")
    data = packed(form)
    (web.folder / "archive").write_bytes(data)
    dest = tmp_path / "a b"
    fields: dict[str, Any] = {"dest": str(dest), "strip_components": 1, "owner": "daemon", "group": "daemon"}
    if beside:
        operation = bind("archive", src=f"x.{form}", payload=Payload.of(data), **fields)
    else:
        operation = bind("archive", url=f"{web.url}/archive", sha256=sha(data), **fields)
    before = len(web.requests)
    assert changes(operation) == ["is not unpacked"]
    assert len(web.requests) - before == (0 if beside else 1)
    assert (dest / "read me").read_text() == "text\n"
    assert stat.S_IMODE((dest / "bin/tool").stat().st_mode) == 0o755
    assert (dest / "bin/tool").owner() == "daemon"


def test_two_archives_share_a_directory_and_another_digest_unpacks_again(tmp_path: Path) -> None:
    dest = str(tmp_path / "opt")
    one = [bind("archive", src="one.tar.gz", dest=dest, payload=Payload.of(packed("gz", {"one": t}))) for t in "ab"]
    two = bind("archive", src="two.tar.gz", dest=dest, payload=Payload.of(packed("gz", {"two": "x"})))
    assert len(changes(one[0], two)) == 2
    assert len(changes(one[1], two)) == 1
    assert (tmp_path / "opt/one").read_text() == "b"
    assert len(changes(one[0], two)) == 1
    assert (tmp_path / "opt/one").read_text() == "a"


def test_a_wrong_archive_is_refused_and_leaves_nothing(web: Served, tmp_path: Path) -> None:
    (web.folder / "archive").write_bytes(packed("gz"))
    fields: dict[str, Any] = {"url": f"{web.url}/archive", "dest": str(tmp_path / "opt")}
    assert "as in the recipe" in refused(bind("archive", **fields, sha256="0" * 64))
    deep = bind("archive", **fields, sha256=sha((web.folder / "archive").read_bytes()), strip_components=5)
    assert "strip_components removes all" in refused(deep)
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize("armored", [True, False])
def test_a_download_is_verified_by_its_signature(armored: bool, web: Served, tmp_path: Path) -> None:
    if shutil.which("gpg") is None:
        pytest.skip("NOT PROVEN: gpg is not installed, so nothing can be signed")
    key, other = Key.generate(tmp_path / "key"), Key.generate(tmp_path / "other", "Other")
    file = web.folder / "tool"
    file.write_text("first\n")
    key.sign(file)
    dest = tmp_path / "tool"
    fields: dict[str, Any] = {
        "url": f"{web.url}/tool",
        "signature": f"{web.url}/tool.sig",
        "dest": str(dest),
        "mode": "0755",
    }
    if armored:
        operation = bind("download", **fields, key=key.armored)
    else:
        operation = bind("download", **fields, key_src="key.gpg", payload=Payload.of(key.binary()))
    assert changes(operation) == ["is not there"]
    file.write_text("second\n")
    key.sign(file)
    assert changes(operation) == ["the signature does not match"]
    assert dest.read_text() == "second\n"
    both = bind("download", **fields, key=key.armored, sha256=sha(b"second\n"))
    assert changes(both) == []
    other.sign(file)
    assert "the signature was not made with the key" in refused(operation)
    file.write_text("third\n")
    assert "the signature was not made with the key" in refused(operation)
    assert dest.read_text() == "second\n"


# --- git --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(web: Served) -> list[str]:
    """A repository with four commits, v1 and v2 (annotated) on the first and third: their ids."""
    work = web.folder / "work"
    names = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b.test", "HOME": str(web.folder)}
    names |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b.test"}
    run("git", "init", "--quiet", "--initial-branch=main", work)
    commits = []
    for number in range(4):
        (work / "file").write_text(f"{number}\n")
        run("git", "add", "file", cwd=work)
        run("git", "commit", "--quiet", "-m", f"{number}", cwd=work, env=names)
        commits.append(run("git", "rev-parse", "HEAD", cwd=work).strip())
        if number in (0, 2):
            run("git", "tag", "-a", "-m", "x", f"v{number // 2 + 1}", cwd=work, env=names)
    run("git", "clone", "--quiet", "--bare", work, web.folder / "x.git")
    run("git", "update-server-info", cwd=web.folder / "x.git")
    return commits


def test_git_checks_out_a_tag_or_a_commit(web: Served, repository: list[str], tmp_path: Path) -> None:
    dest = tmp_path / "tree"
    url = f"file://{web.folder}/x.git"
    at: dict[str, Any] = {"url": url, "dest": str(dest), "owner": "daemon", "group": "daemon"}
    assert changes(bind("git", **at, tag="v1", commit=repository[0])) == ["is not there"]
    assert (dest / "file").read_text() == "0\n"
    assert (dest / "file").owner() == "daemon"
    assert len(changes(bind("git", **at, tag="v2"))) == 1
    assert changes(bind("git", **at, commit=repository[3])) == ["has no such commit"]
    assert changes(bind("git", **at, commit=repository[1], depth=None)) == ["has no such commit"]
    assert (dest / "file").read_text() == "1\n"
    (dest / "file").write_text("meddled\n")
    assert changes(bind("git", **at, commit=repository[1])) == ["files differ from the commit"]
    assert (dest / "file").read_text() == "1\n"


def test_git_fetches_no_more_history_than_asked(web: Served, repository: list[str], tmp_path: Path) -> None:
    for depth, count in ((1, "1"), (2, "2"), (None, "3")):
        dest = tmp_path / f"tree{depth}"
        changes(bind("git", url=f"file://{web.folder}/x.git", dest=str(dest), tag="v2", depth=depth))
        assert run("git", "-C", dest, "rev-list", "--count", "HEAD").strip() == count


def test_git_fetches_from_a_server_without_support_for_depth(
    web: Served, repository: list[str], tmp_path: Path
) -> None:
    dest = tmp_path / "tree"
    changes(bind("git", url=f"{web.url}/x.git", dest=str(dest), commit=repository[2], depth=None))
    assert (dest / "file").read_text() == "2\n"


def test_git_refuses_a_tag_of_another_commit(web: Served, repository: list[str], tmp_path: Path) -> None:
    at: dict[str, Any] = {"url": f"file://{web.folder}/x.git", "dest": str(tmp_path / "tree")}
    said = refused(bind("git", **at, tag="v1", commit=repository[2]))
    assert f"the commit is {repository[0]}, which is not the commit in the recipe" in said
    assert not (tmp_path / "tree/file").exists()
    assert "no such commit" in refused(bind("git", **at, commit="1" * 40))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert "the directory has other files" in refused(bind("git", url=at["url"], dest=str(tmp_path / "full"), tag="v1"))


# --- pip --------------------------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def index(web: Served) -> dict[str, str]:
    """An index with gold 1.0, 1.5, 2.0 and silver 1.0: SHA-256 by the file's name."""
    sums = {}
    for name, versions in (("gold", ("1.0", "1.5", "2.0")), ("silver", ("1.0",))):
        folder = web.folder / "simple" / name
        for version in versions:
            path = wheel(folder, name, version)
            sums[path.name] = sha(path.read_bytes())
        links = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in sorted(folder.glob("*.whl")))
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return sums


@pytest.mark.nightly
def test_pip_in_a_venv(web: Served, index: dict[str, str], tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    at: dict[str, Any] = {"venv": str(venv), "index_url": f"{web.url}/simple/", "python": "/usr/bin/python3"}

    def versions() -> dict[str, str]:
        listed = json.loads(run(venv / "bin/python", "-m", "pip", "list", "--format=json"))
        return {p["name"]: p["version"] for p in listed if p["name"] in ("gold", "silver")}

    assert changes(bind("pip", **at, name="gold", version=">=1.2,<2")) == ["no such environment"]
    assert versions() == {"gold": "1.5"}
    before = len(web.requests)
    assert changes(bind("pip", **at, name="gold")) == []
    assert len(web.requests) == before, "nothing to do must not ask the index"
    assert changes(bind("pip", **at, name=["gold<1.5", "silver"])) == ["gold 1.5 is installed"]
    assert versions() == {"gold": "1.0", "silver": "1.0"}
    assert changes(bind("pip", **at, name="gold", state="absent")) == ["gold 1.0 is installed"]
    assert "No matching distribution" in refused(bind("pip", **at, name="gold", version=">=3"))

    digest = index["gold-2.0-py3-none-any.whl"]
    hashed = f"# ours\ngold==2.0 \\\n    --hash=sha256:{digest}\nsilver==1.0; python_version<'3'\n"
    good = bind("pip", **at, requirements="r.txt", payload=Payload.of(hashed.encode()))
    assert changes(good) == ["gold is not installed"]
    assert versions()["gold"] == "2.0"
    forged = hashed.replace("2.0 ", "1.5 ")
    bad = bind("pip", **at, requirements="r.txt", payload=Payload.of(forged.encode()))
    assert "DO NOT MATCH THE HASHES" in refused(bad)
    assert versions()["gold"] == "2.0"


# --- npm --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(web: Served) -> str:
    """A registry of npm with left 1.0.0, 1.2.0 and 2.0.0: its URL."""
    folder = web.folder / "npm"
    folder.mkdir()
    versions = {}
    for version in ("1.0.0", "1.2.0", "2.0.0"):
        manifest = {"name": "left", "version": version, "bin": {"left": "left.js"}}
        files = {"package/package.json": json.dumps(manifest), "package/left.js": "#!/usr/bin/env node\n"}
        data = packed("gz", files)
        (folder / f"left-{version}.tgz").write_bytes(data)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        versions[version] = {
            **manifest,
            "dist": {"tarball": f"{web.url}/npm/left-{version}.tgz", "integrity": integrity},
        }
    document = {"name": "left", "dist-tags": {"latest": "2.0.0"}, "versions": versions}
    (folder / "left").write_text(json.dumps(document))
    return f"{web.url}/npm/"


@pytest.mark.nightly
def test_npm_in_a_directory(registry: str, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NOT PROVEN: npm is not installed")
    programs = str(Path(npm).parent)
    at: dict[str, Any] = {"name": "left", "path": str(tmp_path / "app"), "registry": registry}

    def version() -> str:
        manifest = tmp_path / "app/node_modules/left/package.json"
        return str(json.loads(manifest.read_text())["version"]) if manifest.exists() else ""

    assert len(changes(bind("npm", **at, version="^1.0"), path=programs)) == 1
    assert version() == "1.2.0"
    assert changes(bind("npm", **at), path=programs) == []
    assert len(changes(bind("npm", **at, version="2.0.0"), path=programs)) == 1
    assert version() == "2.0.0"
    assert "No matching version" in refused(bind("npm", **at, version="9"), path=programs)
    assert len(changes(bind("npm", **at, state="absent"), path=programs)) == 1
    assert version() == ""
