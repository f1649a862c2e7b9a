"""Packer templates: HCL2 or JSON into one form (``Template``), and its Amazon EBS sources into recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from goldenami.errors import InvalidInput, NotFound, Problem
from goldenami.importing import hcl
from goldenami.importing.documents import maps, read_text
from goldenami.importing.draft import Draft
from goldenami.importing.sources import EBS, Translation, recipe_name
from goldenami.importing.values import Block, Code, Reference, Text, Value, Variable, joined

_CALL: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_USER: Final = re.compile(r"(user|env)\s+[`\"]([^`\"]+)[`\"]")
_FILE_HINT: Final = "Give a file .pkr.hcl or .json, or a folder of files .pkr.hcl."


@dataclass(slots=True)
class Build:
    """A build block: the names of its sources, and what runs on their hosts, in order."""

    sources: list[str]
    overrides: dict[str, Block] = field(default_factory=dict)
    provisioners: list[Block] = field(default_factory=list)
    after: list[Block] = field(default_factory=list)  # post-processors
    others: list[Block] = field(default_factory=list)


@dataclass(slots=True)
class Template:
    """A template of Packer. ``sources`` and ``data`` by "TYPE.NAME"; ``folder``: where relative paths begin."""

    file: str
    folder: Path
    variables: dict[str, Variable] = field(default_factory=dict)
    sources: dict[str, Block] = field(default_factory=dict)
    data: dict[str, Block] = field(default_factory=dict)
    builds: list[Build] = field(default_factory=list)


def read_packer(path: Path, var_files: Sequence[Path] = (), given: Mapping[str, str] | None = None) -> Template:
    """Read a template: a file in HCL2 or JSON, or a folder of files .pkr.hcl with its .auto.pkrvars.hcl.

    ``var_files`` and ``given`` replace defaults of variables, the later ones first of all. Raises InvalidInput for a
    file that is no template, NotFound for one that does not exist, UsageError for HCL2 without python-hcl2.
    """
    if path.is_dir():
        names = sorted([*path.glob("*.pkr.hcl"), *path.glob("*.auto.pkrvars.hcl")])
        if not any(one.name.endswith(".pkr.hcl") for one in names):
            raise NotFound(f"{path} has no file .pkr.hcl", hint=_FILE_HINT)
        template = _read_hcl([one for one in names if one.name.endswith(".pkr.hcl")], path)
        var_files = [*(one for one in names if not one.name.endswith(".pkr.hcl")), *var_files]
    elif path.name.endswith(".json") and not path.name.endswith(".pkr.json"):
        template = _read_json(path)
    elif path.name.endswith(".hcl"):
        template = _read_hcl([path], path.parent)
    else:
        raise InvalidInput([Problem(str(path), 1, 1, "the name of the file says neither HCL2 nor JSON", _FILE_HINT)])
    for file in var_files:
        _set(template, _var_file(file))
    _set(template, {name: Value(value, "--var", 0) for name, value in (given or {}).items()})
    return template


def draft_recipes(template: Template) -> list[Draft]:
    """Return a recipe for each Amazon EBS source that a build of the template uses. Raises InvalidInput without one."""
    drafts: list[Draft] = []
    others: list[Block] = []
    for build in template.builds:
        for name in build.sources:
            source = template.sources.get(name)
            if source is None:
                continue
            if name in build.overrides:
                source = replace(source, settings={**source.settings, **build.overrides[name].settings})
            if source.name.partition("/")[0] != EBS:
                others.append(source)
                continue
            taken = {draft.name for draft in drafts}
            translation = Translation(source, template.variables, template.data, template.folder, template.file)
            title = recipe_name(source, Path(template.file), taken)
            draft = translation.draft(title, [one for one in build.provisioners if _is_for(one, name)], build.after)
            for block in build.others:
                draft.note("lost", block.file, block.line, f"{block.type} {block.name}".strip())
            drafts.append(draft)
    if not drafts:
        found = ", ".join(sorted({one.name.partition("/")[0] for one in others})) or "no source"
        raise InvalidInput(
            [Problem(template.file, 1, 1, f"there is no source of type {EBS}", f"The builds use: {found}.")]
        )
    for source in others:
        text = f"the source {source.name.replace('/', '.')}: recipes make EBS-backed AMIs only"
        drafts[0].note("lost", source.file, source.line, text)
    return drafts


def _is_for(block: Block, source: str) -> bool:
    """Return whether ``only`` and ``except`` of a provisioner let it run for a source."""
    name = source.partition(".")[2]
    for key, wanted in (("only", True), ("except", False)):
        value = block.settings.get(key)
        if value is not None and isinstance(value.given, list):
            named = any(one in (source, name) for one in value.given)
            if named != wanted:
                return False
    return True


def _set(template: Template, values: Mapping[str, Value]) -> None:
    for name, value in values.items():
        known = template.variables.get(name)
        if known is not None:
            template.variables[name] = replace(known, default=value.given, env=None)


# --- HCL2 -------------------------------------------------------------------------------------------------------------


def _read_hcl(files: Sequence[Path], folder: Path) -> Template:
    template = Template(str(files[0] if len(files) == 1 else folder), folder)
    scope = hcl.Scope(template.variables)
    trees = [(str(file), hcl.parse(read_text(file, _FILE_HINT), str(file))) for file in files]
    for name, tree in trees:
        hcl.declare(tree, name, scope)
    for name, tree in trees:
        for block in hcl.blocks(tree, name, scope):
            if block.type == "source":
                template.sources[block.name.replace("/", ".")] = block
            elif block.type == "data":
                template.data[block.name.replace("/", ".")] = block
            elif block.type == "build":
                template.builds.append(_hcl_build(block))
    return template


def _hcl_build(block: Block) -> Build:
    listed = block.settings.get("sources")
    names = [_source_name(one) for one in (listed.given if listed is not None else ()) if isinstance(one, str)]
    build = Build(names)
    for source in block.blocks.get("source", ()):
        name = _source_name(source.name)
        if name not in build.sources:
            build.sources.append(name)
        build.overrides[name] = source
    build.provisioners = list(block.blocks.get("provisioner", ()))
    build.after = [*block.blocks.get("post-processor", ())]
    for chain in block.blocks.get("post-processors", ()):
        build.after += chain.blocks.get("post-processor", ())
    known = {"source", "provisioner", "post-processor", "post-processors"}
    build.others = [one for kind, every in block.blocks.items() if kind not in known for one in every]
    return build


def _source_name(text: str) -> str:
    return re.sub(r"^sources?\.", "", text)


def _var_file(path: Path) -> dict[str, Value]:
    text = read_text(path, _FILE_HINT)
    if path.name.endswith(".json"):
        return {name: Value(value, str(path), 0) for name, value in _load(text, path).items()}
    return hcl.assignments(hcl.parse(text, str(path)), str(path), hcl.Scope())


# --- JSON -------------------------------------------------------------------------------------------------------------


def _load(text: str, path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput([Problem(str(path), error.lineno, error.colno, f"this is not JSON: {error.msg}")]) from None
    except RecursionError:
        raise InvalidInput([Problem(str(path), 1, 1, "the JSON is nested too deeply")]) from None
    if not isinstance(loaded, dict):
        raise InvalidInput([Problem(str(path), 1, 1, "a template is a JSON object")])
    return loaded


def _read_json(path: Path) -> Template:
    text = read_text(path, _FILE_HINT)
    loaded, lines = _load(text, path), _Lines(text)
    template = Template(str(path), path.parent)
    secret = loaded.get("sensitive-variables")
    for name, default in _mapping(loaded.get("variables")).items():
        env = re.fullmatch(r"\{\{\s*env\s+[`\"](\w+)[`\"]\s*\}\}", default) if isinstance(default, str) else None
        value = None if env or default is None else _go(default)
        sensitive = isinstance(secret, list) and name in secret
        line = lines.of("variables", name)
        template.variables[name] = Variable(name, value, sensitive, str(path), line, env[1] if env else None)
    build = Build([])
    for number, one in enumerate(maps(loaded.get("builders"))):
        kind = str(one.get("type", ""))
        name = str(one.get("name") or kind)
        block = _json_block("source", f"{kind}/{name}", one, ("builders", number), str(path), lines)
        template.sources[f"{kind}.{name}"] = block
        build.sources.append(f"{kind}.{name}")
    for number, one in enumerate(maps(loaded.get("provisioners"))):
        where = ("provisioners", number)
        build.provisioners.append(_json_block("provisioner", str(one.get("type", "")), one, where, str(path), lines))
    for number, one in enumerate(_flat(loaded.get("post-processors"))):
        given = {"type": one} if isinstance(one, str) else one
        where = ("post-processors", number)
        build.after.append(_json_block("post-processor", str(given.get("type", "")), given, where, str(path), lines))
    template.builds.append(build)
    return template


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _flat(value: Any) -> list[Any]:
    found: list[Any] = []
    for one in value if isinstance(value, list) else ():
        found += one if isinstance(one, list) else [one]
    return [one for one in found if isinstance(one, str | dict)]


def _json_block(
    type: str, name: str, given: Mapping[str, Any], where: tuple[str | int, ...], file: str, lines: _Lines
) -> Block:
    """Return an object as a block. A list of objects is a list of nested blocks, as in HCL2."""
    settings, blocks = {}, {}
    for key, value in given.items():
        if key in ("type", "name"):
            continue
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            blocks[key] = tuple(
                _json_block(key, "", one, (*where, key, number), file, lines) for number, one in enumerate(value)
            )
        elif isinstance(value, dict) and any(isinstance(one, dict | list) for one in value.values()):
            blocks[key] = (_json_block(key, "", value, (*where, key), file, lines),)
        else:
            settings[key] = Value(_go(value), file, lines.of(*where, key))
    return Block(type, name, file, lines.of(*where), settings, blocks)


def _go(value: Any) -> Any:
    """Return a value with the template functions in its text as parts: {{user `x`}} is a variable."""
    if isinstance(value, dict):
        return {key: _go(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_go(one) for one in value]
    if not isinstance(value, str):
        return value
    parts: list[Any] = []
    at = 0
    for found in _CALL.finditer(value):
        parts.append(value[at : found.start()])
        user = _USER.fullmatch(found[1])
        known = user is not None and user[1] == "user"
        parts.append(Text((Reference(user[2]),)) if user is not None and known else Text((Code(found[0]),)))
        at = found.end()
    return joined([*parts, value[at:]])


class _Lines:
    """The lines of the values in a JSON file, by their path. JSON without tabs is YAML, whose parser knows them."""

    def __init__(self, text: str) -> None:
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            self._root = yaml.compose(text.replace("\t", " "), Loader=loader)
        except (yaml.YAMLError, RecursionError):
            self._root = None

    def of(self, *path: str | int) -> int:
        """Return the line of a value, or of the last value on the way to it that is known."""
        node, line = self._root, 0
        for key in path:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == key), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                found = (node.value[key], node.value[key])
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        return line
