"""Every example of docs/python.md runs as a script, with nothing set up but `goldenami sandbox up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.examples import Example, examples

pytestmark = pytest.mark.root

# As small as a recipe gets, so that a build takes seconds.
RECIPE = """\
name: debian-12-web
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none, reboot: never}
vars: {motd: hello}
software:
  - file: {dest: /etc/motd, content: "{{ vars.motd }}"}
distribution: {targets: [home/eu-central-1, home/eu-west-1, apps/eu-west-1], channel: stable}
"""


@dataclass
class Machine:
    """A directory with a project in it, on a machine where a sandbox runs."""

    directory: Path
    variables: dict[str, str]

    def start(self, *command: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.directory, env=self.variables, text=True, stdout=pipe, stderr=pipe)

    def run(self, *command: str) -> tuple[int, str, str]:
        process = self.start(*command)
        try:
            output, error = process.communicate(timeout=300)
        finally:
            process.kill()
        return process.returncode, output, error


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("python")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOLDENAMI_"))}
    path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
    home = str(tmp_path_factory.mktemp("sandbox"))
    made = Machine(directory, {**kept, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "GOLDENAMI_SANDBOX_HOME": home})
    project = directory / "my-images"
    (project / "recipes").mkdir(parents=True)
    (project / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true}\n")
    (project / "recipes" / "debian-12-web.yaml").write_text(RECIPE)
    try:
        status, _, error = made.run("goldenami", "sandbox", "up")
        assert status == 0, error
        yield made
    finally:
        made.run("goldenami", "sandbox", "reset", "--yes")


@pytest.mark.parametrize("example", examples("python.md", "python"), ids=str)
@pytest.mark.sample(4)
def test_the_examples_run(machine: Machine, example: Example) -> None:
    status, output, error = machine.run(sys.executable, "-c", example.text)
    assert status == 0, error
    if "image_id for image" in example.text:  # the first one
        assert output.count("'ami-") == 3
    if "goldenami.resolve" in example.text and "ami" in output:
        assert output.startswith("ami-")
    assert "Traceback" not in error


def test_ctrl_c_in_a_script(machine: Machine) -> None:
    """The signal of a terminal: the build deletes what it made, then Python's own KeyboardInterrupt ends the script."""
    script = """\
import goldenami
def show(event):
    print(event.kind, event.fields.get("stage"), event.fields.get("status"), flush=True)
goldenami.build(goldenami.Project("my-images"), "debian-12-web", variables={"motd": "interrupted"}, on_event=show)
"""
    process = machine.start(sys.executable, "-c", script)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("stage.started launch"):
                break
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT
    assert output.splitlines()[-1].startswith("build.finished None interrupted")
    assert "everything it made is deleted" in error
    assert error.rstrip().endswith("KeyboardInterrupt")
