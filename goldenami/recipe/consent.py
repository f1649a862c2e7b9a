"""Whether the Python code of a project may be executed (see ``code``). Apart from it, because every command asks, and
few execute any."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from goldenami.errors import UsageError
from goldenami.nextstep import step

VARIABLE = "GOLDENAMI_ALLOW_PROJECT_CODE"
_NO, _YES = ("", "0", "false", "no"), ("1", "true", "yes")


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether the Python code of a project may be executed. ``digests``: only files with one of these digests."""

    everything: bool = False
    digests: frozenset[str] = frozenset()

    @classmethod
    def from_variables(cls, variables: Mapping[str, str] = os.environ) -> Consent:
        """Return the consent of GOLDENAMI_ALLOW_PROJECT_CODE: empty, 0, 1, or SHA-256 digests with commas between them.

        Raises UsageError for another value.
        """
        given = variables.get(VARIABLE, "").strip().lower()
        if given in _NO or given in _YES:
            return cls(everything=given in _YES)
        digests = frozenset(part.strip() for part in given.split(","))
        if not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
            raise UsageError(
                f"{VARIABLE} is {variables[VARIABLE]!r}: expected 0, 1, or SHA-256 digests with commas between them",
                hint=f"{step('validate')} prints the digest of the files that it did not execute.",
            )
        return cls(digests=digests)

    def covers(self, digest: str) -> bool:
        """Return whether this consent allows the execution of the files with a digest."""
        return self.everything or digest in self.digests


NOTHING = Consent()
EVERYTHING = Consent(everything=True)
