"""The intent log of one build: what makes the build survive its process.

``Journals`` are all of an environment: ``create``, ``open``, ``list``. They are kept on a store (``goldenami.store``):
in a directory, or in a bucket for pipelines whose next run is on another machine. ``storage`` has the layout of both.

The first line is the header. After it, for each mutating call: an *intent* before the call (kind, place, key, token,
the exact request), and after it a *result* (the id that came back, or the error by which the service refused). A call
whose outcome is unknown has an intent and no result, which is exactly what a killed process leaves behind. ``gone``
records that a resource was deleted, ``spoiled`` that it exists but must not be used (a failed copy), ``stage`` and
``note`` what the pipeline wants to remember, ``end`` how the build ended.

A crash can only tear the last line: it is dropped on opening if it is not whole. Anything else that cannot be read is
corruption, and refused with its place, because a journal that is trusted wrongly leaks or deletes the wrong things.

Replay is pure (``records``); nothing here knows files or AWS.
"""

from goldenami.journal.builds import Journals, Summary
from goldenami.journal.log import Journal
from goldenami.journal.records import (
    SCHEMA,
    Action,
    Ending,
    Header,
    Intent,
    Resource,
    Result,
    Secret,
    State,
    new_build_id,
    replay,
    token,
    utc_now,
    walk,
)
from goldenami.journal.storage import FILE, IN_A_BUCKET, IN_A_DIRECTORY, Layout, Records, Seal, Storage
from goldenami.store import Holder, Wait

__all__ = [
    "FILE",
    "IN_A_BUCKET",
    "IN_A_DIRECTORY",
    "SCHEMA",
    "Action",
    "Ending",
    "Header",
    "Holder",
    "Intent",
    "Journal",
    "Journals",
    "Layout",
    "Records",
    "Resource",
    "Result",
    "Seal",
    "Secret",
    "State",
    "Storage",
    "Summary",
    "Wait",
    "new_build_id",
    "replay",
    "token",
    "utc_now",
    "walk",
]
