"""Stages become programs."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import subprocess
import tarfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from goldenami.model import Mark
from goldenami.provision import (
    OPERATIONS,
    PACKAGES,
    BoundOperation,
    Handler,
    PatchSpec,
    Payload,
    Stage,
    freeze,
    implied_handler,
    patch_stage,
    runner,
)
from goldenami.provision.boot import BootEnded
from goldenami.provision.families import FAMILIES
from goldenami.provision.operation import REGISTERED, Operation
from goldenami.provision.program import COLLECT, Beside, Collect, Fact, Guard, compile_program, compile_stage
from goldenami.provision.progress import Progress
from goldenami.provision.sealing import TRACES, traces_of
from goldenami.provision.shell import Compilation, Script, Steps
from goldenami.provision.stream import FactBegun, FactRead, Message, RefusedByGuard, StageStarted
from goldenami.reading import ANYWHERE
from goldenami.ssh import Deadline
from tests.provision.examples import bind, elsewhere, examples, further
from tests.provision.local import run_here, run_items_here

# A public key that belongs to nobody: an ed25519 one, as its packet.
KEY = (
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZgAAABYJKwYBBAHaRw8BAQdA"
    + "A" * 43
    + "=\n-----END PGP PUBLIC KEY BLOCK-----\n"
)
SUMS = {"archive.tar.gz": "0" * 64, "example.deb": "1" * 64}


def every_stage() -> list[Stage]:
    place = Mark("recipe.yaml", 1, 1)
    handlers = (implied_handler("nginx", place), Handler("tell", (bind("command", argv=["echo", "it's"]),)))
    noticed = tuple(bind("file", notify=("nginx", "tell"), dest=f"/etc/{n}", content=str(n)) for n in range(3))
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI someone"
    return [
        Stage("examples", tuple(examples(Path("/srv/served"), SUMS))),
        Stage("elsewhere", tuple(elsewhere())),
        Stage("further", tuple(further(KEY))),
        Stage("handlers", noticed, handlers),
        Stage("seal", tuple(BoundOperation(t, place) for t in traces_of(key))),
        Stage("freeze", tuple(BoundOperation(o, place) for o in freeze.steps(()))),
        patch_stage(
            PatchSpec.model_validate({"level": "security", "exclude": ("linux-*", "libc6"), "reboot": "always"}),
            os="debian",
        ),
        patch_stage(PatchSpec.model_validate({}), os="debian"),
    ]


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox"])
@pytest.mark.parametrize("stages", [*([s] for s in every_stage()), every_stage()], ids=lambda s: s[-1].name)
def test_programs_are_posix_shell(stages: list[Stage], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = [shell, "-n"] if shell != "busybox" else ["busybox", "sh", "-n"]
    done = subprocess.run(command, input=compile_program([PACKAGES, *stages]).text, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_family_has_the_operations_that_it_is_loaded_for() -> None:
    found: dict[str, list[str]] = {}
    for kind, cls in OPERATIONS.items():
        found.setdefault(cls.__module__.rpartition(".")[2], []).append(kind)
    assert {name: tuple(kinds) for name, kinds in found.items()} == FAMILIES
    assert {*REGISTERED} == {*OPERATIONS}  # none is missing in the table


def test_every_kind_has_an_example() -> None:
    kinds = {b.operation.kind for b in [*examples(Path("/"), SUMS), *elsewhere(), *further(KEY)]}
    assert kinds | {"ansible"} == set(OPERATIONS), "that runs on this machine: test_ansible.py"


@pytest.mark.parametrize("kind", sorted(OPERATIONS))
def test_every_field_has_a_description(kind: str) -> None:
    cls = OPERATIONS[kind]
    assert (cls.__doc__ or "").strip()
    for name, field in cls.model_fields.items():
        assert field.description, f"{kind}.{name}"
    assert set(cls.sources) <= set(cls.model_fields)
    assert cls.shorthand is None or cls.shorthand in cls.model_fields


def test_the_same_stage_is_the_same_program() -> None:
    first, second = (compile_stage(every_stage()[1]) for _ in range(2))
    assert first.text == second.text
    assert first.archive().read() == second.archive().read()


def test_contents_travel_in_the_archive_once_and_are_read_when_sent(tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(b"x" * 100_000)
    payload = Payload.read(source, ANYWHERE)
    bound = [bind("file", dest=f"/srv/{n}", src="big", payload=payload) for n in range(3)]
    program = compile_stage(Stage("files", tuple(bound)))
    with program.archive() as archive, tarfile.open(fileobj=archive) as tar:
        entries = {e.name: e for e in tar}
        assert sorted(entries) == sorted(["program", payload.sha256])
        assert entries[payload.sha256].size == 100_000
        assert {e.mode for e in entries.values()} == {0o600}


@pytest.mark.parametrize(
    ("contents", "size"),
    [
        ((b"text " * 20_000,), (0, 5_000)),
        ((b"text " * 2_000_000,), (0, 200_000)),
        ((os.urandom(2_000_000), b"text " * 20_000), (2_100_000, 2_150_000)),
        ((os.urandom(300_000), b"text " * 200_000), (300_000, 350_000)),
    ],
    ids=["text", "much text", "noise", "more text than noise"],
)
def test_compressed_files_are_not_compressed_again(
    tmp_path: Path, contents: tuple[bytes, ...], size: tuple[int, int]
) -> None:
    bound = []
    for number, data in enumerate(contents):
        (tmp_path / str(number)).write_bytes(data)
        bound.append(
            bind("file", dest=f"/srv/{number}", src="x", payload=Payload.read(tmp_path / str(number), ANYWHERE))
        )
    program = compile_stage(Stage("files", tuple(bound)))
    with program.archive() as archive:
        assert size[0] <= archive.seek(0, 2) - len(gzip.compress(program.text.encode())) <= size[1]


def test_secret_contents_are_not_in_the_program() -> None:
    stage = Stage("s", (bind("file", dest="/etc/s", content="hunter2"), bind("command", shell="echo hunter2")))
    assert "hunter2" not in compile_stage(stage).text


def test_a_missing_payload_is_reported_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"recipe\.yaml:7:5: the contents of src are missing"):
        compile_stage(Stage("s", (bind("file", at=7, dest="/etc/x", src="x"),)))


def test_consecutive_packages_are_installed_by_one_call() -> None:
    bound = (
        bind("package", name="a1"),
        bind("package", name="b1", version="=2"),
        bind("package", name="c1", recommends=False),
        bind("package", name="d1", recommends=False),
        bind("file", dest="/etc/x", content=""),
        bind("package", name="e1"),
    )
    text = compile_stage(Stage("s", bound)).text
    assert "after_0='1'" in text
    assert "spec_1=b1=2" in text
    assert "after_2='3'" in text
    assert "after_1=" not in text
    assert "after_3=" not in text
    assert text.count("$(list_packages a1 b1 ") == 1


def test_stages_go_together_and_keep_their_own_numbers() -> None:
    handler = implied_handler("nginx", Mark("r", 1, 1))
    first = Stage(
        "first", (bind("package", name="a1"), bind("file", dest="/a", content="", notify=("nginx",))), (handler,)
    )
    second = Stage("second", (bind("package", name="b1"), bind("package", name="c1")))
    program = compile_program([PACKAGES, first, Stage("empty", ()), second, PACKAGES])
    assert [s.name for s in program.stages] == ["first", "second"]
    assert [(p.stage, p.number, p.total) for p in program.operations] == [
        (0, 1, 3),
        (0, 2, 3),
        (0, 3, 3),
        (1, 1, 2),
        (1, 2, 2),
    ]
    assert "after_0=" not in program.text, "packages of two stages are not installed together"
    assert "after_3='4'" in program.text
    assert program.text.count("event fact packages") == 2


def test_unknown_handlers_and_double_ones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"recipe\.yaml:3:5: no handler is named 'nginx'"):
        Stage("s", (bind("file", at=3, notify=("nginx",), dest="/etc/x", content=""),))
    handler = implied_handler("nginx", Mark("r", 1, 1))
    with pytest.raises(ValueError, match="two handlers"):
        Stage("s", (), (handler, handler))


def test_a_kind_is_registered_once() -> None:
    assert OPERATIONS["file"]  # loads it
    with pytest.raises(TypeError, match="two operations"):

        class Again(Operation):
            """Again."""

            __module__ = "goldenami.provision.again"  # only built-in operations register themselves
            kind = "file"


def test_an_operation_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "sleep").write_text(f"#!/bin/sh\necho $1 >>{tmp_path}/pauses\n")
    (tmp_path / "sleep").chmod(0o755)
    third = f"echo x >>{tmp_path}/tries; [ $(wc -l <{tmp_path}/tries) -ge 3 ]"
    ran = run_here(bind("command", shell=third, retries=4), path=str(tmp_path))
    assert ran.statuses == ["changed"]
    assert (tmp_path / "pauses").read_text().split() == ["5", "10"]
    assert [line for line in ran.output if line] == [
        "It failed with exit status 1, and is tried again in 5 s",
        "It failed with exit status 1, and is tried again in 10 s",
    ]
    (tmp_path / "pauses").unlink()
    never = run_here(bind("command", argv=["false"], retries=5), path=str(tmp_path))
    assert never.statuses == ["failed"]
    assert (tmp_path / "pauses").read_text().split() == ["5", "10", "20", "40", "60"]


class _Collects(Operation):
    """Collects the facts that are read beside it."""

    def title(self) -> str:
        return "collect"

    def compile(self, to: Compilation) -> Steps:
        return Steps(COLLECT + Script("return 1"), Script(":"), Script(":"))


def test_facts_are_read_beside_operations_and_come_where_they_are_collected(tmp_path: Path) -> None:
    """One waits for what an operation makes, which it could not before it, and tries for ten seconds."""
    waits = Script(
        f"n=0; until [ -e {tmp_path}/made ] || [ $n -gt 999 ]; do sleep 0.01; n=$((n + 1)); done; echo waited"
    )
    first = Fact("first", Script('echo $before; [ "$TMPDIR" = "$work" ] || echo /tmp'), Script("before=before"))
    here = run_items_here(
        [
            Beside((Fact("waits", waits), Fact("fails", Script("echo no; exit 3")))),
            Beside((first,)),
            Collect(("first",)),
            Stage(
                "one",
                (bind("file", dest=str(tmp_path / "made"), content=""), BoundOperation(_Collects(), Mark("", 0, 0))),
            ),
            Beside((Fact("last", Script(f"test -e {tmp_path}/made; echo $?")),)),
        ]
    )
    assert here.facts == {
        "first": (0, "before", 0),
        "waits": (0, "waited", 1),
        "fails": (3, "no", 1),
        "last": (0, "0", 2),
    }
    assert here.statuses == ["changed", "changed"]


@pytest.mark.parametrize("holds", [True, False])
def test_a_guard_ends_the_program_before_what_follows(tmp_path: Path, holds: bool) -> None:
    made = Stage("one", (bind("file", dest=str(tmp_path / "made"), content=""),))
    here = run_items_here([Guard(Script(f"echo unseen; {str(holds).lower()}")), made, Fact("after", Script("echo x"))])
    assert here.statuses == (["changed"] if holds else [])
    assert (tmp_path / "made").exists() is holds
    assert here.facts.keys() == ({"after"} if holds else set())
    assert here.refused is not holds
    assert "unseen" not in here.output


def test_a_guard_that_ends_a_second_run_is_a_failure() -> None:
    """The first run may have done a part of its stage."""
    program = compile_stage(Stage("one", (bind("command", argv=["true"]),)))

    def refused(*before: Message) -> Progress:
        progress = Progress(program, lambda _: None, str, "host", nullcontext, lambda _: None)
        for message in (*before, RefusedByGuard()):
            progress.on_message(message)
        return progress

    assert (refused().refused, refused().failure) == (True, None)
    second = refused(StageStarted(0, 1.0))
    assert not second.refused
    assert "host rebooted by itself in the stage one" in str(second.failure)


def test_the_limit_of_a_stage_is_not_for_the_facts_that_it_waits_for() -> None:
    limits: list[bool] = []
    facts: list[tuple[str, str]] = []
    program = compile_stage(Stage("one", (bind("command", argv=["true"]),)))
    progress = Progress(
        program, lambda _: None, str, "host", nullcontext, limits.append, lambda name, text: facts.append((name, text))
    )
    for message in (StageStarted(0, 1.0), FactBegun("a"), FactRead("a", 0, "x"), FactBegun("b"), FactRead("b", 1, "y")):
        progress.on_message(message)
    assert limits == [False, True, False, True, False]
    assert facts == [("a", "x")]
    assert "the fact b could not be read" in str(progress.failure)


@pytest.mark.parametrize(
    ("timeout", "fact_limits", "limits"),
    [
        (None, {"other": 3.0}, [5.0, math.inf]),
        (7.0, {}, [5.0, 7.0]),
        (None, {"one": 3.0}, [5.0, 3.0]),
        (7.0, {"one": 3.0}, [5.0, 3.0]),
    ],
)
def test_facts_that_are_waited_for_in_a_stage_may_have_a_limit_of_their_own(
    timeout: float | None, fact_limits: dict[str, float], limits: list[float]
) -> None:
    any_of: Any = SimpleNamespace(endpoint=SimpleNamespace(address="host"))
    program = compile_stage(Stage("one", (bind("command", argv=["true"]),)))
    run = runner._Run(
        any_of, program, lambda _: None, str, "apply", timeout, 1.0, nullcontext, False, {"one": 5.0}, None, fact_limits
    )
    run._deadline = Deadline(1.0)
    found = []
    for reads in (False, True):
        run._limit(reads)
        found.append(run._deadline.seconds)
    assert found == limits


def test_a_failure_says_if_the_kernel_ended_processes_for_memory() -> None:
    """tests/provision/test_hosts.py has the real thing. The program notes the count of the kernel when it begins."""
    ran = run_here(bind("command", shell='echo -1 >"${0%/*}/oom"; exit 137'))
    assert ran.statuses == ["failed"]
    assert ran.details[0].startswith("out of memory: ")
    ran = run_here(bind("command", shell="sed -n 's/^oom_kill //p' /proc/vmstat >\"${0%/*}/oom\"; exit 137"))
    assert not ran.details[0].startswith("out of memory")


def test_an_error_in_a_home_does_not_fail_the_removal_of_shell_history(tmp_path: Path) -> None:
    """As of NFS that root may not read. What is left is found by the check afterwards."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bash_history").write_text("ls\n")
    (trace,) = (one for one in TRACES if one.name == "shell-history")
    broken = f"""set -e
getent() {{ echo "a:x:1:1::{home}:/bin/sh"; }}
find() {{ command find "$@"; return 1; }}
"""
    done = subprocess.run(["/bin/sh", "-c", f"{broken}{trace.remove.text}\n"], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(home.iterdir()) == []


def test_what_a_builder_prepared_at_its_boot_is_there_until_the_last_program_ends() -> None:
    """The programs that only wait for a boot run before the rest of a program that a reboot divides."""
    removal = 'rm -rf "$flags/boot"\nend ok'
    wait = Stage("boot", (BoundOperation(BootEnded(), Mark("", 0, 0)),))
    assert removal in compile_program([wait, every_stage()[0]]).text
    assert removal not in compile_program([wait]).text
    assert removal not in compile_program([]).text
