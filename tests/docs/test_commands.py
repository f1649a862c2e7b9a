"""Every command of the documentation is run, or the page says why not; and it prints what the page shows.

``tests/docs/examples.py`` describes the marks of blocks. The world of the pages is ``tests/worlds/handbook.py``.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import botocore.exceptions
import click
import pytest

from goldenami.cli.main import program
from tests.docs.examples import DOCS, Example, examples
from tests.worlds.handbook import Reader, a_reader
from tests.worlds.volumes import HOME_PLACE

LANGUAGES = ("console", "sh", "bash")
MARKS = {
    "": "run on paper",
    "nightly": "run at night",
    "parsed": "parsed only",
    "tested": "run by another test",
    "listed": "run in other blocks",
}
# How many blocks of a page can be run nowhere: they install packages, need AWS itself, or have names to be replaced.
PARSED = {
    "../README.md": 2,
    "install.md": 1,
    "aws.md": 1,
    "evidence.md": 1,
    "contributing/add-a-command.md": 1,
    "contributing/add-a-sandbox-service.md": 1,
}
PAGES = ["../README.md", *sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))]
# Pages that begin in an empty directory, not in a project with releases.
TEMPLATES = DOCS.parent / "tests/importing/templates"
FROM_NOTHING = {"../README.md", "install.md", "first-image.md", "aws.md", "from-packer.md"}


def commands(page: str) -> list[Example]:
    return [one for one in examples(page) if one.language in LANGUAGES and not one.title]


@dataclass(frozen=True)
class Typed:
    """One command, and the lines that the page shows of what it prints."""

    script: str
    shown: list[str] = field(default_factory=list)


def typed(example: Example) -> list[Typed]:
    """The commands of a block, in order. A command can go on in the next line after a backslash."""
    found: list[Typed] = []
    for line in example.text.splitlines():
        if example.language == "console" and not line.startswith("$ "):
            if found and found[-1].script.endswith("\\"):
                found[-1] = Typed(f"{found[-1].script}\n{line}")
            else:
                assert found, f"{example}: begin a command with $"
                found[-1].shown.append(line)
        elif found and found[-1].script.endswith("\\"):
            found[-1] = Typed(f"{found[-1].script}\n{line}")
        elif line.strip() and not line.startswith("#"):
            found.append(Typed(line.removeprefix("$ ")))
    return found


def words(script: str) -> Iterator[list[str]]:
    """The arguments of each call of goldenami in a script of a shell."""
    text = re.sub(r"\s#\s.*", "", re.sub(r"\\\n", " ", script))
    for part in re.split(r"&&|\|\||;|\||\$\(|`|\n|&", re.sub(r"^(\w+=\S* )+", "", text)):
        try:
            found = shlex.split(re.sub(r"\d?>.*", "", part).strip().rstrip('")'))
        except ValueError:  # an open quote: the rest of another command
            continue
        if found[:1] == ["goldenami"]:
            yield found[1:]


ALL = [one for page in PAGES for one in commands(page)]


def test_every_block_is_run_or_says_why_not() -> None:
    wrong = [f"{one}: {one.mark}" for one in ALL if one.mark not in MARKS]
    missing = [f"{one}: {one.why}" for one in ALL if one.mark == "tested" and not (DOCS.parent / one.why).is_file()]
    assert (wrong, missing) == ([], [])


def test_blocks_that_are_only_parsed_do_not_become_more() -> None:
    assert Counter(one.page for one in ALL if one.mark == "parsed") == PARSED


def test_the_index_names_each_page_in_the_order_of_the_site() -> None:
    text, _, rest = (DOCS / "index.md").read_text(encoding="utf-8").partition("```{toctree}")
    pages = re.findall(r"^[a-z-]+$", rest.partition("```")[0], re.MULTILINE)
    assert len(pages) > 25
    assert [*dict.fromkeys(re.findall(r"\(([a-z-]+)\.md\)", text.partition("**To look")[0]))] == pages


def test_each_command_of_a_list_is_in_a_block_that_is_run() -> None:
    run = {path(found) for one in ALL if one.mark in ("", "nightly", "tested") for found in every_call(one)}
    listed = {path(found) for one in ALL if one.mark == "listed" for found in every_call(one)}
    assert len(listed) > 30
    assert listed - run == set()


def every_call(example: Example) -> Iterator[list[str]]:
    return (found for one in typed(example) for found in words(one.script))


def path(arguments: list[str]) -> str:
    """The names of the command that arguments begin with, such as ``images list``."""
    command: click.Command = program
    names: list[str] = []
    for word in arguments:
        inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        names.append(word)
        command = inner
    return " ".join(names)


@pytest.mark.parametrize("example", ALL, ids=str)
def test_the_argument_parser_accepts_it(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (click.Path, click.File):  # the files of the reader are not here
        monkeypatch.setattr(kind, "convert", lambda self, value, param, ctx: value)
    for one in typed(example):
        for arguments in words(one.script):
            parse(program, arguments)


def parse(command: click.Command, arguments: list[str]) -> None:
    """Parse arguments as click does before it runs a command. Raises click's errors."""
    if isinstance(command, click.Group):
        rest = arguments
        while rest and rest[0].startswith("-"):  # options of the group
            if rest[0] in ("--help", "--version", "-h"):
                return
            takes = any(rest[0] in p.opts and not getattr(p, "is_flag", False) for p in command.params)
            rest = rest[2:] if takes else rest[1:]
        if not rest:
            return
        inner = command.get_command(click.Context(command), rest[0])
        assert inner is not None, f"there is no command {rest[0]}"
        parse(inner, rest[1:])
    elif not {"--help", "-h"} & set(arguments):
        command.make_context(command.name, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize("example", [one for page in PAGES for one in examples(page, "hcl")], ids=str)
def test_terraform_is_valid(example: Example) -> None:
    hcl2 = pytest.importorskip("hcl2")
    assert hcl2.loads(example.text)


def test_cloudformation_is_valid() -> None:
    from cfnlint.api import lint_all  # a second, which only the worker that runs this needs

    (text,) = [one.text for one in examples("aws.md", "yaml") if one.title == "golden-ami.yaml"]
    assert [str(match) for match in lint_all(text) if match.rule.severity != "informational"] == []


def test_the_page_about_errors_has_messages_of_the_program() -> None:
    """Each literal part of a message is in the source."""
    packages = [DOCS.parent / "goldenami", DOCS.parent / "sandbox/goldenami_sandbox"]
    files = [*(path for package in packages for path in package.rglob("*.py")), Path(botocore.exceptions.__file__)]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    page = (DOCS / "debugging.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    parts = [part.strip() for message in messages for part in re.sub(r"[()]", "…", message).split("…")]
    missing = [part for part in parts if part and not part.startswith("recipes/") and part not in source]
    assert len(messages) > 25
    assert missing == []


# --- on paper ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with pytest.MonkeyPatch.context() as patch, a_reader(tmp_path_factory.mktemp("reader"), patch) as made:
        yield made


def templates_of_packer(reader: Reader) -> None:
    """The page is read beside a folder with a template."""
    pytest.importorskip("hcl2")
    shutil.copytree(TEMPLATES / "web", reader.directory / "templates" / "web")


def job_of_gitlab(reader: Reader) -> None:
    """GitLab names the commits that a pipeline is about."""
    reader.variables = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": "main", "CI_COMMIT_BEFORE_SHA": "main"}


def bucket_of_aws(reader: Reader) -> None:
    """awscli has made the bucket and the key: tests/e2e/test_documentation.py does it. The paper cloud has the key."""
    place = {"LocationConstraint": HOME_PLACE.region}
    reader.world.client("s3", HOME_PLACE).create_bucket(Bucket="acme-golden-ami", CreateBucketConfiguration=place)


def receiver_of_notifications(reader: Reader) -> None:
    """A program gets them."""
    file = reader.directory / "goldenami.yaml"
    file.write_text(f"{file.read_text()}    notify: {{program: {{command: {{argv: [/bin/true]}}}}}}\n")


SCENES = {
    "aws.md": bucket_of_aws,
    "from-packer.md": templates_of_packer,
    "notifications.md": receiver_of_notifications,
    "pipelines.md": job_of_gitlab,
}


@pytest.mark.parametrize("page", [p for p in PAGES if any(not one.mark for one in commands(p))])
def test_the_commands_of_a_page_do_what_it_shows(reader: Reader, page: str) -> None:
    """All blocks of a page, in order, one after the other in the same directory and the same cloud."""
    reader.open("nothing" if page in FROM_NOTHING else "project")
    prepare = SCENES.get(page)
    if prepare is not None:
        prepare(reader)
    wrong: list[str] = []
    for example in examples(page):
        if example.title == "goldenami.yaml":
            (reader.directory / example.title).write_text(example.text)
        if example in commands(page) and not example.mark:
            found, where = mistakes(example, typed(example), lambda script: reader.type(script)[1])
            wrong += found
            reader.directory = Path(where)  # the next block goes on there
    assert not wrong, "\n\n".join(wrong)


def mistakes(example: Example, every: list[Typed], shell: Callable[[str], str]) -> tuple[list[str], str]:
    """Run the commands of a block, one after the other in one shell. Returns what is not as the page says, and the
    directory at the end. ``shell``: runs a script, and returns what it printed on both streams."""
    wrong: list[str] = []
    marker = "\x1e"
    script = "\n".join(f"{one.script}\nprintf '{marker}%s{marker}' $?" for one in every)
    *parts, where = shell(f'{script}\nprintf "%s" "$PWD"').split(marker)
    for number, one in enumerate(every):
        printed, code = parts[2 * number], parts[2 * number + 1] if len(parts) > 2 * number + 1 else "?"
        expected = re.search(r"#.*\bexit code (\d+)$", one.script)
        if code != (expected[1] if expected else "0"):
            wrong.append(f"{example}: {one.script}\nended with {code}:\n{printed}")
        lines = {loose(line) for line in printed.splitlines()}
        for shown in one.shown:
            if not any(fits(loose(shown), line) for line in lines):
                wrong.append(f"{example}: {one.script}\ndoes not print\n{shown}\nbut\n{printed}")
    return wrong, where


_LOOSE = (
    (r"\b(ami|snap|vol|i|sg|subnet|key|eni)-[0-9a-f]{8,}", r"\1-ID"),
    (r"\b\d{8}-\d{6}-[0-9a-f]{8}\b", "BUILD"),
    (r"\b\d+\.\d+\.\d{8}\.\d+\b", "VERSION"),
    (r"\b\d{4}-\d\d-\d\d(T[\d:]+Z?| \d\d:\d\d(:\d\d)?( UTC)?)?", "DATE"),
    (r"\b[0-9a-f]{12,}\b", "DIGEST"),
    (r"\d+(\.\d+)?", "N"),
    (r"\s+", " "),
)


def loose(line: str) -> str:
    """A line without what differs in each run: ids, versions, dates, numbers, the width of columns."""
    for pattern, word in _LOOSE:
        line = re.sub(pattern, word, line)
    return line.strip()


def fits(shown: str, printed: str) -> bool:
    """Whether a line is the shown one. The sign … stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed) is not None or shown in ("…", "")
