"""Finds the operations that the recipes of a project can use: built-in, of installed packages, and its own.

The project's own operations are classes in ``operations/*.py``. Mistakes in them are reported as problems with
file:line:column, together with the problems of the recipes.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import traceback
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import cast

from goldenami import extensions
from goldenami.errors import GoldenAmiError, InvalidInput, Problem
from goldenami.nextstep import step
from goldenami.provision import OPERATIONS, BoundOperation, Operation, Stage, all_operations
from goldenami.recipe.code import FOLDER, ProjectCode, read_code
from goldenami.recipe.consent import VARIABLE
from goldenami.recipe.project import Project, shown
from goldenami.recipe.secrets import names_in

_KIND = re.compile(r"[a-z][a-z0-9_]*")
_COMMON = ("when", "notify", "retries", "name")  # keys of every operation, next to its kind


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a project.

    ``kinds``: every usable operation by its kind. ``not_read``: the kinds in files that were not executed, with the
    problem that reports it. ``problems``: every problem of the project's own files and of installed packages.
    """

    kinds: Mapping[str, type[Operation]]
    not_read: Mapping[str, Problem] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def operations_of(project: Project) -> Operations:
    """Return the operations of a project. They are read once and kept for the life of the object."""
    if "operations" not in project.kept:
        project.kept["operations"] = _read(project)
    found: Operations = project.kept["operations"]
    return found


def _read(project: Project) -> Operations:
    own: dict[str, type[Operation]] = {}
    kinds = ChainMap(own, cast("dict[str, type[Operation]]", OPERATIONS))  # a copy would load all families
    origins = dict.fromkeys(kinds, "built in")
    problems: list[Problem] = []
    for origin, found, digest in _installed(problems):
        place = Problem(origin, 0, 0, "")
        for cls in found:
            wrong = [*_faults(cls), *_taken(cls, origins)]
            problems += [replace(place, message=text, hint=hint) for _, text, hint in wrong]
            if not wrong:
                _add(cls, digest, origin, own, origins)
    try:
        code = read_code(project.root, project.files) if project.exists else None
    except InvalidInput as error:
        return Operations(kinds, {}, (*problems, *error.problems))
    if code is None or not code.files:
        return Operations(kinds, {}, tuple(problems))
    problems += code.problems
    not_read: dict[str, Problem] = {}
    for name in code.modules:
        file = shown(code.folder / name)
        if not any(_declared(code.trees[name])):
            continue  # a helper file without operations
        if not project.consent.covers(code.digest):
            not_read |= dict.fromkeys(_declared(code.trees[name]), _refusal(file, code))
            continue
        try:
            module = code.import_module(name)
        except (Exception, SystemExit) as error:
            problems.append(_import_problem(error, code, name))
            continue
        for cls in _classes(module):
            wrong = [*_faults(cls), *_taken(cls, origins)]
            problems += [Problem(file, *_place(code.trees[name], cls, at), text, hint) for at, text, hint in wrong]
            if not wrong:
                _add(cls, code.digest_of(name), file, own, origins)
    return Operations(kinds, not_read, (*problems, *dict.fromkeys(not_read.values())))


def _add(
    cls: type[Operation], digest: str, origin: str, own: dict[str, type[Operation]], origins: dict[str, str]
) -> None:
    cls.code_digest = digest
    own[cls.kind] = cls
    origins[cls.kind] = origin


def _refusal(file: str, code: ProjectCode) -> Problem:
    return Problem(
        file,
        1,
        1,
        "this file has Python code that is not executed without your consent",
        f"If you trust the code, use --allow-project-code or {VARIABLE}=1. To allow only these files of {FOLDER}/: "
        f"{VARIABLE}={code.digest}",
    )


def _installed(problems: list[Problem]) -> Iterator[tuple[str, list[type[Operation]], str]]:
    """Yield for each entry point its distribution, its classes, and the digest of its module."""
    try:
        entries = extensions.installed(extensions.OPERATIONS)
    except GoldenAmiError as error:
        problems.append(Problem(extensions.OPERATIONS, 0, 0, error.message, error.hint))
        return
    for name, entry in entries.items():
        origin = entry.origin
        try:
            value = extensions.load(extensions.OPERATIONS, name)
        except GoldenAmiError as error:
            problems.append(Problem(origin, 0, 0, error.message, error.hint))
            continue
        if isinstance(value, ModuleType):
            found = _classes(value)
        elif isinstance(value, type) and issubclass(value, Operation):
            found = [value]
        else:
            text = f"{entry.value} is a {type(value).__name__}; expected a module, or a subclass of goldenami.Operation"
            problems.append(Problem(origin, 0, 0, text))
            continue
        sources = {inspect.getsourcefile(cls) for cls in found} - {None}
        digest = hashlib.sha256(f"{origin}\n".encode())
        for source in sorted(map(str, sources)):
            digest.update(Path(source).read_bytes())
        yield origin, found, digest.hexdigest()


