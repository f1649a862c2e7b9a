"""`goldenami sandbox`, and environments that are the sandbox: through the one entry point, and where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import cast

import pytest

import goldenami
from goldenami import plugins
from goldenami.aws.session import Cloud
from goldenami.cli import sandbox as command_line
from goldenami.cli.main import main
from goldenami.errors import SandboxError, UsageError
from goldenami.model import Account, Connection, Environment, Network
from goldenami.stages.transports import make_transport

INSTALL = "pip install 'goldenami[sandbox]'"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["status"], 3, "hint: Start it with `goldenami sandbox up`."),
        (["env", "--name", "other"], 3, "`goldenami sandbox up --name other`"),
        (["settings", "set", "{"], 2, "settings: error: not JSON"),
        (["up", "--account", "ci=12"], 2, "error: --account ci=12: NAME=ID is expected, with an id of 12 digits"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_errors_keep_message_hint_and_exit_code(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sandbox", *arguments]) == status
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.split())
    assert captured.out == ""


def test_debug_shows_where_an_error_of_the_sandbox_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["sandbox", "status"])
    assert "Traceback" not in capsys.readouterr().err
    assert main(["--debug", "sandbox", "status"]) == code
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "NotFound" in err


def test_errors_of_the_plugin_are_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another_cloud.py").write_text(
        "class Error(Exception):\n"
        "    message, hint, exit_code = 'no root', 'Become root.', 7\n"
        "def variables(region, progress):\n"
        "    progress(f'starting in {region}')\n"
        "    raise Error\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("sandbox", "another_cloud", plugins.GROUP)
    said: list[str] = []
    with pytest.raises(SandboxError) as caught:
        plugins.sandbox_variables("eu-central-1", said.append, lambda: [entry])
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == ("no root", "Become root.", 7)
    assert said == ["starting in eu-central-1"]


class _Reach:
    """A plugin whose sandbox at one endpoint runs its instances in a given way."""

    def __init__(self, way: str) -> None:
        self._way = way

    def instances(self, endpoint_url: str) -> tuple[str, str, str, tuple[str, ...]] | None:
        return (
            (self._way, "this machine lacks root", "Run it as root.", ())
            if endpoint_url == "http://127.0.0.1:1"
            else None
        )


@pytest.mark.parametrize(
    ("endpoint", "way"), [(None, "none"), ("http://127.0.0.1:2", "none"), ("http://127.0.0.1:1", "systemd")]
)
def test_instances_that_can_be_reached_are_not_refused(
    endpoint: str | None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_sandbox", lambda _: _Reach(way))
    plugins.reach(endpoint)


@pytest.mark.parametrize("through", ["the environment", "the variables"])
def test_a_sandbox_without_instances_is_refused_before_a_connection_is_prepared(
    through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_sandbox", lambda _: _Reach("none"))
    home = Account("home", "111111111111")
    environment = Environment("e", home, "eu-central-1", {"home": home}, (), Network(), "/catalog", "/builds")
    if through == "the environment":
        environment = replace(environment, connection=Connection(endpoint_url="http://127.0.0.1:1"))
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SandboxError, match=r"no instance can be reached: .*lacks root") as refused:
        make_transport(environment, cast(Cloud, None))
    assert refused.value.exit_code == 1
    assert refused.value.hint == (
        "Run it as root. Then start it again with real instances: `goldenami sandbox reset --yes`"
    )


def test_without_the_extra_it_says_what_to_install() -> None:
    def nothing() -> list[EntryPoint]:
        return []

    with pytest.raises(UsageError, match=r"pip install 'goldenami\[sandbox\]'"):
        plugins.sandbox_variables("eu-central-1", lambda _: None, nothing)
    command = command_line.command(nothing)
    with pytest.raises(UsageError, match=r"pip install 'goldenami\[sandbox\]'"):
        command.main(["up", "--name", "x"], standalone_mode=False)


# --- in an environment that has everything but the sandbox's distribution ---------------------------------------------


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment, less goldenami_sandbox and the files by which pip makes it importable."""
    site = tmp_path_factory.mktemp("site")
    for folder in {Path(p) for p in sys.path if p.endswith("-packages")}:
        for entry in folder.iterdir():
            if "goldenami" not in entry.name.lower() and not entry.name.endswith(".pth"):
                (site / entry.name).symlink_to(entry)
    (site / "goldenami").symlink_to(Path(goldenami.__file__).parent)
    return site


def run(site: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    argv = [sys.executable, "-S", "-m", "goldenami.cli.main", *arguments]
    return subprocess.run(
        argv, cwd=directory, env={**environment, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )


def test_a_machine_without_the_sandbox(without: Path, tmp_path: Path) -> None:
    assert run(without, tmp_path, "init", ".").returncode == 0
    listed = run(without, tmp_path, "--help")
    assert listed.returncode == 0
    assert "sandbox" in listed.stdout
    for arguments in (["sandbox", "up"], ["sandbox", "--help"], ["build", "first-image"], ["orphans"]):
        done = run(without, tmp_path, *arguments)
        assert done.returncode == 2, (arguments, done)
        assert INSTALL in done.stderr.splitlines()[-1], (arguments, done)
        assert "Traceback" not in done.stderr


def test_listing_commands_imports_neither_boto3_nor_the_sandbox() -> None:
    code = (
        "import sys; from goldenami.cli.main import main; main(['--help']);"
        "sys.exit(any(m.split('.')[0] in ('boto3', 'goldenami_sandbox', 'moto', 'pydantic') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
