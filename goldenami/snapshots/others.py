"""Refuses to change snapshots and volumes that another catalog or environment created."""

from __future__ import annotations

from collections.abc import Mapping

from goldenami.aws import catalogs
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.aws.tags import CATALOG
from goldenami.errors import UsageError
from goldenami.model import Environment
from goldenami.store import read_identity


def refuse_others(environment: Environment, cloud: Cloud, resources: Mapping[str, Mapping[str, str]]) -> None:
    """Check resources that a user named. ``resources``: their tags by id.

    Resources without goldenami's tags are the user's own, and may be changed. Raises UsageError with every resource of
    another catalog or environment.
    """
    owner = Owner(read_identity(catalogs.open_store(environment, cloud)), environment.name)
    answers = {id: owner.of_tags(own) for id, own in resources.items() if own.get(CATALOG)}
    problems = [f"{id} is {answer.reason}" for id, answer in sorted(answers.items()) if answer.whose == "theirs"]
    if problems:
        raise UsageError(
            "nothing was changed: " + "; ".join(problems),
            hint="Run the command in that environment, with the catalog that it names.",
        )
