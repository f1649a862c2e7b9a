"""The state of a host: files, services, users, listening ports, kernel settings, and the size of its disk.

The text is parsed by ``evidence.state``. It is read in the program that seals a builder, after the sealing, so it costs
no round trip and tells what is captured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from goldenami.provision.program import Fact
from goldenami.provision.walk import walk_below
from goldenami.shell import Script, sh


def state_below(top: str) -> Script:
    """Return code that prints the state of what is below a folder; empty for the root folder. ``$work`` must be a
    directory."""
    text = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")
    return Script("export LC_ALL=C\n") + walk_below(top) + sh(text, top=Script(top))


STATE: Final = Fact("state", state_below(""))
"""The state of a host, as text for ``evidence.state.parse``."""
