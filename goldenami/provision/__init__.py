"""Operations on a host, compiled into one shell program that runs there.

::

    run_program(connection, [PACKAGES, *stages], emit)  run stages and read facts; raises OperationFailed
    packages(connection), package_changes(a, b)         the installed packages, and their changes
    seal(connection, login_key=…)                       prepare a builder for capture; the last work over a connection

Each family of operations is a module, see ``families``. What only reads recipes needs no work on hosts, so the names of
that work load their modules when they are first used.
"""

from typing import TYPE_CHECKING

from goldenami.ondemand import load_names
from goldenami.provision.families import OPERATIONS
from goldenami.provision.operation import (
    BoundOperation,
    Handler,
    Operation,
    Payload,
    Stage,
    all_operations,
)

if TYPE_CHECKING:
    from goldenami.provision.contents import CONTENTS, contents_below
    from goldenami.provision.datavolumes import DATA_VOLUMES, DataVolume, data_volume_stage
    from goldenami.provision.facts import PACKAGES, SET_ID, SOURCES, package_changes, packages, parse_packages
    from goldenami.provision.handlers import implied_handler
    from goldenami.provision.inventory import INVENTORY, PACKAGES_AHEAD, inventory_below
    from goldenami.provision.network import BuildNetwork
    from goldenami.provision.patches import SETUP, PatchSpec, after_boot, boot_command, closing_stage, patch_stage
    from goldenami.provision.program import Fact, Item, Recheck
    from goldenami.provision.results import Drift, OperationResult, RunResult, StageResult
    from goldenami.provision.runner import is_going_down, preload, run_program, run_stage, settle
    from goldenami.provision.sealing import SHORTEST, TRACES, SealReport, Trace, seal, traces_of, unsearched
    from goldenami.provision.state import READ_AHEAD, STATE, UNITS_AHEAD, read_ahead_below, state_below

__all__ = [
    "CONTENTS",
    "DATA_VOLUMES",
    "INVENTORY",
    "OPERATIONS",
    "PACKAGES",
    "PACKAGES_AHEAD",
    "READ_AHEAD",
    "SETUP",
    "SET_ID",
    "SHORTEST",
    "SOURCES",
    "STATE",
    "TRACES",
    "UNITS_AHEAD",
    "BoundOperation",
    "BuildNetwork",
    "DataVolume",
    "Drift",
    "Fact",
    "Handler",
    "Item",
    "Operation",
    "OperationResult",
    "PatchSpec",
    "Payload",
    "Recheck",
    "RunResult",
    "SealReport",
    "Stage",
    "StageResult",
    "Trace",
    "after_boot",
    "all_operations",
    "boot_command",
    "closing_stage",
    "contents_below",
    "data_volume_stage",
    "implied_handler",
    "inventory_below",
    "is_going_down",
    "package_changes",
    "packages",
    "parse_packages",
    "patch_stage",
    "preload",
    "read_ahead_below",
    "run_program",
    "run_stage",
    "seal",
    "settle",
    "state_below",
    "traces_of",
    "unsearched",
]

if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = load_names(
        __name__,
        {
            "contents": ("CONTENTS", "contents_below"),
            "datavolumes": ("DATA_VOLUMES", "DataVolume", "data_volume_stage"),
            "facts": ("PACKAGES", "SET_ID", "SOURCES", "package_changes", "packages", "parse_packages"),
            "handlers": ("implied_handler",),
            "inventory": ("INVENTORY", "PACKAGES_AHEAD", "inventory_below"),
            "network": ("BuildNetwork",),
            "patches": ("SETUP", "PatchSpec", "after_boot", "boot_command", "closing_stage", "patch_stage"),
            "program": ("Fact", "Item", "Recheck"),
            "results": ("Drift", "OperationResult", "RunResult", "StageResult"),
            "runner": ("is_going_down", "preload", "run_program", "run_stage", "settle"),
            "sealing": ("SHORTEST", "TRACES", "SealReport", "Trace", "seal", "traces_of", "unsearched"),
            "state": ("READ_AHEAD", "STATE", "UNITS_AHEAD", "read_ahead_below", "state_below"),
        },
    )
