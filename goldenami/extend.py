"""The API for extensions: base classes and helpers for operations and transports. docs/extending.md has examples.

    from goldenami.extend import Compilation, Field, Operation, Steps, lines, sh

An operation is a subclass of ``Operation``. A recipe sets its fields. Its docstring and the descriptions of its fields
are its documentation. ``compile`` returns its shell code; ``Steps`` explains what this code must do.
"""

from pydantic import Field, field_validator, model_validator

from goldenami.model import SshEndpoint, Transport
from goldenami.provision.fields import (
    AbsolutePath,
    Account,
    Mode,
    OneLine,
    PackageName,
    Sha256,
    UnitName,
    Url,
    VersionConstraint,
)
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, quote, sh
from goldenami.recipe.transports import TransportOptions

__all__ = [
    "AbsolutePath",
    "Account",
    "Compilation",
    "Field",
    "Mode",
    "OneLine",
    "Operation",
    "PackageName",
    "Payload",
    "Script",
    "Sha256",
    "SshEndpoint",
    "Steps",
    "Transport",
    "TransportOptions",
    "UnitName",
    "Url",
    "VersionConstraint",
    "field_validator",
    "lines",
    "model_validator",
    "quote",
    "sh",
]
