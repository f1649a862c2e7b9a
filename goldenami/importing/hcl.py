"""Reads Packer templates in HCL2. The grammar is python-hcl2's; this module gives its tree values.

What Packer computes when it runs, such as timestamp() or data sources, stays an expression (``values.Code``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from goldenami.errors import InvalidInput, Problem, UsageError
from goldenami.importing.values import (
    Block,
    Code,
    Reference,
    Text,
    UnknownValue,
    Value,
    Variable,
    as_text,
    joined,
    plain,
)

if TYPE_CHECKING:
    pass

_HEREDOC: Final = re.compile(r"<<(-?)([A-Za-z][A-Za-z0-9._-]*)\r?\n(.*?)^[ \t]*\2\s*\Z", re.DOTALL | re.MULTILINE)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_DEEPEST: Final = 60  # nested expressions; a template that a person wrote has far fewer


@dataclass(slots=True)
class Scope:
    """What expressions refer to. ``locals`` are evaluated when they are used."""

    variables: dict[str, Variable] = field(default_factory=dict)
    locals: dict[str, tuple[str, Any]] = field(default_factory=dict)  # name: file, tree
    pending: set[str] = field(default_factory=set)


def parse(text: str, file: str) -> Any:
    """Return the tree of a file. Raises InvalidInput with the place of a mistake; UsageError without python-hcl2."""
    try:
        import hcl2
        from lark.exceptions import LarkError
    except ImportError:
        raise UsageError(
            "templates in HCL2 need the package python-hcl2",
            hint="Install it: pip install 'goldenami[packer]'. JSON templates need nothing.",
        ) from None
    try:
        return hcl2.parses_to_tree(text if text.endswith("\n") else text + "\n")
    except (LarkError, RecursionError) as error:
        line, column = getattr(error, "line", 1), getattr(error, "column", 1)
        where = (line, column) if isinstance(line, int) and line > 0 and isinstance(column, int) else (1, 1)
        raise InvalidInput([Problem(file, *where, "this is not HCL2", "Check the template: packer validate")]) from None


def blocks(tree: Any, file: str, scope: Scope) -> list[Block]:
    """Return the blocks of a file's body, or of a block's, in their order."""
    return [_block(child, file, scope) for child in _body(tree).children if _is(child, "block")]


def declare(tree: Any, file: str, scope: Scope) -> None:
    """Add the variables and locals of a file to the scope."""
    for child in _body(tree).children:
        if not _is(child, "block"):
            continue
        labels, body = _labels(child)
        if labels[0] == "variable" and len(labels) == 2:
            settings = _settings(body, file, scope)
            default = settings.get("default")
            sensitive = settings.get("sensitive")
            scope.variables[labels[1]] = Variable(
                labels[1],
                default.given if default is not None else None,
                sensitive is not None and sensitive.given is True,
                file,
                _line(child),
                _env(default.given) if default is not None else None,
            )
        elif labels[0] == "locals":
            for one in body.children:
                if _is(one, "attribute"):
                    name, expression = _attribute(one)
                    scope.locals[name] = (file, expression)
        elif labels[0] == "local" and len(labels) == 2:
            for one in body.children:
                if _is(one, "attribute") and _attribute(one)[0] == "expression":
                    scope.locals[labels[1]] = (file, _attribute(one)[1])


def assignments(tree: Any, file: str, scope: Scope) -> dict[str, Value]:
    """Return the values of a variable file (.pkrvars.hcl)."""
    return _settings(_body(tree), file, scope)


def _env(value: Any) -> str | None:
    code = value.parts[0] if isinstance(value, Text) and len(value.parts) == 1 else None
    found = re.fullmatch(r'env\("(\w+)"\)', code.source) if isinstance(code, Code) else None
    return found[1] if found else None


# --- structure --------------------------------------------------------------------------------------------------------


def _is(node: Any, *names: str) -> bool:
    return getattr(node, "data", None) in names


def _body(tree: Any) -> Any:
    return tree.children[0] if _is(tree, "start") else tree


def _line(node: Any) -> int:
    """Return the line of the first token of a node."""
    if hasattr(node, "line") and not hasattr(node, "data"):
        return int(node.line or 1)
    for child in getattr(node, "children", ()):
        line = _line(child)
        if line:
            return line
    return 0


def _name(node: Any) -> str:
    while hasattr(node, "data"):
        if _is(node, "string"):
            return "".join(str(token) for part in node.children if _is(part, "string_part") for token in part.children)
        node = node.children[0]
    return str(node)


def _labels(block: Any) -> tuple[list[str], Any]:
    nodes = [c for c in block.children if hasattr(c, "data") and not _is(c, "new_line_or_comment")]
    return [_name(node) for node in nodes[:-1]], nodes[-1]


def _attribute(node: Any) -> tuple[str, Any]:
    trees = [c for c in node.children if hasattr(c, "data") and not _is(c, "new_line_or_comment")]
    return _name(trees[0]), trees[-1]


def _settings(body: Any, file: str, scope: Scope) -> dict[str, Value]:
    found = {}
    for child in body.children:
        if _is(child, "attribute"):
            name, expression = _attribute(child)
            found[name] = Value(evaluate(expression, scope), file, _line(child))
    return found


def _block(node: Any, file: str, scope: Scope) -> Block:
    labels, body = _labels(node)
    nested: dict[str, list[Block]] = {}
    for child in body.children:
        if _is(child, "block"):
            one = _block(child, file, scope)
            nested.setdefault(one.type, []).append(one)
    kind, name = labels[0], "/".join(labels[1:])
    return Block(kind, name, file, _line(node), _settings(body, file, scope), {k: tuple(v) for k, v in nested.items()})


# --- expressions ------------------------------------------------------------------------------------------------------


def evaluate(node: Any, scope: Scope, depth: int = 0) -> Any:
    """Return the value of an expression; what has none yet is a ``Code`` with its source."""
    if depth > _DEEPEST:
        return Text((Code("an expression that is nested too deeply"),))
    if not hasattr(node, "data"):
        return str(node)
    if node.data in _LITERALS:
        return _LITERALS[node.data](str(node.children[0]))
    handler = _HANDLERS.get(node.data)
    value = handler(node, scope, depth + 1) if handler is not None else None
    return _unknown(node) if value is None and node.data != "expr_term" else value


def _unknown(node: Any) -> Text:
    return Text((Code(_source(node)),))


def _source(node: Any) -> str:
    """Return the source of an expression, on one line and short."""
    text = "".join(_tokens(node))
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def _tokens(node: Any) -> list[str]:
    if not hasattr(node, "data"):
        return [str(node)]
    return [token for child in node.children if child is not None for token in _tokens(child)]


def _trees(node: Any) -> list[Any]:
    return [c for c in node.children if hasattr(c, "data") and not _is(c, "new_line_or_comment")]


def _term(node: Any, scope: Scope, depth: int) -> Any:
    (inner,) = _trees(node)
    return evaluate(inner, scope, depth)


def _string(node: Any, scope: Scope, depth: int) -> Any:
    parts: list[Any] = []
    for part in _trees(node):
        inner = part.children[0]
        if not hasattr(inner, "data"):
            parts.append(_unescaped(str(inner)) if inner.type == "STRING_CHARS" else str(inner)[1:])
        elif _is(inner, "interpolation"):
            parts.append(evaluate(_trees(inner)[0], scope, depth))
        else:
            return _unknown(node)
    return joined(parts)


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        kind = found[1]
        return chr(int(kind[1:], 16)) if kind[0] in "uU" else _ESCAPES.get(kind, found[0])

    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, text)


def _heredoc(node: Any, scope: Scope, depth: int) -> Any:
    found = _HEREDOC.match(str(node.children[0]))
    if found is None:
        return None
    body = found[3]
    if found[1]:
        lines = body.split("\n")
        margins = [len(line) - len(line.lstrip(" ")) for line in lines if line.strip()]
        body = "\n".join(line[min(margins, default=0) :] for line in lines)
    return _template(body, scope, depth)


def _template(text: str, scope: Scope, depth: int) -> Any:
    """Return the value of a heredoc's text: its interpolations are parsed one by one."""
    parts: list[Any] = []
    at = 0
    for found in re.finditer(r"\$\$\{|%%\{|\$\{|%\{", text):
        if found.start() < at:
            continue
        parts.append(text[at : found.start()])
        if len(found[0]) == 3:
            parts.append(found[0][1:])
            at = found.end()
            continue
        end = _closing(text, found.end())
        source = text[found.start() : end]
        value = Text((Code(source),))
        if found[0] == "${" and source.endswith("}"):
            tree = parse(f"x = {source[2:-1]}\n", "expression")
            value = evaluate(_attribute(_body(tree).children[0])[1], scope, depth)
        parts.append(value)
        at = end
    return joined([*parts, text[at:]])


