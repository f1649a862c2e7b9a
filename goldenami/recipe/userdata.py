"""User data of the builder: its schema, and what goldenami must be able to rely on.

The builder's own user data (``stages.userdata``) gives it its host keys and its lifetime. That of a recipe is another
part of the same message, so it must not set what that part sets.
"""

from __future__ import annotations

from typing import Any, Final

import yaml
from pydantic import Field, ValidationError, model_validator

from goldenami.reading import TEXT_BYTES, describe, hint_of
from goldenami.recipe.context import HOST_FACTS, fact_key
from goldenami.recipe.scope import Scope
from goldenami.recipe.secrets import names_in
from goldenami.recipe.words import Spec

LIMIT: Final = 16384  # bytes of all user data of an instance, before base64 (EC2)
OWN: Final = 4096  # of them for goldenami's own part
_KINDS: Final = ("#cloud-config", "#!", "#cloud-boothook", "#include")
_OURS: Final = {
    "bootcmd": "Use runcmd, or user data that begins with #cloud-boothook.",
    "merge_how": "Remove it.",
    "merge_type": "Remove it.",
    "ssh_authorized_keys": "Use the operation authorized_key.",
    "ssh_deletekeys": "Remove it.",
    "ssh_keys": "Remove it: the builder gets host keys that are known before the first connection.",
}


class UserDataSpec(Spec):
    """User data of the builder. A text is short for {content: …}."""

    content: str | None = Field(None, description="The user data. Either this or src.")
    src: str | None = Field(None, description="A template beside the recipe with the user data.")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        return {"content": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> UserDataSpec:
        if (self.content is None) == (self.src is None):
            raise ValueError("expected either content or src")
        return self


def read_user_data(scope: Scope, builder: object) -> str:
    """Return the user data of a rendered section ``builder``; empty if there is none, or after a problem with it."""
    given = builder.get("user_data") if isinstance(builder, dict) else None
    try:
        spec = UserDataSpec.model_validate(given) if given is not None else None
    except ValidationError:  # reported with the schema
        return ""
    if spec is None:
        return ""
    mark = scope.document.mark(("builder", "user_data"))
    text = spec.content if spec.src is None else _template(scope, spec.src)
    if text is None:
        return ""
    for message, hint in _faults(text):
        scope.problems.add_once(mark, f"user_data: {message}", hint)
    return text


def _template(scope: Scope, src: str) -> str | None:
    path, mark = scope.resolve(src), scope.document.mark(("builder", "user_data", "src"))
    scope.renderer.used.add(path)
    try:
        return scope.template(path, scope.project.files.read_bytes(path, TEXT_BYTES).decode())
    except OSError as error:
        hint = f"Paths are relative to {scope.document.file}."
        scope.problems.add_once(mark, f"src: {describe(error, src)}", hint_of(error, hint))
    except UnicodeDecodeError:
        scope.problems.add_once(mark, f"src: {src} is not UTF-8 text")
    return None


def _faults(text: str) -> list[tuple[str, str]]:
    """Return what is wrong with user data, and hints."""
    early = sorted(names_in(text) & {fact_key(name) for name in HOST_FACTS})
    if early:
        return [
            (f"{early[0]} is read from the builder, which gets its user data first", "Use a shell command instead.")
        ]
    size = len(text.encode())
    if size > LIMIT - OWN:
        most = f"expected at most {LIMIT - OWN}"
        why = f"EC2 allows {LIMIT}, and goldenami needs {OWN} of them. Let it download what is large, or use software."
        return [(f"it has {size} bytes, {most}", why)]
    if not text.startswith(_KINDS):
        return [("the form is unknown", f"Expected a text that begins with {', '.join(_KINDS[:-1])} or {_KINDS[-1]}.")]
    return _config_faults(text) if text.startswith(_KINDS[0]) else []


def _config_faults(text: str) -> list[tuple[str, str]]:
    try:
        config: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return [(f"not valid YAML: {' '.join(str(error).split())[:200]}", "cloud-init would ignore it.")]
    if not isinstance(config, dict):
        return [("expected a mapping after #cloud-config", "cloud-init would ignore it.")]
    found = [(f"{key}: goldenami sets it for the builder", hint) for key, hint in _OURS.items() if key in config]
    users = config.get("users")
    if users is not None and "default" not in (users if isinstance(users, list) else [users]):
        found.append(("users: without default, the login user of the builder gets no key", "Add default to the list."))
    return found
