"""The registry of operating systems: what it finds, and that nothing else names one."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from goldenami.os import MANAGERS, SYSTEMS, System, described, of_reference, of_release, serving
from goldenami.provision import Stage
from goldenami.provision.program import compile_program
from tests.worlds import source

ROOT = Path(__file__).parents[2]
PRODUCT = ROOT / "goldenami"
NAMES = sorted({*SYSTEMS, *(word for system in SYSTEMS.values() for word in system.words)})

# Modules outside goldenami/os that may write the name of a system in a string, each for a reason.
EXCEPTIONS = {
    "recipe/scaffold.py": "the recipe that `goldenami init` writes has some base, and that is Debian's",
    "recipe/schema.py": "an example of an AMI's name in a description",
    "recipe/controls.py": "an example of a benchmark's name in a description",
    "provision/contents.py": "the folder of a program that has a system's name",
    "evidence/state.py": "the folder of a program that has a system's name",
}


def test_every_module_with_systems_is_found() -> None:
    """A new file is enough: nothing lists the modules."""
    modules = [p for p in (PRODUCT / "os").glob("*.py") if re.search(r"^SYSTEMS = ", p.read_text(), re.MULTILINE)]
    found = {type(system).__module__.rpartition(".")[2] for system in SYSTEMS.values()}
    assert found == {path.stem for path in modules}
    assert {"debian", "ubuntu", "amzn"} <= set(SYSTEMS)


@pytest.mark.parametrize("id", SYSTEMS)
def test_a_system_is_whole(id: str) -> None:
    system = SYSTEMS[id]
    assert system.id == id
    assert system.releases
    assert all(name.startswith(system.name) for name in system.releases.values())
    assert MANAGERS[system.manager.name] is system.manager
    assert system.locale_package("de")
    assert system.self_upgrade(None).timer.endswith(".timer")
    assert not system.self_upgrade(None).started
    assert all(word == word.lower() for word in system.words)
    for pattern in (*system.network_files, *(p for t in system.traces for p in t.patterns)):
        assert re.fullmatch(r"/[A-Za-z0-9_./*-]+", pattern), pattern  # stands unquoted in a program


@pytest.mark.parametrize(
    ("reference", "id"),
    [
        ("debian-12-amd64-*", "debian"),
        ("/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", "ubuntu"),
        ("/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-x86_64", "amzn"),
        ("ubuntu-as-debian-makes-it", "ubuntu"),
        ("debian-on-amzn", None),
        ("ami-0123456789abcdef0", None),
    ],
)
def test_a_base_is_known_by_the_vendors_names(reference: str, id: str | None) -> None:
    found = of_reference(reference)
    assert (found.id if found else None) == id


def test_a_host_is_known_by_its_release() -> None:
    assert of_release("ubuntu", "debian") is SYSTEMS["ubuntu"]
    assert of_release("raspbian", "debian") is SYSTEMS["debian"]
    assert of_release("void") is None


def test_what_serves_a_system() -> None:
    assert serving("ubuntu", {"debian": 1}) == "debian"
    assert serving("ubuntu", {"debian": 1, "ubuntu": 2}) == "ubuntu"
    assert serving("debian", {"ubuntu": 1}) is None
    assert serving("void", {"debian": 1}) is None


def test_the_same_word_of_several_systems_is_said_once() -> None:
    text = described((system.manager.name, system) for system in SYSTEMS.values())
    assert text.count("apt") == 1
    assert all(system.name in text for system in SYSTEMS.values())


# --- package managers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANAGERS)
def test_a_manager_has_every_function_that_is_called(name: str) -> None:
    """``managed VERB`` in shell code and in code that is compiled."""
    called = {
        verb
        for path in (*(PRODUCT / "provision").glob("*.sh"), *(PRODUCT / "provision").glob("*.py"))
        for verb in re.findall(r"\bmanaged ([a-z_]+)", path.read_text())
    }
    defined = set(re.findall(rf"^{name}_([a-z_]+)\(\) \{{", MANAGERS[name].functions, re.MULTILINE))
    assert len(called) > 10
    assert called - defined == set()


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_host_without_a_known_manager_says_so(shell: str, tmp_path: Path) -> None:
    program = compile_program([Stage("empty", ())]).text.split("\nend ok", 1)[0]
    functions = program[program.index("# --- package managers") :]
    script = functions + "\nfamily=none\ninstall_packages x\n"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, f"this host has none of the package managers {', '.join(MANAGERS)}\n")


# --- nothing else names a system --------------------------------------------------------------------------------------


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module that are no docstrings."""
    # A string that stands alone is documentation.
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def _modules() -> list[Path]:
    return [p for p in sorted(PRODUCT.rglob("*.py")) if not p.is_relative_to(PRODUCT / "os")]


