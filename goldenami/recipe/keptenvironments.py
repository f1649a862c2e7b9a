"""Keeps the environments of a valid goldenami.yaml in the user's cache.

An entry is found by a digest of everything that decides the result: the content and the place of goldenami.yaml, this
program, the installed packages and the user's home. What the file leads to is compared when an entry is read: the
directories of catalogs after their links, the folder of the sandbox, and the public keys. Only valid files are kept, so
each problem is found again by the checks themselves, with its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import goldenami
from goldenami import extensions, model, plugins, usercache
from goldenami.errors import UsageError
from goldenami.model import Environment
from goldenami.recipe.project import Project, Settings

_FORM: Final = 1  # of an entry
_MOST: Final = 64  # entries in the cache
# The code that decides the result: an editable installation changes it without a new version.
_CODE: Final = ("recipe", "release/targets", "release/names.py", "model.py")
_KINDS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        model.Account,
        model.ChannelRules,
        model.Connection,
        model.Consumer,
        model.Environment,
        model.EventBus,
        model.FeedSource,
        model.KmsSigningKey,
        model.LaunchTemplate,
        model.Mark,
        model.Network,
        model.Place,
        model.Program,
        model.Receiver,
        model.Signing,
        model.Target,
        model.Topic,
        model.VulnerabilityPolicy,
        model.VulnerabilityWaiver,
        model.Webhook,
    )
}


def read(project: Project, endpoint: str | None) -> dict[str, Environment] | None:
    """Return the environments of goldenami.yaml if they were kept, else None. ``endpoint``: of the sandbox."""
    path = _entry(project)
    content = usercache.read(path) if path is not None else None
    if content is None:
        return None
    try:
        return _checked(json.loads(content), project, endpoint)
    except (ValueError, TypeError, LookupError):  # a damaged file
        return None


def _checked(form: Any, project: Project, endpoint: str | None) -> dict[str, Environment] | None:
    """Return the environments of an entry; None if what goldenami.yaml leads to is no longer the same."""
    project.keep_settings(Settings(form["default"], tuple(form["allowed"])))  # the reader of files needs them
    found = {name: _decoded(one, project) for name, one in form["environments"]}
    if not all(directory(project.root, given) == path for given, path in form["directories"]):
        return None
    if not all(_storage(name, endpoint) == path for name, path in form["sandboxes"]):
        return None
    return found if all(_key(project, name) == text for name, text in form["keys"]) else None


def write(project: Project, endpoint: str | None, found: Mapping[str, Environment]) -> None:
    """Keep the environments of a valid goldenami.yaml."""
    from goldenami.recipe.problems import Problems  # loaded already, as the next
    from goldenami.recipe.transports import BUILT_IN

    document = project.document(project.file, Problems())
    # Of what was read, not of the file: somebody may have changed it since.
    path = _entry(project, document.text.encode()) if document is not None else None
    if path is None or document is None:
        return
    if any(one.network.transport not in BUILT_IN for one in found.values()):
        return  # the package of a transport decides what its options are
    given = [one.get(key) for one in document.value["environments"].values() for key in ("catalog", "builds")]
    signings = [one.signing for one in found.values() if one.signing is not None]
    directories = [[one, directory(project.root, one)] for one in given if one and not is_address(one)]
    used = {str(place) for one in found.values() for place in (one.catalog, one.builds)}
    if any(path not in used for _, path in directories):
        return  # a link was changed since
    form = {
        "default": project.settings.environment,
        "allowed": project.settings.allow_outside,
        "directories": directories,
        "sandboxes": [[name, _storage(name, endpoint)] for name, one in found.items() if one.sandbox],
        "keys": [[name, text] for signing in signings for name, text in signing.trusted.items()],
        "environments": [[name, _encoded(one)] for name, one in found.items()],
    }
    usercache.write(path, json.dumps(form, separators=(",", ":")).encode(), _MOST)


def is_address(place: str) -> bool:
    """Whether the place of a catalog or of journals is written as an address, and not as a directory."""
    return re.match("[a-z0-9]+:/", place) is not None


def directory(root: Path, given: str) -> str:
    """Return the directory of a catalog or of journals, absolute and without links."""
    return str((root / Path(given).expanduser()).resolve())


def sandbox_storage(name: str, endpoint: str | None) -> Path | None:
    """Return the directory for the catalog and the journals of a sandbox environment; None if the endpoint is not a
    sandbox of this machine.

    They are files of the sandbox, not of the project: every clone of a project publishes to the same accounts, and a
    reset of the sandbox deletes them together with the images.
    """
    found = plugins.sandbox_directory(endpoint or os.environ.get("AWS_ENDPOINT_URL"))
    return None if found is None else found / name


def _storage(name: str, endpoint: str | None) -> str | None:
    found = sandbox_storage(name, endpoint)
    return None if found is None else str(found)


def _key(project: Project, name: str) -> str | None:
    """Return the text of a public key; None if it cannot be read now."""
    try:
        return project.files.read_bytes(project.root / Path(name).expanduser()).decode()
    except (OSError, ValueError):
        return None


def _entry(project: Project, written: bytes | None = None) -> Path | None:
    """Return the file of the cache for these contents of goldenami.yaml, or for what it is now; None if nothing can be
    kept."""
    folder = usercache.folder("environments")
    if folder is None:
        return None
    try:
        written = project.read_settings_file() if written is None else written
        transports = [[one.name, one.origin] for one in extensions.installed(extensions.TRANSPORTS).values()]
    except (OSError, UsageError):  # the checks report it
        return None
    code = _code()
    if code is None:
        return None
    decides = [
        _FORM,
        hashlib.sha256(written).hexdigest(),
        str(project.root),
        project.shown(project.file),
        goldenami.__version__,
        sys.version,
        code,
        transports,
        str(Path("~").expanduser()),
    ]
    return folder / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()}.json"


def _code() -> list[tuple[str, int, int]] | None:
    """Return the states of the files that decide what an environment is, or None: see ``usercache.states``."""
    root = Path(goldenami.__file__).parent
    files = [file for name in _CODE for file in ((root / name).glob("*.py") if "." not in name else [root / name])]
    return usercache.states(files)


def _encoded(value: Any) -> Any:
    """Return a value of an environment as JSON. What is no text, number or nothing is a list that begins with its
    kind."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case tuple():
            return ["tuple", *map(_encoded, value)]
        case list():
            return ["list", *map(_encoded, value)]
        case frozenset():
            return ["frozenset", *map(_encoded, sorted(value))]
        case Mapping():
            return ["dict", *(_encoded(part) for item in value.items() for part in item)]
        case timedelta():
            return ["timedelta", value.days, value.seconds, value.microseconds]
        case date():
            return ["date", value.year, value.month, value.day]
        case model.SecretSource():
            return ["SecretSource", value.source, value.key]
    kind = type(value)
    if _KINDS.get(kind.__name__) is not kind:
        raise TypeError(f"{kind} is no kind of value that an environment has")
    return [kind.__name__, *(_encoded(getattr(value, field.name)) for field in fields(value))]


def _decoded(form: Any, project: Project) -> Any:
    """Return the value of :func:`_encoded`."""
    if type(form) is not list:
        return form
    kind, parts = form[0], [_decoded(part, project) for part in form[1:]]
    match kind:
        case "tuple":
            return tuple(parts)
        case "list":
            return parts
        case "frozenset":
            return frozenset(parts)
        case "dict":
            return dict(zip(parts[::2], parts[1::2], strict=True))
        case "timedelta":
            return timedelta(*parts)
        case "date":
            return date(*parts)
        case "SecretSource":
            source, key = parts
            return model.SecretSource(source, key, project.files)
    return _KINDS[kind](*parts)
