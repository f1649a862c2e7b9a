"""Renders Jinja in recipes: expressions in YAML values, and template files.

Both use one sandboxed, immutable environment: a recipe computes text and has no access to Python objects. Undefined
names are problems. All undefined names of a template are reported: ``Collecting`` records each use, and the rendering
continues.

A value that is exactly one expression, ``"{{ vars.workers }}"``, keeps the type of the result: a number stays a number.
Any other value with expressions becomes a string.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2 import filters as jinja_filters
from jinja2 import tests as jinja_tests
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.utils import missing

from goldenami import bounded
from goldenami.bounded import Budget
from goldenami.recipe.document import LARGEST, OUT_OF_RANGE, unusable
from goldenami.recipe.kepttemplates import kept
from goldenami.recipe.secret_text import SecretsKeptWhole, guarded
from goldenami.recipe.secrets import is_mangled
from goldenami.recipe.similar import suggestion

Report = Callable[[int, str, str, str | None], None]
"""(line in the text from 1, what to look for in that line to find the column, message, hint)"""

_NAME = "<template>"
_WHOLE = re.compile(r"\s*\{\{-?(?P<expression>(?:(?!\}\}|\{\{).)*?)-?\}\}\s*", re.DOTALL)


class Namespace(Mapping[str, Any]):
    """A named group of values in the context (``vars``, ``environment``, …)."""

    def __init__(self, name: str, values: Mapping[str, Any], advice: str = "") -> None:
        self._name = name
        self.advice = advice  # the hint for an undefined name
        self._values = dict(values)
        self._contents: Hashable = None

    def advising(self, advice: str) -> Namespace:
        """Return the same values with another hint for an undefined name."""
        made = Namespace(self._name, {}, advice)
        made._values, made._contents = self._values, self.contents
        return made

    @property
    def contents(self) -> Hashable:
        """The values, as ``contents`` returns them."""
        if self._contents is None:
            self._contents = contents(self._values)
        return self._contents

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return str(self._values)


def contents(value: Any) -> Hashable:
    """Return the contents of a value of a recipe, such that only equal values of the same types are equal."""
    kind = type(value)
    if kind is str or kind is int:
        return kind, value
    if kind is Namespace:
        return kind, value.contents
    if isinstance(value, Mapping):
        return "mapping", tuple((key, contents(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(map(contents, value))
    return kind, value


class _Environment(SecretsKeptWhole):
    def getattr(self, obj: Any, attribute: str) -> Any:
        # A variable may have the name "items" or "keys". Declared names are used before the methods of the mapping.
        if isinstance(obj, Namespace) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


class _Collecting(Undefined):
    """Reports each use, and then acts as empty text. ``is defined`` and ``default()`` are not reported."""

    __slots__ = ()

    def _note(self) -> None:
        run = _run.get()
        run.notes(
            _line_of_caller(),
            *_explain(self._undefined_obj, self._undefined_name, run.context, self._undefined_hint),
        )

    def _fail_with_undefined_error(self, *_args: Any, **_kwargs: Any) -> Any:
        self._note()
        return self

    def __getattr__(self, name: str) -> Any:
        if name[:2] == name[-2:] == "__":
            raise AttributeError(name)
        self._note()
        return self

    def __str__(self) -> str:
        self._note()
        return ""

    def __iter__(self) -> Iterator[Any]:
        self._note()
        return iter(())

    def __len__(self) -> int:
        self._note()
        return 0

    def __bool__(self) -> bool:
        self._note()
        return False

    def __eq__(self, other: object) -> bool:
        self._note()
        return False

    def __ne__(self, other: object) -> bool:
        self._note()
        return True

    def __contains__(self, item: object) -> bool:
        self._note()
        return False

    __hash__ = Undefined.__hash__
    __add__ = __radd__ = __sub__ = __rsub__ = _fail_with_undefined_error
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _fail_with_undefined_error
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _fail_with_undefined_error
    __pos__ = __neg__ = __call__ = __getitem__ = _fail_with_undefined_error
    __lt__ = __le__ = __gt__ = __ge__ = _fail_with_undefined_error


def _line_of_caller() -> int:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _NAME:
            return _template_line(frame.f_lineno, str(frame.f_globals.get("debug_info", "")))
        frame = frame.f_back
    return 1


def _template_line(number: int, debug_info: str) -> int:
    """Return the line of the template for a line of Jinja's generated code ("3=10&5=14": template=code)."""
    line = 1
    for pair in debug_info.split("&"):
        template, _, code = pair.partition("=")
        if code and int(code) <= number:
            line = int(template)
    return line


