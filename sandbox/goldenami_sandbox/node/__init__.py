"""The node: real instances, volumes and snapshots on this machine. It has no notion of AWS APIs and accounts.

``api`` is the protocol. ``runtime.RealNode`` implements it with systemd-nspawn, an XFS pool and network namespaces. The
other modules, from the bottom up: ``namespaces`` (the enclosure, whose end ends all processes), ``pool``, ``blocks``,
``crypto``, ``volumes``, ``snapshots``, ``baseimage``, ``network``, ``imds``, ``seed``, ``instances``, ``leftovers``,
``preflight``.
"""
