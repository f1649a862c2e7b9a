"""What a release of the project needs. It is run without anything installed: ``python .ci/release.py check [TAG]``.

``check``  the version, the top of CHANGELOG.md and the pin of the sandbox agree, and the tag with them, if it is given.
           Exit code 1, and one line for each difference, if not.
``notes``  print the top section of CHANGELOG.md, the text of the release.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path = ROOT) -> str:
    """The version of both distributions."""
    return re.findall(r'^__version__ = "(.+)"$', (root / "goldenami" / "__init__.py").read_text(), re.M)[0]


def notes(root: Path = ROOT) -> tuple[str, str]:
    """The heading and the text of the top section of CHANGELOG.md."""
    section = (root / "CHANGELOG.md").read_text().split("\n## ")[1]
    heading, _, text = section.partition("\n")
    return heading.strip(), text.strip()


def differences(tag: str | None = None, root: Path = ROOT) -> list[str]:
    """One line for each thing that does not have the version; an empty list if a release can be made."""
    expected = version(root)
    found = []
    heading, text = notes(root)
    if heading.split(" ")[0] != expected:
        found.append(f"CHANGELOG.md: the top section is '{heading}'; expected '{expected}', the version")
    elif not text:
        found.append(f"CHANGELOG.md: the section '{heading}' is empty; expected what changed in this version")
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pin = f"goldenami-sandbox=={expected}"
    if extras["sandbox"] != [pin]:
        found.append(f"pyproject.toml: the extra 'sandbox' is {extras['sandbox']}; expected ['{pin}']")
    if tag is not None and tag != f"v{expected}":
        found.append(f"the tag is '{tag}'; expected 'v{expected}', the version with a v")
    return found


def main(arguments: list[str]) -> int:
    match arguments:
        case ["check", *tag] if len(tag) <= 1:
            found = differences(*tag)
            sys.stderr.writelines(f"{line}\n" for line in found)
            return 1 if found else 0
        case ["notes"]:
            sys.stdout.write(notes()[1] + "\n")
            return 0
    sys.stderr.write(__doc__ or "")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
