"""Dataclasses whose methods are compiled when they are first called behave as all others."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from goldenami import quickclasses


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Usual:
    """A class that is made before."""

    name: str
    sizes: tuple[int, ...] = ()
    secret: str = dataclasses.field(default="", repr=False, compare=False)


@pytest.fixture
def quick() -> Iterator[None]:
    before = dataclasses._create_fn  # type: ignore[attr-defined]
    quickclasses.install()
    yield
    dataclasses._create_fn = before  # type: ignore[attr-defined]


needed = pytest.mark.skipif(not hasattr(dataclasses, "_create_fn"), reason="Python compiles a class at once")


@needed
@pytest.mark.usefixtures("quick")
def test_the_methods_do_the_same() -> None:
    @dataclasses.dataclass(frozen=True, slots=True, order=True)
    class Quick:
        """The same class."""

        name: str
        sizes: tuple[int, ...] = ()
        secret: str = dataclasses.field(default="", repr=False, compare=False)

    kinds: tuple[Any, ...] = (Usual, Quick)
    for kind in kinds:
        one, same, other = kind("a", (1,), "x"), kind("a", (1,), "y"), kind("b")
        for _ in range(2):  # the first call compiles a method, and the second calls it
            assert one == same
            assert one != other
            assert one != ("a", (1,))
            assert hash(one) == hash(same) == hash(("a", (1,)))
            assert one < other
            assert other >= same
            with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
                one.name = "c"
            with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
                del one.name
            assert repr(one) == f"{kind.__qualname__}(name='a', sizes=(1,))"
        assert dataclasses.replace(one, name="b") == kind("b", (1,))
        assert dataclasses.astuple(copy.deepcopy(one)) == ("a", (1,), "x")
        assert {one: 1}[same] == 1
        assert kind.__eq__.__qualname__ == f"{kind.__qualname__}.__eq__"
    assert pickle.loads(pickle.dumps(Usual("a"))) == Usual("a")


@needed
@pytest.mark.usefixtures("quick")
def test_a_method_is_compiled_once_and_for_each_class_that_inherits_it() -> None:
    @dataclasses.dataclass
    class Base:
        """A class."""

        size: int

    class Child(Base):
        """A class that inherits the methods."""

    waiting = Base.__eq__
    assert Child(1) == Child(1)
    assert Base.__eq__ is not waiting
    assert "__eq__" not in vars(Child)
    assert Base(1) != Child(1)


@needed
def test_it_is_installed_for_the_command_line_alone_and_once() -> None:
    program = (
        "import dataclasses, sys; before = dataclasses._create_fn; from goldenami.cli import main;"
        "main.main(['--version']); assert dataclasses._create_fn is before;"
        "sys.argv = ['goldenami', '--version']; main.main(); made = dataclasses._create_fn; assert made is not before;"
        "from goldenami import quickclasses; quickclasses.install(); assert dataclasses._create_fn is made"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
