"""The tools, each with the forty operations in its own words. ``run`` does them all, over a port on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.provisioning import bound, spec
from goldenami import ssh
from goldenami.model import Mark, SshEndpoint
from goldenami.provision import OPERATIONS, BoundOperation, Payload, Stage, run_program

Run = Callable[[], None]


@dataclass(frozen=True)
class Contestant:
    """``make(endpoint, folder)``: a function that connects to the endpoint and does everything, from nothing."""

    name: str
    make: Callable[[SshEndpoint, Path], Run]
    peer: bool = True


# --- goldenami --------------------------------------------------------------------------------------------------------


def stages() -> list[Stage]:
    """The operations as a recipe gives them, in four stages."""
    place = Mark("recipe.yaml", 1, 1)

    def op(kind: str, payload: bytes | None = None, **fields: Any) -> BoundOperation:
        payloads = {"src": Payload.of(payload)} if payload is not None else {}
        return BoundOperation(OPERATIONS[kind].model_validate(fields), place, payloads=payloads)

    software = [
        *(op("package", name=name) for name in spec.PACKAGES),
        *(op("directory", path=path) for path in spec.DIRECTORIES),
        *(op("file", dest=f.path, content=f.content, mode=f.mode) for f in spec.FILES),
        *(op("template", spec.rendered(f).encode(), dest=f.path, src="t.j2", mode=f.mode) for f in spec.TEMPLATES),
    ]
    kernel = [op("sysctl", name=name, value=value) for name, value in spec.SYSCTLS.items()]
    accounts = [
        *(op("group", name=name) for name in spec.GROUPS),
        *(op("user", name=u.name, group=u.group, groups=u.groups, shell="/bin/bash") for u in spec.USERS),
    ]
    rest = [
        *(
            op("service", None, name=n, state="started", **({"enabled": True} if n in spec.ENABLED else {}))
            for n in spec.SERVICES
        ),
        *(op("line", path=entry.path, line=entry.line, regexp=entry.regexp) for entry in spec.LINES),
        *(op("command", shell=command, creates=creates) for command, creates in spec.COMMANDS),
    ]
    groups = {"software": software, "kernel": kernel, "accounts": accounts, "rest": rest}
    assert sum(map(len, groups.values())) == 40
    return [Stage(name, tuple(operations)) for name, operations in groups.items()]


def goldenami(endpoint: SshEndpoint, _folder: Path) -> Run:
    """As in a build: in a process that runs already; from connecting to the last event, compiling included."""

    def run() -> None:
        with ssh.connect(endpoint, timeout=60) as connection:
            run_program(connection, stages())

    return run


def goldenami_process(endpoint: SshEndpoint, folder: Path) -> Run:
    """The same with the start of Python and all imports, which a build pays once."""
    path = folder / "endpoint.json"
    fields = ("address", "user", "private_key", "host_key", "port")
    path.write_text(json.dumps({name: getattr(endpoint, name) for name in fields}))
    path.chmod(0o600)
    return lambda: _quietly([sys.executable, "-m", "benchmarks.provisioning.contestants", str(path)])


# --- shell ------------------------------------------------------------------------------------------------------------


def shell(endpoint: SshEndpoint, folder: Path) -> Run:
    """The bound: OpenSSH's client, one connection, the script on stdin of a root shell."""
    command = [*_ssh(endpoint, folder), "sudo", "-n", "sh", "-s"]
    return lambda: _quietly(command, stdin=bound.script().encode())


def upload_and_run(endpoint: SshEndpoint, _folder: Path) -> Run:
    """As packer's shell provisioner does it: over one connection a session to upload, one to chmod, one to run, one to
    remove. The connection is ours, which is quicker than OpenSSH's."""

    def run() -> None:
        with ssh.connect(endpoint, timeout=60) as connection:
            path = "/tmp/script_4711.sh"
            for command, stdin in (
                (f"cat >{path}", bound.script().encode()),
                (f"chmod 0755 {path}", None),
                (f"sudo -n sh {path}", None),
                (f"rm -f {path}", None),
            ):
                done = connection.run(command, stdin)
                assert done.status == 0, done.stderr

    return run


