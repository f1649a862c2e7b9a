"""Lifetimes of temporary instances: user data that makes an instance power itself off, without goldenami.

A process that is killed leaves its builder running. ``goldenami clean --expired`` deletes it, but only if somebody runs
that. So each temporary instance gets a service of systemd with its user data. At every boot the service starts a timer
for the time that is left, and the timer powers the instance off. EC2 terminates it then
(InstanceInitiatedShutdownBehavior), and deletes its volumes. Nothing of this needs goldenami or a network.

The unit file is on the disk, because the deadline must hold after a reboot: a patch may need one, and cloud-init may be
removed, switched off or without a network by then. So sealing removes the file. The timer itself is in /run, and stays
until the instance is shut down.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from goldenami.model import utc_text

_SHARE: Final = 24  # of the lifetime: the margin is one hour if the lifetime is a day
_UNITS: Final = "/etc/systemd/system"
_TARGET: Final = "multi-user.target"

FROZEN_MARK: Final = "/run/goldenami-frozen"
"""Exists on an instance whose file systems are frozen. A shutdown would wait for them: the kernel ends it at once."""

FILES: Final = (
    f"{_UNITS}/goldenami-*-lifetime.service",
    f"{_UNITS}/*.target.wants/goldenami-*-lifetime.service",
)
"""Shell patterns of the files on an instance that must not be in an image."""


def with_margin(lifetime: timedelta) -> timedelta:
    """Return after how much time an instance powers itself off. The margin lets ``goldenami clean --expired`` be
    first."""
    return lifetime + lifetime / _SHARE


def service(purpose: str) -> str:
    """Return the name of the service on instances of a purpose ("builder" or "proof")."""
    return f"goldenami-{purpose}-lifetime.service"


def boot_command(purpose: str, now: datetime, lifetime: timedelta) -> str:
    """Return the shell program that an instance runs at its boot (``bootcmd`` of cloud-init).

    ``now``: the time by the clock of the cloud. A second run changes nothing. The instance never runs longer than
    ``with_margin(lifetime)`` after a boot, even if its clock is wrong.
    """
    longest = round(with_margin(lifetime).total_seconds())
    deadline = int(now.timestamp()) + longest
    name = service(purpose)
    # It runs at each boot, so the unit is written only once. A reload of systemd during the boot takes nearly half a
    # second, so there is one only for a unit of this name that systemd knows from the disk of the image, and where
    # systemd does not find a new one without.
    return f"""grep -qs {deadline} {_UNITS}/{name} || {{
if [ -e {_UNITS}/{name} ]; then goldenami_reload='systemctl daemon-reload'; else goldenami_reload=:; fi
mkdir -p {_UNITS}/{_TARGET}.wants
cat >{_UNITS}/{name} <<'END'
{_unit(purpose, deadline, longest)}END
ln -sf ../{name} {_UNITS}/{_TARGET}.wants/{name}
$goldenami_reload
}}
systemctl start --no-block {name} || {{ systemctl daemon-reload; systemctl start --no-block {name}; }}"""


def _unit(purpose: str, deadline: int, longest: int) -> str:
    """Return the unit file. systemd reads ``%%`` as a percent sign, and ``$$`` as a dollar sign."""
    at = utc_text(datetime.fromtimestamp(deadline, UTC))
    # --force: a service that does not stop must not keep the instance. Nothing on its disk is needed any more.
    timer = f"systemd-run --quiet --unit=goldenami-{purpose}-end --timer-property=AccuracySec=1s --on-active=$$left"
    end = f'sh -c "[ ! -e {FROZEN_MARK} ] || echo o >/proc/sysrq-trigger; exec systemctl --force poweroff"'
    program = (
        f"left=$$(({deadline} - $$(date +%%s))); [ $$left -gt 0 ] || left=1; "
        f"[ $$left -le {longest} ] || left={longest}; exec {timer} {end}"
    )
    return f"""[Unit]
Description=Power off this temporary instance of goldenami ({purpose}) at {at}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c '{program}'

[Install]
WantedBy={_TARGET}
"""