def _classes(module: ModuleType) -> list[type[Operation]]:
    """Return the operations that are defined in a module, in order. Imported ones are not included."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Operation)
        and value.__module__ == module.__name__
        and "kind" in value.__dict__
    ]


def _faults(cls: type[Operation]) -> Iterator[tuple[str, str, str | None]]:
    """Yield the problems of a class: the field (or ""), the message, the hint."""
    kind, name = cls.kind, cls.__name__
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or kind in _COMMON:
        yield (
            "kind",
            f"{name}: the kind {kind!r} is not allowed",
            f"Use lower-case letters, digits and _, and none of {', '.join(_COMMON)}.",
        )
    if not cls.__dict__.get("__doc__"):
        yield (
            "",
            f"{name} has no docstring",
            f"Write one sentence about it. {step('schema', 'operations')} prints it.",
        )
    for method in ("title", "compile"):
        if getattr(cls, method) is getattr(Operation, method):
            yield "", f"{name} has no method {method}()", f"Add the method {method}. docs/extending.md has an example."
    for field_name, info in cls.model_fields.items():
        if not info.description:
            yield field_name, f"the field {field_name} of {name} has no description", "Add one: Field(description=…)."
    if cls.shorthand is not None and cls.shorthand not in cls.model_fields:
        yield "shorthand", f"{name}: shorthand is {cls.shorthand!r}, expected the name of a field", None
    for source in cls.sources:
        if source not in cls.model_fields:
            yield "sources", f"{name}: sources has {source!r}, expected names of fields", None


def _taken(cls: type[Operation], origins: Mapping[str, str]) -> Iterator[tuple[str, str, str | None]]:
    if cls.kind in origins:
        where = origins[cls.kind]
        text = f"{cls.__name__}: the kind {cls.kind!r} is already used ({where})"
        yield "kind", text, "Choose another kind, for example with the name of your company as a prefix."


# --- places in the files ----------------------------------------------------------------------------------------------


def _declared(tree: ast.Module) -> Iterator[str]:
    """Yield the kinds of the classes of a file that are written as string constants."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for name, line in _assigned(node):
                value = getattr(line, "value", None)
                if name == "kind" and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.stmt]]:
    for line in node.body:
        targets: Iterable[ast.expr] = ()
        if isinstance(line, ast.AnnAssign):
            targets = (line.target,)
        elif isinstance(line, ast.Assign):
            targets = line.targets
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, line


def _place(tree: ast.Module, cls: type[Operation], name: str) -> tuple[int, int]:
    """Return line and column of an assignment to a name in a class, or of the class if there is none."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            line = dict(_assigned(node)).get(name, node)
            return line.lineno, line.col_offset + 1
    return 1, 1


def _import_problem(error: BaseException, code: ProjectCode, name: str) -> Problem:
    """Return an import error as a problem, at the last line of its traceback that is in the folder."""
    file, line = code.folder / name, 1
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(code.folder):
            file, line = path, frame.lineno or 1
    hint = None
    if isinstance(error, ModuleNotFoundError) and f"{error.name}.py" in code.files:
        hint = f"Import a file of {FOLDER}/ with a dot: from . import {error.name}"
    return Problem(shown(file), line, 1, f"cannot be imported: {_text(error)}", hint)


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def check_compiles(stages: Iterable[Stage], project: Project) -> Iterator[Problem]:
    """Compile all operations that are not built in, and yield the problems, so that no build fails because of them."""
    for stage in stages:
        for bound in all_operations(stage):
            operation = bound.operation.inner
            if operation.code_digest and not names_in(operation.model_dump_json()):
                problem = _compile_problem(replace(bound, operation=operation, notify=()), project)
                if problem is not None:
                    yield problem


def _compile_problem(bound: BoundOperation, project: Project) -> Problem | None:
    from goldenami.provision.program import compile_stage  # here: few projects have operations of their own

    mark = bound.mark
    try:
        bound.operation.title()
        compile_stage(Stage("check", (bound,)))
    except Exception as error:
        folder = project.root / FOLDER
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
        where = f" (in {shown(Path(frames[-1].filename))}:{frames[-1].lineno})" if frames else ""
        text = f"{bound.operation.kind}: cannot be compiled: {_text(error)}{where}"
        return Problem(mark.file, mark.line, mark.column, text)
    return None