def _ssh(endpoint: SshEndpoint, folder: Path) -> list[str]:
    key, known = _files(endpoint, folder)
    options = ("BatchMode=yes", f"UserKnownHostsFile={known}", "PreferredAuthentications=publickey", "LogLevel=ERROR")
    address = f"{endpoint.user}@{endpoint.address}"
    return ["ssh", "-F", "none", "-T", "-i", str(key), "-p", str(endpoint.port), *(f"-o{o}" for o in options), address]


def _files(endpoint: SshEndpoint, folder: Path) -> tuple[Path, Path]:
    key, known = folder / "key", folder / "known_hosts"
    key.touch(0o600)
    key.write_text(endpoint.private_key)
    known.write_text(f"[{endpoint.address}]:{endpoint.port} {endpoint.host_key}\n")
    return key, known


# --- ansible ----------------------------------------------------------------------------------------------------------


def ansible(endpoint: SshEndpoint, folder: Path) -> Run:
    """ansible-core with pipelining and ControlPersist, facts not gathered; a connection of its own for each run."""
    return _ansible(endpoint, folder, {})


def mitogen(endpoint: SshEndpoint, folder: Path) -> Run:
    """The same playbook under mitogen's strategy."""
    import importlib.util

    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or not found.submodule_search_locations:
        raise LookupError("mitogen is not installed")
    plugins = Path(next(iter(found.submodule_search_locations))) / "plugins/strategy"
    return _ansible(endpoint, folder, {"ANSIBLE_STRATEGY_PLUGINS": str(plugins), "ANSIBLE_STRATEGY": "mitogen_linear"})


def _ansible(endpoint: SshEndpoint, folder: Path, variables: dict[str, str]) -> Run:
    key, known = _files(endpoint, folder)
    for template in spec.TEMPLATES:
        (folder / Path(template.path).name).with_suffix(".j2").write_text(template.content)
    (folder / "play.yaml").write_text(yaml.safe_dump(_playbook(), sort_keys=False))
    (folder / "ansible.cfg").touch()
    host = {
        "ansible_host": endpoint.address,
        "ansible_port": endpoint.port,
        "ansible_user": endpoint.user,
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    (folder / "hosts.yaml").write_text(yaml.safe_dump({"all": {"hosts": {"bench": host}}}))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_NOCOLOR": "1",
        **variables,
    }
    tool = str(Path(sys.executable).with_name("ansible-playbook"))

    def run() -> None:
        _quietly([tool, "-i", str(folder / "hosts.yaml"), str(folder / "play.yaml")], environment=environment)
        for socket in (folder / "cp").glob("*"):
            subprocess.run(["ssh", "-O", "exit", "-S", str(socket), "bench"], capture_output=True)

    return run


def _playbook() -> list[dict[str, Any]]:
    root = {"owner": "root", "group": "root"}
    tasks: list[dict[str, Any]] = [
        *({"apt": {"name": name, "state": "present"}} for name in spec.PACKAGES),
        *({"file": {"path": path, "state": "directory", "mode": "0755", **root}} for path in spec.DIRECTORIES),
        *({"copy": {"dest": f.path, "content": f.content, "mode": f.mode, **root}} for f in spec.FILES),
        *(
            {"template": {"src": Path(f.path).with_suffix(".j2").name, "dest": f.path, "mode": f.mode, **root}}
            for f in spec.TEMPLATES
        ),
    ]
    for number, (name, value) in enumerate(spec.SYSCTLS.items()):  # the module is not in ansible-core
        file = f"/etc/sysctl.d/99-zz-{name}.conf"
        tasks.append(
            {"copy": {"dest": file, "content": f"{name} = {value}\n", "mode": "0644", **root}, "register": f"s{number}"}
        )
        tasks.append({"command": f"sysctl -q -p {file}", "when": f"s{number} is changed"})
    tasks += [
        *({"group": {"name": name}} for name in spec.GROUPS),
        *(
            {"user": {"name": u.name, "group": u.group, "groups": list(u.groups), "append": True, "shell": "/bin/bash"}}
            for u in spec.USERS
        ),
        *(
            {
                "systemd": {
                    "name": n,
                    "state": "started",
                    "daemon_reload": n == "bench-0",
                    **({"enabled": True} if n in spec.ENABLED else {}),
                }
            }
            for n in spec.SERVICES
        ),
        *({"lineinfile": {"path": e.path, "line": e.line, "regexp": e.regexp}} for e in spec.LINES),
        *({"shell": {"cmd": command, "creates": creates}} for command, creates in spec.COMMANDS),
    ]
    return [{"hosts": "all", "gather_facts": False, "become": True, "vars": spec.VARIABLES, "tasks": tasks}]


