"""Values for shells and for programs: variables, and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

from goldenami.release.export.facts import Exported
from goldenami.release.export.infrastructure import comment

SCHEMA: Final = "goldenami.export/1"


def env(of: Exported) -> str:
    """Return assignments for a POSIX shell: the image id of each region, or the names of the parameters."""
    if of.follows is None:
        lines = [
            f"{of.identifier(a).upper()}_{image.region.replace('-', '_').upper()}={image.image_id}"
            for a, images in of.images.items()
            for image in images
        ]
        return comment(of.header()) + "".join(f"{line}\n" for line in lines)
    lines = [f"{of.identifier(a).upper()}_PARAMETER={name}" for a, name in of.parameters.items()]
    how = 'Read it with: aws ssm get-parameter --query Parameter.Value --output text --name "$…_PARAMETER"'
    return comment([*of.header(), how]) + "".join(f"{line}\n" for line in lines)


def as_json(of: Exported) -> str:
    """Return one JSON document with everything that the other formats use."""
    form = {
        "schema": SCHEMA,
        "name": of.name,
        "version": of.version,
        "account": of.account,
        "follows": of.follows,
        "parameters": [{"architecture": a, "name": name} for a, name in of.parameters.items()],
        "images": [{"architecture": a, **asdict(image)} for a, images in of.images.items() for image in images],
    }
    return json.dumps(form, indent=2) + "\n"
