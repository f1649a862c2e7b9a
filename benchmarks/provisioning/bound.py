"""The bound: what somebody who knows the host writes by hand, one script, idempotent, as few processes as it takes."""

from __future__ import annotations

import shlex

from benchmarks.provisioning import spec

_FUNCTIONS = r"""set -eu
export LC_ALL=C.UTF-8
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
put() { # put MODE PATH <contents
  cat >"$tmp"
  if ! cmp -s "$tmp" "$2"; then install -D -m "$1" -o root -g root "$tmp" "$2"; changed=1
  else case $(stat -c %a.%u.%g "$2") in "${1#0}.0.0") ;; *) chown root:root "$2"; chmod "$1" "$2" ;; esac; fi
}
setting() { # setting NAME VALUE
  put 0644 "/etc/sysctl.d/99-zz-$1.conf" <<_
$1 = $2
_
  _file=/proc/sys/$(printf %s "$1" | tr . /)
  [ "$(tr -s '\t' ' ' <"$_file")" = "$2" ] || printf '%s\n' "$2" >"$_file"
}
line() { # line PATH REGEXP LINE
  grep -qxF -e "$3" "$1" && return
  if grep -qE -e "$2" "$1"; then sed -i -E "s|$2.*|$3|" "$1"; else printf '%s\n' "$3" >>"$1"; fi
}
"""


def script() -> str:
    """All forty operations. The host needs sh, coreutils, and what the operations are about."""
    parts = [_FUNCTIONS]
    wanted = " ".join(spec.PACKAGES)
    parts.append(
        f"_there=$(dpkg-query -W -f '${{db:Status-Abbrev}}\\n' {wanted} 2>/dev/null | grep -c '^.i')\n"
        f'[ "$_there" = {len(spec.PACKAGES)} ]'
        f" || DEBIAN_FRONTEND=noninteractive apt-get install -y {wanted}"
    )
    for directory in spec.DIRECTORIES:
        parts.append(f"[ -d {directory} ] || install -d -m 0755 {directory}")
        parts.append(
            f'[ "$(stat -c %a.%u.%g {directory})" = 755.0.0 ] ||'
            f" {{ chown root:root {directory}; chmod 0755 {directory}; }}"
        )
    parts.append("changed=")
    for file in spec.FILES:
        parts.append(f"put {file.mode} {file.path} <<'_'\n{file.content}_")
    for file in spec.TEMPLATES:
        parts.append(f"put {file.mode} {file.path} <<'_'\n{spec.rendered(file)}_")
    for name, value in spec.SYSCTLS.items():
        parts.append(f"setting {name} '{value}'")
    for group in spec.GROUPS:
        parts.append(f"getent group {group} >/dev/null || groupadd {group}")
    for user in spec.USERS:
        groups = ",".join(user.groups)
        parts.append(
            f"if getent passwd {user.name} >/dev/null; then\n"
            f'[ "$(id -gn {user.name})" = {user.group} ] || usermod -g {user.group} {user.name}\n'
            f'case " $(id -nG {user.name}) " in *" {groups} "*) ;; *) usermod -aG {groups} {user.name} ;; esac\n'
            f"else useradd -m -s /bin/bash -g {user.group} -G {groups} {user.name}; fi"
        )
    parts.append('[ -z "$changed" ] || systemctl daemon-reload')
    for service in spec.SERVICES:
        parts.append(f"systemctl is-active -q {service} || systemctl start {service}")
        if service in spec.ENABLED:
            parts.append(f"systemctl is-enabled -q {service} || systemctl enable -q {service}")
    for line in spec.LINES:
        parts.append(f"line {line.path} {shlex.quote(line.regexp)} {shlex.quote(line.line)}")
    for command, creates in spec.COMMANDS:
        parts.append(f"[ -e {creates} ] || sh -ec {shlex.quote(command)}")
    return "\n".join(parts) + "\n"
