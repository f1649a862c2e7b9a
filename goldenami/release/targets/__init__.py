"""The modes of targets: how a target gets its image. One module a mode; every module of this folder is loaded.

A new mode is one new file: a subclass of :class:`Mode` with ``@register``. The recipe room takes the allowed names and
the descriptions from here, the plan its line, the distribution its work, verification and retirement who owns what.

No module here imports an AWS library when it is loaded, so that ``goldenami validate`` stays quick. A mode that makes
calls of its own imports ``goldenami.aws`` inside ``deliver``.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from goldenami.release.targets.mode import (
    Delivery,
    Mode,
    Source,
    check_rows,
    get_mode,
    home_label,
    is_home,
    names,
    notes,
    owners,
    owns,
    register,
    registered,
    summaries,
)

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Delivery",
    "Mode",
    "Source",
    "check_rows",
    "get_mode",
    "home_label",
    "is_home",
    "names",
    "notes",
    "owners",
    "owns",
    "register",
    "registered",
    "summaries",
]
