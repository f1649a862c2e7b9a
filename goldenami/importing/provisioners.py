"""The provisioners of a Packer template as operations of a recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from goldenami.importing.draft import Content, Draft, Kind
from goldenami.importing.settings import Settings
from goldenami.importing.values import Block, Text, UnknownValue, Value, Variable, as_text, expression, identifier
from goldenami.reading import Files, describe

_MOST_FILES: Final = 500  # of one directory that is uploaded
_LARGEST: Final = 64 << 20  # bytes of a file that is copied beside the recipe
_AFTER: Final[Mapping[str, str]] = {
    "manifest": "the catalog keeps a manifest of every release",
    "checksum": "the manifest of a release has the ids and digests",
    "amazon-ami-management": "retention: in the recipe says how many releases are kept",
}

# What a playbook of Ansible finds beside itself.
_FOLDERS: Final = ("collections", "files", "filter_plugins", "group_vars", "handlers", "host_vars", "library", "roles")
_PROJECT: Final = frozenset({*_FOLDERS, "ansible.cfg", "tasks", "templates", "vars"})
_PROVISIONERS: Final[Mapping[str, str]] = {
    "breakpoint": "build --on-failure ask stops at a failure",
    "hcp-sbom": "goldenami keeps the packages of every release",
    "powershell": "recipes are for Linux",
    "shell-local": "commands on this machine are not part of a recipe",
    "windows-restart": "recipes are for Linux",
    "windows-shell": "recipes are for Linux",
    "windows-update": "recipes are for Linux",
}


@dataclass(slots=True)
class Provisioners:
    """The operations that the provisioners of one source become. ``user``: the login user, who runs scripts in Packer.
    ``used``: the variables that they refer to."""

    draft: Draft
    variables: Mapping[str, Variable]
    folder: Path
    user: str | None
    software: list[dict[str, Any]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def add(self, block: Block) -> None:
        """Add what a provisioner does to ``software``."""
        given = Settings(block, self.draft, self.variables)
        given.ignore("only", "except", "override")
        if given.has("override"):
            given.lose("override", "settings for one source alone")
        handlers: Mapping[str, Callable[[Settings], None]] = {
            "shell": self._shell,
            "file": self._file,
            "ansible": self._ansible,
            "ansible-local": self._ansible,
        }
        handler = handlers.get(block.name)
        if handler is None:
            text = f"the provisioner {block.name}: {_PROVISIONERS.get(block.name, 'recipes have no such operation')}"
            self.draft.note("lost", block.file, block.line, text)
            return
        handler(given)
        given.finish(f"the provisioner {block.name}")

    def add_after(self, block: Block) -> None:
        """Make a note about a post-processor."""
        kind: Kind = "replaced" if block.name in _AFTER else "lost"
        default = "nothing runs after a build; notify: of the environment can start a command"
        self.draft.note(kind, block.file, block.line, f"post-processor {block.name}: {_AFTER.get(block.name, default)}")

    def _shell(self, given: Settings) -> None:
        common: dict[str, Any] = {}
        execute = given.raw("execute_command")
        as_root = execute is not None and "sudo" in _literal(execute.given)
        if not as_root and self.user not in (None, "root"):
            # Packer runs scripts as the login user, in its home directory.
            common["user"] = self.user
            common["cwd"] = f"/home/{self.user}"
        environment = self._variables(given)
        if environment:
            common["environment"] = environment
        statuses = given.take("valid_exit_codes", list)
        if statuses:
            common["statuses"] = [int(one) for one in statuses]
        if given.take("expect_disconnect", bool):
            common["reboots"] = True
        retries = given.take("max_retries", int)
        for key in ("pause_before", "pause_after", "start_retry_timeout"):
            if given.raw(key) is not None:
                given.replaced(key, "goldenami waits for reboots and connections itself")
        if given.raw("timeout") is not None:
            given.replaced("timeout", "builder: {timeout: 2h} limits a whole stage")
        given.ignore("binary", "remote_folder", "remote_file", "remote_path", "skip_clean", "use_env_var_file")
        given.ignore("env_var_format")
        shebang = given.take("inline_shebang", str)
        inline = given.raw("inline")
        if inline is not None:
            self._inline(given, inline, shebang, common, retries)
        scripts = [*given.texts("scripts"), *given.texts("script")]
        for script in scripts:
            contents = self._read(given, "scripts" if given.has("scripts") else "script", script)
            if contents is None:
                continue
            if b"PACKER_" in contents:
                key = "scripts" if given.has("scripts") else "script"
                given.lose(key, f"{script} reads variables PACKER_…, which do not exist: give them in environment")
            src = self.draft.add_file(PurePosixPath(script).name, contents, executable=True)
            self._append({"script": {"src": src, **common}}, retries)

    def _inline(
        self, given: Settings, inline: Value, shebang: str | None, common: Mapping[str, Any], retries: int | None
    ) -> None:
        lines = inline.given if isinstance(inline.given, list) else [inline.given]
        try:
            texts = [str(expression(one, self.used)) for one in lines]
        except UnknownValue as error:
            given.lose("inline", f"{error}: the script is not carried over")
            return
        if [one.split() for one in texts] in ([["sudo", "reboot"]], [["reboot"]]):
            self.software.append({"reboot": "always"})
            return
        text = "\n".join(texts).rstrip("\n") + "\n"
        if shebang not in (None, "/bin/sh -e"):
            text = f"#!{shebang}\n{text}"
        self._append({"script": {"content": text, **common}}, retries)

    def _variables(self, given: Settings) -> dict[str, Any]:
        found: dict[str, Any] = {}
        listed = given.raw("environment_vars")
        try:
            for one in listed.given if listed is not None and isinstance(listed.given, list) else ():
                name, _, value = str(expression(one, self.used)).partition("=")
                found[name] = value
        except UnknownValue as error:
            given.lose("environment_vars", str(error))
        named = given.raw("env")
        try:
            if named is not None and isinstance(named.given, dict):
                found.update(expression(named.given, self.used))
        except UnknownValue as error:
            given.lose("env", str(error))
        return {name: self._as_string(as_text(value)) for name, value in found.items()}

    def _as_string(self, value: str) -> str:
        """Return the value of an environment variable: one expression alone would keep the type of its variable."""
        found = re.fullmatch(r"\{\{ vars\.(\w+) \}\}", value)
        names = {identifier(name): variable for name, variable in self.variables.items()}
        if found is None or found[1] not in names or isinstance(names[found[1]].default, str | None):
            return value
        return "{{ vars." + found[1] + " | string }}"

    def _file(self, given: Settings) -> None:
        if given.take("direction", str) == "download":
            given.lose("direction", "downloads from the host are not carried over; script has outputs for values")
            given.ignore("source", "sources", "destination")
            return
        given.ignore("generated")
        dest = given.take("destination", str)
        content = given.raw("content")
        owner = {} if self.user in (None, "root") else {"owner": self.user, "group": self.user}
        if dest is None:
            given.lose("destination", "the file is not carried over")
            given.ignore("source", "sources", "content")
            return
        if content is not None:
            try:
                text = expression(content.given, self.used)
            except UnknownValue as error:
                given.lose("content", str(error))
                return
            self.software.append({"file": {"dest": dest, "content": text, **owner}})
        for source in [*given.texts("sources"), *given.texts("source")]:
            self._upload(given, source, dest, owner)

    def _upload(self, given: Settings, source: str, dest: str, owner: Mapping[str, Any]) -> None:
        path = self._located(source)
        key = "sources" if given.has("sources") else "source"
        if path is None or not path.is_dir():
            contents = self._read(given, key, source)
            if contents is not None:
                target = dest + PurePosixPath(source).name if dest.endswith("/") else dest
                src = self.draft.add_file(PurePosixPath(source).name, contents, path is not None and _executable(path))
                self.software.append({"file": {"dest": target, "src": src, **owner}})
            return
        # Without a slash at its end, the directory itself is made below the destination.
        target = dest.rstrip("/") if source.endswith("/") else f"{dest.rstrip('/')}/{path.name}"
        found = sorted(one for one in path.rglob("*") if one.is_file())
        folder = self._copied(given, key, source, path, found)
        if folder is not None:
            self.software.append({"tree": {"src": folder, "dest": target, **owner}})

    def _copied(self, given: Settings, key: str, source: str, path: Path, files: list[Path]) -> str | None:
        """Copy files of the directory ``path`` beside the recipe. Returns the new directory; None if they are too
        many."""
        if len(files) > _MOST_FILES:
            given.lose(key, f"{source} has {len(files)} files, more than {_MOST_FILES}: use an archive")
            return None
        folder = self.draft.free_folder(path.name)
        for one in files:
            contents = self._read(given, key, str(one))
            if contents is not None:
                self.draft.files[f"{folder}/{one.relative_to(path)}"] = Content(contents, _executable(one))
        return folder

    def _ansible(self, given: Settings) -> None:
        key = "playbook_file" if given.has("playbook_file") else "playbook_files"
        playbooks = [*given.texts("playbook_files"), *given.texts("playbook_file")]
        groups = given.texts("groups")
        arguments = given.texts("extra_arguments")
        given.ignore("user", "use_proxy", "host_alias", "local_port", "command", "skip_version_check", "sftp_command")
        given.ignore("playbook_dir", "staging_directory", "clean_staging_directory", "inventory_directory")
        if given.raw("galaxy_file") is not None:
            given.lose("galaxy_file", "install roles and collections into the directory of the playbook")
        options = self._options(given, arguments)
        for playbook in playbooks:
            path = self._located(playbook)
            if path is None or not path.is_file():
                given.lose(key, f"there is no file {playbook}")
                continue
            top = path.parent
            project = [one for one in sorted(top.iterdir()) if one.name in _PROJECT or one == path]
            files = [one for found in project for one in ([found] if found.is_file() else sorted(found.rglob("*")))]
            folder = self._copied(given, key, playbook, top, [one for one in files if one.is_file()])
            if folder is not None:
                named = {"playbook": path.name} if path.name != "site.yml" else {}
                grouped = {"groups": groups} if groups else {}
                self.software.append({"ansible": {"src": folder, **named, **grouped, **options}})

    def _options(self, given: Settings, arguments: list[str]) -> dict[str, Any]:
        """Return the fields of the operation for arguments of ansible-playbook; the others are lost."""
        found: dict[str, Any] = {}
        words = [part for one in arguments for part in (one.split("=", 1) if one.startswith("--") else [one])]
        while words:
            word = words.pop(0)
            if word in ("-e", "--extra-vars") and words:
                pairs = [pair.partition("=") for pair in words.pop(0).split()]
                if all(equals for _, equals, _ in pairs):
                    found.setdefault("extra_vars", {}).update({name: value for name, _, value in pairs})
                else:
                    given.lose("extra_arguments", f"{word}: give the variables in extra_vars")
            elif word in ("-t", "--tags", "--skip-tags") and words:
                found["skip_tags" if word == "--skip-tags" else "tags"] = words.pop(0).split(",")
            elif word not in ("-v", "-vv", "-vvv", "--become", "-b"):
                given.lose("extra_arguments", f"{word}: the operation has no such field")
        return found

    def _located(self, source: str) -> Path | None:
        """Return the path of a file of the template: relative to the working directory, as Packer does, or to the
        template's folder. None if there is none."""
        text = source.replace("${path.root}", str(self.folder)).replace("{{template_dir}}", str(self.folder))
        for folder in (Path.cwd(), self.folder):
            if (folder / text).exists():
                return folder / text
        return None

    def _read(self, given: Settings, key: str, source: str) -> bytes | None:
        path = self._located(source)
        if path is None:
            given.lose(key, f"there is no file {source}")
            return None
        try:
            return Files([Path.cwd(), self.folder]).read_bytes(path, _LARGEST)
        except OSError as error:
            given.lose(key, describe(error, source))
            return None

    def _append(self, operation: dict[str, Any], retries: int | None) -> None:
        if retries:
            operation["retries"] = min(retries, 10)
        self.software.append(operation)


def _literal(value: Any) -> str:
    """Return the text of a value, with its expressions as they are written."""
    if isinstance(value, Text):
        return "".join(part if isinstance(part, str) else getattr(part, "source", "") for part in value.parts)
    return as_text(value)


def _executable(path: Path) -> bool:
    return os.access(path, os.X_OK)
