"""Component documents of EC2 Image Builder (schema 1.0) as agents.

The phase build becomes the operations of the agent, the phases validate and test become its test file. The actions and
their inputs are those of "Action modules supported by AWSTOE component manager", EC2 Image Builder user guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from goldenami.errors import InvalidInput, Problem
from goldenami.importing.documents import maps, read_text
from goldenami.importing.draft import Content, Draft
from goldenami.importing.values import MARKS, as_text, identifier

_EXPRESSION: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_CHAINED: Final = re.compile(r"(\w+)\.([\w-]+)\.inputs(?:\[(\d+)\])?\.(\w+)")
_HINT: Final = "A component document has name, schemaVersion and phases."
_BASH: Final = "#!/bin/bash\n"
_EXIT_194: Final = re.compile(r"^(?![ \t]*#).*\bexit[ \t]+194\b", re.MULTILINE)
_AGAIN: Final = "/var/lib/goldenami-run-again"  # survives the reboot; the second run deletes it
_REBOOT: Final = "/run/reboot-required"  # the sign that `reboot: if-needed` looks for
_WINDOWS: Final = ("ExecutePowerShell", "InstallMSI", "UninstallMSI", "SetRegistry", "WindowsUpdate")


class _Unknown(Exception):
    """An expression has no value before AWSTOE runs the document."""


@dataclass(slots=True)
class _Step:
    phase: str
    name: str
    action: str
    inputs: list[dict[str, Any]]
    line: int
    settings: Mapping[str, Any]


@dataclass(slots=True)
class _Component:
    draft: Draft
    file: str
    systems: Sequence[str]
    params: dict[str, str] = field(default_factory=dict)  # name in the document: name of the agent's parameter
    constants: dict[str, str] = field(default_factory=dict)
    steps: dict[tuple[str, str], _Step] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


def draft_agent(path: Path, systems: Sequence[str]) -> Draft:
    """Return the agent of a component document. ``systems``: the ids of the operating systems that it is for.

    Raises NotFound if there is no such file; InvalidInput if it is no component document.
    """
    document, lines = _read(path)
    given = document.get("name")
    name = re.sub(r"[^a-z0-9]+", "-", str(given or path.stem).lower()).strip("-")[:56] or "component"
    draft = Draft(name, {"name": name}, path.name)
    if document.get("description"):
        draft.recipe["description"] = " ".join(str(document["description"]).split())
    found = _Component(draft, str(path), systems)
    _declare(found, document, lines)
    for phase in maps(document.get("phases")):
        for step in maps(phase.get("steps")):
            _add(found, str(phase.get("name", "")), step, lines.get(id(step), 0))
    for one in found.steps.values():
        _translate(found, one)
    draft.recipe["operations"] = dict.fromkeys(systems, found.operations)
    if found.tests:
        draft.recipe["tests"] = [f"{identifier(name)}_test.py"]
        text = '"""Checks of the component, run at both gates."""\n' + "".join(found.tests)
        draft.files[f"{identifier(name)}_test.py"] = Content(text.encode())
    return draft


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[dict[str, Any], dict[int, int]]:
    """Return the document, and the lines of its steps by identity."""
    text = read_text(path, _HINT)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        document = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise InvalidInput([Problem(str(path), *place, f"this is not YAML: {error.problem}", _HINT)]) from None
    except (yaml.YAMLError, RecursionError):
        raise InvalidInput([Problem(str(path), 1, 1, "this is not YAML", _HINT)]) from None
    if not isinstance(document, dict) or not isinstance(document.get("phases"), list):
        raise InvalidInput([Problem(str(path), 1, 1, "this is no component document", _HINT)])
    lines: dict[int, int] = {}
    _note_lines(node, document, lines)
    return document, lines


def _note_lines(node: Any, value: Any, lines: dict[int, int]) -> None:
    lines[id(value)] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        for inner, one in zip(node.value, value, strict=False):
            _note_lines(inner, one, lines)
    elif isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        for key, inner in node.value:
            if key.value in value and isinstance(inner, yaml.SequenceNode | yaml.MappingNode):
                _note_lines(inner, value[key.value], lines)


def _declare(found: _Component, document: Mapping[str, Any], lines: Mapping[int, int]) -> None:
    params: dict[str, Any] = {}
    for declared in maps(document.get("parameters")):
        for name, about in declared.items():
            about = about if isinstance(about, dict) else {}
            found.params[name] = identifier(name)
            param: dict[str, Any] = {"type": "string"}
            if "default" in about:
                param["default"] = as_text(about["default"])
            if about.get("description"):
                param["description"] = " ".join(str(about["description"]).split())
            if isinstance(about.get("allowedValues"), list):
                param["choices"] = [as_text(one) for one in about["allowedValues"]]
            params[identifier(name)] = param
    if params:
        found.draft.recipe["params"] = params
    for declared in maps(document.get("constants")):
        for name, about in declared.items():
            found.constants[name] = as_text(about.get("value") if isinstance(about, dict) else about)
    for key in document:
        if key not in ("name", "description", "schemaVersion", "parameters", "constants", "phases"):
            found.draft.note("lost", found.file, lines.get(id(document[key]), 0), f"{key}: an agent has nothing for it")


def _add(found: _Component, phase: str, step: dict[str, Any], line: int) -> None:
    inputs = step.get("inputs")
    given = inputs if isinstance(inputs, list) else [inputs]
    one = _Step(
        phase,
        str(step.get("name", "")),
        str(step.get("action", "")),
        [entry if isinstance(entry, dict) else {"path": entry} for entry in given if entry is not None],
        line,
        step,
    )
    found.steps[phase, one.name] = one


# --- expressions ------------------------------------------------------------------------------------------------------


def _value(found: _Component, value: Any, depth: int = 0) -> Any:
    """Return a value with parameters as ``{{ params.NAME }}`` and other inputs in their places. Raises _Unknown."""
    if isinstance(value, dict):
        return {key: _value(found, one, depth) for key, one in value.items()}
    if isinstance(value, list):
        return [_value(found, one, depth) for one in value]
    if not isinstance(value, str):
        return value
    parts, at = [], 0
    for match in _EXPRESSION.finditer(value):
        parts.append(_escaped(value[at : match.start()]))
        parts.append(_resolved(found, match[1], match[0], depth))
        at = match.end()
    return "".join([*parts, _escaped(value[at:])])


def _escaped(text: str) -> str:
    return MARKS.sub(lambda mark: "{{ '" + mark[0] + "' }}", text)


def _resolved(found: _Component, name: str, source: str, depth: int) -> str:
    if name in found.params:
        return "{{ params." + found.params[name] + " }}"
    if name in found.constants:
        return _escaped(found.constants[name])
    chained = _CHAINED.fullmatch(name)
    step = found.steps.get((chained[1], chained[2])) if chained else None
    if chained is None or step is None or depth > 10:
        if name.split(".")[0] in ("loop", *{phase for phase, _ in found.steps}):
            raise _Unknown(f"{source} is known only to Image Builder")
        return _escaped(source)  # a template of another program
    number = int(chained[3] or 0)
    if number >= len(step.inputs) or chained[4] not in step.inputs[number]:
        raise _Unknown(f"{source} names no input")
    return str(_value(found, as_text(step.inputs[number][chained[4]]), depth + 1))


# --- steps ------------------------------------------------------------------------------------------------------------


def _translate(found: _Component, step: _Step) -> None:
    where = f"step {step.name} ({step.action})"
    note = found.draft.note
    for key, text in (
        ("loop", "the step would run once for each item"),
        ("if", "the step would run under a condition"),
    ):
        if key in step.settings:
            note("lost", found.file, step.line, f"{where}: {key}: {text}; it is not carried over")
            return
    if step.settings.get("onFailure") in ("Continue", "Ignore"):
        note("lost", found.file, step.line, f"{where}: onFailure: a failed operation ends the build")
    if "timeoutSeconds" in step.settings:
        note("replaced", found.file, step.line, f"{where}: timeoutSeconds: builder.timeout limits a whole stage")
    if step.action == "UpdateOS":
        note("replaced", found.file, step.line, f"{where}: patches: {{level: all}} in the recipe")
        return
    if step.phase != "build":
        _check(found, step, where)
        return
    if step.action == "Reboot":
        found.operations.append({"reboot": "always"})
        return
    action = _ACTIONS.get(step.action)
    if action is None:
        why = "recipes are for Linux" if step.action in _WINDOWS else "there is no such operation"
        note("lost", found.file, step.line, f"{where}: {why}")
        return
    try:
        made = [one for given in step.inputs or [{}] for one in action(_value(found, given))]
    except _Unknown as error:
        note("lost", found.file, step.line, f"{where}: {error}")
        return
    except (KeyError, TypeError, ValueError) as error:
        note("lost", found.file, step.line, f"{where}: its inputs lack {error}")
        return
    attempts = step.settings.get("maxAttempts")
    if any(_asks_for_a_reboot(one) for one in made):
        note(
            "replaced",
            found.file,
            step.line,
            f"{where}: exit 194: if it ends so, the host reboots and the script runs a second time; AWSTOE repeats "
            "this, but here a second exit 194 ends the build",
        )
        made = [again for one in made for again in _with_reboot(one)]
    for one in made:
        title = {"name": f"{step.name}"} if step.name else {}
        retries = {"retries": min(attempts - 1, 10)} if isinstance(attempts, int) and attempts > 1 else {}
        found.operations.append({**title, **one, **retries})


def _check(found: _Component, step: _Step, where: str) -> None:
    """Add a step of the phases validate and test to the test file."""
    if step.action != "ExecuteBash":
        found.draft.note("lost", found.file, step.line, f"{where}: only ExecuteBash becomes a check")
        return
    commands = [one for given in step.inputs for one in _commands(given)]
    text = "\n".join(commands)
    unknown = [match[0] for match in _EXPRESSION.finditer(text) if match[1] not in found.constants]
    if any(one.strip("{} ") in found.params or _CHAINED.fullmatch(one.strip("{} ")) for one in unknown):
        found.draft.note("lost", found.file, step.line, f"{where}: {unknown[0]} in a check is not carried over")
        return
    text = _EXPRESSION.sub(lambda match: found.constants.get(match[1], match[0]), text)
    function = identifier(f"test_{step.phase}_{step.name}").lower()
    found.tests.append(
        f'\n\ndef {function}(host):\n    done = host.run("bash -c %s", {text!r})\n    assert done.rc == 0, done\n'
    )


def _commands(given: Mapping[str, Any]) -> list[str]:
    commands = given.get("commands")
    return [as_text(one) for one in commands] if isinstance(commands, list) else [as_text(commands)]


def _bash(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    # AWSTOE runs the commands as one script of bash, as root; the status of the last one counts.
    return [{"script": {"content": _BASH + "\n".join(_commands(given)).rstrip("\n") + "\n"}}]


def _asks_for_a_reboot(operation: Mapping[str, Any]) -> bool:
    """Return whether a script can end with the status after which AWSTOE reboots the host and runs the step again."""
    return "script" in operation and _EXIT_194.search(operation["script"]["content"]) is not None


def _with_reboot(operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a script does for AWSTOE if it can ask for a reboot: only if it asked for one, the host reboots, and
    the script runs a second time."""
    if not _asks_for_a_reboot(operation):
        return [dict(operation)]
    body = operation["script"]["content"].removeprefix(_BASH)
    # The marker is there from the start, since the script may also reboot the host itself before it ends.
    first = (
        f"{_BASH}touch {_AGAIN}\n(\n{body})\nstatus=$?\n"
        f"if [ $status = 194 ]; then touch {_REBOOT}; else rm -f {_AGAIN}; fi\nexit $status\n"
    )
    again = {"content": f"{_BASH}rm -f {_AGAIN}\n{body}", "only_if": f"test -e {_AGAIN}"}
    return [
        {"script": {"content": first, "statuses": [0, 194], "reboots": True}},
        {"reboot": "if-needed"},
        {"script": again},
    ]


