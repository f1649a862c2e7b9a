"""Templates of AMI names and of the prefix of SSM parameters, and the rules of AWS for both.

A template has variables in double braces, as recipes do: ``{{ recipe.name }}-{{ version }}-{{ architecture }}``. It has
no other expressions, because the same text must give the name of every version. So the names of a day can be searched.

The rules are from "CreateImage" (EC2 API reference) and "PutParameter" (Systems Manager API reference).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from goldenami.model import Architecture

NEEDED: Final = ("recipe.name", "version", "architecture")  # without one of them, two images would have one name
_VARIABLE: Final = re.compile(r"\{\{ *([a-z.]+) *\}\}")
ENVIRONMENT: Final = "environment.name"

_IMAGE_CHARACTERS: Final = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]*")
LONGEST_IMAGE_NAME: Final = 128
_LONGEST_NUMBER: Final = "20261231.999"  # a day and the 999th build of that day

# Below the prefix: recipe, architecture, channel or version, "image-id".
_LEVELS_BELOW: Final = 4
_MOST_LEVELS: Final = 15
# The limit is 1011 characters. The names of recipes and channels have at most 64.
_LONGEST_PREFIX: Final = 1011 - len("/x86_64//image-id") - 1 - 64 - 64


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace the variables that have a value. The others stay."""
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), template)


def image_name(template: str, *, recipe: str, version: str, architecture: Architecture) -> str:
    """Return the name of the AMI of one version."""
    return fill(template, {"recipe.name": recipe, "version": version, "architecture": architecture})


def image_name_problem(template: str) -> tuple[str, str] | None:
    """Return what is wrong with a template of AMI names, and a hint; None if it is right."""
    example = "Write for example '{{ recipe.name }}-{{ environment.name }}-{{ version }}-{{ architecture }}'."
    unknown = [name for name in _VARIABLE.findall(template) if name not in (*NEEDED, ENVIRONMENT)]
    if unknown:
        return f"there is no variable {unknown[0]!r}, expected {_listed((*NEEDED, ENVIRONMENT))}", example
    missing = [name for name in NEEDED if name not in _VARIABLE.findall(template)]
    if missing:
        return f"{{{{ {missing[0]} }}}} is missing, so two images would have the same name", example
    rest = _VARIABLE.sub("", template)
    if not _IMAGE_CHARACTERS.fullmatch(rest):
        wrong = next(character for character in rest if not _IMAGE_CHARACTERS.fullmatch(character))
        return (
            f"the name of an AMI cannot have {wrong!r}, expected letters, digits, spaces and ()[]./-'@_",
            "Remove this character. A variable is written as {{ recipe.name }}, without filters.",
        )
    return None


def too_long(template: str, recipe: str, line: str, architectures: Sequence[Architecture]) -> str | None:
    """Return the longest name of a recipe's AMIs if it is too long for EC2, or None. ``line``: its MAJOR.MINOR."""
    version = f"{line}.{_LONGEST_NUMBER}"
    names = (image_name(template, recipe=recipe, version=version, architecture=a) for a in architectures)
    longest = max(names, key=len, default="")
    return longest if len(longest) > LONGEST_IMAGE_NAME else None


def prefix_problem(prefix: str) -> tuple[str, str] | None:
    """Return what is wrong with a filled prefix of SSM parameters, and a hint; None if it is right."""
    first = prefix.lstrip("/").lower()
    if first.startswith(("aws", "ssm")):
        return f"{prefix!r} begins with {first[:3]}, which Systems Manager reserves", "Choose another first part."
    levels = prefix.count("/")
    if levels > _MOST_LEVELS - _LEVELS_BELOW:
        return (
            f"{prefix!r} has {levels} levels, expected at most {_MOST_LEVELS - _LEVELS_BELOW}",
            f"Parameters have at most {_MOST_LEVELS} levels, and goldenami adds {_LEVELS_BELOW}.",
        )
    if len(prefix) > _LONGEST_PREFIX:
        return f"it has {len(prefix)} characters, expected at most {_LONGEST_PREFIX}", "Choose a shorter prefix."
    return None


def name_patterns(
    template: str, recipe: str, line_and_day: str, architectures: Sequence[Architecture]
) -> Iterator[str]:
    """Yield a pattern for each architecture that the names of all versions of one day match, for filters of EC2.

    ``*`` is no character of a name, so only the number of the version is open.
    """
    for architecture in architectures:
        yield image_name(template, recipe=recipe, version=f"{line_and_day}.*", architecture=architecture)


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
