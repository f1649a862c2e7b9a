"""Playbooks of Ansible: run by the real ansible-playbook, over SSH, against a host on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldenami import ssh
from goldenami.childenv import find_program
from goldenami.errors import OperationFailed
from goldenami.events import Event
from goldenami.model import SshEndpoint
from goldenami.provision import Handler, Stage, run_program
from goldenami.provision.program import compile_program
from goldenami.provision.stream import HereDue, Reader
from goldenami.provision.trees import read_tree
from goldenami.reading import Files
from tests.provision.container import container
from tests.provision.examples import bind
from tests.provision.local import run_here

PLAYBOOK = """
- hosts: web
  gather_facts: false
  tasks:
    - copy: {dest: /srv/greeting, content: "{{ greeting }} from {{ inventory_hostname }}", mode: "0644"}
    - command: id -un
      register: who
      changed_when: false
      check_mode: false
    - assert: {that: "who.stdout == 'root'"}
    - command: env
      delegate_to: localhost
      become: false
      register: here
      changed_when: false
      check_mode: false
    - debug: {msg: "{{ here.stdout_lines | select('match', 'AWS_') | list | length }} variables of AWS"}
    - fail: {msg: "as asked"}
      when: broken is defined
"""


def playbook(folder: Path, **fields: Any) -> Any:
    source = folder / "playbooks"
    if not source.exists():
        source.mkdir()
        (source / "site.yml").write_text(PLAYBOOK)
    found = {"src": "playbooks", "groups": ["web"], **fields}
    return bind("ansible", payload=read_tree(source, Files([folder])), **found)


# --- what the program does --------------------------------------------------------------------------------------------


def test_the_program_ends_before_what_runs_here(tmp_path: Path) -> None:
    before = bind("file", dest=str(tmp_path / "before"), content="x")
    after = bind("file", dest=str(tmp_path / "after"), content="x")
    ran = run_here(before, playbook(tmp_path), after)
    assert ran.statuses == ["changed"]
    assert not (tmp_path / "after").exists()
    seen: list[object] = []
    Reader("mark", seen.append, lambda line: None).feed("mark here 3")
    assert seen == [HereDue(3)]


def test_it_cannot_be_in_a_handler(tmp_path: Path) -> None:
    handler = Handler("again", (playbook(tmp_path),))
    changed = bind("file", notify=("again",), dest="/srv/x", content="x")
    with pytest.raises(ValueError, match="ansible cannot be in a handler"):
        compile_program([Stage("s", (changed,), (handler,))])


def test_a_playbook_that_is_not_there(tmp_path: Path) -> None:
    bound = playbook(tmp_path, playbook="web.yml")
    assert bound.operation.misfit(bound.payloads) == "playbook: there is no file web.yml in playbooks"


# --- a real host ------------------------------------------------------------------------------------------------------


def mark_real(test: Any) -> Any:
    return pytest.mark.root(pytest.mark.nightly(test))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshEndpoint]:
    own = Path(__file__).parents[2] / ".venv-ansible" / "bin"
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    if find_program("ansible-playbook") is None:
        pytest.skip("NOT PROVEN: ansible-playbook is not installed (`make test-all` installs it)")
    with container(
        tmp_path / "host", user="admin", setup="echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/a"
    ) as at:
        yield at


def run(endpoint: SshEndpoint, stages: list[Stage], mode: Any = "apply") -> tuple[Any, list[Event]]:
    events: list[Event] = []
    with ssh.connect(endpoint, timeout=60) as connection:
        return run_program(connection, stages, events.append, mode=mode, timeout=600), events


@mark_real
def test_a_playbook_is_one_operation_among_others(
    host: SshEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the caller")
    told = Handler("told", (bind("command", shell="echo told >>/srv/told"),))
    operations = (
        bind("file", dest="/srv/first", content="1"),
        playbook(tmp_path, notify=("told",), extra_vars={"greeting": 'it\'s a "greeting"'}),
    )
    stages = [Stage("software", operations, (told,)), Stage("more", (bind("file", dest="/srv/second", content="2"),))]
    result, events = run(host, stages)
    software, more = result.stages
    assert [o.status for o in software.operations] == ["changed", "changed", "changed"], "the handler, too"
    assert [o.status for o in more.operations] == ["changed"]
    assert software.operations[1].detail == "tasks that changed something: 1"
    output = "\n".join(e.fields["line"] for e in events if e.kind == "operation.output")
    assert "0 variables of AWS" in output
    with ssh.connect(host, timeout=60) as connection:
        assert connection.run("cat /srv/greeting").text == 'it\'s a "greeting" from builder'
        assert connection.run("cat /srv/told").text == "told"
    result, _ = run(host, stages)
    assert {o.status for s in result.stages for o in s.operations} == {"ok"}


@mark_real
def test_through_a_transport_and_a_failure(host: SshEndpoint, tmp_path: Path) -> None:
    opened: list[float] = []

    def tunnel(endpoint: SshEndpoint, patience: float) -> socket.socket:
        opened.append(patience)
        return socket.create_connection((host.address, host.port), timeout=patience)

    through = replace(host, address="192.0.2.1", transport=tunnel)
    working = playbook(tmp_path, extra_vars={"greeting": "hello"})
    result, _ = run(host, [Stage("software", (working,))], "check")
    assert [o.status for s in result.stages for o in s.operations] == ["changed"]
    with ssh.connect(host, timeout=60) as connection:
        assert connection.run("ls /srv").text == "", "a check changes nothing"
    broken = playbook(tmp_path, extra_vars={"greeting": "hello", "broken": True})
    with pytest.raises(OperationFailed, match=r"ansible playbooks/site\.yml failed with exit status 2") as caught:
        run(through, [Stage("software", (broken, bind("file", dest="/srv/never", content="x")))])
    assert "as asked" in caught.value.output
    assert len(opened) >= 2, "ours, and that of Ansible"
    with ssh.connect(host, timeout=60) as connection:
        assert connection.run("ls /srv").text == "greeting"
