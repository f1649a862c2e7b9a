"""The Python code of a project: the files below ``operations/``, read once, and imported only with consent.

``validate`` and ``plan`` run for merge requests of untrusted authors, and must not execute their code. Therefore the
files are only parsed, unless the user allows more (``consent``) with the variable GOLDENAMI_ALLOW_PROJECT_CODE or the
option --allow-project-code. No file of the project can give consent. A digest as consent allows exactly one state of
the files.

The imported bytes are the bytes that were read and that the digest covers. No ``.pyc`` file is read or written.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from pathlib import Path
from types import CodeType, ModuleType

from goldenami.errors import InvalidInput, Problem
from goldenami.reading import Files, describe, hint_of

FOLDER = "operations"
_FILES, _BYTES = 500, 16 << 20  # limits for operations/; a larger folder has other contents than operations
_PACKAGE = "_goldenami_project_"


@dataclass(frozen=True)
class ProjectCode:
    """The files below ``operations/``, by path. ``trees``: the Python files that could be parsed."""

    folder: Path
    files: Mapping[str, bytes]
    trees: Mapping[str, ast.Module] = field(repr=False)
    problems: tuple[Problem, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 over the names and contents of all files."""
        return _digest(self.files)

    @property
    def modules(self) -> list[str]:
        """The files that may define operations: directly in the folder, and without _ at the start of the name."""
        return sorted(name for name in self.trees if "/" not in name and not name.startswith("_"))

    def digest_of(self, name: str) -> str:
        """Return the SHA-256 over a Python file and everything that it may use.

        That is: the files of the folder that it imports, directly or through others, and all files that are not Python.
        """
        wanted, known = [name], {file for file in self.files if not file.endswith(".py")}
        while wanted:
            current = wanted.pop()
            if current not in known:
                known.add(current)
                wanted += self._imported(current)
        return _digest({file: self.files[file] for file in known})

    def _imported(self, name: str) -> Iterator[str]:
        own = [*Path(name).parts]
        package = own[:-1]
        for depth in range(len(package)):
            yield from self._file([*package[: depth + 1]])
        tree = self.trees.get(name)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.ImportFrom) and node.level > 0 and node.level <= len(package) + 1:
                base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
                base = [part for part in base if part]
                for end in range(1, len(base) + 1):
                    yield from self._file(base[:end])
                for alias in node.names:
                    if alias.name == "*":
                        yield from (file for file in self.files if file.endswith(".py"))
                    yield from self._file([*base, alias.name])

    def _file(self, parts: Sequence[str]) -> Iterator[str]:
        path = "/".join(parts)
        yield from (file for file in (f"{path}.py", f"{path}/__init__.py") if file in self.files)

    def import_module(self, name: str) -> ModuleType:
        """Execute a file and its imports, and return the module. Raises what the file raises. A second call returns the
        same module."""
        place = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        package = f"{_PACKAGE}{place}_{self.digest[:16]}"
        with _LOCK:
            _CODE[package] = self
            if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
                sys.meta_path.append(_Finder())
        return importlib.import_module(f"{package}.{name.removesuffix('.py')}")


_LOCK = threading.Lock()
_CODE: dict[str, ProjectCode] = {}  # by the name of the package that it is imported as


def read_code(root: Path, files: Files) -> ProjectCode:
    """Read and parse the files below ``operations/`` of a project. Nothing is executed.

    Raises InvalidInput for too many or too large files, and for files that ``files`` does not read.
    """
    from goldenami.recipe.project import shown as name_of

    folder = root / FOLDER
    found: dict[str, bytes] = {}
    size = 0
    try:
        files.check(folder)  # before its files are listed: a link can lead to the root of the file system
    except OSError as error:
        raise InvalidInput([Problem(name_of(folder), 0, 0, describe(error, "the folder"), hint_of(error))]) from None
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts) or not path.is_file():
            continue
        try:
            contents = files.read_bytes(path)
        except OSError as error:
            raise InvalidInput([Problem(name_of(path), 0, 0, describe(error, "the file"), hint_of(error))]) from None
        size += len(contents)
        if len(found) == _FILES or size > _BYTES:
            text = f"found more than {_FILES} files or {_BYTES >> 20} MiB, which is the limit for this folder"
            raise InvalidInput(
                [Problem(name_of(folder), 0, 0, text, "Move files that operations do not need to another folder.")]
            )
        found[name.as_posix()] = contents
    trees: dict[str, ast.Module] = {}
    problems = []
    for file, source in found.items():
        if not file.endswith(".py"):
            continue
        try:
            trees[file] = ast.parse(source, file)
        except SyntaxError as error:
            place = (error.lineno or 0, error.offset or 0)
            problems.append(Problem(name_of(folder / file), *place, f"not valid Python: {error.msg}"))
        except (ValueError, RecursionError, MemoryError) as error:
            problems.append(Problem(name_of(folder / file), 0, 0, f"not valid Python: {error or type(error).__name__}"))
    return ProjectCode(folder, found, trees, tuple(problems))


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, contents in sorted(files.items()):
        total.update(f"{hashlib.sha256(contents).hexdigest()}  {name}\n".encode())
    return total.hexdigest()


class _Finder(MetaPathFinder):
    """Finds the packages of projects. Each package has the bytes of one state of the files."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        code = _CODE.get(package)
        if code is None:
            return None
        if not rest:
            return ModuleSpec(fullname, _Loader(code, "__init__.py"), is_package=True)
        stem = rest.replace(".", "/")
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if name in code.files:
                origin = str(code.folder / name)
                spec = ModuleSpec(
                    fullname, _Loader(code, name), origin=origin, is_package=name.endswith("/__init__.py")
                )
                spec.has_location = True
                return spec
        return None


class _Loader(InspectLoader):
    def __init__(self, code: ProjectCode, name: str) -> None:
        self._code = code
        self._name = name

    def is_package(self, fullname: str) -> bool:
        return self._name == "__init__.py" or self._name.endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        return decode_source(self._code.files.get(self._name, b""))

    def get_code(self, fullname: str) -> CodeType:
        return compile(
            self._code.files.get(self._name, b""), str(self._code.folder / self._name), "exec", dont_inherit=True
        )