def _explain(owner: Any, name: Any, context: Mapping[str, Any], refusal: str | None) -> tuple[str, str, str | None]:
    if isinstance(owner, Namespace):
        full = f"{owner._name}.{name}"
        known = ", ".join(owner) or "nothing"
        hint = suggestion(str(name), owner, owner.advice or f"{owner._name} has: {known}.")
        return full, f"{full} is not defined", hint
    if owner is not missing:
        if refusal:  # the reason why Jinja's sandbox refused it
            return str(name), f"not allowed in a template: {refusal}", None
        return str(name), f"a value of type {type(owner).__name__} has no {name!r}", None
    if refusal:
        return "", f"not allowed in a template: {refusal}", None
    for group, values in context.items():
        if isinstance(values, Namespace) and name in values:
            return str(name), f"{name} is not defined", f"Write {group}.{name}."
    if name == "architecture":
        return (
            str(name),
            "architecture is not defined here",
            "Use it only in base, builder, patches, agents, software, handlers and hardening.",
        )
    return (
        str(name),
        f"{name} is not defined",
        suggestion(str(name), context, f"Defined here: {', '.join(context)}."),
    )


def _quote(value: Any) -> str:
    return shlex.quote(str(value))


def _b64encode(value: Any) -> str:
    return base64.b64encode(str(value).encode()).decode()


def _json(value: Any, indent: int | None = None) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return dict(item)
        raise SecurityError(f"{type(item).__name__} cannot be written as JSON")

    return json.dumps(value, indent=indent, default=plain, ensure_ascii=False)


class _Reporter:
    """Reports the problems of one rendering. A name that is used twice in a line is reported once."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.reported: set[tuple[int, str]] = set()

    def __call__(self, line: int, needle: str, message: str, hint: str | None) -> None:
        if (line, message) not in self.reported:
            self.reported.add((line, message))
            self._report(line, needle, message, hint)


_MANGLED = "a filter changed a secret, but its value is not known yet when templates are rendered"


def _plain(value: Any, notes: _Reporter) -> Any:
    """Return the result of an expression as plain values of a recipe."""
    if isinstance(value, Undefined):
        str(value)  # str() reports an expression that is only an undefined name
        return None
    if isinstance(value, str):
        if is_mangled(value):
            notes(1, "", _MANGLED, None)
        wrong = unusable(value)
        if wrong:
            notes(1, "", f"the result has {wrong}", None)
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key, notes): _plain(item, notes) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, notes) for item in value]
    if isinstance(value, int) and abs(value) >= LARGEST:
        notes(1, "", OUT_OF_RANGE, None)
    elif value is not None and not isinstance(value, (int, float, datetime.date)):
        notes(1, "", f"the result is of type {type(value).__name__}, which is not a value of a recipe", None)
    return value


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders templates and values with one context: the names that expressions can use.

    ``budget``, in all methods: the time and the text that all expressions of one recipe may take together. ``used``:
    the names that the rendered templates have, and the files that were read. What was rendered depends on no others.
    """

    context: Mapping[str, Any]
    used: set[str | Path] = field(default_factory=set, compare=False)

    def inside(self, names: Mapping[str, Any]) -> Renderer:
        """Return a renderer for other files: with the names of this one except ``vars`` and ``facts``, and more names.
        What it uses is also used by this renderer."""
        kept = {key: value for key, value in self.context.items() if key not in ("vars", "facts")}
        return Renderer({**kept, **names}, self.used)

    def text(self, source: str, report: Report, budget: Budget | None = None) -> str | None:
        """Render a template. After a problem the result is None, and every problem was reported."""
        rendered = self._rendered(source, report, budget, whole=False)
        return rendered if isinstance(rendered, str) else None

    def value(self, source: str, report: Report, budget: Budget | None = None) -> Any:
        """Render a value. A single expression keeps its type, any other value becomes text. None after a problem."""
        whole = _WHOLE.fullmatch(source)
        if whole is None:
            return self.text(source, report, budget)
        return self.expression(whole["expression"], report, budget)

    def expression(self, source: str, report: Report, budget: Budget | None = None) -> Any:
        """Evaluate one expression without {{ }}, for example of ``when``. None after a problem."""
        return self._rendered("{{ (" + source + ") | _keep }}", report, budget, whole=True, name=source)

    def _rendered(self, source: str, report: Report, budget: Budget | None, *, whole: bool, name: str = "") -> Any:
        budget = budget or Budget()
        start = time.thread_time()
        result: Any = None
        try:
            budget.spend(0)
            if (found := _looked_up(name, self.context)) is not None:
                result, problems, names = found
            elif is_cheap(source):
                result, problems, names = _render_named(source, self.context, whole)
            else:
                result, problems, names = bounded.call(budget, _render_named, source, self.context, whole)
            self.used.update(names)
            budget.spend(time.thread_time() - start, _characters(result))
        except bounded.TooMuch as error:
            problems = [(1, "", _too_much(error), _SIMPLIFY)]
        for problem in problems:
            report(*problem)
        return None if problems else result


