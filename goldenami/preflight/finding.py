"""A finding: one cause for which a build would fail, or one risk, found by reads alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from goldenami.errors import AccessError, GoldenAmiError, NotFound, UsageError
from goldenami.model import Mark, Place
from goldenami.nextstep import step

Level = Literal["error", "warning", "unknown"]
SCHEMA: Final = "goldenami.doctor/1"
_NOWHERE: Final = Mark("", 0, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """``code``: what was checked, one of ``checks.CODES``. ``level``: an error stops a build, a warning does not, and
    "unknown" means that the read which the check needs failed.

    ``place``: where in the cloud; ``mark``: where in a file. ``hint``: the next step. ``exit_code``: the exit code if
    there are no other errors.
    """

    code: str
    level: Level
    message: str
    hint: str = ""
    place: Place | None = None
    mark: Mark = _NOWHERE
    exit_code: int = GoldenAmiError.exit_code

    def __str__(self) -> str:
        where = ": ".join(str(part) for part in (self.mark, self.place) if part is not None and str(part))
        return f"{where}: {self.message}" if where else self.message

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {
            "code": self.code,
            "level": self.level,
            "message": self.message,
            "hint": self.hint,
            "place": str(self.place) if self.place is not None else None,
            "file": self.mark.file or None,
            "line": self.mark.line or None,
            "column": self.mark.column or None,
        }


def from_error(
    code: str, error: GoldenAmiError, *, level: Level = "error", place: Place | None = None, mark: Mark = _NOWHERE
) -> Finding:
    """Return the finding for an error that a read raised."""
    kept = isinstance(error, (AccessError, NotFound, UsageError))
    status = error.exit_code if kept else GoldenAmiError.exit_code
    return Finding(code, level, error.message, error.hint or "", place, mark, status)


class PreflightFailed(GoldenAmiError):
    """A build cannot work. ``findings``: all causes; the warnings, too. The exit code is that of the errors if they
    have the same one, else 1."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        errors = [finding for finding in self.findings if finding.level == "error"]
        lines = [f"  {finding}" + (f"\n    {finding.hint}" if finding.hint else "") for finding in errors]
        count = f"{len(errors)} problem{'s' if len(errors) != 1 else ''}"
        super().__init__(
            f"{count} found before anything was created:\n" + "\n".join(lines),
            hint=f"{step('doctor')} makes the same checks.",
        )
        codes = {finding.exit_code for finding in errors}
        self.exit_code = codes.pop() if len(codes) == 1 else GoldenAmiError.exit_code
