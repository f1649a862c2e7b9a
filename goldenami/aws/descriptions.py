"""Loads the description of EC2 quickly, for a process of the command line.

botocore describes each service in a file. That of EC2 has ten times what goldenami calls, and to read it and to make
its methods took a tenth of `goldenami plan`. So the part that the calls of ``calls.TABLE`` need is kept in the user's
cache. An entry is found by that file of botocore and by the names of these calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # a command that makes no calls needs none of this, nor json
    from pathlib import Path

    import botocore.session

_FORM: Final = 1  # of an entry
_MOST: Final = 4  # entries in the cache
_END: Final = "service-2"  # the name of such a file, without its suffix


class _Process:
    quickly = False


def install() -> None:
    """Load the description of EC2 quickly from here on."""
    _Process.quickly = True


def use(session: botocore.session.Session) -> None:
    """Let a new session load the description of EC2 quickly, if that was installed. It gets a loader of its own: other
    sessions may share the one that it has."""
    if _Process.quickly:
        from botocore.loaders import create_loader

        loader: Any = create_loader(session.get_config_variable("data_path"))
        loader.file_loader = Parts("ec2", loader.file_loader)
        session.register_component("data_loader", loader)


class Parts:
    """A reader of botocore's files, which reads only a part of one of them."""

    def __init__(self, service: str, whole: Any) -> None:
        """``whole``: botocore's own reader."""
        self._service = service
        self._whole = whole

    def exists(self, path: str) -> bool:
        """Return whether there is a file. ``path``: without its suffix."""
        return bool(self._whole.exists(path))

    def load_file(self, path: str) -> Any:
        """Return what is in a file, None if there is none. ``path``: without its suffix."""
        import json

        from goldenami import usercache
        from goldenami.aws.calls import TABLE

        words = path.replace("\\", "/").split("/")
        if words[-1] != _END or words[-3:-2] != [self._service]:
            return self._whole.load_file(path)
        names = sorted({row.operation for row in TABLE if row.service == self._service})
        entry = _entry(path, names)
        if entry is None:
            return self._whole.load_file(path)
        try:
            known = json.loads(usercache.read(entry) or b"", object_pairs_hook=OrderedDict)
            # An older botocore does not have all of them.
            if isinstance(known, dict) and known["operations"] and known["operations"].keys() <= {*names}:
                return known
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # it is damaged, or not there
            pass
        whole = self._whole.load_file(path)
        if whole is None:
            return None
        found = part_of(whole, names)
        usercache.write(entry, json.dumps(found, separators=(",", ":")).encode(), _MOST)
        return found


def part_of(whole: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return the description of some operations, with the shapes that they need, and without texts for people."""
    operations = {name: _without_texts(one) for name, one in whole["operations"].items() if name in names}
    needed: dict[str, None] = dict.fromkeys(_shapes(operations))
    open_ = list(needed)
    while open_:
        for name in _shapes(whole["shapes"][open_.pop()]):
            if name not in needed:
                needed[name] = None
                open_.append(name)
    shapes = {name: _without_texts(one) for name, one in whole["shapes"].items() if name in needed}
    return OrderedDict({**whole, "operations": operations, "shapes": shapes})


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