def _closing(text: str, at: int) -> int:
    """Return the position after the brace that ends an interpolation. Braces in strings do not count."""
    depth, quoted = 1, False
    while at < len(text) and depth:
        char = text[at]
        if quoted and char == "\\":
            at += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"{": 1, "}": -1}.get(char, 0)
        at += 1
    return at


_LITERALS: Final[Mapping[str, Callable[[str], Any]]] = {
    "float_lit": float,
    "int_lit": int,
    "literal_value": {"true": True, "false": False}.get,
}


def _tuple(node: Any, scope: Scope, depth: int) -> Any:
    return [evaluate(child, scope, depth) for child in _trees(node)]


def _object(node: Any, scope: Scope, depth: int) -> Any:
    found = {}
    for element in _trees(node):
        key, value = _trees(element)
        inner = key
        while hasattr(inner, "data") and not _is(inner, "string") and len(_trees(inner)) == 1:
            (inner,) = _trees(inner)
        name = evaluate(inner, scope, depth) if _is(inner, "string") else "".join(_tokens(inner))
        if not isinstance(name, str):
            return None
        found[name] = evaluate(value, scope, depth)
    return found


def _negative(node: Any, scope: Scope, depth: int) -> Any:
    operator, operand = str(node.children[0]).strip(), evaluate(_trees(node)[0], scope, depth)
    if operator == "-" and isinstance(operand, int | float) and not isinstance(operand, bool):
        return -operand
    known = _known(operand, scope)
    return not known if operator == "!" and isinstance(known, bool) else None


