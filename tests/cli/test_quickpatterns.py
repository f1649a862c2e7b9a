"""Regular expressions of modules are kept in the user's cache, and are what ``re`` makes of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from goldenami.quickpatterns import Patterns

PATTERNS: list[tuple[Any, int]] = [
    (r"(?P<name>[a-z]+)=(?P<value>\d+)?", 0),
    (r"(?i)^\w+[ -ÿ]{2,5}$", re.MULTILINE),
    (rb"[\x00-\x1f]+(?:a|bc)*?", re.DOTALL),
    (
        r"""( a ) # a comment
         \1 (?<!b) (?=c)""",
        re.VERBOSE | re.IGNORECASE,
    ),
]
MODULE = "found = list(map(patterns.compile, *zip(*given)))"


class Counting(SimpleNamespace):
    """``re._compiler``, which notes the patterns that it compiles."""

    def __init__(self) -> None:
        real: Any = vars(re)["_compiler"]
        super().__init__(_sre=real._sre, _parser=real._parser)
        self.real, self.compiled = real, list[Any]()

    def compile(self, pattern: Any, flags: int = 0) -> Any:
        self.compiled.append(pattern)
        return self.real.compile(pattern, flags)

    def _code(self, parsed: Any, flags: int) -> Any:
        self.compiled.append(parsed.state.str)
        return self.real._code(parsed, flags)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "goldenami/patterns"


def process(given: list[tuple[Any, int]] = PATTERNS) -> tuple[list[re.Pattern[Any]], list[Any]]:
    """Compile patterns as a module does, and end. Returns what was made, and the patterns that ``re`` compiled."""
    counting = Counting()
    patterns = Patterns(counting)
    names: dict[str, Any] = {"patterns": patterns, "given": given}
    exec(compile(MODULE, "a module", "exec"), names)
    patterns.write()
    return names["found"], counting.compiled


def test_what_is_kept_is_what_re_makes() -> None:
    expected = [re.compile(*one) for one in PATTERNS]
    assert process() == (expected, [pattern for pattern, _ in PATTERNS])
    found, compiled = process()
    assert found == expected
    assert compiled == []
    assert [one.groupindex for one in found] == [one.groupindex for one in expected]
    match = found[0].fullmatch("port=80")
    assert match is not None
    assert match.groupdict() == {"name": "port", "value": "80"}
    assert process([PATTERNS[0], ("another", 0), (PATTERNS[0][0], re.IGNORECASE)])[1] == ["another", PATTERNS[0][0]]


def test_patterns_of_functions_are_not_kept(cache: Path) -> None:
    counting = Counting()
    patterns = Patterns(counting)
    assert patterns.compile("[a-z]+") == re.compile("[a-z]+")
    assert patterns.compile(b"a", re.IGNORECASE) == re.compile(b"a", re.IGNORECASE)
    patterns.write()
    assert counting.compiled == ["[a-z]+", b"a"]
    assert not [*cache.iterdir()]


@pytest.mark.parametrize("damage", ["cut", "empty", "another version", "no program", "writable by others"])
def test_a_file_that_cannot_be_trusted_is_not_used(cache: Path, damage: str) -> None:
    import marshal

    expected, _ = process()
    (file,) = cache.iterdir()
    content = file.read_bytes()
    version, known = marshal.loads(content)
    if damage == "writable by others":
        file.chmod(0o666)
    else:
        broken = {key: (one[0], [9999, *one[1]], *one[2:]) for key, one in known.items()}
        file.write_bytes(
            {
                "cut": content[:-9],
                "empty": b"",
                "another version": marshal.dumps((f"{sys.version}+", known)),
                "no program": marshal.dumps((version, broken)),
            }[damage]
        )
    found, compiled = process()
    assert found == expected
    assert compiled == [pattern for pattern, _ in PATTERNS]
    file.chmod(0o600)
    assert process() == (expected, []), "it was written again"


def test_a_wrong_pattern_is_the_error_of_re() -> None:
    with pytest.raises(re.error, match="unterminated"):
        process([("[a", 0)])
    assert process()[0] == [re.compile(*one) for one in PATTERNS]
