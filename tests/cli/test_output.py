"""What stdout and stderr do when they fail: the work of a command is not affected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

import goldenami.cli
from goldenami.cli.output import write_file
from goldenami.errors import OutputFailed
from goldenami.events import Event
from goldenami.report import EventFile, Live, progress, stderr_console

# A command that prints more than a buffer holds, works on a file, and ends with an exit code.
COMMAND = """
import sys
from goldenami.cli import output
streams = output.protect()
print("data " * 20000)
sys.stderr.write("progress\\n")
with open("journal", "w") as journal:
    assert journal.fileno() > 2
    journal.write("the work is done")
sys.exit(streams.finish(int(sys.argv[1])))
"""


def run(path: Path, redirection: str, code: int = 0) -> tuple[int, str]:
    """Run the command in a shell with a redirection; its exit code and stderr."""
    shell = ["sh", "-c", f'exec "$0" -c "$1" {code} {redirection}', sys.executable, COMMAND]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(shell, cwd=path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (path / "journal").read_text() == "the work is done"
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("redirection", "reason"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_data_that_cannot_be_written_is_told(tmp_path: Path, redirection: str, reason: str) -> None:
    code, stderr = run(tmp_path, redirection)
    assert code == 7
    assert stderr.startswith(f"progress\nwarning: stdout could not be written: {reason}.")


def test_the_failure_of_a_command_is_not_hidden_by_its_output(tmp_path: Path) -> None:
    assert run(tmp_path, "> /dev/full", 6)[0] == 6


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", ">&- 2>&- <&-", "| head -c 1"])
def test_progress_that_cannot_be_written_changes_nothing(tmp_path: Path, redirection: str) -> None:
    code, stderr = run(tmp_path, redirection)
    assert code == (7 if ">&- 2" in redirection else 0)
    assert "Traceback" not in stderr


def test_a_reader_that_ends_early_is_no_failure(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", COMMAND, "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"progress\n")


def test_a_command_whose_output_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "goldenami.cli.main", "schema"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (7, 1), done.stderr


def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    write_file(tmp_path / "new/folder/file", "text", "--output")
    assert (tmp_path / "new/folder/file").read_text() == "text"
    for path, reason in ((tmp_path, "Is a directory"), (Path("/dev/full"), "No space left on device")):
        with pytest.raises(OutputFailed, match=f"{path} cannot be written: {reason}") as caught:
            write_file(path, "text", "--svg")
        assert (caught.value.exit_code, caught.value.hint) == (7, "Give another file with --svg.")


def test_all_commands_write_the_files_that_a_user_names_in_one_way() -> None:
    writes = re.compile(r"\.write_(?:text|bytes)\(|open\([^)]*[\"'][wax]b?[\"']")
    folder = Path(goldenami.cli.__file__).parent
    found = {str(f.relative_to(folder)) for f in folder.rglob("*.py") if writes.search(f.read_text())}
    assert found == {"output.py", "main.py"}, "main.py has the details of bugs"


@pytest.mark.parametrize("columns", ["0", "-3", "x", "1", "99999999999999999999"])
def test_a_useless_width_hides_nothing(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    console = stderr_console()
    console.print(Text("error: something"), soft_wrap=True)
    live = Live(console, refresh=False)
    live(Event("stage.started", {"stage": "launch"}))
    live.draw()
    live(Event("note", {"message": "a note"}))
    live.close()
    stderr = capsys.readouterr().err
    assert "error: something" in stderr
    assert "a note" in stderr


def test_an_event_file_on_a_full_disk_ends_without_an_error() -> None:
    with EventFile(Path("/dev/full")) as events, pytest.raises(OSError, match="No space left"):
        events(Event("note", {"message": "x"}))


def test_a_full_event_file_does_not_end_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(stderr_console(), events=Path("/dev/full")) as emit:
        for number in range(3):
            emit(Event("note", {"message": f"note {number}"}))
    stderr = capsys.readouterr().err
    assert stderr.count("receives no more events") == 1
    assert "No space left" in stderr
    assert all(f"note {number}" in stderr for number in range(3))