# --- pyinfra ----------------------------------------------------------------------------------------------------------


def pyinfra(endpoint: SshEndpoint, folder: Path) -> Run:
    key, known = _files(endpoint, folder)
    for template in spec.TEMPLATES:
        (folder / Path(template.path).name).with_suffix(".j2").write_text(template.content)
    data = {
        "ssh_hostname": endpoint.address,
        "ssh_port": endpoint.port,
        "ssh_user": endpoint.user,
        "ssh_key": str(key),
        "ssh_known_hosts_file": str(known),
        "_sudo": True,
    }
    (folder / "inventory.py").write_text(f"hosts = [('bench', {data!r})]\n")
    (folder / "deploy.py").write_text(_deploy())
    tool = str(Path(sys.executable).with_name("pyinfra"))
    return lambda: _quietly([tool, "-y", "inventory.py", "deploy.py"], folder=folder)


def _deploy() -> str:
    """The deploy file: a line an operation."""
    lines = ["from io import StringIO", "from pyinfra.operations import apt, files, server, systemd"]

    def call(name: str, **arguments: Any) -> None:
        shown = ", ".join(f"{k}={v.text if isinstance(v, _Code) else repr(v)}" for k, v in arguments.items())
        lines.append(f"{name}({shown})")

    def put(path: str, content: str, mode: str) -> None:
        call("files.put", src=_Code(f"StringIO({content!r})"), dest=path, mode=mode[1:], **root)

    root = {"user": "root", "group": "root"}
    for name in spec.PACKAGES:
        call("apt.packages", packages=[name])
    for path in spec.DIRECTORIES:
        call("files.directory", path=path, mode="755", **root)
    for file in spec.FILES:
        put(file.path, file.content, file.mode)
    for file in spec.TEMPLATES:
        source = Path(file.path).with_suffix(".j2").name
        call("files.template", src=source, dest=file.path, mode=file.mode[1:], **root, **spec.VARIABLES)
    for name, value in spec.SYSCTLS.items():
        put(f"/etc/sysctl.d/99-zz-{name}.conf", f"{name} = {value}\n", "0644")
        numbers = [int(v) for v in value.split()]
        call("server.sysctl", key=name, value=numbers if len(numbers) > 1 else numbers[0])
    for name in spec.GROUPS:
        call("server.group", group=name)
    for user in spec.USERS:
        call(
            "server.user",
            user=user.name,
            group=user.group,
            groups=list(user.groups),
            shell="/bin/bash",
            home=f"/home/{user.name}",
            create_home=True,
        )
    lines.append("systemd.daemon_reload()")
    for name in spec.SERVICES:
        enabled = {"enabled": True} if name in spec.ENABLED else {}
        call("systemd.service", service=f"{name}.service", running=True, **enabled)
    for entry in spec.LINES:
        call("files.line", path=entry.path, line=entry.regexp + ".*", replace=entry.line)
    for command, creates in spec.COMMANDS:
        call("server.shell", commands=[f"[ -e {creates} ] || ({command})"])
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Code:
    text: str


def _quietly(
    command: list[str], *, stdin: bytes = b"", environment: dict[str, str] | None = None, folder: Path | None = None
) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, cwd=folder, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(
            f"{command[0]} ended with {done.returncode}:\n{done.stdout.decode()[-3000:]}{done.stderr.decode()[-3000:]}"
        )


ALL = (
    Contestant("one shell script (the bound)", shell, peer=False),
    Contestant("goldenami", goldenami, peer=False),
    Contestant("goldenami, a process of its own", goldenami_process, peer=False),
    Contestant("upload and run, as packer does", upload_and_run),
    Contestant("mitogen", mitogen),
    Contestant("pyinfra", pyinfra),
    Contestant("ansible-core, pipelining", ansible),
)


if __name__ == "__main__":
    goldenami(SshEndpoint(**json.loads(Path(sys.argv[1]).read_text())), Path())()
