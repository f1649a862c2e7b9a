"""Parses user data in the forms of cloud-init that builders use. It does no I/O.

Forms: ``#cloud-config`` (YAML), ``#!`` scripts, ``#cloud-boothook``, MIME multipart of these; each may be gzipped or in
base64. Of cloud-config it supports the keys of ``_READERS`` and warns about all others, because a missing setting must
not go unnoticed. (Forms and keys: cloud-init's documentation, "User data formats" and "Module reference".)
"""

from __future__ import annotations

import base64
import binascii
import email
import gzip
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_IGNORED_IN_SILENCE = {
    "merge_how",
    "preserve_hostname",
    "manage_etc_hosts",
    "disable_root",
    "ssh_pwauth",
}  # as they are by default
_MULTIPART = (b"content-type: multipart", b"mime-version:")


@dataclass(frozen=True, slots=True)
class User:
    name: str
    keys: tuple[str, ...] = ()
    sudo: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    shell: str = "/bin/bash"
    home: str | None = None
    system: bool = False


@dataclass(frozen=True, slots=True)
class WriteFile:
    path: str
    content: bytes
    owner: str = "root:root"
    mode: int = 0o644
    append: bool = False


@dataclass(slots=True)
class UserData:
    """All parts together, in order. ``users`` does not contain the default user.

    ``host_keys``: by file name ("ssh_host_ed25519_key").
    """

    hostname: str | None = None
    default_user: bool = True
    delete_host_keys: bool = True
    host_keys: dict[str, str] = field(default_factory=dict)
    authorized_keys: list[str] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    files: list[WriteFile] = field(default_factory=list)
    boot_commands: list[str] = field(default_factory=list)  # shell; early, at every boot
    package_update: bool = False
    package_upgrade: bool = False
    packages: list[str] = field(default_factory=list)
    run_commands: list[str] = field(default_factory=list)  # shell; once
    scripts: list[bytes] = field(default_factory=list)  # once, after the commands
    warnings: list[str] = field(default_factory=list)
    config: dict[Any, Any] = field(default_factory=dict)  # of all parts with cloud-config


def parse(raw: bytes) -> UserData:
    """Parse user data. Never raises: unreadable parts become warnings and the instance boots, as with cloud-init."""
    result = UserData()
    _part(raw, result, None)
    _read_config(result)
    return result


def _part(raw: bytes, result: UserData, kind: str | None) -> None:
    data = _decoded(raw)
    if not data.strip():
        return
    start = data.lstrip()[:64].lower()
    if start.startswith(_MULTIPART):
        for part in email.message_from_bytes(data.lstrip()).walk():
            if not part.is_multipart():
                payload = part.get_payload(decode=True)
                _part(payload if isinstance(payload, bytes) else b"", result, part.get_content_type())
    elif data.startswith(b"#!"):
        result.scripts.append(data)
    elif data.startswith(b"#cloud-config") or kind == "text/cloud-config":
        _cloud_config(data, result)
    elif data.startswith(b"#cloud-boothook"):
        result.boot_commands.append(data.partition(b"\n")[2].decode(errors="replace"))
    elif kind == "text/x-shellscript":
        result.scripts.append(b"#!/bin/sh\n" + data)
    else:
        result.warnings.append(f"user data of an unknown form is ignored: it begins with {data[:24]!r}")


def _decoded(raw: bytes) -> bytes:
    data = raw
    for _ in range(3):  # base64 of gzip of …
        if data.startswith(b"\x1f\x8b"):
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error):
                return data
        elif data[:1] in (b"#", b"") or b":" in data[:80]:
            return data
        else:
            try:
                data = base64.b64decode(b"".join(data.split()), validate=True)
            except binascii.Error:
                return data
    return data


def _cloud_config(data: bytes, result: UserData) -> None:
    try:
        config = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        result.warnings.append(f"cloud-config is not valid YAML and is ignored: {' '.join(str(e).split())}")
        return
    if config is None:
        return
    if not isinstance(config, dict):
        result.warnings.append("cloud-config is not a mapping and is ignored")
        return
    # As cloud-init merges by default, dict(replace)+list()+str(): a key of a later part replaces the earlier one.
    result.config.update(config)


