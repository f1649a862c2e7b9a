"""Operations on a host: compiled into one shell program a stage, and run there in one go.

    run_stage(connection, patch_stage(spec), emit)      a stage; raises OperationFailed
    packages(connection), package_changes(a, b)         what is installed, and what has changed
    seal(connection, login_key=…)                       makes a builder into an image; the last thing over a connection

One family of operations a module; importing this package registers them all in ``OPERATIONS``.
"""

from goldenami.provision import (
    accounts,
    command,
    downloads,
    files,
    git,
    kernel,
    languages,
    limits,
    mounts,
    package,
    permissions,
    repositories,
    services,
    settings,
    text,
    users,
)
from goldenami.provision.facts import package_changes, packages
from goldenami.provision.handlers import implied_handler
from goldenami.provision.operation import OPERATIONS, BoundOperation, Handler, Operation, Payload, Stage
from goldenami.provision.patches import PatchSpec, patch_stage
from goldenami.provision.runner import OperationResult, StageResult, run_stage
from goldenami.provision.seal import TRACES, SealReport, Trace, seal, traces_of

FAMILIES = (
    accounts,
    command,
    downloads,
    files,
    git,
    kernel,
    languages,
    limits,
    mounts,
    package,
    permissions,
    repositories,
    services,
    settings,
    text,
    users,
)

__all__ = [
    "FAMILIES",
    "OPERATIONS",
    "TRACES",
    "BoundOperation",
    "Handler",
    "Operation",
    "OperationResult",
    "PatchSpec",
    "Payload",
    "SealReport",
    "Stage",
    "StageResult",
    "Trace",
    "implied_handler",
    "package_changes",
    "packages",
    "patch_stage",
    "run_stage",
    "seal",
    "traces_of",
]
