"""The journal: the append-only record of one build or task. With it the build can be resumed by another process.

``Journals`` are all journals of an environment: ``create``, ``open``, ``list``. They are in a store
(``goldenami.store``): a directory, or a bucket for pipelines whose next run is on another machine. ``storage`` has the
layout of both.

The first line is the header. For each mutating call there is an *intent* before the call (kind, place, key, token, the
exact request) and a *result* after it (the returned id, or the error of a refused call). A call of unknown outcome has
an intent and no result: a killed process leaves such intents behind. ``gone`` records that a resource was deleted,
``spoiled`` that it exists but must not be used (a failed copy), ``stage`` and ``note`` the data of the pipeline,
``end`` how the build ended.

A crash can only tear the last line. If that line is incomplete, it is dropped when the journal is opened. A journal
with any other unreadable line is refused, with file and line, because a wrong journal would leave or delete the wrong
resources.

Beside each journal are the events of its runs (``eventlog``), for people; nothing is decided by them.

Replay is pure (``records``). This package does not depend on AWS.
"""

from goldenami.journal.authentic import Authenticator
from goldenami.journal.builds import Journals, Summary
from goldenami.journal.eventlog import EventLogs, Recorded
from goldenami.journal.log import Journal
from goldenami.journal.records import (
    NOTIFICATION,
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
from goldenami.journal.storage import FILE, IN_A_BUCKET, IN_A_DIRECTORY, LOGINS, Layout, Records, Storage
from goldenami.store import Holder, Seal, Wait

__all__ = [
    "FILE",
    "IN_A_BUCKET",
    "IN_A_DIRECTORY",
    "LOGINS",
    "NOTIFICATION",
    "SCHEMA",
    "Action",
    "Authenticator",
    "Ending",
    "EventLogs",
    "Header",
    "Holder",
    "Intent",
    "Journal",
    "Journals",
    "Layout",
    "Recorded",
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
