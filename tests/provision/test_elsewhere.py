"""What only Amazon Linux has. Debian has no authselect: a stand-in answers as authselect(8) says that the real one
does, and keeps its state in a file. The real one is untested here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.provision.examples import bind, elsewhere
from tests.provision.local import run_here

pytestmark = pytest.mark.root

AUTHSELECT = """#!/bin/sh
state=$(dirname "$0")/state
case $1 in
current) [ -e "$state" ] && cat "$state" || { echo 'No existing configuration detected.'; exit 2; } ;;
check) [ -e "$state" ] && [ ! -e "$state.edited" ] ;;
select) shift; rm -f "$state.edited"
  for word in "$@"; do [ "$word" = --force ] || printf '%s ' "$word"; done | sed 's/ $//' >"$state"; echo >>"$state" ;;
esac
"""


def test_authselect(tmp_path: Path) -> None:
    tool = tmp_path / "authselect"
    tool.write_text(AUTHSELECT)
    tool.chmod(0o755)
    [operation] = elsewhere()

    def run(mode: Literal["apply", "check"] = "apply") -> tuple[list[str], list[str]]:
        ran = run_here(operation, mode=mode, path=str(tmp_path))
        return ran.statuses, ran.details

    assert run("check") == (["changed"], ["is not chosen"])
    assert run() == (["changed"], ["is not chosen"])
    assert (tmp_path / "state").read_text() == "minimal with-faillock with-mkhomedir\n"
    assert run() == (["ok"], [""])
    (tmp_path / "state").write_text("minimal with-mkhomedir with-faillock\n")
    assert run() == (["ok"], [""]), "the order of features means nothing"
    (tmp_path / "state").write_text("sssd\n")
    assert run("check") == (["changed"], ["is sssd"])
    run()
    (tmp_path / "state.edited").touch()
    assert run("check") == (["changed"], ["its files were edited by hand"])
    assert run()[0] == ["changed"]
    assert run()[0] == ["ok"]


def test_a_missing_authselect_is_reported() -> None:
    ran = run_here(bind("authselect", profile="minimal"))
    assert (ran.statuses, ran.output[-1]) == (["failed"], "authselect is not installed")
