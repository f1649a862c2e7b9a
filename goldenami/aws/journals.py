"""The journals of an environment, wherever it keeps them: the one place that decides it.

journals = of(environment)
with journals.create(header) as journal:
    ledger = Ledger(cloud, journal, tags)
    ...
"""

from __future__ import annotations

from pathlib import Path

from goldenami.aws.lease import Terms
from goldenami.aws.s3 import SCHEME, Bucket
from goldenami.aws.s3journal import S3Storage
from goldenami.aws.session import Cloud
from goldenami.errors import UsageError
from goldenami.journal import Journals
from goldenami.model import Environment


def of(environment: Environment, cloud: Cloud | None = None, *, terms: Terms = Terms()) -> Journals:  # noqa: B008  frozen
    """Those of an environment: in a directory, or in a bucket that the home account's credentials reach.

    ``cloud``: the one that is used for its work anyway; made if need be, and only where journals are in a bucket.
    ``terms``: how leases are kept there. Nothing is sent.
    """
    if not environment.builds.startswith(SCHEME):
        return Journals(Path(environment.builds))
    home = environment.home_place
    bucket = Bucket(cloud or Cloud.of(environment), home, environment.builds)
    return Journals(S3Storage(bucket, local=Path(environment.local) / "builds", key=_key(environment), terms=terms))


def _key(environment: Environment) -> str:
    """The key of the home region: an environment has it, since the image there is the one that is tested."""
    home = environment.home_place
    found = next((t.kms_key for t in environment.targets if t.place == home and t.mode == "copy"), None)
    if found is None:
        raise UsageError(
            f"the environment {environment.name} has no target in {home}, whose key its journals' secrets need",
            hint=f"Add {home.region} to the home account's targets.",
        )
    return found
