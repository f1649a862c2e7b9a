"""The journals of an environment, wherever it keeps them: the one place that decides it.

journals = of(environment)
with journals.create(header) as journal:
    ledger = Ledger(cloud, journal, tags)
    ...
"""

from __future__ import annotations

from pathlib import Path

from goldenami.aws.session import Cloud
from goldenami.journal import Journals
from goldenami.model import Environment


def of(environment: Environment, cloud: Cloud | None = None) -> Journals:  # noqa: ARG001
    """Those of an environment. ``cloud``: the one that is used for its work anyway; made if need be, and where journals
    are in a bucket. Nothing is sent."""
    return Journals(Path(environment.builds))
