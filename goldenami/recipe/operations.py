"""Reads lists of operations, as provision.BoundOperation.

Each item is a mapping with one operation, ``package: {…}``, and optional keys that all operations have: ``when``,
``notify`` and ``name``. The models of the operations are those of ``extensions.operations_of``. This module has no code
for a particular operation. Files that an operation names become its payloads; templates are rendered first.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from goldenami.model import Mark
from goldenami.provision import OPERATIONS, BoundOperation, Handler, Operation, Payload, Stage
from goldenami.provision.operation import SourceForm
from goldenami.provision.trees import read_files, read_tree
from goldenami.reading import TEXT_BYTES, Files, Refused, describe, hint_of
from goldenami.recipe.context import fact_names
from goldenami.recipe.document import NodePath
from goldenami.recipe.extensions import operations_of
from goldenami.recipe.scope import Scope, condition, render_tree
from goldenami.recipe.secrets import Secret, display
from goldenami.recipe.similar import suggestion

COMMON = {
    "when": "Condition, as an expression with or without {{ }}. The operation is left out if it is false.",
    "notify": "Names of handlers that run at the end of the stage if this operation changed something.",
    "retries": "How often the operation is tried again after a failure, with pauses of 5, 10, 20, 40 and 60 seconds: "
    "0 to 10, default 0. For what depends on other servers.",
    "name": "Title that is shown while the operation runs. Default: a title made from its fields.",
}
MOST_RETRIES = 10


def stage(scope: Scope, name: str, items: Any, path: NodePath) -> tuple[Stage, ...]:
    """Return the stage of a list of operations, with the document's handlers; empty if there are no operations."""
    bound, handlers = read_with_handlers(scope, items, path)
    return (Stage(name, bound, handlers),) if bound else ()


def read_with_handlers(
    scope: Scope, items: Any, path: NodePath
) -> tuple[tuple[BoundOperation, ...], tuple[Handler, ...]]:
    """Return the operations of a list whose ``when`` is true, in order, and the handlers of the document.

    ``notify`` may also name a service of the list without a handler. Then the service is reloaded. Problems are added
    to the scope.
    """
    handlers = _handlers(scope)
    services = _services(items)
    bound = _list(scope, items, path, {*handlers, *services})
    for operation in bound:
        for name in operation.notify:
            if name not in handlers:
                from goldenami.provision import implied_handler

                handlers[name] = implied_handler(name, operation.mark)
    return bound, tuple(handlers.values())


def packages_needed(scope: Scope, names: list[str], mark: Mark) -> tuple[BoundOperation, ...]:
    """Return one operation that installs packages, without the packages that they recommend."""
    model = OPERATIONS["package"]
    try:
        operation = model.model_validate({"name": names, "recommends": False})
    except ValidationError as error:
        scope.problems.add(mark, f"packages: {error.errors()[0]['msg']}")
        return ()
    return (BoundOperation(operation, mark),)


def _handlers(scope: Scope) -> dict[str, Handler]:
    """Return the section ``handlers`` by name. A handler is one operation or a list. It cannot notify handlers."""
    value = scope.document.value.get("handlers")
    found: dict[str, Handler] = {}
    for name, body in value.items() if isinstance(value, dict) else ():
        at: NodePath = ("handlers", name)
        if isinstance(body, list):
            bound = _list(scope, body, at, ())
        else:
            one = _operation(scope, body, at, ())
            bound = (one,) if one else ()
        found[name] = Handler(name, bound)
    return found


def _services(items: Any) -> list[str]:
    """Return the names of the ``service`` operations of a list, without rendering expressions."""
    found = []
    for item in items if isinstance(items, list) else ():
        body = item.get("service") if isinstance(item, dict) else None
        name = body.get("name") if isinstance(body, dict) else body
        if isinstance(name, str):
            found.append(name)
    return found


def _list(scope: Scope, items: Any, path: NodePath, handlers: Collection[str]) -> tuple[BoundOperation, ...]:
    if not isinstance(items, list):
        return ()  # the schema reports it
    found = (_operation(scope, item, (*path, index), handlers) for index, item in enumerate(items))
    return tuple(operation for operation in found if operation is not None)


