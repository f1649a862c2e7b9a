"""Runs programs of the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from goldenami_sandbox.errors import SandboxError


def run(*argv: str, stdin: str | None = None, hint: str | None = None) -> str:
    """Run a program and return its stdout. Raises SandboxError with the last line of its stderr if it fails or is
    missing.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise SandboxError(f"{argv[0]} is not installed", hint=hint) from None
    if done.returncode:
        raise SandboxError(
            f"{' '.join(argv)} failed: {last_line(done.stderr) or f'status {done.returncode}'}", hint=hint
        )
    return done.stdout


def attempt(*argv: str) -> bool:
    """Run a program and return whether it succeeded. For clean-up, where the object may already be deleted."""
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def last_line(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
