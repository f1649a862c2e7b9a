"""The suite ``hardening``: one test a control. All values are read at once, over the connection that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from goldenami.errors import BuilderError
from goldenami.hardening.batch import Batch, Subject, Values, judge
from goldenami.hardening.results import AFTER_BOOT

Host = Any  # testinfra's


def _batch(variables: Mapping[str, Any]) -> Batch:
    return Batch.from_json(variables["hardening"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    run = metafunc.config.pluginmanager.get_plugin("goldenami-run")
    assert run is not None
    subjects = _batch(run.settings.variables).subjects
    metafunc.parametrize("subject", subjects, ids=[subject.id for subject in subjects])


@pytest.fixture(scope="module")
def values(host: Host, variables: Mapping[str, Any]) -> Values:
    """What the host says, of all controls."""
    batch = _batch(variables)
    done = host.backend.connection.run(batch.command, stdin=batch.program)
    try:
        return batch.values(done.stdout)
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"exit status {done.status}"
        raise BuilderError(f"the hardening controls cannot be checked: {error} ({reason})") from None


@pytest.mark.retry(0)
def test_control(subject: Subject, values: Values, gate: str) -> None:
    """The values on the host are those that the control expects."""
    if subject.reboot and gate == "builder":
        pytest.skip(AFTER_BOOT)
    verdict = judge(subject, values)
    if verdict.outcome == "not-applicable":
        pytest.skip(verdict.message)
    assert verdict.outcome == "passed", verdict.message
