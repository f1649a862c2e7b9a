"""Opens the journals of an environment, in a directory or in a bucket. Only this module decides between the two.

::

    journals = open_journals(environment)
    with journals.create(header) as journal:
        ledger = Ledger(cloud, journal, tags)
        ...

``open_journals`` itself sends no request.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goldenami.errors import JournalError
from goldenami.journal import IN_A_BUCKET, Authenticator, Journals, Storage
from goldenami.model import Environment
from goldenami.store import SecretKey

if TYPE_CHECKING:
    from goldenami.aws.lease import Terms
    from goldenami.aws.session import Cloud


def open_journals(environment: Environment, cloud: Cloud | None = None, *, terms: Terms | None = None) -> Journals:
    """Return the journals of an environment: in a directory, or in a bucket that the home account's credentials reach.

    ``cloud``: the cloud to use for a bucket; None: a new one if the journals are in a bucket. ``terms``: the duration
    and clocks of leases in a bucket. Sends no request. Raises UsageError if the bucket's secrets have no key.
    """
    if not environment.builds.startswith("s3://"):
        return Journals(Path(environment.builds))
    # The imports are here, because loading botocore is slow and a directory does not need it.
    from goldenami.aws.bucketstore import BucketStore
    from goldenami.aws.envelope import JOURNALS, Envelopes, key_of
    from goldenami.aws.lease import Terms
    from goldenami.aws.s3 import Bucket
    from goldenami.aws.session import Cloud

    bucket = Bucket(
        cloud or Cloud.of(environment), environment.home_place, environment.builds, environment.storage_owner
    )
    terms, key = terms or Terms(), key_of(environment, "builds")

    def seal(build_id: str) -> Envelopes:
        name = environment.name
        return Envelopes(
            bucket.cloud, bucket.place, key, environment=name, purpose="build", error=JournalError, build_id=build_id
        )

    local = Path(environment.local) / "builds"
    store, name = BucketStore(bucket, terms=terms), environment.name
    envelopes = Envelopes(bucket.cloud, bucket.place, key, environment=name, purpose=JOURNALS, error=JournalError)
    authenticator = Authenticator(name, SecretKey(store, name, envelopes, JournalError))
    storage = Storage(store, IN_A_BUCKET, local, seal=seal, authenticator=authenticator, now=terms.now)
    return Journals(storage)
