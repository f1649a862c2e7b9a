"""Opens the store of an environment's catalog, in a directory or in a bucket. Only this module decides between the two.

``open_store`` itself sends no request.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goldenami.errors import CatalogError
from goldenami.model import Environment
from goldenami.store import DirectoryStore, Store

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud


def open_store(environment: Environment, cloud: Cloud | None = None) -> Store:
    """Return the store of a catalog: a directory, or a bucket that the home account's credentials reach.

    ``cloud``: the cloud to use for a bucket; None: a new one if the catalog is in a bucket. Sends no request.
    """
    where = environment.catalog
    if not where.startswith("s3://"):
        return DirectoryStore(Path(where), error=CatalogError)
    # The imports are here, because loading botocore is slow and a directory does not need it.
    from goldenami.aws.bucketstore import BucketStore
    from goldenami.aws.s3 import Bucket
    from goldenami.aws.session import Cloud

    owner = environment.storage_owner
    return BucketStore(Bucket(cloud or Cloud.of(environment), environment.home_place, where, owner))
