"""Keeps secrets whole in templates: what can be done with a secret before its value is known, and what is refused.

A filter that makes text of a secret is recorded in the placeholder (``secrets.deferred``), and works on the value when
it is filled in. Text can be joined with ``~``, ``+`` and ``join``. Everything that needs the value while the template
is rendered is refused: comparisons, tests, conditions, parts, methods of text and other filters. Otherwise the result
would be wrong without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from types import GeneratorType
from typing import Any, Final

from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from goldenami.recipe.secrets import FILTERS, Secret, called, deferred, has_secret, is_secret

_UNKNOWN: Final = "because its value is not known yet when templates are rendered"
# Filters that move values of a list or mapping, and look at none.
_MOVING: Final = frozenset(
    {"map", "list", "first", "last", "items", "default", "d", "length", "count", "batch", "slice", "reverse"}
    | {"select", "reject", "selectattr", "rejectattr"}
)
_OF_CONTAINERS: Final = frozenset({"json", "tojson", "urlencode"})  # those of FILTERS that take lists and mappings
_TESTS: Final = frozenset(
    ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "boolean"]
)


class SecretsKeptWhole(ImmutableSandboxedEnvironment):
    """A sandbox that refuses what would change a secret, with the filters and tests of :func:`guarded`."""

    def concat(self, parts: Iterable[str]) -> str:
        return Secret.wrap("".join(parts))

    def getattr(self, obj: Any, attribute: str) -> Any:
        if is_secret(obj):
            raise _refused(f"{attribute!r} of a secret cannot be used")
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if is_secret(obj) or is_secret(argument):
            raise _refused("a part of a secret, or a secret as a key, cannot be used")
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(owner, str) and any(map(has_secret, (*args, *kwargs.values()))):
            raise _refused("a secret cannot be given to a method of a text", "Join texts with ~.")
        return super().call(__context, __obj, *args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Guarding(self).visit(source), *args, **kwargs)


_Functions = Mapping[str, Callable[..., Any]]


def guarded(filters: _Functions, tests: _Functions) -> tuple[_Functions, _Functions]:
    """Return filters and tests that keep secrets whole, with the filters that this module needs."""
    own = {"_joined": _joined, "_known": _known, "_known_text": _known_text}
    return (
        {**{name: _guarded_filter(name, one) for name, one in filters.items()}, **own},
        {name: _guarded_test(name, one) for name, one in tests.items()},
    )


class _Guarding(NodeTransformer):
    """Puts the filters of this module around what Jinja compiles to operators of Python."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def _by(self, name: str, node: Any) -> nodes.Filter:
        made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        made.set_environment(self._environment)
        return made

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        every = nodes.List(node.nodes, lineno=node.lineno).set_environment(self._environment)
        return self._by("_joined", every)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = self._by("_known", node.expr)
        for operand in node.ops:
            operand.expr = self._by("_known", operand.expr)
        return node

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        super().generic_visit(node, *args, **kwargs)
        filter, fields = _GUARDS.get(type(node), ("", ()))
        for field in fields:
            value = getattr(node, field)
            if value is not None:
                setattr(node, field, self._by(filter, value))
        return node


# The filter for the parts of a node whose values Jinja needs when it renders the template.
_CONDITION: Final = "_known_text"
_GUARDS: Final[Mapping[type[nodes.Node], tuple[str, tuple[str, ...]]]] = {
    nodes.If: (_CONDITION, ("test",)),
    nodes.CondExpr: (_CONDITION, ("test",)),
    nodes.Not: (_CONDITION, ("node",)),
    nodes.And: (_CONDITION, ("left",)),
    nodes.Or: (_CONDITION, ("left",)),
    nodes.For: (_CONDITION, ("iter", "test")),
    **dict.fromkeys(
        (nodes.Mul, nodes.Mod, nodes.Sub, nodes.Div, nodes.FloorDiv, nodes.Pow), ("_known", ("left", "right"))
    ),
}


def _refused(what: str, hint: str = "", of: Any = "") -> SecurityError:
    """Return the error for what cannot be done with a secret, or with the fact that ``of`` is."""
    fact = called(of) if isinstance(of, str) and is_secret(of) else "secret"
    what = what if fact == "secret" else what.replace("a secret", fact, 1)
    return SecurityError(f"{what}, {_UNKNOWN}.{' ' + hint if hint else ''}")


def _joined(parts: Iterable[Any]) -> str:
    return Secret.wrap("".join(map(str, parts)))


def _known(value: Any) -> Any:
    if has_secret(value):
        raise _refused("a secret cannot be compared or calculated with", of=value)
    return value


def _known_text(value: Any) -> Any:
    if is_secret(value):
        raise _refused("a secret cannot be a condition or a sequence", of=value)
    return value


def _guarded_test(name: str, test: Callable[..., Any]) -> Callable[..., Any]:
    if name in _TESTS:
        return test

    @wraps(test)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if any(map(has_secret, (*args, *kwargs.values()))):
            raise _refused(f"the test {name!r} cannot be applied to a secret")
        return test(*args, **kwargs)

    return guarded


def _guarded_filter(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    first = 1 if getattr(filter, "jinja_pass_arg", None) is not None else 0  # Jinja passes its context before the value

    @wraps(filter)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        args = (*args[:first], *(list(one) if isinstance(one, GeneratorType) else one for one in args[first:]))
        value, more = args[first], args[first + 1 :]
        if not any(map(has_secret, (value, *more, *kwargs.values()))):
            return filter(*args, **kwargs)
        if isinstance(value, str) or not has_secret(value):
            if name in ("string", "safe"):
                return Secret.wrap(str(value))
            if name in FILTERS and isinstance(value, str):
                return deferred(name, value, more, kwargs)
            if name in ("default", "d"):
                return filter(*args, **kwargs)
        elif name in _OF_CONTAINERS:
            return deferred(name, value, more, kwargs)
        elif name == "join" and not isinstance(value, Mapping) and "attribute" not in kwargs and len(more) <= 1:
            separator = str(kwargs.get("d", more[0] if more else ""))
            return Secret.wrap(separator.join(map(str, value)))
        elif name in _MOVING:
            return filter(*args, **kwargs)
        raise _refused(
            f"the filter {name!r} cannot be applied to a secret", f"These filters can: {', '.join(sorted(FILTERS))}."
        )

    return guarded
