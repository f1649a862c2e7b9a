"""The intent log of one build: what makes the build survive its process.

``Journals`` are all of an environment: ``create``, ``open``, ``list``. They are kept in a directory, or in a bucket
for pipelines whose next run is on another machine; ``storage`` says what is asked of either. In a directory::

    <build id>/journal.jsonl     one JSON object a line, appended and fsynced, never rewritten
    <build id>/lock              held (flock) by the one process that works on the build; says who that is
    <build id>/secrets/          mode 0700: what calls need and the journal must not hold, one 0600 file each; removed
                                 at the end
    locks/<recipe>               held (flock) by the one process that builds the recipe

The first line is the header. After it, for each mutating call: an *intent* before the call (kind, place, key, token,
the exact request), and after it a *result* (the id that came back, or the error by which the service refused). A call
whose outcome is unknown has an intent and no result, which is exactly what a killed process leaves behind. ``gone``
records that a resource was deleted, ``spoiled`` that it exists but must not be used (a failed copy), ``stage`` and
``note`` what the pipeline wants to remember, ``end`` how the build ended.

A crash can only tear the last line: it is dropped on opening if it is not whole. Anything else that cannot be read is
corruption, and refused with its place, because a journal that is trusted wrongly leaks or deletes the wrong things.

Replay is pure (``records``); ``directory`` knows files, and nothing here knows AWS.
"""

from goldenami.journal.builds import Journals, Summary, Wait
from goldenami.journal.directory import FILE, DirectoryStorage
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
from goldenami.journal.storage import Holder, Log, SideFiles, Storage

__all__ = [
    "FILE",
    "SCHEMA",
    "Action",
    "DirectoryStorage",
    "Ending",
    "Header",
    "Holder",
    "Intent",
    "Journal",
    "Journals",
    "Log",
    "Resource",
    "Result",
    "Secret",
    "SideFiles",
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