def _read_config(result: UserData) -> None:
    config = result.config
    for key in config:
        if key not in _READERS and key not in _IGNORED_IN_SILENCE:
            result.warnings.append(f"cloud-config key {key!r} is not supported here and is ignored")
    for key, read in _READERS.items():
        if key in config:
            try:
                read(config[key], result)
            except (ValueError, TypeError, KeyError, AttributeError) as e:
                result.warnings.append(f"cloud-config key {key!r} has a value that cannot be read and is ignored: {e}")


def _host_keys(value: Mapping[str, str], result: UserData) -> None:
    for name, text in value.items():
        kind, _, half = str(name).rpartition("_")
        if half not in ("private", "public", "certificate") or not kind:
            raise ValueError(f"unknown kind of key {name!r}")
        suffix = {"private": "", "public": ".pub", "certificate": "-cert.pub"}[half]
        result.host_keys[f"ssh_host_{kind}_key{suffix}"] = str(text).rstrip("\n") + "\n"


def _users(value: object, result: UserData) -> None:
    entries: list[Any] = value if isinstance(value, list) else [value]
    result.default_user = any(entry == "default" for entry in entries)
    for entry in entries:
        if entry == "default":
            continue
        if isinstance(entry, str):
            result.users.append(User(entry))
            continue
        sudo = entry.get("sudo") or ()
        result.users.append(
            User(
                name=str(entry["name"]),
                keys=tuple(_strings(entry.get("ssh_authorized_keys") or entry.get("ssh-authorized-keys"))),
                sudo=tuple(_strings(sudo)),
                groups=tuple(g.strip() for text in _strings(entry.get("groups")) for g in text.split(",") if g.strip()),
                shell=str(entry.get("shell") or "/bin/bash"),
                home=entry.get("homedir"),
                system=bool(entry.get("system")),
            )
        )


def _files(value: list[Mapping[str, Any]], result: UserData) -> None:
    for entry in value:
        content = entry.get("content", b"")
        content = content if isinstance(content, bytes) else str(content).encode()
        encoding = str(entry.get("encoding") or "").lower()
        if encoding in ("b64", "base64", "gz+b64", "gz+base64", "gzip+base64", "gzip+b64"):
            content = base64.b64decode(content)
        if encoding.startswith("gz"):
            content = gzip.decompress(content)
        mode = entry.get("permissions", 0o644)
        result.files.append(
            WriteFile(
                path=str(entry["path"]),
                content=content,
                owner=str(entry.get("owner") or "root:root"),
                mode=int(mode, 8) if isinstance(mode, str) else int(mode),
                append=bool(entry.get("append")),
            )
        )


def _commands(value: list[Any]) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("a list is needed")
    return [shlex.join(str(word) for word in c) if isinstance(c, list) else str(c) for c in value if c is not None]


def _packages(value: list[Any], result: UserData) -> None:
    for entry in value:
        # [name, version] pins a version
        result.packages.append("=".join(map(str, entry)) if isinstance(entry, list) else str(entry))


def _strings(value: object) -> list[str]:
    if value is None or value is False:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _set(name: str) -> Any:
    def read(value: object, result: UserData) -> None:
        setattr(result, name, value)

    return read


_READERS: Mapping[str, Any] = {
    "fqdn": _set("hostname"),
    "hostname": _set("hostname"),
    "ssh_deletekeys": _set("delete_host_keys"),
    "ssh_keys": _host_keys,
    "ssh_authorized_keys": lambda value, result: result.authorized_keys.extend(_strings(value)),
    "users": _users,
    "write_files": _files,
    "bootcmd": lambda value, result: result.boot_commands.extend(_commands(value)),
    "package_update": _set("package_update"),
    "package_upgrade": _set("package_upgrade"),
    "packages": _packages,
    "runcmd": lambda value, result: result.run_commands.extend(_commands(value)),
}
