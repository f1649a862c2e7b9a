"""What the kernel does not take away when a sandbox ends: its nft table, its iptables rules, its empty cgroups."""

from __future__ import annotations

from goldenami_sandbox.node.namespaces import cgroup2_root, cgroup_name, remove_cgroup
from goldenami_sandbox.node.network import remove_rules


def clear(sandbox: str) -> None:
    """Remove them, for a sandbox (an id as ``namespaces.sandbox_id`` gives it) that does not run. From outside of an
    enclosure.

    ``RealNode.start`` clears what would be in its way by itself; this is for a sandbox that will not start again.
    """
    remove_rules(sandbox)
    root = cgroup2_root()
    if root is not None:
        remove_cgroup(root / cgroup_name(sandbox))