def _operation(scope: Scope, item: Any, path: NodePath, handlers: Collection[str]) -> BoundOperation | None:
    document, problems = scope.document, scope.problems
    kind = _kind(scope, item, path)
    if not isinstance(item, dict):
        return None
    applies = "when" not in item or condition(scope, item["when"], (*path, "when"))
    notify = _notify(scope, item, path, handlers)
    retries = item.get("retries", 0)
    if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= MOST_RETRIES:
        problems.add(document.mark((*path, "retries")), f"retries: expected a number from 0 to {MOST_RETRIES}")
        return None
    if kind is None or not applies:
        return None
    at = (*path, kind)
    title = render_tree(scope, item.get("name", ""), (*path, "name"))
    if not isinstance(title, str):
        problems.add(document.mark((*path, "name")), "name: expected a string")
        title = ""
    model = operations_of(scope.project).kinds[kind]
    fields = render_tree(scope, item[kind], at)
    if model.shorthand is not None and isinstance(fields, (str, int, float, list)):
        fields = {model.shorthand: fields}
    payloads = _payloads(scope, model, fields, at)
    try:
        operation = _valid(model, fields)
    except ValidationError as error:
        scope.reject(error, at, model, kind)
        return None
    base = scope.renderer.context.get("base")
    reason = operation.unfit(base["os"]) if base is not None else None
    if reason is not None:
        problems.add(document.key_mark(at), f"{kind}: {reason}")
    if payloads is None:
        return None
    wrong = operation.misfit(payloads)
    if wrong is not None:
        problems.add(document.key_mark(at), f"{kind}: {wrong}")
        return None
    return BoundOperation(operation, document.key_mark(at), title, notify, payloads, retries)


def _valid(model: type[Operation], fields: Any) -> Operation:
    """Return the operation of a recipe. Raises ValidationError.

    A field with a fact, such as the package ``linux-headers-{{ facts.kernel }}``, is checked with a word in place of
    the fact, and again with its value in a build.
    """
    try:
        return model.model_validate(fields)
    except ValidationError:
        words = {str(placeholder): f"fact{number}" for number, placeholder in enumerate(fact_names().values())}
        instead = _replaced(fields, words)
        if instead == fields:
            raise
        made = model.model_validate(instead)
        back = {word: placeholder for placeholder, word in words.items()}
        return made.model_copy(update={name: _replaced(getattr(made, name), back) for name in made.model_fields_set})


def _replaced(value: Any, words: Mapping[str, str]) -> Any:
    """Return a value with some parts of all its texts replaced."""
    if isinstance(value, str):
        for before, after in words.items():
            value = value.replace(before, after)
        return Secret.wrap(value)
    if isinstance(value, Mapping):
        return {_replaced(key, words): _replaced(item, words) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, words) for item in value)
    return value


def _payloads(scope: Scope, model: type[Operation], fields: Any, at: NodePath) -> dict[str, Payload] | None:
    """Return the files that the operation names, by field; None after a problem with one of them."""
    found: dict[str, Payload] = {}
    whole = True
    for name, form in model.sources.items():
        written = fields.get(name) if isinstance(fields, dict) else None
        if any(path[: len(at) + 1] == (*at, name) for path in scope.failed):
            continue
        if form == "bundle":
            if not isinstance(written, list) or not written or not all(isinstance(one, str) for one in written):
                continue
        elif not isinstance(written, str):
            continue
        payload = _payload(scope, written, fields, (*at, name), form)
        if payload is None:
            whole = False
        else:
            found[name] = payload
    return found if whole else None


def _payload(
    scope: Scope, written: str | list[str], fields: Mapping[str, Any], at: NodePath, form: SourceForm
) -> Payload | None:
    """Return what a field names. Problems are reported at its place."""
    hint = f"Paths are relative to {scope.document.file}."
    mark, field = scope.document.mark(at), str(at[-1])
    shown = written if isinstance(written, str) else ", ".join(written)
    try:
        if isinstance(written, list):
            payload = read_files([scope.resolve(one) for one in written], scope.project.files)
        else:
            path = scope.resolve(written)
            scope.renderer.used.add(path)
            if form == "template":
                return _rendered(scope, path)
            payload = _read(scope, path, fields, form)
    except OSError as error:
        scope.problems.add(mark, f"{field}: {describe(error, shown)}", hint_of(error, hint))
        return None
    except UnicodeDecodeError:
        scope.problems.add(
            mark, f"{field}: {shown} is not UTF-8 text", "Use the operation file for contents that are not rendered."
        )
        return None
    scope.renderer.used.update(payload.paths)
    return payload


