"""``schedules:`` as people write it: what it becomes, and every mistake with its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.errors import InvalidInput, NotFound
from goldenami.model import Place

Write = Callable[[dict[str, str]], Path]

ENVIRONMENT = """\
environments:
  production:
    home: {account: "111111111111", region: eu-central-1}
    accounts: {apps: {id: "222222222222"}}
    targets: [{account: home, regions: [eu-central-1], kms_key: alias/home}]
    catalog: releases
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
"""
NIGHTLY = """\
        accounts: [home, apps]
        when: "0 3 * * 1-5"
        time_zone: Europe/Berlin
        start: 2026-01-01
        retention: {keep: 5, monthly: 12}
        copies:
          - {region: eu-west-1, kms_key: alias/west, retention: {max_age: 90d}}
          - {region: us-east-1}
        fast_restore: {keep: 1, zones: [eu-central-1a]}
        archive: {after: 90d}
        share: {accounts: [apps, "333333333333"], unshare_after: 7d}
        tags: {tier: gold}
"""
RECIPE = """\
name: web
version: "1.0"
base: {id: ami-0123456789abcdef0}
os: debian
schedules:
  hourly: {when: 1h, retention: {hourly: 24}}
"""


def test_a_schedule_as_it_is_read(write_project: Write) -> None:
    root = write_project({"goldenami.yaml": ENVIRONMENT + NIGHTLY, "recipes/web.yaml": RECIPE})
    project = recipe.load_project(root)
    nightly, hourly = recipe.schedules(project, recipe.environment(project))
    assert nightly.name == "nightly"
    assert nightly.places == (Place("111111111111", "eu-central-1"), Place("222222222222", "eu-central-1"))
    assert (nightly.retention.keep, nightly.retention.tiers) == (5, {"monthly": 12})
    assert [(c.region, c.kms_key, str(c.retention)) for c in nightly.copies] == [
        ("eu-west-1", "alias/west", "younger than 90 days"),
        ("us-east-1", "", "the newest 5, 12 monthly"),
    ]
    assert nightly.start == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert nightly.archive_after == timedelta(days=90)
    assert nightly.share_accounts == ("222222222222", "333333333333")
    assert str(nightly.selection) == "volumes with backup=nightly"
    assert nightly.mark.line == 8
    assert (hourly.name, hourly.owner, str(hourly.selection)) == ("web.hourly", "web", "instances with recipe web")


def test_schedules_are_chosen_by_name(write_project: Write) -> None:
    root = write_project({"goldenami.yaml": ENVIRONMENT + NIGHTLY, "recipes/web.yaml": RECIPE})
    project = recipe.load_project(root)
    every = recipe.schedules(project, recipe.environment(project))
    assert [s.name for s in recipe.choose_schedules(every, ("web.hourly",))] == ["web.hourly"]
    with pytest.raises(NotFound) as caught:
        recipe.choose_schedules(every, ("nigthly",))
    assert caught.value.hint == "Did you mean nightly?"


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ('when: "0 3 * *"\nretention: {keep: 1}', "10:15", "has 4 fields, expected five"),
        ('when: "0 0 30 2 *"\nretention: {keep: 1}', "10:15", "never fires"),
        ("when: 12\nretention: {keep: 1}", "10:15", "when: expected a string"),
        ("when: 12h\ntime_zone: Europe/Berln\nretention: {keep: 1}", "11:20", "'Europe/Berln' is not a time zone"),
        ("when: 12h\ntime_zone: Europe/Berlin\nretention: {keep: 1}", "9:9", "a rate counts elapsed time"),
        ("when: 12h", "8:7", "the key 'retention' is missing"),
        ("when: 12h\nretention: {}", "11:20", "at least one of keep"),
        ("when: 12h\nretention: {kep: 1}", "11:21", "unknown key 'kep'"),
        ("when: 12h\nretention: {keep: 0}", "11:27", "0 is less than 1"),
        ("when: 12h\nretention: {keep: 1}\naccounts: [aps]", "12:20", "there is no account 'aps'"),
        ("when: 12h\nretention: {keep: 1}\nmake: images", "9:9", "make: images can be made only of instances"),
        ("when: 12h\nretention: {keep: 1}\nmissed: sometimes", "12:17", "not one of latest, each, none"),
        ("when: 12h\nretention: {keep: 1}\nstart: soon", "12:16", "'soon' is not a date"),
        (
            "when: 12h\nretention: {keep: 1}\ncopies: [{region: eu-central-1}]",
            "12:27",
            "the snapshots are already in eu-central-1",
        ),
        (
            "when: 12h\nretention: {keep: 1}\nfast_restore: {zones: [eu-west-1a]}",
            "12:32",
            "eu-west-1a is not in eu-central-1",
        ),
        (
            "when: 12h\nretention: {max_age: 60d}\narchive: {after: 30d}",
            "12:26",
            "but AWS bills 90 days or more in the archive tier",
        ),
    ],
)
def test_mistakes(write_project: Write, lines: str, place: str, words: str) -> None:
    written = ENVIRONMENT + "".join(f"        {line}\n" for line in lines.splitlines())
    project = recipe.load_project(write_project({"goldenami.yaml": written}))
    with pytest.raises(InvalidInput) as caught:
        recipe.environment(project)
    (problem,) = caught.value.problems
    assert words in problem.message
    assert f"{problem.line}:{problem.column}" == place


def test_the_mistakes_of_a_recipes_schedule_have_the_recipes_lines(write_project: Write) -> None:
    wrong = RECIPE.replace("when: 1h", "accounts: [nobody], when: 1h")
    root = write_project({"goldenami.yaml": ENVIRONMENT + NIGHTLY, "recipes/web.yaml": wrong})
    project = recipe.load_project(root)
    with pytest.raises(InvalidInput) as caught:
        recipe.schedules(project, recipe.environment(project))
    (problem,) = caught.value.problems
    assert str(problem).endswith("recipes/web.yaml:6:23: accounts: there is no account 'nobody'")
