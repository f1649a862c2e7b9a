"""``network.transport`` of an environment: the names and the options of all transports.

A transport is written as a name, or as a name with options::

    transport: ssm
    transport: {bastion: {host: bastion.example.com, user: jump, host_key: ssh-ed25519 AAAA…, agent: true}}

The options of the built-in transports are models here. An installed package adds a transport as a function, which has
no options, or as a subclass of ``TransportOptions`` with a method ``open``.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema

from goldenami import extensions
from goldenami.model import DIRECT
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.secretspec import SecretSource
from goldenami.recipe.similar import nearest, suggestion
from goldenami.recipe.words import ENDPOINT, USER, Spec

PLACEHOLDERS = ("instance_id", "region", "address", "port")  # of the transport ``command``
_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z][a-z0-9_-]*)\}")  # not ${name}, which is for a shell


class TransportOptions(Spec):
    """The options of a transport. Each field is an option, with a description.

    A package's transport is a subclass with the method ``open(endpoint, patience)``, as ``goldenami.extend.Transport``
    describes it. ``shorthand``: the option that ``transport: {NAME: value}`` sets.
    """

    shorthand: ClassVar[str | None] = None


class DirectOptions(TransportOptions):
    """TCP to the address of the builder."""


def _host_key(line: str) -> str:
    words = line.split()
    try:
        well_formed = len(words) >= 2 and words[0].encode() in base64.b64decode(words[1], validate=True)
    except binascii.Error:
        well_formed = False
    if not well_formed:
        raise ValueError(
            f"{line!r} is not a public host key: a type and its base64 text, such as ssh-ed25519 AAAA… "
            "(`cat /etc/ssh/ssh_host_ed25519_key.pub` on the bastion)"
        )
    return " ".join(words[:2])


class BastionOptions(TransportOptions):
    """An SSH server that can reach the builders. One connection to it carries those to all builders."""

    host: str = Field(min_length=1, description="Name or address of the bastion.")
    port: int = Field(22, ge=1, le=65535, description="Port of its SSH server.")
    user: str = Field(description="User to log in as.", pattern=USER)
    host_key: Annotated[str, AfterValidator(_host_key)] = Field(
        description="The bastion's public host key (ssh-ed25519 AAAA…). Another key is refused."
    )
    private_key: SecretSource | None = Field(
        None, description="Where to read the private key for the login. It has no passphrase."
    )
    agent: bool = Field(False, description="Log in with the keys of the SSH agent (SSH_AUTH_SOCK).")

    @model_validator(mode="after")
    def _one_login(self) -> BastionOptions:
        if (self.private_key is not None) == self.agent:
            raise ValueError("expected exactly one of private_key and agent: true")
        return self


class CommandOptions(TransportOptions):
    """A program that connects its standard input and output to the builder's SSH server, as ssh's ProxyCommand."""

    shorthand: ClassVar[str | None] = "run"

    run: str | tuple[str, ...] = Field(
        description="Program and arguments, with {instance_id}, {region}, {address} and {port}. No shell interprets "
        'them: write sh -c "…" for one.'
    )

    @model_validator(mode="after")
    def _well_formed(self) -> CommandOptions:
        try:
            words = self.words
        except ValueError as error:
            raise ValueError(f"run: {self.run!r} cannot be split into arguments: {error}") from None
        if not words or not words[0]:
            raise ValueError("run: it names no program")
        unknown = sorted({name for word in words for name in _PLACEHOLDER.findall(word)} - {*PLACEHOLDERS})
        if unknown:
            near = nearest(unknown[0], list(PLACEHOLDERS))
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(
                f"run: unknown placeholder {{{unknown[0]}}}"
                + (f"; did you mean {{{near}}}?" if near else f"; expected {known}")
            )
        return self

    @property
    def words(self) -> list[str]:
        """The program and its arguments, with placeholders. Raises ValueError for an open quote."""
        return shlex.split(self.run) if isinstance(self.run, str) else list(self.run)

    def command(self, values: Mapping[str, str]) -> list[str]:
        """Return the program and its arguments. ``values``: the value of each placeholder."""
        return [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in self.words]


class SsmOptions(TransportOptions):
    """AWS Systems Manager Session Manager. It needs session-manager-plugin on this machine, and an SSM agent and an
    instance profile on the builder. No inbound rule is needed."""

    document: str = Field(
        "AWS-StartSSHSession",
        description="SSM document of the session, of type Session, with the parameter portNumber.",
        pattern=r"^[a-zA-Z0-9_.:/-]{3,128}$",
    )


class InstanceConnectOptions(TransportOptions):
    """An EC2 Instance Connect Endpoint of the builder's VPC. It needs the AWS CLI on this machine."""

    shorthand: ClassVar[str | None] = "endpoint"

    endpoint: str | None = Field(
        None,
        description="Id of the endpoint. Default: the one in the builder's subnet, else in its VPC.",
        pattern=ENDPOINT,
    )


