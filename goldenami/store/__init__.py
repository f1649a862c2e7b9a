"""One durable store, under the journal, the catalog and the locks.

``protocol`` defines it. ``directory`` keeps it in a directory: fsync, atomic names, locks of the kernel.
``goldenami.aws.bucketstore`` keeps it in a bucket: conditional writes, and leases that expire.

Nothing here knows what the bytes mean. The formats are those of ``journal`` and ``release.catalog``.
"""

from goldenami.store.directory import DirectoryStore
from goldenami.store.protocol import Holder, Lock, Log, Store, Stored, Wait, busy

__all__ = ["DirectoryStore", "Holder", "Lock", "Log", "Store", "Stored", "Wait", "busy"]
