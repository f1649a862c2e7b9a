"""What can launch an instance from an image, or create a volume from a snapshot, in one account and region.

These name images and snapshots: versions of launch templates, launch configurations, Auto Scaling groups with their
overrides, EC2 Fleets, Spot Fleets and Spot requests, compute environments of AWS Batch, and node groups of EKS.

A version of a launch template counts if somebody else made it, if it is the default or the newest one, or if one of the
others names it. An old version that goldenami made for a channel (``templates``) and that none of them names does not
count: otherwise, a template that follows a channel would keep every release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from goldenami.aws import launch_templates, parameters
from goldenami.aws.session import Cloud
from goldenami.model import Place

_RESOLVE: Final = "resolve:ssm:"
_WAITING: Final = ("open", "active", "disabled")  # states of a Spot request that may launch instances


def named(cloud: Cloud, place: Place) -> Iterator[tuple[str, str]]:
    """Yield the id of an image or snapshot, and what names it. An id may come several times."""
    versions = _Versions()
    written = [
        *_scaling(cloud, place, versions),
        *_fleets(cloud, place, versions),
        *_spot(cloud, place, versions),
        *_batch(cloud, place, versions),
        *_node_groups(cloud, place, versions),
    ]
    written += _templates(cloud, place, versions)  # the last one, since the others name versions
    # A name may end with a selector: NAME:VERSION or NAME:LABEL.
    names = {id.removeprefix(_RESOLVE) for id, _ in written if id.startswith(_RESOLVE)}
    values = parameters.find_many(cloud, place, names)
    for id, what in written:
        found = values.get(id.removeprefix(_RESOLVE), "") if id.startswith(_RESOLVE) else id
        if found:
            yield found, what


class _Versions:
    """The versions of launch templates that something names."""

    def __init__(self) -> None:
        self._named: set[tuple[str, str]] = set()

    def add(self, specification: Mapping[str, Any] | None) -> None:
        """Add the version that a specification names, by the id or the name of its template. Each API has its own
        spelling of the keys."""
        given = {key.lower().removeprefix("launchtemplate"): str(value) for key, value in (specification or {}).items()}
        self._named |= {(given[key], given.get("version", "")) for key in ("id", "name") if key in given}

    def count(self, template: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
        """Return whether a version can be launched by what is there, or is not goldenami's."""
        number = str(version["VersionNumber"])
        if number in (str(template["DefaultVersionNumber"]), str(template["LatestVersionNumber"])):
            return True
        known = (str(template["LaunchTemplateId"]), str(template["LaunchTemplateName"]))
        if any((name, number) in self._named for name in known):
            return True
        return not launch_templates.is_ours(str(version.get("VersionDescription", "")))


def _ids(specification: Mapping[str, Any]) -> Iterator[str]:
    """Yield the image of a launch specification, and the snapshots of its volumes."""
    if specification.get("ImageId"):
        yield str(specification["ImageId"])
    for mapping in specification.get("BlockDeviceMappings") or ():
        if snapshot := (mapping.get("Ebs") or {}).get("SnapshotId"):
            yield str(snapshot)


def _templates(cloud: Cloud, place: Place, versions: _Versions) -> Iterator[tuple[str, str]]:
    for template in cloud.pages(place, "ec2", "DescribeLaunchTemplates", "LaunchTemplates"):
        request = {"LaunchTemplateId": template["LaunchTemplateId"]}
        what = f"launch template {template['LaunchTemplateName']}"
        for version in cloud.pages(place, "ec2", "DescribeLaunchTemplateVersions", "LaunchTemplateVersions", request):
            counts = versions.count(template, version)
            for id in _ids(version.get("LaunchTemplateData") or {}) if counts else ():
                yield id, f"{what} version {version['VersionNumber']}"