@dataclass(frozen=True, slots=True)
class _Run:
    """One rendering. ``results``: what the filter ``_keep`` got."""

    context: Mapping[str, Any]
    notes: _Reporter
    results: list[Any] = field(default_factory=list)


_run: ContextVar[_Run] = ContextVar("the rendering that is running")


_Reported = list[tuple[int, str, str, str | None]]


def _render_named(source: str, context: Mapping[str, Any], whole: bool) -> tuple[Any, _Reported, frozenset[str]]:
    """Return what ``_render`` returns, and the names in the template."""
    result, problems = _render(source, context, whole)
    return result, problems, frozenset() if problems else _names(source)


_LOOKUP = re.compile(r"\s*(?P<group>[a-z_]+)\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<text>\|\s*string\s*)?")
_LOOKED_UP = frozenset({str, int, bool, float, list})


def _looked_up(expression: str, context: Mapping[str, Any]) -> tuple[Any, _Reported, frozenset[str]] | None:
    """Return what ``_render_named`` returns for an expression that is only the name of a value, such as ``vars.port``;
    None for any other one. Most expressions are such names, and Jinja would compile a program for each."""
    match = _LOOKUP.fullmatch(expression)
    group = context.get(match["group"]) if match is not None else None
    if match is None or type(group) is not Namespace or match["name"] not in group:
        return None
    value = group[match["name"]]
    kind = type(value)
    if kind not in _LOOKED_UP or (match["text"] is not None and kind is not str and kind is not int):
        return None
    problems: _Reported = []
    result = _plain(value if match["text"] is None else str(value), _Reporter(lambda *one: problems.append(one)))
    return (None, problems, frozenset()) if problems else (result, problems, frozenset([match["group"]]))


def _render(source: str, context: Mapping[str, Any], whole: bool) -> tuple[Any, _Reported]:
    """Return the result of a template, or of its only expression if ``whole``, and the problems."""
    problems: _Reported = []
    notes = _Reporter(lambda *problem: problems.append(problem))
    run = _Run(context, notes)
    before = _run.set(run)
    try:
        rendered = _template(source, whole).render(context)
        if not whole:
            run.results.append(_plain(rendered, notes))
    except TemplateSyntaxError as error:
        notes(error.lineno, "", f"template syntax: {error.message}", None)
    except (bounded.TooMuch, MemoryError, RecursionError) as error:
        notes(_raised_at(error), "", _too_much(error), _SIMPLIFY)
    except Exception as error:  # an expression can raise any error (TypeError, ZeroDivisionError, …)
        # An undefined name became empty text, which is probably the cause of this error. It was reported already.
        if not problems:
            notes(_raised_at(error), "", _message(error), None)
    finally:
        _run.reset(before)
    return (run.results[0] if run.results and not problems else None), problems


