"""The forty operations as data, and what makes a host forget them. What each tool is given is made of this, in its own
way of saying it: see ``contestants``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True)
class User:
    name: str
    group: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    path: str
    line: str
    regexp: str


PACKAGES = ("bash", "openssh-server", "sudo", "coreutils")  # all there already: apt's own time is not what is measured
DIRECTORIES = ("/srv/bench/app", "/srv/bench/data")
FILES = tuple(
    File(
        f"/etc/bench/file-{n}.conf", "".join(f"option_{i} = {n * i}\n" for i in range(40)), "0644" if n % 2 else "0640"
    )
    for n in range(6)
) + tuple(
    File(
        f"/etc/systemd/system/bench-{n}.service",
        f"[Service]\nExecStart=/bin/sleep {10000 + n}\n[Install]\nWantedBy=multi-user.target\n",
    )
    for n in range(2)
)
TEMPLATES = tuple(
    File(
        f"/etc/bench/template-{n}.conf",
        "# of {{ owner }}\n" + "".join(f"listen_{i} = {{{{ port }}}}\n" for i in range(20)),
    )
    for n in range(4)
)
VARIABLES = {"owner": "platform-team", "port": "8080"}
SYSCTLS = {
    "net.ipv4.ip_local_port_range": "20000 50000",
    "net.ipv4.tcp_keepalive_time": "600",
    "net.ipv4.conf.all.log_martians": "1",
    "net.ipv4.tcp_syn_retries": "4",
}
GROUPS = ("benchers", "watchers")
USERS = tuple(User(f"bench{n}", "benchers", ("watchers",)) for n in range(4))
SERVICES = ("ssh", "systemd-logind", "bench-0", "bench-1")  # enabled (where they can be) and running
ENABLED = ("ssh", "bench-0", "bench-1")
LINES = tuple(Line("/etc/bench/lines.conf", f"setting{n} = {n}", f"^setting{n} *=") for n in range(4))
LINES_FILE = File("/etc/bench/lines.conf", "# settings\nsetting1 = old\n")
COMMANDS = tuple((f"date >/srv/bench/done-{n}", f"/srv/bench/done-{n}") for n in range(4))


def rendered(template: File) -> str:
    """What Jinja makes of a template here; the other tools render it themselves where they can."""
    text = template.content
    for name, value in VARIABLES.items():
        text = text.replace("{{ " + name + " }}", value)
    return text


# What ansible and mitogen need on a host beside the forty: brought before anything is measured.
PYTHON = "python3 -c 'import apt' 2>/dev/null || { apt-get -qq update; apt-get -qqy install python3-apt; } >&2"

RESET = "\n".join(
    [
        *(f"systemctl disable --now {name} 2>/dev/null" for name in ("bench-0", "bench-1")),
        *(f"userdel -r {user.name} 2>/dev/null" for user in USERS),
        *(f"groupdel {group} 2>/dev/null" for group in GROUPS),
        "rm -rf /srv/bench /etc/bench /etc/systemd/system/bench-* /etc/sysctl.d/99-zz-net.ipv4.*",
        "for s in ip_local_port_range='32768 60999' tcp_keepalive_time=7200 conf/all/log_martians=0 tcp_syn_retries=6",
        "do",
        'echo "${s#*=}" >/proc/sys/net/ipv4/"${s%%=*}"; done',
        "systemctl daemon-reload",
        "mkdir -p /etc/bench /srv/bench",
        f"printf '{LINES_FILE.content.encode().decode()}' >{LINES_FILE.path}".replace("\n", "\\n"),
        "true",
    ]
)

# What the operations are about, as text: equal for every tool, or somebody did something else.
STATE = "\n".join(
    [
        "cd /",
        "paths='etc/bench srv/bench etc/sysctl.d/99-zz-net.* etc/systemd/system/bench-*'",
        "find $paths -printf '%p %y %m %u %g\\n' | sort",
        "find etc/bench etc/systemd/system/bench-* -type f | sort | xargs sha256sum",
        *(
            f"sort /etc/sysctl.d/99-zz-{name}.conf | tr -d ' \\n'; tr -s '\\t' ' ' </proc/sys/{name.replace('.', '/')}"
            for name in SYSCTLS
        ),
        *(
            f"id -gn {user.name}; id -nG {user.name}; getent passwd {user.name} | cut -d: -f6,7;"
            f" ls -d /home/{user.name}"
            for user in USERS
        ),
        *(f"systemctl is-enabled {name}; systemctl is-active {name}" for name in ("ssh", "bench-0", "bench-1")),
    ]
)
