"""Which module has which operations. A recipe uses few of them, so a module is loaded when one of its operations is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from goldenami.provision.operation import REGISTERED, Operation

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("password_ageing", "system_accounts"),
    "ansible": ("ansible",),
    "boot": ("reboot",),
    "command": ("command", "script"),
    "downloads": ("archive", "download", "deb"),
    "files": ("file", "template", "directory", "link", "absent"),
    "git": ("git",),
    "identity": ("locale", "timezone", "hostname", "environment_variable"),
    "kernel": ("sysctl", "kernel_module", "kernel_argument"),
    "languages": ("pip", "npm"),
    "limits": ("limit", "pam_profile", "authselect"),
    "mounts": ("mount", "swap"),
    "package": ("package",),
    "permissions": ("permissions",),
    "repositories": ("repository",),
    "schedules": ("cron", "alternative"),
    "services": ("service",),
    "settings": ("setting",),
    "text": ("line", "block"),
    "trees": ("tree",),
    "trust": ("ca_certificate",),
    "units": ("unit", "dropin", "timer", "systemd_config", "tmpfiles", "default_target"),
    "users": ("group", "user", "authorized_key", "sudoers"),
}
"""Every family: the name of its module, and the kinds of its operations."""


class _OnDemand(Mapping[str, type[Operation]]):
    def __init__(self) -> None:
        self._modules = {kind: module for module, kinds in FAMILIES.items() for kind in kinds}

    def __getitem__(self, kind: str) -> type[Operation]:
        module = self._modules[kind]
        if kind not in REGISTERED:
            import_module(f"goldenami.provision.{module}")
        return REGISTERED[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


OPERATIONS: Final[Mapping[str, type[Operation]]] = _OnDemand()
"""Every built-in kind of operation. The names load nothing. The operations of projects and installed packages are in
``recipe.extensions``, since two projects may have different ones."""
