"""Limits of AWS that recipes and environments can exceed: characters, tags, parameter names, ages, volumes.

EC2 accepts ASCII only in descriptions. The tags of a build are also the tags of SSM parameters, which have fewer
characters than those of EC2. ("Tag your Amazon EC2 resources"; Tag and PutParameter, Systems Manager API reference;
EnableImageDeprecation and CreateVolume, EC2 API reference.)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final

from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.problems import Problems
from goldenami.recipe.words import seconds

MOST_TAGS: Final = 50
OWN_TAGS: Final = 18  # the tags that goldenami itself can set on one resource
LONGEST_PREFIX: Final = 800  # a name has 1011 characters with its ARN; the levels below the prefix need up to 150
MOST_DEPRECATION_DAYS: Final = 3650

_NOT_ALLOWED = re.compile(r"[^\w .:/=+\-@]")


def check_environment(spec: Mapping[str, Any], at: NodePath, document: Document, problems: Problems) -> None:
    """Report the tags of an environment that AWS would refuse, and a parameter prefix that is too long."""
    _check_tags(spec.get("tags"), (*at, "tags"), document, problems, others=0)
    prefix = spec.get("parameter_prefix")
    if isinstance(prefix, str) and len(prefix) > LONGEST_PREFIX:
        problems.add(
            document.mark((*at, "parameter_prefix")),
            f"parameter_prefix has {len(prefix)} characters, expected {LONGEST_PREFIX} at most",
            "The name of an SSM parameter has at most 1011 characters, with its ARN.",
        )


def check_recipe(
    value: Mapping[str, Any], environment_tags: Mapping[str, str], document: Document, problems: Problems
) -> None:
    """Report the values of a recipe that AWS would refuse. ``value``: the recipe with its expressions replaced."""
    _check_ascii(value.get("description"), ("description",), document, problems)
    image = value.get("image")
    if isinstance(image, dict):
        given = image.get("tags")
        others = len(environment_tags.keys() - given.keys()) if isinstance(given, dict) else 0
        _check_tags(given, ("image", "tags"), document, problems, others=others)
        _check_volume(image.get("root_volume"), ("image", "root_volume"), document, problems)
        volumes = image.get("volumes")
        for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
            _check_volume(volume, ("image", "volumes", index), document, problems)
    for at, rules in _retention_rules(value.get("retention")):
        _check_age(rules.get("deprecate_after"), (*at, "deprecate_after"), document, problems)


def _retention_rules(retention: object) -> Iterator[tuple[NodePath, Mapping[str, Any]]]:
    if not isinstance(retention, dict):
        return
    yield ("retention",), retention
    channels = retention.get("channels")
    for name, rules in channels.items() if isinstance(channels, dict) else ():
        if isinstance(rules, dict):
            yield ("retention", "channels", name), rules


def _check_ascii(text: object, at: NodePath, document: Document, problems: Problems) -> None:
    problem = not_ascii(text.rstrip("\n")) if isinstance(text, str) else None  # a block of YAML ends with a line end
    if problem is not None:
        problems.add(document.mark(at), f"{at[-1]}: {problem[0]}", problem[1])


def not_ascii(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a text that EC2 accepts only in ASCII, and a hint; None if it is right."""
    character = next((c for c in text if not c.isascii() or not c.isprintable()), None)
    if character is None:
        return None
    if character.isascii():
        return f"{character!r} is a control character, which a description cannot have", "Write one line of text."
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    hint = f"Write {plain!r} instead." if plain else "Remove it, or write it in ASCII."
    return f"{character!r} is not an ASCII character, and EC2 accepts ASCII only", hint


def _check_tags(given: object, at: NodePath, document: Document, problems: Problems, *, others: int) -> None:
    """Report tags with characters that SSM refuses, and too many tags. ``others``: the number of tags that are added
    from the environment.
    """
    if not isinstance(given, dict):
        return
    for key, text in given.items():
        places = (("key", key, document.key_mark((*at, key))), ("value", text, document.mark((*at, key))))
        for what, part, mark in places:
            wrong = _NOT_ALLOWED.search(part) if isinstance(part, str) else None
            if wrong is not None:
                problems.add(
                    mark,
                    f"{at[-1]}: {wrong[0]!r} is not allowed in the {what} of the tag {key!r}",
                    "The tags of SSM parameters have letters, digits, spaces and _ . : / = + - @ only.",
                )
    room = MOST_TAGS - OWN_TAGS
    if len(given) + others > room:
        added = f", with {others} of the environment" if others else ""
        problems.add(
            document.key_mark(at),
            f"{at[-1]}: {len(given) + others} tags{added}, expected {room} at most",
            f"A resource has at most {MOST_TAGS} tags, and goldenami sets up to {OWN_TAGS} itself. Remove some.",
        )


