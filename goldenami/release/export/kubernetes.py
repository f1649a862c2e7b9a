"""Snippets for nodes of Kubernetes: Karpenter, and managed node groups of EKS."""

from __future__ import annotations

import json

from goldenami.release.export.facts import Exported
from goldenami.release.export.infrastructure import comment, template_id, template_images

_NODES = (
    "Replace CLUSTER. The image must have what a node needs (kubelet, container runtime).",
    "amiFamily Custom: Karpenter passes userData on unchanged. Set the family of the image if it has one.",
)


def karpenter(of: Exported) -> str:
    """Return an EC2NodeClass (Karpenter 1). One of several regions, because the terms do not name a region."""
    if of.follows is None:
        terms = [
            f"    - name: {json.dumps(name)}\n      owner: {json.dumps(owner)}\n"
            for name, owner in sorted({(i.name, i.owner) for images in of.images.values() for i in images})
        ]
        caveat = ["The name of an image is the same in each region, and another version has another name."]
    else:
        terms = [f"    - ssmParameter: {json.dumps(name)}\n" for name in of.parameters.values()]
        caveat = [
            "When the channel moves, every node with the former image drifts, and Karpenter replaces it. The",
            "disruption budgets of the NodePool limit how many at once. With a pinned export, nodes drift when you",
            "apply a new one. ssmParameter needs Karpenter 1.4 or newer, and its controller needs ssm:GetParameter on",
            "this parameter: its default policy allows only the parameters of AWS.",
        ]
    return (
        comment([*of.header(), *caveat, *_NODES])
        + "apiVersion: karpenter.k8s.aws/v1\n"
        + "kind: EC2NodeClass\n"
        + f"metadata:\n  name: {of.name.replace('_', '-').strip('.-')}\n"
        + "spec:\n"
        + "  amiFamily: Custom\n"
        + f"  amiSelectorTerms:\n{''.join(terms)}"
        + "  role: CLUSTER-node\n"
        + "  subnetSelectorTerms:\n    - tags:\n        karpenter.sh/discovery: CLUSTER\n"
        + "  securityGroupSelectorTerms:\n    - tags:\n        karpenter.sh/discovery: CLUSTER\n"
    )


def eks(of: Exported) -> str:
    """Return a CloudFormation template with a launch template and a managed node group for each architecture."""
    caveat = [
        "A managed node group uses a version of a launch template, and the template must have an image id: EKS refuses",
        "resolve:ssm. The group replaces its nodes when the stack is updated and the id has changed.",
    ]
    if of.follows is not None:
        caveat.append("CloudFormation reads the parameter at each update, so a moved channel waits for the next one.")
    caveat.append("With an image of your own, EKS adds no user data: UserData must make the node join the cluster.")
    parameters = (
        "  ClusterName:\n    Type: String\n"
        "  NodeRole:\n    Type: String\n    Description: ARN of the role of the nodes\n"
        "  Subnets:\n    Type: List<AWS::EC2::Subnet::Id>\n"
        "  UserData:\n    Type: String\n    Description: User data in base64, which makes a node join the cluster\n"
    )
    resources = []
    for a in of.architectures:
        template = of.logical_id("LaunchTemplate", a)
        kind = "t4g.large" if a == "arm64" else "t3.large"
        resources.append(
            f"  {template}:\n    Type: AWS::EC2::LaunchTemplate\n    Properties:\n      LaunchTemplateData:\n"
            f"        ImageId: {template_id(of, a)}\n"
            f"        InstanceType: {kind}\n"
            "        UserData: !Ref UserData\n"
            f"  {of.logical_id('NodeGroup', a)}:\n    Type: AWS::EKS::Nodegroup\n    Properties:\n"
            "      ClusterName: !Ref ClusterName\n"
            "      NodeRole: !Ref NodeRole\n"
            "      Subnets: !Ref Subnets\n"
            "      LaunchTemplate:\n"
            f"        Id: !Ref {template}\n"
            f"        Version: !GetAtt {template}.LatestVersionNumber\n"
        )
    return (
        comment([*of.header(), *caveat])
        + 'AWSTemplateFormatVersion: "2010-09-09"\n'
        + template_images(of, parameters)
        + "Resources:\n"
        + "".join(resources)
    )