def _known(value: Any, scope: Scope) -> Any:
    try:
        return plain(value, scope.variables)
    except UnknownValue:
        return None


def _conditional(node: Any, scope: Scope, depth: int) -> Any:
    condition, yes, no = _trees(node)
    known = _known(evaluate(condition, scope, depth), scope)
    return evaluate(yes if known else no, scope, depth) if isinstance(known, bool) else None


def _binary(node: Any, scope: Scope, depth: int) -> Any:
    left, term = _trees(node)[:2]
    operator, right = _trees(term)
    sign = "".join(_tokens(operator)).strip()
    one, other = (_known(evaluate(side, scope, depth), scope) for side in (left, right))
    if one is None or other is None:
        return None
    if sign in ("==", "!="):
        return (as_text(one) == as_text(other)) == (sign == "==")
    if sign in ("&&", "||") and isinstance(one, bool) and isinstance(other, bool):
        return (one and other) if sign == "&&" else (one or other)
    return None


def _path(node: Any) -> list[str] | None:
    """Return ["var", "region"] for var.region; None if the term is more than names and dots."""
    if _is(node, "expr_term") and len(_trees(node)) == 1 and len(node.children) == 1:
        return _path(_trees(node)[0])
    if _is(node, "identifier"):
        return [_name(node)]
    if _is(node, "get_attr_expr_term"):
        base, attribute = _trees(node)
        path = _path(base)
        return [*path, _name(_trees(attribute)[0])] if path is not None else None
    return None


