"""Waits until the host has booted, before anything is changed on it; and reboots it.

sshd accepts logins long before the boot is over. cloud-init writes the package sources, and installs what the user data
asks for, beside sshd. A stage that begins earlier can find no sources, so that there seems to be nothing to upgrade.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, sh

CLOUD_SECONDS = 600
UNIT_SECONDS = 120
_SIGN_SECONDS = 15


class BootEnded(Operation):
    """Waits until systemd has started all units of the boot, cloud-init included. The stage ``patches`` contains it;
    recipes cannot use it.

    ``cloud_seconds``: limit for cloud-init; after it the operation fails. ``unit_seconds``: limit for all other units;
    after it the units are told, and the work begins. A failure of cloud-init is told, and is no failure of the
    operation: its tests decide about the image.
    """

    cloud_seconds: int = CLOUD_SECONDS
    unit_seconds: int = UNIT_SECONDS

    def title(self) -> str:
        return "wait for the end of the boot"

    def compile(self, to: Compilation) -> Steps:
        check = sh(
            """command -v systemctl >/dev/null || return 0
_ticks=0 _left=''
while :; do
case $(systemctl is-system-running 2>/dev/null) in initializing | starting) ;; *) break ;; esac
[ $((_ticks % 5)) -ne 0 ] || _left=$(systemctl list-jobs --no-legend --plain 2>/dev/null |
awk '$3 == "start" && $4 == "running" { printf "%s ", $2 }')
case " $_left" in
*' cloud-'*) [ $_ticks -lt $((10 * @cloud)) ] || { echo "cloud-init did not end within @cloud s: $_left"; return 2; } ;;
*) [ $_ticks -lt $((10 * @unit)) ] || { detail="after @unit s the boot is not over: ${_left:-unknown jobs}"; break; } ;;
esac
[ $((_ticks % (10 * @sign))) -ne 0 ] || [ $_ticks -eq 0 ] || say "$((_ticks / 10)) s: the host is booting: $_left"
# A boot that is nearly over is noticed at once; of a long one, each look is a process more.
[ $_ticks -lt 50 ] && _step=1 || _step=5
_ticks=$((_ticks + _step))
sleep 0.$_step
done
_failed=$(systemctl list-units --failed --no-legend --plain 'cloud-*' 2>/dev/null | awk '{ print $1 }' | tr '\\n' ' ')
[ -z "$_failed" ] || detail="${detail:+$detail; }cloud-init failed: ${_failed% }"
if [ -e /run/cloud-init/enabled ] && [ ! -e /run/cloud-init/result.json ]; then
detail="${detail:+$detail; }cloud-init left no result"
fi
_errors=$(cat /run/cloud-init/result.json 2>/dev/null | tr -d '\\n' |
sed -n 's/.*"errors": *\\[ *\\([^]]*[^] ]\\) *\\].*/\\1/p')
[ -z "$_errors" ] || detail="${detail:+$detail; }cloud-init reported errors: $_errors"
[ -z "$detail" ] || say "$detail"
return 0""",
            cloud=Script(str(self.cloud_seconds)),
            unit=Script(str(self.unit_seconds)),
            sign=Script(str(_SIGN_SECONDS)),
        )
        return Steps(check, Script(":"), Script(":"))


class Reboot(Operation):
    """Reboots the host, for software that needs a reboot: a kernel module, a driver, a kernel parameter. Handlers that
    are due run before. The recipe continues with the next operation when the host has booted.

    It reboots each time that the recipe runs, with ``if-needed`` only if a reboot is due. It cannot be in a handler.
    ``goldenami apply`` reboots only with ``--reboot``.
    """

    kind: ClassVar[str] = "reboot"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "when"

    when: Literal["if-needed", "always"] = Field(
        "always",
        description="always, or if-needed: if the distribution, a newer kernel or a replaced library of init asks for "
        "it.",
    )

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
# A newer kernel of the same flavour as the running one is installed. Containers have no kernel in /boot.
_running=$(uname -r)
if [ -e "/boot/vmlinuz-$_running" ] && [ "$family" != none ]; then
_flavour=$(managed flavour "$_running")
_newest=$(find /boot -name "vmlinuz-*$_flavour" | sed 's,^.*/vmlinuz-,,' | sort -V | tail -n 1)
[ "$_newest" = "$_running" ] || { detail="kernel $_running -> $_newest"; return 1; }
fi
# More signs from the distribution's own tools, if they are installed.
if command -v needrestart >/dev/null; then
# 2: a newer kernel of the same ABI is installed, 3: of another one (needrestart's README.batch)
case $(needrestart -b -k 2>/dev/null | sed -n 's/^NEEDRESTART-KSTA: //p') in
[23]) detail='needrestart reports a newer kernel'; return 1 ;;
esac
fi
if [ "$family" != none ] && managed reboot_due; then return 1; fi
return 0"""
        )
        return Steps(check, Script(":"), Script(":"), reboot=True)
