"""A host that rebooted by itself is not sealed: what gate 1 found before does not count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from goldenami import provision
from goldenami.errors import BuilderError, TestsFailed
from goldenami.provision import SealReport
from goldenami.stages import host_work
from goldenami.stages.host_work import Known, _gate_and_seal


class Host:
    """Its gates and its seal. ``boots``: its boot id at each look; ``passes``: whether a gate passes."""

    instance_id = "i-1"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, boots: list[str], passes: list[bool]) -> None:
        self.boots, self.passes = boots, passes
        self.told: list[str] = []
        self.sealed: list[str] = []
        monkeypatch.setattr(provision, "settle", lambda *_, since="": self.boots.pop(0))
        monkeypatch.setattr(host_work, "run_gate", self.gate)

    def gate(self, *_: Any, **__: Any) -> str:
        if not self.passes.pop(0):
            raise TestsFailed("a test failed")
        return "report"

    def note(self, message: str, level: str = "info") -> None:
        self.told.append(message)

    emit = None

    def run(self, *begun: bool) -> tuple[Any, SealReport]:
        answers = list(begun)

        def seal(boot: str) -> SealReport:
            self.sealed.append(boot)
            return SealReport((), (), 0.0, begun=answers.pop(0))

        any_of: Any = self
        return _gate_and_seal(any_of, "x86_64", any_of, any_of, {}, (), Known(), seal)


def test_a_host_that_rebooted_after_its_tests_is_tested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, ["one", "two"], [True, True])
    report, sealed = host.run(False, True)
    assert (report, sealed.begun) == ("report", True)
    assert host.sealed == ["one", "two"]
    assert host.passes == []
    assert ["during gate 1" in text for text in host.told] == [True]


def test_a_host_that_reboots_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, ["one", "two", "three"], [True, True])
    with pytest.raises(BuilderError, match="i-1 did not stay up during gate 1, twice"):
        host.run(False, False)


def test_a_reboot_that_was_cancelled_is_no_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, ["one", "one", "one"], [True, True])
    with pytest.raises(BuilderError, match="i-1 did not stay up during gate 1, twice"):
        host.run(False, False)
    assert ["was going down" in text for text in host.told] == [True, True]


def test_a_failed_test_counts_if_the_host_stayed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TestsFailed):
        Host(monkeypatch, ["one", "one"], [False]).run()
    rebooted = Host(monkeypatch, ["one", "two"], [False, True])
    assert rebooted.run(True)[1].begun
    assert rebooted.sealed == ["two"]


def test_a_secret_that_is_a_part_of_a_name_changes_no_package() -> None:
    build: Any = SimpleNamespace(secrets={"user": "postgres"})
    parse: Any = host_work._PARSERS[provision.PACKAGES.name]
    (package,) = parse(build, "ii |postgresql-15|15.8-1|amd64\n")
    assert package.name == "postgresql-15"


@pytest.mark.parametrize(
    "text", ["Killed\n", "xargs: sha256sum: terminated by signal 9\n", f"{'a' * 64}\nKilled\n", "\n"]
)
def test_only_a_digest_is_recorded_as_one(text: str) -> None:
    """Two hosts that could not read their files may say the same, and have other files."""
    assert host_work._digest(f"{'0a' * 32}\n") == "0a" * 32
    assert host_work._digest(text) == ""
