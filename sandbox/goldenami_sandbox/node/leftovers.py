"""Removes what the kernel keeps when a sandbox ends: its nft table, its iptables rules, its empty cgroups."""

from __future__ import annotations

from goldenami_sandbox.node import network
from goldenami_sandbox.node.namespaces import cgroup2_root, cgroup_name, remove_cgroup


def clear(sandbox: str) -> None:
    """Remove them for a sandbox that is not running. Call it outside of an enclosure.

    ``sandbox`` is an id from ``namespaces.sandbox_id``. ``RealNode.start`` removes what is in its way; this function is
    for a sandbox that will not start again.
    """
    network.clear(sandbox)
    root = cgroup2_root()
    if root is not None:
        remove_cgroup(root / cgroup_name(sandbox))