def _naming(name: str, tree: ast.AST) -> list[str]:
    pattern = re.compile(rf"\b({'|'.join(NAMES)})\b", re.IGNORECASE)
    return [f"{name}:{line}: {text}" for line, text in _strings(tree) if pattern.search(text)]


def test_no_other_module_names_an_operating_system() -> None:
    others = [(name, tree) for name, tree in source.trees(*NAMES) if not name.startswith("os/")]
    assert [found for name, tree in others if name not in EXCEPTIONS for found in _naming(name, tree)] == []


def test_the_exceptions_are_needed() -> None:
    assert [name for name in EXCEPTIONS if not _naming(name, source.tree(name))] == []


def test_no_shell_code_outside_runs_a_package_manager() -> None:
    """But for apt's helper, which is one of three programs that can download a file."""
    programs = re.compile(r"\b(apt-get|apt-cache|apt-mark|dpkg(-\w+)?|dnf|rpm|yum)\b")
    found = [
        f"{path.relative_to(PRODUCT)}: {line.strip()}"
        for path in sorted(PRODUCT.rglob("*.sh"))
        if not path.is_relative_to(PRODUCT / "os")
        for line in path.read_text().splitlines()
        if programs.search(line.partition("# ")[0])
    ]
    assert found == []


def _ids(value: Any) -> Iterator[str]:
    """Whatever stands under ``os``, and the keys of operations and defaults by system."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "os":
                yield from [inner] if isinstance(inner, str) else inner
            if key in ("operations", "defaults") and isinstance(inner, dict):
                yield from inner
            yield from _ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _ids(inner)


def test_the_data_names_known_systems_only() -> None:
    files = [*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "hardening").rglob("*.yaml")]
    named = {id for file in files for id in _ids(yaml.safe_load(file.read_text()))}
    assert len(named) > 2
    assert named <= set(SYSTEMS)


def test_every_shipped_profile_is_for_a_known_release() -> None:
    releases = {release for system in SYSTEMS.values() for release in system.releases}
    for path in (ROOT / "hardening/profiles").glob("*.yaml"):
        title = yaml.safe_load(path.read_text())["title"]
        assert any(re.search(rf"\b{re.escape(release)}\b", title) for release in releases), path.name


def test_the_table_of_systems_is_the_registry() -> None:
    rows = []
    for id, system in SYSTEMS.items():
        days = "`date`" if system.snapshots is not None else "`date` with a mirror"
        pinned = f"`releasever`, or {days}" if system.versioned else days
        releases = ", ".join(system.releases.values())
        rows.append(f"| `{id}` | {releases} | `{system.login_user}` | {system.manager.name} | {pinned} |")
    assert "\n".join(rows) in (ROOT / "docs/recipes.md").read_text()


def test_the_guide_names_every_member_of_the_protocol() -> None:
    guide = (ROOT / "docs/contributing/add-an-operating-system.md").read_text()
    members = [name for name in vars(System) if not name.startswith("_")]
    assert len(members) > 10
    assert [name for name in members if f"`{name}`" not in guide] == []


def test_the_guide_names_files_that_exist() -> None:
    guide = (ROOT / "docs/contributing/add-an-operating-system.md").read_text()
    paths = re.findall(r"`((?:goldenami|tests|docs|hardening|recipes|sandbox)/[a-z0-9_./-]+)`", guide)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
