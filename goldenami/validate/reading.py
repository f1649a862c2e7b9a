"""Reads what the built-in suites gather on a host: services, sockets, and the performance of a boot. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_EPHEMERAL = 32768  # UDP sockets of clients have ports from here on; they listen to nobody
_FLOOR: Mapping[str, float] = {
    "boot_seconds": 5,
    "memory_mib": 256,
    "disk_mib": 512,
}  # smaller differences do not count
_WHAT: Mapping[str, str] = {
    "boot_seconds": "the boot takes {} s",
    "memory_mib": "the processes need {} MiB of memory",
    "disk_mib": "the root filesystem has {} MiB of files",
}

UNIT = (
    "Id,TriggeredBy,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,"
    "InactiveEnterTimestampMonotonic"
)
_MANAGER = "FirmwareTimestampMonotonic,LoaderTimestampMonotonic,UserspaceTimestampMonotonic,FinishTimestampMonotonic"

# Each is one text for all suites, so the host answers it once for all of them. systemctl reads all properties of what
# it shows, however few are asked for. An older one does not know --timestamp, and then prints a date for people.
BOOT_TIMES = (
    f"systemctl show --property=UserspaceTimestamp,{_MANAGER} --timestamp=unix 2>/dev/null || "
    f"systemctl show --property=UserspaceTimestamp,{_MANAGER}"
)
CONTAINER = "systemd-detect-virt --container"  # prints the kind, or "none" and ends with 1

BOOT_SECONDS = 90  # limit for the end of the boot
# One text for all suites: their tests get one answer, and nothing else of theirs waits for it.
WAIT_FOR_BOOT = f"timeout {BOOT_SECONDS} systemctl is-system-running --wait"

# Where systemctl keeps what is enabled, as links. ``systemctl list-unit-files`` reads every unit: 0.7 s of CPU.
ENABLED = "find /etc/systemd/system -maxdepth 2 -type l -name '*.service' -printf '%P %l\\n'"


def enabled_services(lines: Sequence[str]) -> list[str]:
    """Return the services that are enabled, from the output of ENABLED. Instances of templates are left out."""
    found: dict[str, None] = {}
    for line in lines:
        link, _, target = line.partition(" ")
        folder, _, name = link.rpartition("/")
        if folder:
            is_enabled = folder.endswith((".wants", ".requires"))
        else:  # an alias; a link to a file of the same name only adds the unit, and one to nothing takes it away
            is_enabled = target.rpartition("/")[2] not in (name, "null")
        if is_enabled and "@" not in name:
            found[name] = None
    return list(found)


def listeners(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the port (80/tcp) and the program of each socket that other machines reach."""
    for line in lines:
        protocol, _, _, _, local = line.split()[:5]
        address, _, number = local.rpartition(":")
        address = address.strip("[]").partition("%")[0].strip("[]")
        if address != "*" and ipaddress.ip_address(address).is_loopback:
            continue
        if not number.isdigit() or (protocol == "udp" and int(number) >= _EPHEMERAL):
            continue
        yield f"{number}/{protocol}", line.partition('users:(("')[2].partition('"')[0]


def in_range(port: str, expected: str) -> bool:
    number, protocol = port.split("/")
    span, wanted = expected.split("/")
    first, _, last = span.partition("-")
    return protocol == wanted and int(first) <= int(number) <= int(last or first)


@dataclass(frozen=True)
class Measured:
    """What one boot needed. ``units``: unit -> seconds from its start to its result, of the units of the boot."""

    container: bool
    values: Mapping[str, float]
    units: Mapping[str, float]


def read_units(blocks: Sequence[str]) -> dict[str, float]:
    """Return how long each unit took to start, in seconds, as ``systemd-analyze blame`` counts. Units that a timer or a
    socket starts are left out: nothing waits for them."""
    found = {}
    for block in blocks:
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        begin, active, leaving, inactive = (int(unit.get(name) or 0) for name in UNIT.split(",")[2:])
        if not begin or unit.get("TriggeredBy"):
            continue
        end = active if active >= begin else inactive if inactive >= begin else leaving
        if end >= begin:
            found[unit["Id"]] = round((end - begin) / 1e6, 1)
    return found


def start_of_boot(times: str) -> int | None:
    """Return when the system started (seconds since 1970), from the output of BOOT_TIMES. None if that is not told."""
    return next((int(time[1:]) for time in _values(times, "UserspaceTimestamp") if re.fullmatch(r"@\d+", time)), None)


def _values(output: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in output.splitlines() if line.partition("=")[0] == name]


def read(output: str, boot: str, *, container: bool) -> Measured:
    """Read the output of the command that gathers. ``boot``: the output of BOOT_TIMES."""
    _, units, memory, disk = output.split("===\n")
    times = {name: int((_values(boot, name) or ["0"])[0] or 0) for name in _MANAGER.split(",")}
    finish, begin = times["FinishTimestampMonotonic"], times["UserspaceTimestampMonotonic"]
    # The monotonic clock of a machine begins with its kernel, that of a container with its host.
    seconds = (finish - begin if container else finish + times["FirmwareTimestampMonotonic"]) / 1e6
    values = {"boot_seconds": round(seconds, 1), "memory_mib": float(memory)}
    if not container:  # a container shows the disk of its host
        values["disk_mib"] = round(int(disk.splitlines()[-1].split()[2]) / 1024)
    return Measured(container, values if finish else {}, read_units(units.split("\n\n")))


def grown(now: Mapping[str, float], before: Mapping[str, float], tolerance: int, *, times: bool = True) -> list[str]:
    """Return what needs more than the tolerance (percent) allows, as sentences. ``times``: whether the times count."""
    found = []
    for name, floor in _FLOOR.items():
        if name not in now or name not in before or (name == "boot_seconds" and not times):
            continue
        most = max(before[name] * (1 + tolerance / 100), before[name] + floor)
        if now[name] > most:
            text = _WHAT[name].format(f"{now[name]:g}")
            found.append(f"{text}, in the last release {before[name]:g} (tolerance {tolerance} %)")
    return found
