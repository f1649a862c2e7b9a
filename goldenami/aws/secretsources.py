"""Reads the values that goldenami.yaml names and does not contain: from variables, files and SSM parameters."""

from __future__ import annotations

import os
from pathlib import Path

from goldenami.aws import parameters
from goldenami.aws.session import Cloud
from goldenami.errors import NotFound
from goldenami.model import SecretSource


def read(cloud: Cloud, source: SecretSource) -> str:
    """Return a value, with its white space. Raises NotFound if it is missing or empty."""
    match source.source:
        case "env":
            value, what = os.environ.get(source.key, ""), f"the environment variable {source.key}"
        case "ssm":
            found = parameters.find_many(cloud, cloud.home, [source.key], decrypt=True)
            value, what = found.get(source.key, ""), f"the parameter {source.key} in {cloud.home}"
        case "file":
            what = f"the file {source.key}"
            try:
                value = source.files.read_bytes(Path(source.key)).decode()
            except (OSError, UnicodeDecodeError):
                value = ""
    if not value.strip():
        raise NotFound(f"{what} is missing or empty")
    return value
