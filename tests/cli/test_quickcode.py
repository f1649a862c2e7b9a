"""The code of classes is kept in the user's cache, and is what the compiler makes of it."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import inspect
import marshal
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from goldenami import quickcode

ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "goldenami/code"


def process(monkeypatch: pytest.MonkeyPatch, more: str = "int | None") -> list[str]:
    """Make classes as a process does that uses the cache, look whether they are right, and end. Returns the texts that
    were compiled. ``more``: an annotation of its own."""
    compiled: list[str] = []

    def compiling(text: str, mode: str) -> Any:
        compiled.append(text)
        return real(text, mode)

    codes, real = quickcode.Codes(), quickcode._compiled
    with monkeypatch.context() as patch:
        patch.setattr(quickcode, "_compiled", compiling)
        patch.setattr(dataclasses, "exec", codes.exec, raising=False)
        patch.setattr(collections, "eval", codes.eval, raising=False)
        patch.setattr(typing, "compile", codes.compile, raising=False)
        fields: list[Any] = [("name", str), ("sizes", tuple, dataclasses.field(default_factory=tuple))]
        one, same = (dataclasses.make_dataclass("Record", fields, frozen=True) for _ in range(2))
        assert one("a") == one("a", ())
        assert one("a") != same("a"), "the code is the same, and the classes are not"
        assert repr(same("a", (1,))) == "Record(name='a', sizes=(1,))"
        # Not "_type_name": the texts have no import from __future__, as this module and the one that compiles them.
        assert inspect.signature(one).parameters["name"].annotation is str
        pair = collections.namedtuple("pair", "left right", defaults=(2,))
        assert pair(1) == (1, 2)
        assert pair(left=3, right=4).right == 4

        annotated = type("annotated", (), {"__annotations__": {"size": more, "others": "list[Unknown]"}})
        hints = typing.get_type_hints(annotated, {"Unknown": bytes, "int": int})
        assert hints == {"size": int | None, "others": list[bytes]}
        with pytest.raises(SyntaxError, match="Forward reference must be an expression -- got 'a b'"):
            typing.ForwardRef("a b")
        assert typing.compile("1 + 1", "another", "eval").co_filename == "another"  # type: ignore[attr-defined]
        codes.write()
    return compiled


def test_what_is_kept_is_what_the_compiler_makes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = process(monkeypatch)
    assert len(first) == len({*first}), "each text once, also of two classes"
    assert {"int | None", "list[Unknown]", "a b"} <= {*first}
    assert any(text.lstrip().startswith("def __create_fn__") for text in first)
    (file,) = cache.iterdir()
    before = file.read_bytes()
    assert process(monkeypatch) == ["a b"], "what cannot be compiled is not kept"
    assert file.read_bytes() == before
    assert process(monkeypatch, "None | int") == ["None | int", "a b"]
    assert process(monkeypatch) == process(monkeypatch, "None | int") == ["a b"], "both are kept"


def test_a_full_file_has_what_the_last_process_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(monkeypatch)
    (file,) = cache.iterdir()
    monkeypatch.setattr(quickcode, "_MOST", len(marshal.loads(file.read_bytes()[32:])))
    assert process(monkeypatch, "None | int") == ["None | int", "a b"]
    assert process(monkeypatch) == ["int | None", "a b"]


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "changed", "another version", "no table", "writable by others", "no folder"]
)
def test_a_file_that_cannot_be_trusted_is_not_used(cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = process(monkeypatch)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    known = marshal.loads(content[32:])
    if damage == "writable by others":
        file.chmod(0o666)
    elif damage == "no folder":
        cache.chmod(0o777)
    else:

        def summed(form: Any) -> bytes:
            text = marshal.dumps(form)
            return hashlib.sha256(text).digest() + text

        middle = len(content) // 2
        file.write_bytes(
            {
                "cut": content[:-9],
                "empty": b"",
                "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "another version": summed({**known, b"version": known[b"version"] + b"+"}),
                "no table": summed(7),
            }[damage]
        )
    assert process(monkeypatch) == first
    cache.chmod(0o700)
    file.chmod(0o600)
    assert process(monkeypatch) == ["a b"], "it was written again"


def test_it_is_installed_for_a_command_of_the_command_line_alone(cache: Path) -> None:
    program = (
        "import dataclasses, sys; from goldenami.cli import main;"
        "main.main(['init', '--help']); assert 'exec' not in vars(dataclasses);"
        "sys.argv = ['goldenami', '--help']; main.main(); assert 'exec' not in vars(dataclasses);"
        "sys.argv = ['goldenami', 'harden', '--help']; main.main(); made = dataclasses.exec;"
        "from goldenami import quickcode; quickcode.install(); assert dataclasses.exec is made;"
        "import goldenami.model"  # has classes, and is not loaded before
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    assert [one.stat().st_size > 0 for one in cache.iterdir()] == [True]


def test_what_reads_the_file_may_have_classes_itself(cache: Path) -> None:
    program = (
        "import collections, sys; from goldenami import quickcode; quickcode.install();"
        "assert not {'goldenami.usercache', 'pathlib', 'urllib.parse'} & {*sys.modules};"
        "assert collections.namedtuple('one', 'left right')(1, 2) == (1, 2)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-S", "-c", program], check=True, env={**os.environ, "PYTHONPATH": ROOT})
    assert len([*cache.iterdir()]) == 1