def _binary(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"command": {"argv": [given["path"], *(as_text(one) for one in given.get("arguments") or ())]}}]


def _ownership(given: Mapping[str, Any]) -> dict[str, Any]:
    mode = given.get("permissions")
    found = {key: as_text(given[key]) for key in ("owner", "group") if key in given}
    if mode is not None:
        # YAML reads 0750 as an octal number, and 750 as a decimal one.
        octal = isinstance(mode, int) and mode <= 0o777
        found["mode"] = f"0{mode:o}" if octal else as_text(mode).zfill(4)
    return found


def _create_file(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"file": {"dest": given["path"], "content": as_text(given.get("content", "")), **_ownership(given)}}]


def _append(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    # Once, and not once for each run.
    block = {"path": given["path"], "content": as_text(given["content"]), "create": True, "marker": "component"}
    return [{"block": block}]


def _folder(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"directory": {"path": given["path"], **_ownership(given)}}]


def _delete(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"absent": {"path": given["path"]}}]


def _symlink(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"link": {"path": given["path"], "target": given["target"]}}]


def _set_permissions(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"permissions": {"path": given["path"], "files": _ownership(given)["mode"]}}]


def _set_owner(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = {key: as_text(given[key]) for key in ("owner", "group") if key in given}
    return [{"permissions": {"path": given["path"], **named}}]


def _copy(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"command": {"argv": ["cp", "-a", "--", given["source"], given["destination"]]}}]


