"""The durable store below the journal, the catalog and the locks.

``protocol`` defines it. ``directory`` implements it in a directory: fsync, atomic renames, locks of the kernel.
``goldenami.aws.bucketstore`` implements it in a bucket: conditional writes, and leases that expire.

The store does not interpret the bytes. ``journal`` and ``release.catalog`` define the formats; ``identity`` defines the
record with the id of a catalog; ``keys`` keeps secret keys.
"""

from goldenami.store.directory import DirectoryStore
from goldenami.store.identity import ensure_identity, is_identity, read_identity
from goldenami.store.keys import SecretKey
from goldenami.store.protocol import Holder, Lock, Log, Seal, Store, Stored, Wait, busy

__all__ = [
    "DirectoryStore",
    "Holder",
    "Lock",
    "Log",
    "Seal",
    "SecretKey",
    "Store",
    "Stored",
    "Wait",
    "busy",
    "ensure_identity",
    "is_identity",
    "read_identity",
]
