"""Patches: which updates of installed packages are applied, and when the host reboots for them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from goldenami.model import Mark
from goldenami.provision.operation import BoundOperation, Operation, Stage
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


def _pattern(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9*?\[\]][a-z0-9+.*?\[\]!-]*", value):
        raise ValueError('expected the name of a package, or a shell pattern such as "linux-image-*"')
    return value


class PatchSpec(BaseModel):
    """The ``patches`` section of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["all", "security", "none"] = Field(
        "all", description="Which updates: all, those of the distribution's security archive only, or none."
    )
    exclude: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        (), description='Packages that are left as they are: names or shell patterns such as "linux-image-*".'
    )
    reboot: Literal["if-needed", "always", "never"] = Field(
        "if-needed", description="Whether the host reboots after the patches and before anything else is done."
    )


class Patches(Operation):
    """Upgrades of what is installed; part of the stage ``patches``, and not for recipes to write."""

    level: Literal["all", "security"]
    exclude: tuple[str, ...]

    def title(self) -> str:
        return "updates of all packages" if self.level == "all" else "security updates"

    def compile(self, to: Compilation) -> Steps:
        # One file of names that are excluded, and one of "name old new" for what apt would upgrade, both made by the
        # check.
        patterns = " | ".join(self.exclude) or "''"
        origin = "-security" if self.level == "security" else ""
        listing = sh(
            """: >"$work/excluded"
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | while read -r _state _name; do
case $_state in ii) ;; *) continue ;; esac
case $_name in @patterns) printf '%s\\n' "$_name" ;; esac
done >"$work/excluded"
apt-get -s -q -o Debug::NoLocking=1 upgrade --with-new-pkgs >"$work/simulated" || { cat "$work/simulated"; return 2; }
# Inst NAME [OLD] (NEW ORIGIN, ORIGIN [ARCHITECTURE]); without [OLD] it is a new package.
awk -v origin=@origin -v excluded="$work/excluded" '
BEGIN { while ((getline name < excluded) > 0) skip[name] = 1 }
$1 == "Inst" && $3 ~ /^\\[/ && !($2 in skip) {
rest = $0; sub(/^[^(]*\\(/, "", rest); sub(/\\[[^]]*\\]\\)?.*$/, "", rest)
if (origin != "" && index(rest, origin) == 0) next
old = $3; gsub(/[][]/, "", old); new = $4; sub(/^\\(/, "", new)
print $2, old, new
}' "$work/simulated" >"$work/upgrades\"""",
            patterns=Script(patterns),
            origin=origin,
        )
        check = lines(
            Script('[ "$mode" = check ] || apt_update || return 2'),
            listing,
            Script('[ -s "$work/upgrades" ] || return 0'),
            Script('detail="$(wc -l <"$work/upgrades") packages"\nreturn 1'),
        )
        apply = Script(
            """cp "$work/upgrades" "$work/upgraded"
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | awk '$1 == "hi" { print $2 }' >"$work/held"
grep -vxF -f "$work/held" "$work/excluded" >"$work/to-hold" || :
if [ -s "$work/to-hold" ]; then
trap 'xargs apt-mark unhold <"$work/to-hold" >/dev/null' EXIT
xargs apt-mark hold <"$work/to-hold" >/dev/null
fi
awk '{ print $1 "=" $3 }' "$work/upgraded" | xargs sh -c 'exec "$@" </dev/null' sh env DEBIAN_FRONTEND=noninteractive \\
NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \\
-o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef install --only-upgrade --
awk '{ print $1 ": " $2 " -> " $3 }' "$work/upgraded"
note "$(wc -l <"$work/upgraded") packages upgraded\""""
        )
        # What could not be upgraded then (kept back) would be reported again and again; the upgrade itself has
        # succeeded.
        return Steps(check, apply, Script(":"))


class Reboot(Operation):
    """A reboot where one is due; part of the stage ``patches``, and not for recipes to write."""

    when: Literal["if-needed", "always"]

    def title(self) -> str:
        return "reboot" if self.when == "always" else "reboot if one is needed"

    def compile(self, to: Compilation) -> Steps:
        if self.when == "always":
            return Steps(Script("return 1"), Script(":"), Script(":"), reboot=True)
        check = Script(
            """if [ -e /run/reboot-required ]; then detail='/run/reboot-required is there'; return 1; fi
# PID 1 still runs code of a library, or of itself, that an upgrade has replaced.
if grep -q '[.]so.* (deleted)$\\|/systemd (deleted)$' /proc/1/maps 2>/dev/null; then
detail='init runs replaced code'; return 1
fi
# A kernel of the running one's flavour was installed, and is newer. Containers have none in /boot.
_running=$(uname -r)
if [ -e "/boot/vmlinuz-$_running" ]; then
_newest=$(find /boot -name "vmlinuz-*-${_running##*-}" | sed 's,^.*/vmlinuz-,,' | sort -V | tail -n 1)
[ "$_newest" = "$_running" ] || { detail="kernel $_running -> $_newest"; return 1; }
fi
return 0"""
        )
        return Steps(check, Script(":"), Script(":"), reboot=True)


def patch_stage(spec: PatchSpec, mark: Mark | None = None) -> Stage:
    """The stage "patches". Without operations for level none, unless the recipe wants the host rebooted anyway."""
    place = mark or Mark("", 0, 0)
    operations: list[Operation] = []
    if spec.level != "none":
        operations.append(Patches(level=spec.level, exclude=spec.exclude))
    if spec.reboot == "always" or (spec.reboot == "if-needed" and spec.level != "none"):
        operations.append(Reboot(when=spec.reboot))
    return Stage("patches", tuple(BoundOperation(o, place) for o in operations))