def _move(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    argv = ["mv", "--", given["source"], given["destination"]]
    return [{"command": {"argv": argv, "creates": given["destination"]}}]


def _download(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    source, dest = given["source"], given["destination"]
    if given.get("checksum") and str(given.get("algorithm", "SHA256")).upper() == "SHA256":
        return [{"download": {"url": source, "dest": dest, "sha256": as_text(given["checksum"]).lower()}}]
    # Without a checksum, nothing proves that it is the right file: `download` asks for one.
    return [{"command": {"argv": ["curl", "-fsSL", "--retry", "3", "-o", dest, source], "creates": dest}}]


def _s3_download(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    argv = ["aws", "s3", "cp", given["source"], given["destination"]]
    return [{"command": {"argv": argv, "creates": given["destination"]}}]


_ACTIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]]] = {
    "AppendFile": _append,
    "CopyFile": _copy,
    "CreateFile": _create_file,
    "CreateFolder": _folder,
    "CreateSymlink": _symlink,
    "DeleteFile": _delete,
    "DeleteFolder": _delete,
    "ExecuteBash": _bash,
    "ExecuteBinary": _binary,
    "MoveFile": _move,
    "S3Download": _s3_download,
    "SetFileOwner": _set_owner,
    "SetFilePermissions": _set_permissions,
    "SetFolderOwner": _set_owner,
    "WebDownload": _download,
}