def _check_age(age: object, at: NodePath, document: Document, problems: Problems) -> None:
    if (
        isinstance(age, str)
        and re.fullmatch(r"[0-9]{1,11}[smhdw]", age)
        and seconds(age) > MOST_DEPRECATION_DAYS * 86400
    ):
        problems.add(
            document.mark(at),
            f"deprecate_after is {age}, expected {MOST_DEPRECATION_DAYS}d at most",
            "EC2 deprecates an image within ten years. Leave the key out to deprecate it never.",
        )


# --- volumes ----------------------------------------------------------------------------------------------------------

_SIZES: Final[Mapping[str, tuple[int, int]]] = {
    "gp3": (1, 65536),
    "gp2": (1, 16384),
    "io1": (4, 16384),
    "io2": (4, 65536),
    "st1": (125, 16384),
    "sc1": (125, 16384),
    "standard": (1, 1024),
}
_IOPS: Final[Mapping[str, tuple[int, int]]] = {"gp3": (3000, 80000), "io1": (100, 64000), "io2": (100, 256000)}
_IOPS_PER_GIB: Final[Mapping[str, int]] = {"gp3": 500, "io1": 50, "io2": 1000}
_INCLUDED_IOPS: Final = 3000  # gp3 has them at every size
_IOPS_PER_MIB: Final = 4  # of throughput


def _check_volume(volume: object, at: NodePath, document: Document, problems: Problems) -> None:
    """Report a size, IOPS and throughput that the type of the volume, or each other, do not allow."""
    if not isinstance(volume, dict):
        return
    kind = volume.get("type", "gp3")
    if kind not in _SIZES:  # the schema reports it
        return
    # The schema reports values that no type allows.
    size = _number(volume.get("size_gib"), 1, 65536)
    iops = _number(volume.get("iops"), 100, 256000)
    throughput = _number(volume.get("throughput"), 125, 2000)
    _check_range("size_gib", size, kind, _SIZES[kind], at, document, problems)
    if kind not in _IOPS:
        return
    fits = _check_range("iops", iops, kind, _IOPS[kind], at, document, problems)
    if fits and iops is not None and size and iops > max(size * _IOPS_PER_GIB[kind], _free_iops(kind)):
        problems.add(
            document.mark((*at, "iops")),
            f"iops is {iops} for {size} GiB, expected {size * _IOPS_PER_GIB[kind]} at most",
            f"{kind} allows {_IOPS_PER_GIB[kind]} IOPS for each GiB. Lower iops, or raise size_gib.",
        )
    if throughput is not None and kind == "gp3" and throughput * _IOPS_PER_MIB > (iops or _INCLUDED_IOPS):
        problems.add(
            document.mark((*at, "throughput")),
            f"throughput is {throughput} MiB/s for {iops or _INCLUDED_IOPS} IOPS, expected "
            f"{(iops or _INCLUDED_IOPS) // _IOPS_PER_MIB} at most",
            f"gp3 needs {_IOPS_PER_MIB} IOPS for each MiB/s: set iops to {throughput * _IOPS_PER_MIB} or more.",
        )


def _free_iops(kind: str) -> int:
    return _INCLUDED_IOPS if kind == "gp3" else 0


def _number(value: object, least: int, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


def _check_range(
    name: str,
    value: int | None,
    kind: str,
    limits: tuple[int, int],
    at: NodePath,
    document: Document,
    problems: Problems,
) -> bool:
    least, most = limits
    if value is None or least <= value <= most:
        return True
    message = f"{name} is {value}, expected {least} to {most} for {kind}"
    problems.add(document.mark((*at, name)), message, "Change it, or the type.")
    return False
