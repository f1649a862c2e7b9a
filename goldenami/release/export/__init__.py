"""Snippets that name a release: for Terraform, CloudFormation, the CDK, Packer, Karpenter, EKS, shells and programs.

A snippet is pinned to the image ids of a version, or it follows a channel by the channel's parameters. It makes no API
call: the catalog knows the ids, and the environment the names of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from goldenami.release.export.facts import Exported, ExportedImage, gather
from goldenami.release.export.infrastructure import cdk, cloudformation, packer, terraform
from goldenami.release.export.kubernetes import eks, karpenter
from goldenami.release.export.values import as_json, env

FORMATS: Final[Mapping[str, Callable[[Exported], str]]] = {
    "terraform": terraform,
    "cloudformation": cloudformation,
    "cdk": cdk,
    "karpenter": karpenter,
    "eks": eks,
    "packer": packer,
    "env": env,
    "json": as_json,
}

__all__ = ["FORMATS", "Exported", "ExportedImage", "gather"]
