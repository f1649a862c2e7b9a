"""Opens the store of an environment's catalog, in a directory or in a bucket. Only this module decides between the two.

``open_store`` and ``open_proofs`` themselves send no request.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goldenami.aws.ownership import Proofs
from goldenami.errors import CatalogError
from goldenami.model import Environment
from goldenami.store import DirectoryStore, SecretKey, Store

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


def open_proofs(environment: Environment, cloud: Cloud) -> Proofs:
    """Return the proofs of what the environment created. The key is read or created when it is first needed, and is
    encrypted in a bucket. Sends no request."""
    store = open_store(environment, cloud)

    def key() -> SecretKey:
        if not environment.catalog.startswith("s3://"):
            return SecretKey(store, environment.name, None, CatalogError)
        from goldenami.aws.envelope import Envelopes, key_of

        kms_key, name = key_of(environment, "catalog"), environment.name
        seal = Envelopes(
            cloud, environment.home_place, kms_key, environment=name, purpose="catalog", error=CatalogError
        )
        return SecretKey(store, name, seal, CatalogError)

    return Proofs(lambda: key().read(), lambda: key().ensure())