def _scaling(cloud: Cloud, place: Place, versions: _Versions) -> Iterator[tuple[str, str]]:
    configured: dict[str, list[str]] = {}
    for one in cloud.pages(place, "autoscaling", "DescribeLaunchConfigurations", "LaunchConfigurations"):
        name = str(one["LaunchConfigurationName"])
        configured[name] = list(_ids(one))
        for id in configured[name]:
            yield id, f"launch configuration {name}"
    for group in cloud.pages(place, "autoscaling", "DescribeAutoScalingGroups", "AutoScalingGroups"):
        what = f"Auto Scaling group {group['AutoScalingGroupName']}"
        for id in configured.get(group.get("LaunchConfigurationName") or "", ()):
            yield id, what
        template = (group.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
        versions.add(group.get("LaunchTemplate"))
        versions.add(template.get("LaunchTemplateSpecification"))
        for override in template.get("Overrides") or ():
            versions.add(override.get("LaunchTemplateSpecification"))
            for id in _ids(override):
                yield id, f"{what} (override for {override.get('InstanceType', 'its requirements')})"


def _fleets(cloud: Cloud, place: Place, versions: _Versions) -> Iterator[tuple[str, str]]:
    for fleet in cloud.pages(place, "ec2", "DescribeFleets", "Fleets"):
        if str(fleet.get("FleetState", "")).startswith("deleted"):
            continue
        for config in fleet.get("LaunchTemplateConfigs") or ():
            versions.add(config.get("LaunchTemplateSpecification"))
            for override in config.get("Overrides") or ():
                for id in _ids(override):
                    yield id, f"EC2 Fleet {fleet['FleetId']}"


def _spot(cloud: Cloud, place: Place, versions: _Versions) -> Iterator[tuple[str, str]]:
    for fleet in cloud.pages(place, "ec2", "DescribeSpotFleetRequests", "SpotFleetRequestConfigs"):
        if str(fleet.get("SpotFleetRequestState", "")).startswith("cancelled"):
            continue
        for config in fleet["SpotFleetRequestConfig"].get("LaunchTemplateConfigs") or ():
            versions.add(config.get("LaunchTemplateSpecification"))
        for specification in fleet["SpotFleetRequestConfig"].get("LaunchSpecifications") or ():
            for id in _ids(specification):
                yield id, f"Spot Fleet {fleet['SpotFleetRequestId']}"
    for request in cloud.pages(place, "ec2", "DescribeSpotInstanceRequests", "SpotInstanceRequests"):
        if request.get("State") in _WAITING:
            for id in _ids(request.get("LaunchSpecification") or {}):
                yield id, f"Spot request {request['SpotInstanceRequestId']}"


def _batch(cloud: Cloud, place: Place, versions: _Versions) -> Iterator[tuple[str, str]]:
    for one in cloud.pages(place, "batch", "DescribeComputeEnvironments", "computeEnvironments"):
        what = f"Batch compute environment {one['computeEnvironmentName']}"
        resources = one.get("computeResources") or {}
        template = resources.get("launchTemplate") or {}
        for specification in (template, *(template.get("overrides") or ())):
            versions.add(specification)
        configured = (c.get("imageIdOverride") for c in resources.get("ec2Configuration") or ())
        for id in (resources.get("imageId"), *configured):
            if id:
                yield str(id), what


def _node_groups(cloud: Cloud, place: Place, versions: _Versions) -> Iterator[tuple[str, str]]:
    """Yield the images of node groups with an image of their own. ``releaseVersion`` is its id then (EKS API)."""
    for cluster in cloud.pages(place, "eks", "ListClusters", "clusters"):
        for name in cloud.pages(place, "eks", "ListNodegroups", "nodegroups", {"clusterName": cluster}):
            request = {"clusterName": cluster, "nodegroupName": name}
            group = cloud.call(place, "eks", "DescribeNodegroup", request)["nodegroup"]
            versions.add(group.get("launchTemplate"))
            if str(group.get("releaseVersion", "")).startswith("ami-"):
                yield str(group["releaseVersion"]), f"EKS node group {cluster}/{name}"
