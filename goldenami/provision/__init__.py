"""Operations on a host: compiled into one shell program a stage, run in one round trip."""

from goldenami.provision.operation import OPERATIONS, BoundOperation, Handler, Operation, Payload, Stage
from goldenami.provision.patches import PatchSpec

__all__ = ["OPERATIONS", "BoundOperation", "Handler", "Operation", "PatchSpec", "Payload", "Stage"]
