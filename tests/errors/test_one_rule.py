"""One rule for what ends everything: only ``each.py`` goes on after the error of an item or a place, and no other
module keeps a list of the errors that end a run, has threads of its own for many items, or a waiting loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from goldenami import errors
from goldenami.errors import GoldenAmiError
from tests.worlds import source

CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
KINDS = {name: kind for name, kind in CLASSES.items() if issubclass(kind, GoldenAmiError)}
OURS = set(KINDS)
ENDING = {name for name, kind in KINDS.items() if kind.ends_everything}
# Whoever catches one of these in a loop goes on after the errors of all kinds of places.
BROAD = {"GoldenAmiError", "Exception", "BaseException", "AccessError", "CloudError", *ENDING}
POOLS = {"ThreadPoolExecutor", "ProcessPoolExecutor", "as_completed"}
EACH, POLLING = "each.py", "polling.py"
# Loops that sleep but wait for no answer, with the reason.
SLEEPS = {
    "aws/room.py": "lets a signal end the wait for other launches, which wake it",
    "aws/session.py": "sends a read again while what it names may be too new to be found",
    "release/index.py": "writes the index again after another process wrote it first",
    "release/consumers.py": "creates a grant again while the one that it needs may have no effect yet",
    "snapshots/copy.py": "copies again while a grant may have no effect yet",
    "ssh/connection.py": "three short looks at a transport that is about to say that it ended",
    "ssh/tunnel.py": "waits for a transport's program to leave, in the few lines that may not raise",
    "validate/plugin.py": "the pause before a test is tried again",
    "validate/runner.py": "waits for a child process to leave, in the few lines that may not raise",
}
# Loops that go on after an error of code that is not goldenami's, with the reason.
NO_ITEMS = {
    "recipe/extensions.py": "what a file with operations raises is a problem of that file",
    "report/combining.py": "what a consumer of events raises does not keep the others from the event",
}
# Threads for many items that each.py cannot start, with the reason.
ORDERED = {"many.py": "starts the build of a recipe when that of its base has ended"}
Found = Iterator[tuple[int, str]]


def names(node: ast.AST | None) -> set[str]:
    """The last parts of all names in an expression: ``errors.CloudError`` is CloudError."""
    if node is None:
        return {"BaseException"}  # a bare except
    return {
        n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)
    }


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """What is executed in a block: functions that are only defined in it are left out."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from inside(child)


def goes_on_in_a_loop(tree: ast.AST) -> Found:
    for loop in (n for n in ast.walk(tree) if isinstance(n, ast.For | ast.AsyncFor)):
        for node in inside(loop):
            if isinstance(node, ast.ExceptHandler) and names(node.type) & BROAD and not ends(node):
                yield node.lineno, f"catches {', '.join(sorted(names(node.type) & BROAD))} in a loop"
            if isinstance(node, ast.Call) and "suppress" in names(node.func):
                caught = set().union(*(names(a) for a in node.args)) & BROAD
                if caught:
                    yield node.lineno, f"suppresses {', '.join(sorted(caught))} in a loop"


def ends(handler: ast.ExceptHandler) -> bool:
    """A handler that only raises (another error for this one) does not go on; nor does one that first raises whatever
    has not the codes of the service that it is for."""
    first = handler.body[0]
    by_code = isinstance(first, ast.If) and "code" in names(first.test) and isinstance(first.body[-1], ast.Raise)
    return by_code or isinstance(handler.body[-1], ast.Raise)


def keeps_a_list(tree: ast.AST) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.BinOp):
            listed = names(node) & OURS
            if listed & ENDING and len(listed) > 1:
                yield node.lineno, f"lists {', '.join(sorted(listed))}"
        if isinstance(node, ast.ExceptHandler) and "CredentialsRefused" in names(node.type):
            yield node.lineno, "decides about CredentialsRefused by itself"


def has_a_pool(tree: ast.AST) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and {a.name for a in node.names} & POOLS:
            yield node.lineno, "has a pool of threads of its own"
        if isinstance(node, ast.Attribute) and node.attr in POOLS:
            yield node.lineno, "has a pool of threads of its own"


def waits(tree: ast.AST) -> Found:
    for loop in (n for n in ast.walk(tree) if isinstance(n, ast.While | ast.For)):
        for node in inside(loop):
            if isinstance(node, ast.Call) and names(node.func) & {"sleep", "_sleep"}:
                yield node.lineno, "sleeps in a loop"


# What finds it, which modules may do it, and words of which a module that does it has one.
RULES = {
    "goes on": (goes_on_in_a_loop, {EACH, *NO_ITEMS}, ("except", "suppress")),
    # The last one has the table of translations.
    "list": (keeps_a_list, {EACH, "errors.py", "aws/errors.py"}, (*ENDING, "CredentialsRefused")),
    "pool": (has_a_pool, {EACH, *ORDERED}, POOLS),
    "wait": (waits, {POLLING, *SLEEPS}, ("sleep",)),
}


LOOP = "for p in places:\n    try:\n        ask(p)\n    {}\n"


@pytest.mark.parametrize("rule", RULES)
def test_only_the_helpers_do_it(rule: str) -> None:
    look, exempt, words = RULES[rule]
    found = [
        f"goldenami/{name}:{line}: {what}"
        for name, tree in source.trees(*words)
        if name not in exempt
        for line, what in look(tree)
    ]
    assert found == [], "use goldenami/each.py or goldenami/polling.py"
    # An exception that nothing needs any more is removed.
    needless = [name for name in exempt - {EACH, POLLING, "errors.py"} if not list(look(source.tree(name)))]
    assert needless == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (
            "goes on",
            "for p in places:\n    try:\n        ask(p)\n    except GoldenAmiError as e:\n        silent[p] = e\n",
        ),
        ("goes on", LOOP.format("except (AccessError, errors.CloudError):\n        continue")),
        ("goes on", "for p in places:\n    try:\n        ask(p)\n    except:\n        pass\n"),
        ("goes on", "for p in places:\n    with suppress(GoldenAmiError):\n        ask(p)\n"),
        ("list", "FATAL = (CredentialsRefused, JournalError)\n"),
        ("list", "try:\n    go()\nexcept CredentialsRefused:\n    raise\n"),
        ("list", "x = isinstance(e, Interrupted | errors.CloudError)\n"),
        ("pool", "from concurrent.futures import ThreadPoolExecutor\n"),
        ("pool", "import concurrent.futures\nconcurrent.futures.ThreadPoolExecutor(3)\n"),
        ("wait", "while not done():\n    cloud.sleep(1)\n"),
        ("wait", "for _ in range(9):\n    time.sleep(1)\n"),
    ],
)
def test_the_rules_see_what_they_are_for(rule: str, code: str) -> None:
    assert list(RULES[rule][0](ast.parse(code)))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("goes on", "for p in places:\n    with failures.of(p):\n        ask(p)\n"),
        ("goes on", "while True:\n    try:\n        return ask()\n    except GoldenAmiError:\n        retry()\n"),
        (
            "goes on",
            "for p in places:\n    try:\n        ask(p)\n    except CloudError as e:\n        raise Other() from e\n",
        ),
        ("goes on", LOOP.format("except CloudError as e:\n        if e.code != 'NoRoom':\n            raise")),
        ("list", "try:\n    go()\nexcept (KeyboardInterrupt, Interrupted):\n    raise\n"),
        ("wait", "for _ in poll(clock, sleep, timeout=1):\n    look()\n"),
    ],
)
def test_the_rules_leave_the_rest_alone(rule: str, code: str) -> None:
    assert not list(RULES[rule][0](ast.parse(code)))
