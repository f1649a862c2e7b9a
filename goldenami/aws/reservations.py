"""The instances in the answers of DescribeInstances, which lists them by the reservation of their launch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from goldenami.model import Place

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud


def flatten(reservations: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the instances of reservations."""
    return (instance for reservation in reservations for instance in reservation["Instances"])


def instances_in(cloud: Cloud, place: Place, **filters: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Yield all instances of a place, also terminated ones. ``filters``: name of the filter, with ``_`` for ``-`` ->
    values."""
    named = [{"Name": name.replace("_", "-"), "Values": list(values)} for name, values in filters.items()]
    request = {"Filters": named} if named else {}
    return flatten(cloud.pages(place, "ec2", "DescribeInstances", "Reservations", request))