BUILT_IN: Mapping[str, type[TransportOptions]] = {
    DIRECT: DirectOptions,
    "bastion": BastionOptions,
    "command": CommandOptions,
    "ssm": SsmOptions,
    "instance-connect": InstanceConnectOptions,
}


def names() -> list[str]:
    """Return the names of all transports, the built-in ones first."""
    return [*BUILT_IN, *(name for name in extensions.installed(extensions.TRANSPORTS) if name not in BUILT_IN)]


def options_model(name: str) -> type[TransportOptions]:
    """Return the model of a transport's options. Imports the package that adds the transport. Raises NotFound or
    UsageError."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    added = extensions.load(extensions.TRANSPORTS, name)
    return added if isinstance(added, type) and issubclass(added, TransportOptions) else TransportOptions


class TransportField:
    """The JSON Schema of ``transport``: a name, or a map with one name and its options. ``read`` checks the value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        with_options: dict[str, Any] = {}
        for name in names():
            model = BUILT_IN.get(name)
            if model is None:  # a package is not imported for its schema
                with_options[name] = {"description": "The options of a package's transport."}
                continue
            described = handler(model.__pydantic_core_schema__)
            text = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " ")
            short = [{"type": ["string", "array"]}] if model.shorthand else []
            with_options[name] = {"description": text, "anyOf": [described, *short]}
        return {
            "anyOf": [
                {"enum": names()},
                {
                    "type": "object",
                    "properties": with_options,
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ]
        }


def read(
    value: str | Mapping[str, Any], at: NodePath, document: Document, problems: Problems
) -> tuple[str, dict[str, Any]]:
    """Return the name and the validated options of ``transport``. Every problem is added to ``problems``.

    Paths of files are returned relative to the folder of the document, as absolute paths.
    """
    if isinstance(value, str):
        name, given = value, None
    elif len(value) == 1:
        name, given = next(iter(value.items()))
    else:
        found = ", ".join(map(str, value)) or "none"
        problems.add(document.mark(at), f"transport: expected one transport with its options, found {found}")
        return DIRECT, {}
    here: NodePath = at if isinstance(value, str) else (*at, name)
    installed = extensions.installed(extensions.TRANSPORTS)
    if name in BUILT_IN and name in installed:
        origin = installed[name].origin
        problems.add(
            document.mark(at), f"transport: {name!r} is built in, and {origin} adds it, too", "Uninstall the package."
        )
        return DIRECT, {}
    if name not in names():
        problems.add(
            document.mark(at) if isinstance(value, str) else document.key_mark(here),
            f"transport: {name!r} is not installed: expected {', '.join(names())}, or what a package adds to "
            f"{extensions.TRANSPORTS}",
            suggestion(str(name), names()),
        )
        return DIRECT, {}
    model = options_model(name)
    if model.shorthand is not None and isinstance(given, str | list):
        given = {model.shorthand: given}
    try:
        options = model.model_validate({} if given is None else given)
    except ValidationError as error:
        problems.extend(translate(error, document, here, model, what=f"transport {name}"))
        return DIRECT, {}
    return name, _absolute(options, document.path.parent).model_dump(mode="json")


def _absolute(options: TransportOptions, folder: Path) -> TransportOptions:
    """Return the options with absolute paths of the files that have secrets."""
    changed: dict[str, Any] = {}
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, SecretSource) and value.file is not None:
            changed[name] = value.model_copy(update={"file": str(folder / Path(value.file).expanduser())})
    return options.model_copy(update=changed)
