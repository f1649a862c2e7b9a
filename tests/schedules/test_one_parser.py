"""One parser for each dialect of cron: schedules/timing.py has all of goldenami, and no library has another one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.worlds import source

PARSER = "schedules/timing.py"
LIBRARIES = {"croniter", "crontab", "apscheduler", "cron_descriptor", "cronsim", "pycron"}
DAYS = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
# Where weekdays have names for another reason.
NAMES = {
    "schedules/dlm/express.py": "writes an expression for DLM",
    "recipe/schedulespec.py": "the windows of a schedule",
    "schedules/picture.py": "the columns of a calendar",
}


def signs(tree: ast.AST) -> Iterator[str]:
    """What a parser of time expressions has: a library, the names of the days, or the five fields of a line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(module.partition(".")[0] in LIBRARIES for module in modules):
                yield "imports a library"
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            words = {str(i.value).lower()[:3] for i in items if isinstance(i, ast.Constant)}
            if words >= DAYS:
                yield "knows the names of days"
            if words >= {"min", "hou", "day", "mon"} and "wee" not in words and len(words) == 4:
                yield "knows the fields"
        if isinstance(node, ast.FunctionDef) and "cron" in node.name and "parse" in node.name:
            yield "parses cron"


def test_only_one_module_parses_cron() -> None:
    words = ("cron", '"wed', '"hou', *LIBRARIES)
    found = {file: sorted(set(signs(tree))) for file, tree in source.trees(*words)}
    assert found[PARSER], "the rule does not see the parser itself"
    others = {file for file, signs in found.items() if signs and file != PARSER}
    assert others - set(NAMES) == set(), "use goldenami/schedules/timing.py"


def test_each_dialect_has_one_function() -> None:
    functions = [n.name for n in ast.walk(source.tree(PARSER)) if isinstance(n, ast.FunctionDef)]
    assert [name for name in functions if "cron" in name] == ["check_crontab", "_cron", "_aws_cron"]


@pytest.mark.parametrize(
    "code",
    [
        "from croniter import croniter",
        "DAYS = ('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN')",
        "def parse_cron(t): 1",
    ],
)
def test_the_rule_sees_another_parser(code: str) -> None:
    assert list(signs(ast.parse(code)))