def _attribute_of(node: Any, scope: Scope, depth: int) -> Any:
    path = _path(node)
    if path is None:
        base, attribute = _trees(node)
        value = _known(evaluate(base, scope, depth), scope)
        return value.get(_name(_trees(attribute)[0])) if isinstance(value, dict) else None
    if path[0] == "var" and len(path) == 2:
        return Text((Reference(path[1]),))
    if path[0] not in ("var", "local") or len(path) < 2:
        return None
    found = _known(Text((Reference(path[1]),)), scope) if path[0] == "var" else _local(path[1], scope, depth)
    for key in path[2:]:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _local(name: str, scope: Scope, depth: int) -> Any:
    if name not in scope.locals or name in scope.pending:
        return None
    scope.pending.add(name)
    try:
        return evaluate(scope.locals[name][1], scope, depth)
    finally:
        scope.pending.discard(name)


def _index(node: Any, scope: Scope, depth: int) -> Any:
    base, index = _trees(node)
    value = _known(evaluate(base, scope, depth), scope)
    key = _known(evaluate(_trees(index)[0], scope, depth), scope) if _trees(index) else None
    if isinstance(value, dict) and isinstance(key, str):
        return value.get(key)
    return value[key] if isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value) else None


def _call(node: Any, scope: Scope, depth: int) -> Any:
    name, arguments = _name(_trees(node)[0]), []
    for child in _trees(node)[1:]:
        if _is(child, "arguments"):
            arguments = [evaluate(one, scope, depth) for one in _trees(child)]
    if name == "env":
        return None
    function = _FUNCTIONS.get(name)
    if function is None:
        return None
    if name in ("concat", "merge"):  # what is inside of the lists and maps may be unknown
        return function(*(_known(one, scope) if isinstance(one, Text) else one for one in arguments))
    known = [_known(one, scope) for one in arguments]
    if any(one is None for one in known):
        return None
    try:
        return function(*known)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None


def _merge(*maps: Any) -> Any:
    return {k: v for one in maps for k, v in one.items()} if all(isinstance(one, dict) for one in maps) else None


def _concat(*lists: Any) -> Any:
    return [v for one in lists for v in one] if all(isinstance(one, list) for one in lists) else None


def _format(pattern: str, *values: Any) -> str:
    return re.sub("%d|%v", "%s", pattern) % tuple(as_text(value) for value in values)


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "concat": _concat,
    "format": _format,
    "join": lambda separator, items: separator.join(as_text(one) for one in items),
    "jsonencode": lambda value: json.dumps(value, separators=(",", ":")),
    "length": len,
    "lookup": lambda mapping, key, default="": mapping.get(key, default),
    "lower": str.lower,
    "merge": _merge,
    "replace": lambda text, old, new: text.replace(old, new) if not old.startswith("/") else None,
    "split": lambda separator, text: text.split(separator),
    "title": str.title,
    "tolist": list,
    "toset": lambda items: sorted(set(items)),
    "tostring": as_text,
    "trimspace": str.strip,
    "upper": str.upper,
}

_HANDLERS: Final[Mapping[str, Callable[[Any, Scope, int], Any]]] = {
    "binary_op": _binary,
    "conditional": _conditional,
    "expr_term": _term,
    "function_call": _call,
    "get_attr_expr_term": _attribute_of,
    "heredoc_template": _heredoc,
    "heredoc_template_trim": _heredoc,
    "index_expr_term": _index,
    "object": _object,
    "string": _string,
    "tuple": _tuple,
    "unary_op": _negative,
}
