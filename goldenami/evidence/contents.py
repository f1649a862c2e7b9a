"""The content digest of a volume: a SHA-256 over its blocks, which every copy of a snapshot has.

Definition ``goldenami.blocks/1``: the volume is divided into blocks of 512 KiB, which count from 0. Blocks that have
only zeros are left out, as EBS leaves them out. The digest is the SHA-256 of this text, in ASCII: the line
``goldenami.blocks/1 524288``, and for each block, sorted by its number, a line with the number, a space, and the
SHA-256 of the block in lower-case hexadecimal digits.

So the digest depends on neither the key nor the account nor the region of a snapshot, nor on which blocks EBS stores.

The EBS direct APIs read the blocks. They cost a request for each block with data, and ListSnapshotBlocks one for each
10,000: for 2 GiB of data about 4,100 requests, which is about 0.012 USD ("EBS direct APIs pricing", us-east-1). The
quota of 1,000 GetSnapshotBlock requests a second for an account, and 1,000 for a snapshot, is not reached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from goldenami.aws import blocks
from goldenami.aws.session import Cloud
from goldenami.each import all_of
from goldenami.errors import AccessError
from goldenami.model import Place

ALGORITHM: Final = "goldenami.blocks/1"
_ZEROS: Final = hashlib.sha256(bytes(blocks.BLOCK_SIZE)).hexdigest()
_AT_ONCE: Final = 16  # reads; each takes about as long as its 512 KiB need


def digest(checksums: Mapping[int, str]) -> str:
    """Return the content digest of blocks: number -> SHA-256 in hexadecimal digits. Pure."""
    whole = hashlib.sha256(f"{ALGORITHM} {blocks.BLOCK_SIZE}\n".encode())
    for index, checksum in sorted(checksums.items()):
        if checksum != _ZEROS:
            whole.update(f"{index} {checksum}\n".encode())
    return whole.hexdigest()


class Contents(NamedTuple):
    """The content digest of a volume. ``blocks``: how many were read, for reports."""

    digest: str
    blocks: int


def of_snapshot(
    cloud: Cloud, place: Place, snapshot_id: str, check: Callable[[], None] | None = None, *, at_once: int = _AT_ONCE
) -> Contents:
    """Return the content digest of a snapshot. Reads all of its blocks, one request for each.

    ``check`` is called before each block, and may raise to end the work. Raises NotComparable ("unreadable") if the
    caller may not read the snapshot.
    """
    tokens = blocks.list_tokens(cloud, place, snapshot_id)

    def one(index: int) -> str:
        if check is not None:
            check()
        return hashlib.sha256(blocks.read(cloud, place, snapshot_id, index, tokens[index])).hexdigest()

    indices = sorted(tokens)
    try:
        checksums = dict(zip(indices, all_of(indices, one, at_once=at_once), strict=True))
    except AccessError as error:
        if error.ends_everything:
            raise
        raise blocks.NotComparable("unreadable", error.message) from error
    return Contents(digest(checksums), len(indices))
