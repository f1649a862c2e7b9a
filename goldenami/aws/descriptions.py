"""Loads the descriptions of services quickly, for a process of the command line.

botocore describes each service in a file, and the endpoints of all services in another one. They have ten times what
goldenami calls, and to read them and to make the methods of EC2 took a seventh of `goldenami plan`. So the parts that
the calls of ``calls.TABLE`` need, and those that botocore makes by itself, are kept in the user's cache. An entry is
found by that file of botocore and by the names of these calls, or services. The folders of other services are not
looked into.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # a command that makes no calls needs none of this, nor json
    from pathlib import Path

    import botocore.session

_FORM: Final = 4  # of an entry
_MOST: Final = 64  # entries in the cache: one for each service, of a few versions of botocore
_END: Final = "service-2"  # the name of such a file, without its suffix
_ENDPOINTS: Final = "endpoints"
# What botocore calls by itself, with clients of the same session: to get credentials, and to find a bucket. A test
# looks for such calls in its code. Services that are not in the table (SSO, sign-in) are read as a whole.
_BY_BOTOCORE: Final[Mapping[str, frozenset[str]]] = {
    "sts": frozenset({"AssumeRole", "AssumeRoleWithWebIdentity"}),
    "s3": frozenset({"CreateSession", "HeadBucket"}),
}
# Shapes of which an answer has hundreds, and what is read of them: a build simulates its policies before it begins.
_READ: Final[Mapping[str, frozenset[str]]] = {
    "EvaluationResult": frozenset({"EvalActionName", "EvalResourceName", "EvalDecision"})
}
# Names of endpoints that are not those of their services, and those of the services of SSO.
_MORE_ENDPOINTS: Final = frozenset({"servicequotas", "oidc", "portal.sso"})


class _Process:
    quickly = False


def install() -> None:
    """Load the descriptions quickly from here on."""
    _Process.quickly = True


def use(session: botocore.session.Session) -> None:
    """Let a new session load the descriptions quickly, if that was installed. It gets a loader of its own: other
    sessions may share the one that it has."""
    if _Process.quickly:
        from botocore.loaders import create_loader

        loader: Any = create_loader(session.get_config_variable("data_path"))
        loader.file_loader = Parts(loader.file_loader)
        every = loader.list_available_services
        loader.list_available_services = lambda type_name: _Services(loader, type_name, every)
        session.register_component("data_loader", loader)


class _Services(Collection[str]):
    """The names of the services that botocore describes. To list them, it looks into 400 folders; to find one, this
    looks into the folder of that service."""

    def __init__(self, loader: Any, type_name: str, every: Callable[[str], list[str]]) -> None:
        self._loader, self._type_name, self._every = loader, type_name, every

    def __contains__(self, name: object) -> bool:
        from botocore.exceptions import DataNotFoundError

        try:
            return bool(self._loader.list_api_versions(name, self._type_name))
        except DataNotFoundError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._every(self._type_name))

    def __len__(self) -> int:
        return len(self._every(self._type_name))


class Parts:
    """A reader of botocore's files, which reads only a part of some of them."""

    def __init__(self, whole: Any) -> None:
        """``whole``: botocore's own reader."""
        self._whole = whole

    def exists(self, path: str) -> bool:
        """Return whether there is a file. ``path``: without its suffix."""
        return bool(self._whole.exists(path))

    def load_file(self, path: str) -> Any:
        """Return what is in a file, None if there is none. ``path``: without its suffix."""
        words = path.replace("\\", "/").split("/")
        if words[-1] == _ENDPOINTS:
            names = sorted({row.service for row in _table()} | _MORE_ENDPOINTS)
            return self._load(path, names, endpoints_of, lambda form: form["partitions"][0]["services"].keys())
        service = words[-3] if words[-1] == _END and len(words) > 2 else ""
        called = {row.operation for row in _table() if row.service == service} if service else None
        if not called:
            return self._whole.load_file(path)
        names = sorted(called | _BY_BOTOCORE.get(service, frozenset()))
        return self._load(path, names, part_of, lambda form: form["operations"].keys())

    def _load(
        self,
        path: str,
        names: list[str],
        part: Callable[[Mapping[str, Any], Collection[str]], Mapping[str, Any]],
        names_in: Callable[[Any], Collection[str]],
    ) -> Any:
        """Return the part of a file for some names. ``names_in``: returns the names that a part has."""
        import json

        from goldenami import usercache

        entry = _entry(path, names)
        if entry is None:
            return self._whole.load_file(path)
        try:
            known = json.loads(usercache.read(entry) or b"")
            # An older botocore does not have all of them.
            if names_in(known) and {*names_in(known)} <= {*names}:
                return known
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # it is damaged, or not there
            pass
        whole = self._whole.load_file(path)
        if whole is None:
            return None
        found = part(whole, names)
        usercache.write(entry, json.dumps(found, separators=(",", ":")).encode(), _MOST)
        return found


def _table() -> tuple[Any, ...]:
    from goldenami.aws.calls import TABLE

    return TABLE


def endpoints_of(whole: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return the endpoints of some services, with all regions."""
    every = (
        {**one, "services": {name: service for name, service in one["services"].items() if name in names}}
        for one in whole["partitions"]
    )
    return {**whole, "partitions": list(every)}


def part_of(whole: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return the description of some operations, with the shapes that they need, and without texts for people."""
    operations = {name: _without_texts(one) for name, one in whole["operations"].items() if name in names}
    every = {name: _read(name, shape) for name, shape in whole["shapes"].items()}
    needed: dict[str, None] = dict.fromkeys(_shapes(operations))
    open_ = list(needed)
    while open_:
        for name in _shapes(every[open_.pop()]):
            if name not in needed:
                needed[name] = None
                open_.append(name)
    shapes = {name: _without_texts(one) for name, one in every.items() if name in needed}
    return OrderedDict({**whole, "operations": operations, "shapes": shapes})


def _read(name: str, shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a shape with the members that are read."""
    if name not in _READ:
        return shape
    return OrderedDict({**shape, "members": {k: v for k, v in shape["members"].items() if k in _READ[name]}})


def _shapes(form: Any) -> Iterator[str]:
    """Yield the names of the shapes that a part of a description refers to."""
    if isinstance(form, Mapping):
        if isinstance(form.get("shape"), str):
            yield form["shape"]
        for one in form.values():
            yield from _shapes(one)
    elif isinstance(form, list):
        for one in form:
            yield from _shapes(one)


def _without_texts(form: Any) -> Any:
    if isinstance(form, Mapping):  # a member may have this name, too
        every = form.items()
        return OrderedDict((k, _without_texts(v)) for k, v in every if k != "documentation" or not isinstance(v, str))
    return [_without_texts(one) for one in form] if isinstance(form, list) else form


def _entry(path: str, names: Collection[str]) -> Path | None:
    """Return the file of the cache for the operations of a file of botocore; None if nothing can be kept."""
    import hashlib
    import json
    from pathlib import Path

    from goldenami import usercache

    folder = usercache.folder("descriptions")
    file = next((one for suffix in (".json", ".json.gz") if (one := Path(path + suffix)).is_file()), None)
    if folder is None or file is None:
        return None
    state = file.stat()
    decides = [_FORM, str(file), state.st_size, state.st_mtime_ns, *names]
    return folder / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()}.json"
