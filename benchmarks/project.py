"""Writes a project of many recipes for the benchmarks: images of several systems, and images that are built on them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEPTH: Final = 6
_DEBIAN, _CANONICAL = "136693071363", "099720109477"
SYSTEMS: Final = {  # name of the system -> its profile of hardening, and the filter and owner of its image
    "debian-12": ("debian-12-level-1", "debian-12-amd64-*", _DEBIAN),
    "debian-13": ("debian-13-level-1", "debian-13-amd64-*", _DEBIAN),
    "ubuntu-24.04": (
        "ubuntu-24.04-level-1",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*",
        _CANONICAL,
    ),
}
_FIRST: Final = """\
name: {name}
version: "1.0"
description: The image that others of {system} are built on
owner: platform-team

base:
  filter: {filter}
  owners: ["{owner}"]

patches: {{level: all, reboot: if-needed}}

software:
  - package: {{name: [ca-certificates, curl, less, procps]}}
  - name: Keep the journal over reboots, and limit its size
    file: {{src: files/journald.conf, dest: /etc/systemd/journald.conf.d/50-golden.conf, mode: "0644"}}
  - sysctl: {{name: kernel.dmesg_restrict, value: "1"}}

hardening:
  profiles: [{profile}]

tests: [base, tests/base_test.py]
image:
  root_volume: {{size_gib: 8, type: gp3}}
distribution: {{channel: stable}}
"""
_CHILD: Final = """\
name: {name}
version: "1.{minor}"
description: The service {name}
owner: team-{team}

base: {{recipe: {base}, channel: stable}}

vars:
  port: {port}
  service: {name}

patches: {{level: security, reboot: if-needed}}

agents:
  - name: node-exporter
    params: {{listen: "127.0.0.1:9100"}}
{software}
tests: [base, tests/base_test.py]
image:
  root_volume: {{size_gib: {size}, type: gp3}}
  imds: v2
distribution: {{targets: all, channel: stable}}
retention: {{keep: 5, deprecate_after: 90d}}
"""
_SOFTWARE: Final = """
software:
  - package: {{name: nginx-light}}
  - directory: {{path: "/srv/{{{{ vars.service }}}}", owner: root, group: root, mode: "0755"}}
  - template: {{src: templates/service.conf.j2, dest: "/etc/{{{{ vars.service }}}}.conf", mode: "0644"}}
    notify: [nginx]
  - sysctl: {{name: net.core.somaxconn, value: "{backlog}"}}
  - service: {{name: nginx, enabled: true, state: started}}

handlers:
  nginx:
    - command: {{argv: [nginx, -t, -q]}}
    - service: {{name: nginx, state: reloaded}}
"""
_HARDENED: Final = """
hardening:
  profiles: [{profile}]
"""
_FILES: Final = {
    "files/journald.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=200M\n",
    "templates/service.conf.j2": "# {{ recipe.name }} {{ recipe.version }}\nlisten {{ vars.port }};\n",
    "tests/base_test.py": (
        "def test_the_journal_is_kept(host):\n    assert host.file('/etc/systemd/journald.conf.d/50-golden.conf')\n"
    ),
}


def write(root: Path, count: int) -> dict[str, str | None]:
    """Write ``count`` recipes in a graph of ``DEPTH`` levels into a project, and return the base of each.

    A tenth is hardened. The others have an agent, and software with a template, a handler and tests.
    """
    recipes = root / "recipes"
    for name, text in _FILES.items():
        (recipes / name).parent.mkdir(parents=True, exist_ok=True)
        (recipes / name).write_text(text, encoding="utf-8")
    graph: dict[str, str | None] = {}
    levels: list[list[str]] = [[f"{system}-base" for system in SYSTEMS]]
    for system, (profile, filter, owner) in SYSTEMS.items():
        name = f"{system}-base"
        graph[name] = None
        text = _FIRST.format(name=name, system=system, filter=filter, owner=owner, profile=profile)
        (recipes / f"{name}.yaml").write_text(text, encoding="utf-8")
    for number in range(count - len(levels[0])):
        level = 1 + number * (DEPTH - 1) // (count - len(levels[0]))
        if level == len(levels):
            levels.append([])
        above = levels[level - 1]
        name, base = f"service-{number:04}", above[number % len(above)]
        levels[level].append(name)
        graph[name] = base
        system = _system(graph, name)
        values = {"port": 8000 + number, "team": number % 40, "minor": number % 7, "size": 8 + level}
        what = _HARDENED if number % 10 == 0 else _SOFTWARE
        software = what.format(profile=SYSTEMS[system][0], backlog=1024 + number)
        text = _CHILD.format(name=name, base=base, software=software, **values)
        (recipes / f"{name}.yaml").write_text(text, encoding="utf-8")
    return graph


def _system(graph: dict[str, str | None], name: str) -> str:
    above: str | None = name
    while above is not None:
        name, above = above, graph[above]
    return name.removesuffix("-base")
