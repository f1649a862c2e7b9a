"""Systemd units: start at boot and state now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision.fields import UnitName
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_ACTIONS = {"started": "start", "stopped": "stop", "restarted": "restart", "reloaded": "reload-or-restart"}


class Service(Operation):
    """Enables, starts, stops or masks a systemd unit. ``restarted`` and ``reloaded`` always act: for handlers only."""

    kind: ClassVar[str] = "service"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "name"

    name: UnitName = Field(description='Name of the unit; without a suffix it is a service: "nginx", "fstrim.timer".')
    enabled: bool | None = Field(default=None, description="Whether the unit starts at boot. Default: not changed.")
    state: Literal["started", "stopped", "restarted", "reloaded"] | None = Field(
        default=None,
        description="State of the unit now; restarted and reloaded are for handlers. Default: not changed.",
    )
    masked: bool | None = Field(
        default=None, description="Whether the unit is masked, so that nothing can start it. Default: not changed."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Service:
        if self.enabled is None and self.state is None and self.masked is None:
            raise ValueError("expected at least one of enabled, state and masked")
        if self.masked and (self.enabled or self.state not in (None, "stopped")):
            raise ValueError(
                "a masked unit cannot be enabled or run: remove enabled: true, and each state except stopped"
            )
        return self

    def title(self) -> str:
        words = [f"service {self.name}"]
        if self.masked is not None:
            words.append("masked" if self.masked else "not masked")
        if self.enabled is not None:
            words.append("enabled" if self.enabled else "disabled")
        if self.state is not None:
            words.append(self.state)
        return " ".join(words)

    @property
    def unit(self) -> str:
        return self.name if "." in self.name else f"{self.name}.service"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        found = {}
        if self.masked is not None:
            found["masked"] = "yes" if self.masked else "no"
        elif self.enabled or self.state == "started":
            found["masked"] = "no"
        if self.enabled is not None or self.masked:
            found["enabled"] = "yes" if self.enabled else "no"
        if self.state in ("started", "stopped"):
            found["running"] = "yes" if self.state == "started" else "no"
        return {f"{self.unit} {what}": value for what, value in found.items()}

    def compile(self, to: Compilation) -> Steps:
        unit = self.unit
        reader = sh(
            """_active='' _enabled='' _loaded='' _reload=''
while IFS='=' read -r _key _value; do
case $_key in
ActiveState) _active=$_value ;;
UnitFileState) _enabled=$_value ;;
LoadState) _loaded=$_value ;;
NeedDaemonReload) _reload=$_value ;;
esac
done <<_
$(systemctl show -p ActiveState,UnitFileState,LoadState,NeedDaemonReload -- @unit)
_""",
            unit=unit,
        )
        wanted = lines(reader, *self._wanted())
        once = self.state in ("restarted", "reloaded")
        check = lines(wanted, Script("return 1")) if once else wanted
        return Steps(check, self._apply(unit), wanted)

    def _wanted(self) -> list[Script]:
        found = []
        if self.masked is not None:
            found.append(
                Script(
                    '[ "$_loaded" = masked ] || { detail="is not masked"; return 1; }'
                    if self.masked
                    else '[ "$_loaded" != masked ] || { detail="is masked"; return 1; }'
                )
            )
        if self.enabled is True:
            # Units without an [Install] section ("static") cannot be enabled, and other units start them.
            found.append(
                Script("""case $_enabled in
enabled | static | indirect | generated | alias) ;;
*) detail="is ${_enabled:-unknown}"; return 1 ;;
esac""")
            )
        elif self.enabled is False:
            found.append(
                Script('case $_enabled in enabled | enabled-runtime | linked) detail="is $_enabled"; return 1 ;; esac')
            )
        if self.state == "stopped":
            found.append(Script('case $_active in inactive | failed) ;; *) detail="is $_active"; return 1 ;; esac'))
        elif self.state is not None:
            found.append(Script('[ "$_active" = active ] || { detail="is ${_active:-not there}"; return 1; }'))
            found.append(Script('[ "$_reload" != yes ] || { detail="its unit file has changed"; return 1; }'))
        return found

    def _enable(self, unit: str) -> Script:
        if not self.enabled:
            return sh("systemctl disable -- @unit", unit=unit)
        return sh("case $_enabled in enabled) ;; *) systemctl enable -- @unit ;; esac", unit=unit)

    def _apply(self, unit: str) -> Script:
        # A daemon-reload can take a second, so it runs only if needed. systemd reads new units when they are used, and
        # `systemctl enable` reloads all of them.
        again = """if [ "$_reload" = yes ] || [ "$_loaded" != loaded ] || [ -e "$flags/units" ]; then
systemctl daemon-reload
rm -f "$flags/units"
fi"""
        parts = [Script(again)]
        if self.masked is False:
            parts.append(sh("systemctl unmask -- @unit", unit=unit))
        if self.enabled is not None:
            parts.append(self._enable(unit))
        if self.state == "stopped":
            # A unit that is not installed cannot be stopped, and does not run.
            parts.append(
                sh(
                    'systemctl stop -- @unit || [ "$(systemctl show -p LoadState --value -- @unit)" = not-found ]',
                    unit=unit,
                )
            )
        if self.masked is True:
            parts.append(sh("systemctl mask -- @unit", unit=unit))
        if self.state is not None and self.state != "stopped":
            parts.append(
                sh(
                    """systemctl @verb -- @unit || {
_failed=$?
systemctl status --no-pager --lines=0 -- @unit || :
journalctl --no-pager --quiet --lines=15 --output=cat -u @unit || :
exit $_failed
}""",
                    verb=_ACTIONS[self.state],
                    unit=unit,
                )
            )
        if self.state in ("started", "restarted", "reloaded"):
            # Some services end right after they reported their start. Others need up to 10 seconds to become active.
            parts.append(
                sh(
                    """_wait=0 _now=activating
while [ $_wait -lt 50 ]; do
_now=$(systemctl is-active -- @unit) || :
case $_now in activating | reloading) sleep 0.2 ;; *) break ;; esac
_wait=$((_wait + 1))
done
[ "$_now" = active ] || {
systemctl status --no-pager --lines=15 -- @unit || :
die 'the unit started, but is not active any more'
}""",
                    unit=unit,
                )
            )
        return lines(*parts)
