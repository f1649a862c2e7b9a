"""The operation ``ansible``: a playbook of Ansible, which runs on this machine and works on the host over SSH."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from pydantic import Field

from goldenami.childenv import clean_environment, find_program
from goldenami.provision.fields import OneLine
from goldenami.provision.operation import DoneHere, Operation, Payload, WorkHere
from goldenami.provision.shell import Compilation, Script, Steps
from goldenami.provision.trees import PATTERNS, write_tree

_PROGRAM: Final = "ansible-playbook"
_HOST: Final = "builder"  # the name of the host for playbooks
_RECAP: Final = re.compile(
    r"^\S+\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)", re.MULTILINE
)
_LOOK_MILLISECONDS: Final = 500
_SILENCE_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 5.0  # between SIGTERM and SIGKILL
_CLOSE_SECONDS: Final = 10.0
_LINE_BYTES: Final = 64 << 10  # a longer line is divided
_RECAP_LINES: Final = 50


class Ansible(Operation):
    """Runs a playbook of Ansible with the ansible-playbook of this machine, over the connection of the build. The host
    is `builder`, in the group all and in `groups`.

    The directory `src` is part of the recipe: Ansible gets a copy of it, with its roles, group_vars and ansible.cfg,
    and nothing of goldenami's credentials. Collections in your home directory are found, and are not part of the
    recipe: put those that matter into `src`. The operation changed something if a task did. It cannot be in a handler.
    """

    kind: ClassVar[str] = "ansible"
    shorthand: ClassVar[str | None] = "src"
    sources: ClassVar = {"src": "tree"}
    programs: ClassVar[Mapping[str, str]] = {_PROGRAM: "Install it: pip install ansible-core."}

    src: str = Field(description="A directory beside the recipe, with the playbook and its roles.")
    playbook: OneLine = Field("site.yml", description="The playbook: its path in src.")
    extra_vars: Mapping[OneLine, Any] = Field(
        default_factory=dict, description="Variables for the playbook, as --extra-vars of ansible-playbook."
    )
    groups: tuple[OneLine, ...] = Field((), description="Groups of the inventory that the host is in.")
    tags: tuple[OneLine, ...] = Field((), description="Run only tasks with these tags.")
    skip_tags: tuple[OneLine, ...] = Field((), description="Leave out tasks with these tags.")
    become: bool = Field(True, description="Whether tasks run as root (sudo), unless the playbook says otherwise.")
    match: tuple[OneLine, ...] = Field((), description=f"Take only files of src that match one of these. {PATTERNS}")
    exclude: tuple[OneLine, ...] = Field((), description="Patterns, as for match, of what is left out.")

    def title(self) -> str:
        return f"ansible {self.src}/{self.playbook}"

    def misfit(self, payloads: Mapping[str, Payload]) -> str | None:
        if "src" not in payloads:
            return None
        files = {entry.path for entry in payloads["src"].tree or () if entry.kind == "file"}
        if str(PurePosixPath(self.playbook)) not in files:
            return f"playbook: there is no file {self.playbook} in {self.src}"
        return None

    def compile(self, to: Compilation) -> Steps:
        return Steps(Script(":"), Script(":"), here=True)

    def run_here(self, payloads: Mapping[str, Payload], work: WorkHere) -> DoneHere:
        from goldenami.ssh import openssh  # here, because recipes are validated without paramiko

        program = find_program(_PROGRAM)
        if program is None:
            return DoneHere("failed", f"there is no program {_PROGRAM} on this machine", 127)
        with openssh.files_for(work.endpoint, _HOST) as files:
            project = files.folder / "project"
            project.mkdir()
            write_tree(payloads["src"].tree or (), project)
            sockets = files.folder / "s"
            sockets.mkdir()
            inventory, variables = files.folder / "inventory.json", files.folder / "variables.json"
            openssh.write_private(inventory, json.dumps(self._inventory(work, files.identities, files.options)))
            openssh.write_private(variables, json.dumps(dict(self.extra_vars)))
            try:
                status, text = _run(self._command(program, inventory, variables, work.dry), project, sockets, work)
            finally:
                _close_connections(sockets)
            if status is None:
                return DoneHere("failed", f"the playbook did not end within {work.timeout:.0f} s", 1)
            return _result(status, text, files.failures)

    def _inventory(self, work: WorkHere, identities: Sequence[Path], options: Mapping[str, str]) -> dict[str, Any]:
        from goldenami.ssh import openssh

        endpoint = work.endpoint
        quoted = [f"'{word}'" for word in ["-F", "none", *openssh.words(options)]]
        variables = {
            "ansible_connection": "ssh",
            "ansible_host": endpoint.address,
            "ansible_port": endpoint.port,
            "ansible_user": endpoint.user,
            "ansible_ssh_common_args": " ".join(quoted),
            "ansible_python_interpreter": "auto_silent",
            "ansible_become": self.become and endpoint.user != "root",
        }
        if identities:
            variables["ansible_ssh_private_key_file"] = str(identities[0])
        groups: dict[str, Any] = {name: {"hosts": {_HOST: {}}} for name in self.groups}
        return {"all": {"hosts": {_HOST: variables}, "children": groups}}

    def _command(self, program: str, inventory: Path, variables: Path, dry: bool) -> list[str]:
        return [
            program,
            "--inventory",
            str(inventory),
            "--extra-vars",
            f"@{variables}",
            *(("--tags", ",".join(self.tags)) if self.tags else ()),
            *(("--skip-tags", ",".join(self.skip_tags)) if self.skip_tags else ()),
            *(("--check",) if dry else ()),
            str(PurePosixPath(self.playbook)),
        ]


def _result(status: int, text: str, failures: Sequence[str]) -> DoneHere:
    recap = _RECAP.search(text)
    if status != 0:
        unreachable = recap is not None and recap["unreachable"] != "0"
        why = "Ansible could not reach the host" if unreachable else "the playbook failed"
        return DoneHere("failed", f"{why}: {failures[-1]}" if unreachable and failures else why, status)
    changed = int(recap["changed"]) if recap is not None else 0
    return DoneHere("changed" if changed else "ok", f"tasks that changed something: {changed}" if changed else "")


def _variables(sockets: Path) -> dict[str, str]:
    """Return the environment of Ansible. What is set here is stronger than an ansible.cfg in the project."""
    return {
        **clean_environment(["SSH_AUTH_SOCK"]),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_LOCAL_TEMP": str(sockets.with_name("ansible")),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "LC_ALL": "C.UTF-8",  # Ansible demands UTF-8
        "PYTHONUNBUFFERED": "1",
    }


def _run(command: Sequence[str], project: Path, sockets: Path, work: WorkHere) -> tuple[int | None, str]:
    """Run the program. Returns its exit status, None after the time limit, and the last lines of its output."""
    process = subprocess.Popen(
        command,
        cwd=project,
        env=_variables(sockets),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    last: list[str] = []

    def line(text: str) -> None:
        last.append(text)
        del last[:-_RECAP_LINES]
        work.on_line(text)

    ended = os.pidfd_open(process.pid)  # readable at its end; until it is waited for, its id is not given to another
    try:
        over = _follow(process, ended, line, work)
        _wait(ended, 0 if over else _GRACE_SECONDS)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            _wait(ended, _GRACE_SECONDS)
        os.close(ended)
        with process:
            status = process.wait()
    return (None if over else status), "\n".join(last)


def _wait(ended: int, seconds: float) -> None:
    """Wait until a process has ended, for at most some seconds."""
    poller = select.poll()
    poller.register(ended, select.POLLIN)
    poller.poll(seconds * 1000)


def _follow(process: subprocess.Popen[bytes], ended: int, line: Callable[[str], None], work: WorkHere) -> bool:
    """Pass on each line of output until the program ends. Returns whether its time was over before."""
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    start = heard = told = time.monotonic()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.register(ended, select.POLLIN)
    while True:
        work.check()
        now = time.monotonic()
        if work.timeout is not None and now - start > work.timeout:
            return True
        ready = [number for number, _ in poller.poll(_LOOK_MILLISECONDS)]
        if not ready and now - max(heard, told) >= _SILENCE_SECONDS:
            told = now
            work.on_silence(now - heard)
        if descriptor not in ready:
            if ended in ready:  # all its output is read; what it has left behind may keep the pipe open
                break
            continue
        data = os.read(descriptor, _LINE_BYTES)
        if not data:
            break
        heard = now
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) >= _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for one in lines:
            line(one.decode(errors="replace"))
    if rest:
        line(rest.decode(errors="replace"))
    return False


def _close_connections(sockets: Path) -> None:
    """End the connections that Ansible's ssh keeps for a minute: nobody is to be logged in when a host is captured."""
    for socket in sockets.iterdir():
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={socket}", _HOST],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_CLOSE_SECONDS,
                check=False,
            )
