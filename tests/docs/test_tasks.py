"""A new user finds each task in README and does it by the one command that stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from goldenami.errors import TestsFailed
from goldenami.model import Architecture
from goldenami.stages import host_work
from goldenami.stages.build import BuildContext, Host, Prepared
from tests.docs.examples import DOCS
from tests.worlds.builds import Label, PaperHostWork
from tests.worlds.handbook import FIRST, SECOND, WEB, Reader, a_reader

README = DOCS.parent / "README.md"


def change_recipe(reader: Reader) -> None:
    file = reader.directory / WEB
    file.write_text(file.read_text().replace("title: Golden images", "title: The newest images"))


def build_that_fails(reader: Reader) -> None:
    class Failing(PaperHostWork):
        def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
            raise TestsFailed("1 of 3 tests failed: test_nginx_answers")

    change_recipe(reader)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_work, "SshHostWork", Failing)
        reader.goldenami("build", "debian-12-web", code=5)


def build_that_is_killed(reader: Reader) -> None:
    """At the first copy of its image."""
    change_recipe(reader)
    reader.dies_at = Label("ec2", "CopyImage", "111111111111", "eu-west-1", 1)
    try:
        reader.goldenami("build", "debian-12-web", code=137)
    finally:
        reader.dies_at = None


def region_is_added(reader: Reader) -> None:
    file = reader.directory / "goldenami.yaml"
    old = "{account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, old.replace("eu-west-1]", "eu-west-1, us-east-1]")))


@dataclass(frozen=True)
class Answer:
    """What a command prints: regular expressions, where FIRST and SECOND are the versions, and its exit code.
    ``before``: what happened before the task."""

    shows: tuple[str, ...]
    code: int = 0
    before: Callable[[Reader], None] | None = None


IMAGE = "ami-[0-9a-f]{17}"
ANSWERS = {
    # You launch images.
    "get the latest stable image id in a region": Answer((rf"\A{IMAGE}\n\Z",)),
    "get the id for another account": Answer((rf"\A{IMAGE}\n\Z",)),
    "follow a channel in Terraform": Answer((r'data "aws_ssm_parameter"', "/golden-ami/debian-12-web/x86_64/stable/")),
    "pin one version in CloudFormation": Answer((rf"eu-west-1:\n? *.*{IMAGE}",)),
    "see the releases of the last week": Answer((r"FIRST +stable", r"SECOND +candidate")),
    "see what changed between two releases": Answer(("title: Golden image → Golden images",)),
    "know which image an instance runs, and until when it is supported": Answer(
        (r"version +FIRST", r"behind +candidate by 1", r"deprecated +\d{4}-\d\d-\d\d")
    ),
    "know whether an image is vulnerable, if goldenami.yaml names a [feed](docs/evidence.md#vulnerabilities)": Answer(
        ("CVE-2026-0001 .* openssl .* not accepted",), code=5
    ),
    "know what is in an image": Answer(("CycloneDX", "libssl3")),
    "see the tests that an image passed": Answer(("tests builder x86_64 +3 passed", "tests image x86_64 +4 passed")),
    "hear of new releases (subscribe to a feed of the site)": Answer(("public/index.html",)),
    # You write recipes.
    "start from a shipped recipe": Answer(("recipes/debian-13-base.yaml", "goldenami validate debian-13-base")),
    "find mistakes": Answer(("2 recipes valid",)),
    "see what your branch changes": Answer(("~ debian-12-web +changed", r"recipes/debian-12-web.yaml:\d+")),
    "see what a build would do, and why": Answer(("debian-12-web", "build", "vars"), before=change_recipe),
    "build, test and distribute an image": Answer(
        (rf"home/eu-west-1 .* available · {IMAGE}", "released"), before=change_recipe
    ),
    "know why an image was built again": Answer((r"~ vars: ", "title: Golden image → Golden images")),
    "debug the newest build": Answer(("1 of 3 tests failed: test_nginx_answers",), before=build_that_fails),
    "see which images are built on which": Answer((r"└─ debian-12-web +candidate 1\.4",)),
    "release an image to its users": Answer((r"stable.*SECOND",)),
    "go back to the release before": Answer((r"candidate.*FIRST",)),
    "take a bad release out of use": Answer((r"SECOND.*revoked|[Rr]evoked.*SECOND",)),
    # You run the pipeline.
    "check accounts, keys and quotas before a build": Answer((r"\d+ checks .* 0 errors",)),
    "get the policies for the roles": Answer(('resource "aws_iam_policy"', "ec2:RunInstances")),
    "build everything that changed, at night": Answer(("debian-12-base .* skipped", "released"), before=change_recipe),
    "write a pipeline for GitLab": Answer(("build debian-12-web:", "extends: .goldenami-build")),
    "find builds that did not end": Answer(("unfinished +debian-12-web",), before=build_that_is_killed),
    "continue a build that was killed": Answer(("released",), before=build_that_is_killed),
    "delete what killed builds left": Answer(("deleted 0 resources",)),
    "add a region (after you added it to goldenami.yaml)": Answer(
        (rf"home/us-east-1 .*{IMAGE}",), before=region_is_added
    ),
    "know whether releases are still as declared": Answer(("3 releases are as declared",)),
    "see which instances run old releases": Answer((r"debian-12-web FIRST +1 ",)),
    "see which releases would be deleted, and why": Answer(
        (r"keep +debian-12-base .*: current of the channel stable",)
    ),
    "get a message about new vulnerabilities, every night": Answer(("CVE-2026-0001",), code=5),
}


def tasks() -> dict[str, list[tuple[str, str]]]:
    """What README lists for each kind of people: tasks with their commands."""
    section = README.read_text(encoding="utf-8").partition("\n## Find your task\n")[2].partition("\n## ")[0]
    found: dict[str, list[tuple[str, str]]] = {}
    kind = ""
    for line in section.splitlines():
        if line.startswith("**"):
            kind = line.split("**")[1]
            found[kind] = []
        elif row := re.fullmatch(r"\| (.+) \| `(goldenami .+)` \|", line):
            found[kind].append((row[1], row[2]))
    return found


def insert(pattern: str, versions: Mapping[str, str]) -> str:
    """A pattern with the versions of the world. At midnight, their numbers are not 1 and 2."""
    return re.sub("FIRST|SECOND", lambda match: re.escape(versions[match[0]]), pattern)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with pytest.MonkeyPatch.context() as patch, a_reader(tmp_path_factory.mktemp("reader"), patch) as made:
        yield made


def test_readme_has_ten_tasks_for_each_kind_of_people() -> None:
    assert [len(rows) >= 10 for rows in tasks().values()] == [True, True, True]
    assert [task for rows in tasks().values() for task, _ in rows] == list(ANSWERS)


@pytest.mark.parametrize(
    ("task", "command"), [pytest.param(*row, id=row[0].replace(" ", "-")) for rows in tasks().values() for row in rows]
)
def test_a_task_takes_one_command(reader: Reader, task: str, command: str) -> None:
    answer = ANSWERS[task]
    reader.open()
    if answer.before is not None:
        answer.before(reader)
    code, output = reader.type(command)
    assert code == answer.code, output
    versions = {"FIRST": reader.names[FIRST], "SECOND": reader.names[SECOND]}
    missing = [one for one in answer.shows if re.search(insert(one, versions), output) is None]
    assert not missing, f"{missing} is not in\n{output}"


def test_the_feed_of_the_site_has_the_releases(reader: Reader) -> None:
    reader.open()
    reader.goldenami("site", "build")
    feed = (reader.directory / "public/images/debian-12-web/stable.atom").read_text()
    assert reader.names[FIRST] in feed
