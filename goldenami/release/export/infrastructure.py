"""Snippets for Terraform, CloudFormation, the CDK (Python) and Packer."""

from __future__ import annotations

import json
from collections.abc import Iterable

from goldenami.model import Architecture
from goldenami.release.export.facts import ROLLBACK, Exported


def comment(lines: Iterable[str], indent: str = "") -> str:
    return "".join(f"{indent}# {line}\n" for line in lines)


def terraform(of: Exported) -> str:
    """Return HCL: the image ids, and a launch template for each architecture. Needs the provider aws 4.0 or newer."""
    if of.follows is None:
        head = 'data "aws_region" "current" {}\n\n' + _hcl_locals(of)
        caveat: Iterable[str] = ()
    else:
        head = "\n".join(
            f'data "aws_ssm_parameter" "{of.identifier(a)}" {{\n  name = {json.dumps(name)}\n}}\n'
            for a, name in of.parameters.items()
        )
        caveat = (
            "Terraform reads the parameter when it plans. After the channel has moved, the next apply creates a new",
            "version of the launch template with the new id, and a group that names versions can roll back.",
            *ROLLBACK,
        )
    templates = (
        f'resource "aws_launch_template" "{of.identifier(a)}" {{\n'
        f'  name_prefix = "{of.name}-{a.replace("_", "-")}-"\n'
        f"  image_id    = {_terraform_id(of, a)}\n}}\n"
        for a in of.architectures
    )
    return comment([*of.header(), *caveat]) + "\n" + head + "\n" + "\n".join(templates)


def _terraform_id(of: Exported, architecture: Architecture) -> str:
    if of.follows is None:
        # `name` is deprecated in version 6 of the provider, and `region` is unknown to version 5.
        return f"local.{of.identifier(architecture)}[data.aws_region.current.id]"
    return f"data.aws_ssm_parameter.{of.identifier(architecture)}.insecure_value"


def _hcl_locals(of: Exported) -> str:
    maps = "".join(
        f"  {of.identifier(architecture)} = {{\n"
        + "".join(f"    {json.dumps(image.region)} = {json.dumps(image.image_id)}\n" for image in images)
        + "  }\n"
        for architecture, images in of.images.items()
    )
    return f"locals {{\n{maps}}}\n"


def cloudformation(of: Exported) -> str:
    """Return a template in YAML with a launch template for each architecture."""
    caveat: Iterable[str] = ()
    if of.follows is not None:
        caveat = (
            "CloudFormation reads the parameter when the stack is created or updated. After the channel has moved, the",
            "next update creates a new version of the launch template with the new id.",
            *ROLLBACK,
        )
    resources = "".join(
        f"  {of.logical_id('LaunchTemplate', a)}:\n"
        "    Type: AWS::EC2::LaunchTemplate\n"
        "    Properties:\n"
        "      LaunchTemplateData:\n"
        f"        ImageId: {template_id(of, a)}\n"
        for a in of.architectures
    )
    return (
        comment([*of.header(), *caveat])
        + 'AWSTemplateFormatVersion: "2010-09-09"\n'
        + template_images(of)
        + f"Resources:\n{resources}"
    )


def template_images(of: Exported, more: str = "") -> str:
    """Return the sections of a CloudFormation template that know the image ids. ``more``: further parameters."""
    if of.follows is None:
        regions = "".join(
            f"    {region}:\n"
            + "".join(
                f"      {_key(architecture)}: {image.image_id}\n"
                for architecture, images in of.images.items()
                for image in images
                if image.region == region
            )
            for region in of.regions
        )
        return (f"Parameters:\n{more}" if more else "") + f"Mappings:\n  Images:\n{regions}"
    parameters = "".join(
        f"  {of.logical_id('Ami', a)}:\n"
        "    Type: AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>\n"
        f"    Default: {json.dumps(name)}\n"
        for a, name in of.parameters.items()
    )
    return f"Parameters:\n{parameters}{more}"


def template_id(of: Exported, architecture: Architecture) -> str:
    """Return the expression of a CloudFormation template for an image id."""
    if of.follows is None:
        return f"!FindInMap [Images, !Ref AWS::Region, {_key(architecture)}]"
    return f"!Ref {of.logical_id('Ami', architecture)}"


def _key(architecture: Architecture) -> str:
    return architecture.replace("_", "")  # keys of a mapping have letters and digits only


def cdk(of: Exported) -> str:
    """Return a Python module for the CDK (aws-cdk-lib 2) with a function for each architecture."""
    caveat: list[str] = []
    if of.follows is not None:
        caveat = [
            "CloudFormation reads the parameter at each deployment. So the image changes when the stack is deployed",
            "after the channel has moved. cached_in_context=True would keep the id in cdk.context.json instead.",
            *ROLLBACK,
        ]
    functions = []
    for architecture in of.architectures:
        if of.follows is None:
            images = "".join(
                f"            {json.dumps(i.region)}: {json.dumps(i.image_id)},\n" for i in of.images[architecture]
            )
            body = f"ec2.MachineImage.generic_linux(\n        {{\n{images}        }}\n    )"
        else:
            name = json.dumps(of.parameters[architecture])
            body = (
                "ec2.MachineImage.from_ssm_parameter(\n"
                f"        {name},\n        os=ec2.OperatingSystemType.LINUX,\n    )"
            )
        functions.append(f"\n\ndef {of.identifier(architecture)}() -> ec2.IMachineImage:\n    return {body}\n")
    return comment([*of.header(), *caveat]) + "\nfrom aws_cdk import aws_ec2 as ec2\n" + "".join(functions)


def packer(of: Exported) -> str:
    """Return a template in HCL with a source for each architecture. Needs Packer 1.7 and the plugin amazon."""
    region = json.dumps(of.regions[0])
    head = (
        "packer {\n  required_plugins {\n    amazon = {\n"
        '      source  = "github.com/hashicorp/amazon"\n      version = ">= 1.2.0"\n    }\n  }\n}\n\n'
        f'variable "region" {{\n  type    = string\n  default = {region}\n}}\n\n'
        'variable "ssh_username" {\n  type = string\n}\n\n'
    )
    if of.follows is None:
        head += _hcl_locals(of) + "\n"
    else:
        head += "".join(
            f'data "amazon-parameterstore" "{of.identifier(a)}" {{\n'
            f"  name   = {json.dumps(name)}\n  region = var.region\n}}\n\n"
            for a, name in of.parameters.items()
        )
    sources = []
    for a in of.architectures:
        id = of.identifier(a)
        value = f"local.{id}[var.region]" if of.follows is None else f"data.amazon-parameterstore.{id}.value"
        sources.append(
            f'source "amazon-ebs" "{id}" {{\n  region        = var.region\n  source_ami    = {value}\n'
            f'  instance_type = "{"t4g.small" if a == "arm64" else "t3.small"}"\n'
            f'  ssh_username  = var.ssh_username\n  ami_name      = "{of.name}-child-${{local.timestamp}}"\n}}\n'
        )
    names = ", ".join(f'"source.amazon-ebs.{of.identifier(a)}"' for a in of.architectures)
    return (
        comment(of.header())
        + head
        + 'locals {\n  timestamp = formatdate("YYYYMMDDhhmmss", timestamp())\n}\n\n'
        + "\n".join(sources)
        + f"\nbuild {{\n  sources = [{names}]\n}}\n"
    )