def _read(scope: Scope, path: Path, fields: Mapping[str, Any], form: SourceForm) -> Payload:
    """Return a file or a directory as it is. Raises OSError."""
    files = scope.project.files
    files.check(path)  # first: nothing outside the project is looked at
    if form == "tree" or (form == "any" and path.is_dir()):
        if path.exists() and not path.is_dir():
            raise Refused("is a file", "Use the operation file.")
        return read_tree(path, files, match=_patterns(fields, "match"), exclude=_patterns(fields, "exclude"))
    return scope.project.of_file("payload", path, lambda path: Payload.read(path, files))


def _patterns(fields: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of patterns, without what the model of the operation refuses."""
    given = fields.get(name)
    return [one for one in given if isinstance(one, str)] if isinstance(given, list) else []


def _rendered(scope: Scope, path: Path) -> Payload | None:
    """Return a template, rendered; None after a problem in it. Raises OSError and UnicodeDecodeError."""
    source, mode = scope.project.of_file("template", path, lambda path: _template(path, scope.project.files))
    rendered = scope.template(path, source)
    return None if rendered is None else Payload.of(rendered.encode(), mode, path)


def _template(path: Path, files: Files) -> tuple[str, int]:
    """Return the text of a template, and the permission bits of its file. Raises OSError and UnicodeDecodeError."""
    with files.open(path, TEXT_BYTES) as stream:
        mode = os.fstat(stream.fileno()).st_mode & 0o777
    return files.read_bytes(path).decode("utf-8"), mode


def _shown(item: Any) -> str:
    if isinstance(item, str):
        return repr(display(item))
    return "a list" if isinstance(item, list) else "nothing" if item is None else str(item)


def _kind(scope: Scope, item: Any, path: NodePath) -> str | None:
    """Return the operation's key of an item; None after a problem."""
    document, problems = scope.document, scope.problems
    mark = document.mark(path)
    if not isinstance(item, dict):
        problems.add(
            mark, f"expected a mapping with one operation, found {_shown(item)}", "Write it as - package: {name: curl}."
        )
        return None
    kinds = [key for key in item if key not in COMMON]
    every = operations_of(scope.project)
    known = [key for key in kinds if key in every.kinds]
    for key in kinds:
        if key in every.not_read:
            problems.extend([every.not_read[key]])
        elif key not in every.kinds:
            what = "unknown key" if known else "unknown operation"
            near = [*every.kinds, *(COMMON if known else ())]
            hint = suggestion(key, near, f"Operations: {', '.join(sorted(every.kinds))}.")
            problems.add(document.key_mark((*path, key)), f"{what} {key!r}", hint)
            problems.extend(every.problems)  # a file with problems may define this operation
    if not kinds:
        problems.add(
            mark,
            "expected a mapping with one operation, found no operation",
            f"Operations: {', '.join(sorted(every.kinds))}.",
        )
    if len(known) > 1:
        second = document.key_mark((*path, known[1]))
        problems.add(
            second,
            f"two operations in one item: {known[0]} and {known[1]}",
            "Start a new item of the list with a dash.",
        )
        return None
    return known[0] if known and len(kinds) == 1 else None


def _notify(scope: Scope, item: Mapping[str, Any], path: NodePath, handlers: Collection[str]) -> tuple[str, ...]:
    given = item.get("notify", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list):
        scope.problems.add(
            scope.document.mark((*path, "notify")), "notify: expected the name of a handler, or a list of names"
        )
        return ()
    found = []
    for index, name in enumerate(names):
        at = (*path, "notify", index) if isinstance(given, list) else (*path, "notify")
        if not isinstance(name, str) or name not in handlers:
            known = f"Handlers: {', '.join(sorted(handlers))}." if handlers else "Declare it under handlers."
            hint = suggestion(str(name), sorted(handlers), known)
            scope.problems.add(scope.document.mark(at), f"notify: there is no handler {str(name)!r}", hint)
        else:
            found.append(name)
    return tuple(found)
