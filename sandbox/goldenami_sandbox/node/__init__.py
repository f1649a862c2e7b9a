"""The node: what an instance, a volume and a snapshot really are on this machine. It knows no API and no account.

``api`` is the promise; ``runtime.RealNode`` keeps it with systemd-nspawn, an XFS pool and network namespaces. The other
modules are one thing each, from the ground up: ``namespaces`` (the enclosure whose end ends everything), ``pool``,
``blocks``, ``crypto``, ``volumes``, ``snapshots``, ``baseimage``, ``network``, ``imds``, ``seed``, ``instances``,
``leftovers``, ``preflight``.
"""