@pass_context  # without it, Jinja would call the filter of a constant once, when it compiles
def _keep(_: Context, value: Any) -> str:
    run = _run.get()
    run.results.append(_plain(value, run.notes))
    return ""


_SIMPLIFY = "Write the value itself, or compute it in fewer steps."


def _too_much(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the expression is nested too deeply"
    return f"the expression needs more than {bounded.SPACE if isinstance(error, MemoryError) else error}"


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0


_SHORT = 500  # characters of a source
_CHEAP = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.Getattr, nodes.Keyword),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Test, nodes.If, nodes.CondExpr),
    *(nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Concat, nodes.Add, nodes.Sub),
)
_CHEAP_FILTERS = frozenset(
    ["_keep", "d", "default", "string", "int", "float", "length", "count", "lower", "upper", "trim", "first", "last"]
)
_GROWING_FILTERS = frozenset(["quote", "json", "tojson"])  # once; each repetition can double the text


@lru_cache(maxsize=4096)
def is_cheap(source: str) -> bool:
    """Return whether the time and memory of a template grow only with its values: it has no loops, calls, powers and
    filters that make a short text long."""
    return len(source) <= _SHORT and kept("cheap", source, lambda: _is_cheap(source))


def _is_cheap(source: str) -> bool:
    try:
        tree = _tree(source)
    except Exception:  # reported when it is rendered
        return True
    growing = 0
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Filter):
            growing += node.name in _GROWING_FILTERS
            if growing > 1 or node.name not in _CHEAP_FILTERS | _GROWING_FILTERS:
                return False
        elif not isinstance(node, _CHEAP):
            return False
    return True


@lru_cache(maxsize=4096)
def _names(source: str) -> frozenset[str]:
    """Return all names of a template that can be rendered, also those that it defines itself."""
    return kept("names", source, lambda: frozenset(node.name for node in _tree(source).find_all(nodes.Name)))


@lru_cache(maxsize=64)
def _tree(source: str) -> nodes.Template:
    return _environment(Undefined).parse(source)


@cache
def _environment(undefined: type[Undefined], *, keeps: bool = False) -> _Environment:
    """Return the environment of a class of undefined names. ``keeps``: the filter ``_keep`` is allowed."""
    environment = _Environment(
        undefined=undefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is configuration, not HTML
    )
    filters, tests = _filters_and_tests()
    environment.filters, environment.tests = dict(filters), dict(tests)
    if keeps:
        environment.filters["_keep"] = _keep
    for unwanted in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(unwanted, None)
    return environment


@cache
def _filters_and_tests() -> tuple[Mapping[str, Callable[..., Any]], Mapping[str, Callable[..., Any]]]:
    own: dict[str, Callable[..., Any]] = {"quote": _quote, "json": _json, "b64encode": _b64encode}
    every: dict[str, Any] = {name: filter for name, filter in jinja_filters.FILTERS.items() if name != "random"}
    checks: dict[str, Any] = {**jinja_tests.TESTS}
    return guarded({**every, **own}, checks)  # without "random": the same recipe gives the same image


@lru_cache(maxsize=4096)
def _template(source: str, keeps: bool) -> Template:
    """Return a template. It does not depend on the context, and the same expressions come many times: controls are
    bound for each recipe that uses them. ``keeps``: the filter ``_keep`` is allowed."""
    # With Undefined, Jinja computes '' for a wrong constant when it compiles.
    compiler = _environment(StrictUndefined, keeps=keeps)
    code = kept(f"program {keeps}", source, lambda: compiler.compile(source, name=_NAME, filename=_NAME))
    environment = _environment(_Collecting, keeps=keeps)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


def has_expression(text: str) -> bool:
    """Return whether a text has Jinja expressions, statements or comments."""
    return "{{" in text or "{%" in text or "{#" in text


def _raised_at(error: BaseException) -> int:
    line = 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _message(error: Exception) -> str:
    if isinstance(error, SecurityError):
        return f"not allowed in a template: {error}"
    if isinstance(error, TemplateError):
        return f"template: {error}"
    return f"the expression fails: {error} ({type(error).__name__})"
