"""Opens the store of an environment's catalog, in a directory or in a bucket. Only this module decides between the two.

``open_store`` and ``open_proofs`` themselves send no request.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from goldenami.errors import CatalogError
from goldenami.model import Account, Environment, Place
from goldenami.store import DirectoryStore, SecretKey, Store

if TYPE_CHECKING:
    from goldenami.aws.ownership import Proofs
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


def open_for_consumer(where: str, region: str) -> tuple[Store, Callable[[], str | None]]:
    """Return the store of a catalog for a caller without an environment, and a function that returns the id of the
    caller's account; None if there are no credentials.

    ``where``: a directory or an s3:// URL. ``region``: any region, for the first call. Any account may own the bucket,
    because only reads are made. Sends no request for a directory; for a bucket, one to STS.
    """
    if not where.startswith("s3://"):
        return DirectoryStore(Path(where), error=CatalogError), lambda: _caller(region)
    from goldenami.aws.bucketstore import BucketStore
    from goldenami.aws.s3 import Bucket
    from goldenami.aws.session import Cloud

    cloud = Cloud({}, Place("", region))
    account = cloud.caller().account
    caller = Cloud({"caller": Account("caller", account)}, Place(account, region))
    return BucketStore(Bucket(caller, caller.home, where, None)), lambda: account


def _caller(region: str) -> str | None:
    from goldenami.aws.session import Cloud

    cloud = Cloud({}, Place("", region))
    return cloud.caller().account if cloud.has_credentials() else None


def open_proofs(environment: Environment, cloud: Cloud) -> Proofs:
    """Return the proofs of what the environment created. The key is read or created when it is first needed, and is
    encrypted in a bucket. Sends no request."""
    from goldenami.aws.ownership import Proofs  # here, because most commands only read the catalog

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
