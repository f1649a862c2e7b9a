"""Jinja in recipes: expressions in YAML values, and template files.

One environment for both: sandboxed and immutable (a recipe computes text, it does not reach into Python), undefined
names are problems. Every undefined name of a template is reported, not only the first: ``_Undefined`` notes where it
was used and goes on.

A value that is nothing but one expression, ``"{{ vars.workers }}"``, keeps the type of what the expression gives; a
number stays a number. Any other value with expressions becomes a string.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, Undefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from goldenami.recipe.secrets import Secret, is_mangled

Report = Callable[[int, str, str, str | None], None]
"""(line in the text from 1, what to look for in that line to find the column, message, hint)"""

_NAME = "<template>"
_WHOLE = re.compile(r"\s*\{\{-?(?P<expression>(?:(?!\}\}|\{\{).)*?)-?\}\}\s*", re.DOTALL)


class Namespace(Mapping[str, Any]):
    """A named group of values in the context (``vars``, ``environment``, …)."""

    def __init__(self, name: str, values: Mapping[str, Any], advice: str = "") -> None:
        self._name = name
        self.advice = advice  # what to do about a name that is not there
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return str(self._values)


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        # A variable may be called "items" or "keys": what was declared comes before the mapping's own methods.
        if isinstance(obj, Namespace) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def nearest(word: str, known: Mapping[str, Any] | list[str]) -> str | None:
    """The known word that was probably meant; None if none is near."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def _undefined_class(context: Mapping[str, Any], report: Report) -> type[Undefined]:
    class Collecting(Undefined):
        """Reports its use and is empty text from then on. ``is defined`` and ``default()`` do not count as use."""

        __slots__ = ()

        def _note(self) -> None:
            report(
                _line_of_caller(), *_explain(self._undefined_obj, self._undefined_name, context, self._undefined_hint)
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

    return Collecting


def _line_of_caller() -> int:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _NAME:
            return _template_line(frame.f_lineno, str(frame.f_globals.get("debug_info", "")))
        frame = frame.f_back
    return 1


def _template_line(number: int, debug_info: str) -> int:
    """The template's line for a line of the code that Jinja made of it ("3=10&5=14": template=code)."""
    line = 1
    for pair in debug_info.split("&"):
        template, _, code = pair.partition("=")
        if code and int(code) <= number:
            line = int(template)
    return line


def _explain(owner: Any, name: Any, context: Mapping[str, Any], said: str | None) -> tuple[str, str, str | None]:
    if isinstance(owner, Namespace):
        full = f"{owner._name}.{name}"
        near = nearest(str(name), owner)
        known = ", ".join(owner) or "nothing"
        hint = f"Did you mean {near}?" if near else owner.advice or f"{owner._name} has: {known}."
        return full, f"{full} is not defined", hint
    if owner is not missing:
        if said:  # the sandbox's refusal
            return str(name), f"not allowed in a template: {said}", None
        return str(name), f"a value of type {type(owner).__name__} has no {name!r}", None
    if said:
        return "", f"not allowed in a template: {said}", None
    for group, values in context.items():
        if isinstance(values, Namespace) and name in values:
            return str(name), f"{name} is not defined", f"Write {group}.{name}."
    if name == "architecture":
        return (
            str(name),
            "architecture is not defined here",
            "base, builder, patches, agents and software can differ by it.",
        )
    near = nearest(str(name), context)
    return (
        str(name),
        f"{name} is not defined",
        f"Did you mean {near}?" if near else f"Known here: {', '.join(context)}.",
    )


def _quote(value: Any) -> str:
    if isinstance(value, Secret):
        raise SecurityError("quote cannot be applied to a secret: its value is not known yet")
    return shlex.quote(str(value))


def _json(value: Any, indent: int | None = None) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return dict(item)
        raise SecurityError(f"{type(item).__name__} cannot be written as JSON")

    return json.dumps(value, indent=indent, default=plain, ensure_ascii=False)


class _Notes:
    """The problems of one rendering, each reported once: a name that is used twice in a line is one problem."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.given: set[tuple[int, str]] = set()

    def __call__(self, line: int, needle: str, message: str, hint: str | None) -> None:
        if (line, message) not in self.given:
            self.given.add((line, message))
            self._report(line, needle, message, hint)


_MANGLED = "a secret was changed by a filter; its value is not known yet when templates are rendered"


def _plain(value: Any, notes: _Notes) -> Any:
    """What an expression gave, as values of a recipe."""
    if isinstance(value, Undefined):
        str(value)  # an expression that is nothing but an undefined name: using it reports it
        return None
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, str):
        if is_mangled(value):
            notes(1, "", _MANGLED, None)
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, notes) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, notes) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders with one context: the names that expressions can use."""

    context: Mapping[str, Any]

    def text(self, source: str, report: Report) -> str | None:
        """Render a template; None if there was a problem, and then every problem was reported."""
        notes = _Notes(report)
        rendered = self._run(source, notes)
        if rendered is not None and is_mangled(rendered):
            notes(1, "", _MANGLED, None)
        return None if notes.given else rendered

    def value(self, source: str, report: Report) -> Any:
        """Render a value: a sole expression keeps its type, anything else becomes text; None after a problem."""
        whole = _WHOLE.fullmatch(source)
        if whole is None:
            return self.text(source, report)
        return self.expression(whole["expression"], report)

    def expression(self, source: str, report: Report) -> Any:
        """Evaluate one bare expression, such as ``when``'s; None after a problem."""
        notes = _Notes(report)
        result: list[Any] = []

        def keep(value: Any) -> str:
            result.append(_plain(value, notes))
            return ""

        self._run("{{ (" + source + ") | _keep }}", notes, keep)
        return None if notes.given or not result else result[0]

    def _run(self, source: str, notes: _Notes, keep: Callable[[Any], str] | None = None) -> str | None:
        environment = self._environment(notes)
        if keep is not None:
            environment.filters["_keep"] = keep
        try:
            code = environment.compile(source, name=_NAME, filename=_NAME)
            template = environment.template_class.from_code(environment, code, environment.make_globals(None))
            return template.render(dict(self.context))
        except TemplateSyntaxError as error:
            notes(error.lineno, "", f"template syntax: {error.message}", None)
        except (
            Exception
        ) as error:  # whatever an expression raises (TypeError, ZeroDivisionError, …) is its author's to fix
            # After an undefined name was taken for empty text, what fails is likely to fail for that.
            if not notes.given:
                notes(_raised_at(error), "", _said(error), None)
        return None

    def _environment(self, report: _Notes) -> _Environment:
        environment = _Environment(
            undefined=_undefined_class(self.context, report),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # the output is configuration, not HTML
        )
        environment.filters["quote"] = _quote
        environment.filters["json"] = _json
        for unwanted in ("lipsum", "cycler", "joiner"):
            environment.globals.pop(unwanted, None)
        environment.filters.pop("random", None)  # the same recipe gives the same image
        return environment


def has_expression(text: str) -> bool:
    """Whether Jinja would do anything with this text."""
    return "{{" in text or "{%" in text or "{#" in text


def _raised_at(error: BaseException) -> int:
    line = 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _said(error: Exception) -> str:
    if isinstance(error, SecurityError):
        return f"not allowed in a template: {error}"
    if isinstance(error, TemplateError):
        return f"template: {error}"
    return f"the expression fails: {error} ({type(error).__name__})"
