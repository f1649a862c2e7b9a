"""The test suite ``hardening``: one test for each control, and one for what the recipe set up before them. All values
are read with one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from goldenami.errors import BuilderError
from goldenami.hardening.batch import Batch, Subject, Values, check_control
from goldenami.hardening.results import AFTER_BOOT

Host = Any  # testinfra.host.Host


def _batch(variables: Mapping[str, Any]) -> Batch:
    return Batch.from_json(variables["hardening"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    run = metafunc.config.pluginmanager.get_plugin("goldenami-run")
    assert run is not None
    # A process that was prepared waits here for its settings, and has collected the suites before this one.
    subjects = _batch(run.settings.variables).subjects
    metafunc.parametrize("subject", subjects, ids=[subject.id for subject in subjects])


@pytest.fixture(scope="module")
def values(host: Host, variables: Mapping[str, Any]) -> Values:
    """The values of all controls on the host."""
    batch = _batch(variables)
    done = host.backend.connection.run(batch.command, stdin=batch.program)
    try:
        return batch.values(done.stdout)
    except ValueError as error:
        error_lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = error_lines[-1] if error_lines else f"exit status {done.status}"
        raise BuilderError(f"the hardening controls cannot be checked: {error} ({reason})") from None


@pytest.mark.retry(0)
def test_control(subject: Subject, values: Values, gate: str) -> None:
    """The host has the values that the control expects."""
    if subject.reboot and gate == "builder":
        pytest.skip(AFTER_BOOT)
    result = check_control(subject, values)
    if result.outcome == "not-applicable":
        pytest.skip(result.message)
    assert result.outcome == "passed", result.message


@pytest.mark.retry(0)
def test_software(variables: Mapping[str, Any]) -> None:
    """Agents and software are as the recipe set them up: the hardening undid nothing."""
    undone = variables["undone"]
    if undone is None:
        pytest.skip("checked on a builder, after the hardening")
    found = "".join(
        f"\n  {one['place']}: {one['title']}" + (f" ({one['detail']})" if one["detail"] else "") for one in undone
    )
    assert not undone, (
        f"the hardening undid what the recipe set up:{found}\n"
        "Waive the control that does it (hardening.waivers), or change the operation."
    )
