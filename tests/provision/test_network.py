"""The proxy and the mirrors of a build: what uses them, and that nothing of them stays."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from goldenami.model import Mark
from goldenami.provision import BoundOperation, BuildNetwork
from goldenami.provision.network import Mirrored, Unmirrored
from goldenami.recipe.secrets import Secret
from goldenami.stages.filling import fill_network
from tests.provision.examples import bind
from tests.provision.local import run_here

MIRRORS = {
    "http://deb.debian.org/debian": "http://mirror.example/debian",
    "http://deb.debian.org/debian-security": "http://mirror.example/security",
    "https://cdn.example/core/mirrors/$releasever/list": "http://mirror.example/core/$releasever",
    "https://cdn.example": "http://mirror.example/cdn",
}
SOURCES = {
    "sources.list": "deb http://deb.debian.org/debian bookworm main\n"
    "deb [signed-by=/k] http://deb.debian.org/debian-security/ bookworm-security main\n"
    "deb http://deb.debian.org/debian-other x main\n",
    "debian.sources": "Types: deb\nURIs: http://deb.debian.org/debian http://vendor.example/x\nSuites: bookworm\n",
    "core.repo": "[core]\nmirrorlist=https://cdn.example/core/mirrors/$releasever/list\ngpgkey=https://cdn.example/key\n",
    "other.repo": "[other]\nbaseurl=https://vendor.example/https://cdn.examples/\n",
}
REPLACED = {
    "sources.list": "deb http://mirror.example/debian bookworm main\n"
    "deb [signed-by=/k] http://mirror.example/security/ bookworm-security main\n"
    "deb http://deb.debian.org/debian-other x main\n",
    "debian.sources": "Types: deb\nURIs: http://mirror.example/debian http://vendor.example/x\nSuites: bookworm\n",
    "core.repo": "[core]\nbaseurl=http://mirror.example/core/$releasever\ngpgkey=http://mirror.example/cdn/key\n",
    "other.repo": SOURCES["other.repo"],
}


@pytest.fixture(autouse=True)
def no_other_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of the tests can have a proxy and mirrors of its own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "npm_config_registry", "GIT_CONFIG_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@contextmanager
def server(contents: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything, as a proxy and a mirror do; its URL, and the targets of the requests."""
    targets: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            targets.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents)))
            self.end_headers()
            self.wfile.write(contents)

        def log_message(self, *args: object) -> None:
            """Nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", targets
        finally:
            listening.shutdown()
            thread.join()


def download(url: str, dest: Path) -> BoundOperation:
    owner: dict[str, Any] = {"owner": str(os.getuid()), "group": str(os.getgid())}
    return bind("download", url=url, sha256=hashlib.sha256(b"data").hexdigest(), dest=str(dest), **owner)


def test_downloads_go_through_the_proxy(tmp_path: Path) -> None:
    with server(b"data") as (url, targets):
        network = BuildNetwork(http=url, direct=("127.0.0.1",))
        ran = run_here(download("http://files.example/a", tmp_path / "a"), network=network)
        assert (ran.statuses, targets) == (["changed"], ["http://files.example/a"])
        ran = run_here(download(f"{url}/b", tmp_path / "b"), network=network)
        assert (ran.statuses, targets[1:]) == (["changed"], ["/b"]), "directly"


def test_downloads_come_from_the_mirror(tmp_path: Path) -> None:
    with server(b"data") as (url, targets):
        network = BuildNetwork(
            mirrors={"https://files.example/x": f"{url}/deep", "https://files.example": f"{url}/top"}
        )
        for number, name in enumerate(("x/a b", "x", "y", "xy")):
            ran = run_here(
                download(f"https://files.example/{name.replace(' ', '%20')}", tmp_path / str(number)), network=network
            )
            assert ran.statuses == ["changed"], ran.output
        assert targets == ["/deep/a%20b", "/deep", "/top/y", "/top/xy"]


def test_what_commands_of_the_recipe_see() -> None:
    network = BuildNetwork(
        http="http://proxy.example:3128",
        https="http://me:pass%20word@proxy.example:3128",
        direct=(".corp.example",),
        mirrors={
            "https://pypi.org/simple": "http://mirror.example:8080/pypi/simple",
            "https://registry.npmjs.org": "https://mirror.example/npm",
        },
    )
    names = "http_proxy HTTPS_PROXY no_proxy PIP_INDEX_URL PIP_TRUSTED_HOST npm_config_registry"
    ran = run_here(
        bind("command", shell=f"for n in {names}; do printenv $n; done; git config --get-regexp url"), network=network
    )
    assert [line for line in ran.output if line] == [
        "http://proxy.example:3128",
        "http://me:pass%20word@proxy.example:3128",
        "localhost,127.0.0.1,::1,169.254.169.254,fd00:ec2::254,.corp.example",
        "http://mirror.example:8080/pypi/simple",
        "mirror.example:8080",
        "https://mirror.example/npm/",
        "url.http://mirror.example:8080/pypi/simple/.insteadof https://pypi.org/simple/",
        "url.https://mirror.example/npm/.insteadof https://registry.npmjs.org/",
    ]
    nothing = run_here(bind("command", shell="printenv http_proxy HTTP_PROXY PIP_INDEX_URL GIT_CONFIG_COUNT || :"))
    assert "".join(nothing.output) == ""


def test_passwords_of_the_network_are_filled_in_and_not_in_the_program() -> None:
    from goldenami.provision.program import compile_program

    written = BuildNetwork(http=f"http://me:{Secret('p')}@proxy", mirrors={"http://a": f"http://{Secret('p')}@b"})
    filled = fill_network(written, {"p": "hunter2"})
    assert (filled.http, filled.mirrors) == ("http://me:hunter2@proxy", {"http://a": "http://hunter2@b"})
    assert "hunter2" not in compile_program([], filled).text


# --- package sources --------------------------------------------------------------------------------------------------


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def steps(tmp_path: Path) -> tuple[BoundOperation, BoundOperation]:
    fields: dict[str, Any] = {
        "family": "apt",
        "mirrors": MIRRORS,
        "aside": f"{tmp_path}/aside",
        "files": (f"{tmp_path}/etc/*",),
    }
    place = Mark("recipe.yaml", 1, 1)
    return BoundOperation(Mirrored(**fields), place), BoundOperation(Unmirrored(**fields), place)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    (folder / "core.repo").chmod(0o600)
    return folder


def test_package_sources_are_replaced_and_restored(tmp_path: Path, sources: Path) -> None:
    use, restore = steps(tmp_path)
    assert [run_here(use).statuses for _ in range(2)] == [["changed"], ["ok"]]
    assert written(sources) == REPLACED
    assert [run_here(restore).statuses for _ in range(2)] == [["changed"], ["ok"]]
    assert written(sources) == SOURCES
    assert (sources / "core.repo").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc"], "nothing is left"


def test_sources_that_the_recipe_writes_itself_stay(tmp_path: Path, sources: Path) -> None:
    use, restore = steps(tmp_path)
    run_here(use)
    (sources / "sources.list").write_text("deb http://own.example/ x main\n")
    (sources / "debian.sources").unlink()
    assert run_here(restore).statuses == ["changed"]
    left = {name: text for name, text in SOURCES.items() if name != "debian.sources"}
    assert written(sources) == left | {"sources.list": "deb http://own.example/ x main\n"}


def test_a_mirror_that_would_stay_in_the_image_ends_the_build(tmp_path: Path, sources: Path) -> None:
    use, restore = steps(tmp_path)
    run_here(use)
    with (sources / "sources.list").open("a") as file:
        file.write("deb http://own.example/ x main\n")
    ran = run_here(restore)
    assert ran.statuses == ["failed"]
    assert any("sources.list has URLs of builder.mirrors" in line for line in ran.output)
