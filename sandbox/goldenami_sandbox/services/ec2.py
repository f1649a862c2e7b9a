"""Divides EC2's calls: the sandbox's EC2 (``goldenami_sandbox.ec2``) answers some, moto others, and some need both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.ec2 import protocol, rehearsal
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.http import Response
from goldenami_sandbox.optin import DEFAULT
from goldenami_sandbox.protocol import Call, regions, replace_body
from goldenami_sandbox.services import Service, World, launch_templates, security_groups, service

_KEY_PAIR = ("InvalidKeyPair.NotFound", "key pair")
_GROUP = ("InvalidGroup.NotFound", "security group")
_EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@service("ec2")
class Ec2Service(Service):
    """The service. Its state is EC2's. moto keeps key pairs, security groups, networks and launch templates, with their
    tags.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._surface = world.surface
        self._ec2 = world.ec2
        self._with_gateway: set[tuple[str, str]] = set()  # account and region

    def dump(self) -> Any:
        return self._ec2.dump()

    def load(self, state: Any) -> None:
        self._ec2.load(state)

    def serve(self, call: Call, identity: Identity) -> Response:
        self.world.public(call.region)
        self._ensure_gateway(call.account, call.region)
        ctx = Ctx(call.account, call.region, identity.arn, call.request_id)
        if call.form.get("DryRun", "").lower() == "true" and not self._is_own(call):
            return self._dry_run(call, ctx)
        if call.action in ("CreateTags", "DeleteTags"):
            return self._tag(call, ctx)
        if call.action == "DescribeRegions":
            return self._describe_regions(call)
        if call.action == "DescribeTags":
            return self._describe_tags(call, ctx)
        if refusal := self._refuse(call):
            return refusal
        if self._ec2.handles(call.action):
            return self._own(call, ctx, call.form, call.params)
        visibility = self.world.visibility
        with visibility.hide_new(call):
            return visibility.register(call, self._moto(call, ctx))

    def _ensure_gateway(self, account: str, region: str) -> None:
        """Give the default VPC its internet gateway and its default route, which moto omits ("Default VPCs", VPC User
        Guide). Only at the first call of an account in a region, so that a user can delete them.
        """
        if (account, region) in self._with_gateway:
            return
        with self._surface.active():
            if (account, region) in self._with_gateway:
                return
            backend = self._surface.backend("ec2", account, region)
            vpc = backend.get_default_vpc()
            if vpc is not None and not backend.internet_gateways:
                tables = (t for t in backend.route_tables.values() if t.vpc_id == vpc.id)
                table = next((t for t in tables if t.main_association_id), None)
                if table is not None:
                    gateway = backend.create_internet_gateway()
                    backend.attach_internet_gateway(gateway.id, vpc.id)
                    backend.create_route(table.id, "0.0.0.0/0", None, gateway_id=gateway.id)
            self._with_gateway.add((account, region))

    def _is_own(self, call: Call) -> bool:
        """Return whether the sandbox's EC2 serves the whole call, without moto."""
        if call.action in ("CreateTags", "DeleteTags"):
            return all(self._ec2.owns(item) for item in _numbered(call.form, "ResourceId"))
        return self._ec2.handles(call.action)

    def _refuse(self, call: Call) -> Response | None:
        """Return the error for a call that AWS refuses and moto accepts."""
        if call.action in ("DeleteSecurityGroup", "DeleteSubnet"):
            return self._in_use(call)
        if call.action == "CreateSecurityGroup":
            with self._surface.active():
                return security_groups.refuse(call, self._surface.backend("ec2", call.account, call.region))
        return security_groups.refuse_rules(call) if call.action in security_groups.RULES else None

    def _dry_run(self, call: Call, ctx: Ctx) -> Response:
        """Let moto serve the call, and undo all that it did."""
        form = {name: value for name, value in call.form.items() if name != "DryRun"}
        if refusal := self._refuse(call):
            return refusal
        if call.action in ("CreateTags", "DeleteTags"):
            ids = _numbered(form, "ResourceId")
            own = [item for item in ids if self._ec2.owns(item)]
            form = {name: value for name, value in form.items() if not name.startswith("ResourceId.")}
            if own:
                response = self._own(call, ctx, {**form, "DryRun": "true", **_number("ResourceId", own)})
                if response.status != 412:
                    return response
            form |= _number("ResourceId", [item for item in ids if item not in own])
        with self._surface.undone("ec2"):
            response = self._moto(_with_form(call, form), ctx)
        if response.status != 200:
            return response
        error = rehearsal.succeeded()
        return call.error(error.code, error.message, error.status)

    def _own(self, call: Call, ctx: Ctx, form: dict[str, str], params: Mapping[str, Any] | None = None) -> Response:
        headers = [("Content-Type", "text/xml;charset=UTF-8")]
        status, answer = self._ec2.respond(ctx, form, params, as_xml=call.wire)
        if isinstance(answer, bytes):
            return Response(status, answer, headers)
        return Response(status, b"", headers, answer=answer)

    def _tag(self, call: Call, ctx: Ctx) -> Response:
        """Tag resources of both stores in one call. moto's come first, because moto may refuse them."""
        ids = _numbered(call.form, "ResourceId")
        own = [item for item in ids if self._ec2.owns(item)]
        others = [item for item in ids if item not in own]
        for item in others:
            if self.world.visibility.hides_tagged(call, item):
                code, kind = _KEY_PAIR if item.startswith("key-") else _GROUP
                return call.error(code, f"The {kind} '{item}' does not exist")
        if not others:
            return self._own(call, ctx, call.form)
        if not own:
            return self._surface.serve(call)
        rest = {name: value for name, value in call.form.items() if not name.startswith("ResourceId.")}
        response = self._surface.serve(_with_form(call, rest | _number("ResourceId", others)))
        if response.status != 200:
            return response
        return self._own(call, ctx, rest | _number("ResourceId", own))

    def _describe_regions(self, call: Call) -> Response:
        """List the regions of EC2, with their status in the caller's account."""
        optins = self.world.optins
        wanted = _numbered(call.form, "RegionName")
        every = call.form.get("AllRegions", "").lower() == "true"
        if missing := sorted(set(wanted) - regions()):
            return call.error("InvalidParameterValue", f"Invalid region name: {missing[0]}")
        status = {
            region: "opt-in-not-required"
            if region in DEFAULT
            else "opted-in"
            if optins.is_enabled(call.account, region)
            else "not-opted-in"
            for region in sorted(regions())
        }
        filters = {item["Name"]: item["Values"] for item in _filters(call.form)}
        items = "".join(
            f"<item><regionName>{region}</regionName><regionEndpoint>ec2.{region}.amazonaws.com</regionEndpoint>"
            f"<optInStatus>{found}</optInStatus></item>"
            for region, found in status.items()
            if (region in wanted or not wanted)
            and (every or found != "not-opted-in")
            and found in filters.get("opt-in-status", [found])
            and region in filters.get("region-name", [region])
        )
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<DescribeRegionsResponse xmlns="{_EC2_NAMESPACE}">'
            f"<requestId>{call.request_id}</requestId><regionInfo>{items}</regionInfo></DescribeRegionsResponse>"
        )
        return Response(200, body.encode(), [("Content-Type", "text/xml;charset=UTF-8")])

    def _describe_tags(self, call: Call, ctx: Ctx) -> Response:
        """List the tags of both stores in one order, with paging."""
        filters = _filters(call.form)
        own = self._ec2.call(ctx, "DescribeTags", {"Filters": filters} if filters else {}).get("Tags", [])
        tags = [(tag["ResourceType"], tag["ResourceId"], tag["Key"], tag.get("Value", "")) for tag in own]
        with self._surface.active():
            found = self._surface.backend("ec2", call.account, call.region).describe_tags(
                {item["Name"]: item["Values"] for item in filters}
            )
            tags += [
                (t["resource_type"], t["resource_id"], t["key"], t["value"] or "")
                for t in found
                if not self.world.visibility.hides_tagged(call, t["resource_id"])
            ]
        tags.sort()
        start = int(token) if (token := call.form.get("NextToken", "")).isdigit() else 0
        limit = int(size) if (size := call.form.get("MaxResults", "")).isdigit() else 1000
        items = "".join(
            f"<item><resourceId>{escape(resource)}</resourceId><resourceType>{escape(kind)}</resourceType>"
            f"<key>{escape(key)}</key><value>{escape(value)}</value></item>"
            for kind, resource, key, value in tags[start : start + limit]
        )
        more = f"<nextToken>{start + limit}</nextToken>" if start + limit < len(tags) else ""
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<DescribeTagsResponse xmlns="{_EC2_NAMESPACE}">'
            f"<requestId>{call.request_id}</requestId><tagSet>{items}</tagSet>{more}</DescribeTagsResponse>"
        )
        return Response(200, body.encode(), [("Content-Type", "text/xml;charset=UTF-8")])

    def _in_use(self, call: Call) -> Response | None:
        """Refuse to delete a security group or a subnet that an instance uses, as AWS does."""
        if call.action == "DeleteSubnet":
            resource = call.form.get("SubnetId", "")
            message = f"The subnet '{resource}' has dependencies and cannot be deleted."
        else:
            resource = call.form.get("GroupId", "")
            if not resource:
                with self._surface.active():
                    backend = self._surface.backend("ec2", call.account, call.region)
                    group = backend.get_security_group_from_name(call.form.get("GroupName", ""))
                resource = "" if group is None else group.id
            message = f"resource {resource} has a dependent object"
            if self.world.visibility.hides("security-group", call.account, call.region, resource):
                return None  # moto answers that it does not exist
        if resource and self._ec2.users_of(resource):
            return call.error("DependencyViolation", message)
        return None

    def _moto(self, call: Call, ctx: Ctx) -> Response:
        """Serve a call whose state moto keeps."""
        if call.action not in launch_templates.ACTIONS:
            return self._surface.serve(call)
        params = protocol.parse(call.action, call.form) if call.params is None else call.params
        with self._surface.active():
            backend = self._surface.backend("ec2", call.account, call.region)
            try:
                found = launch_templates.answer(call.action, params, backend, ctx.principal)
            except Ec2Error as error:
                return call.error(error.code, error.message, error.status)
        headers = [("Content-Type", "text/xml;charset=UTF-8")]
        return Response(200, protocol.serialise(call.action, found, ctx.request_id), headers)


def _with_form(call: Call, form: dict[str, str]) -> Call:
    return replace_body(call, urlencode(form).encode())


def _numbered(form: dict[str, str], name: str) -> list[str]:
    """Return the values of Name.1, Name.2, …, in order of their numbers."""
    found = []
    for key, value in form.items():
        prefix, _, number = key.rpartition(".")
        if prefix == name and number.isdigit():
            found.append((int(number), value))
    return [value for _, value in sorted(found)]


def _number(name: str, values: list[str]) -> dict[str, str]:
    return {f"{name}.{index}": value for index, value in enumerate(values, 1)}


def _filters(form: dict[str, str]) -> list[dict[str, Any]]:
    numbers = sorted(
        {int(key.split(".")[1]) for key in form if key.startswith("Filter.") and key.split(".")[1].isdigit()}
    )
    return [
        {"Name": form.get(f"Filter.{number}.Name", ""), "Values": _numbered(form, f"Filter.{number}.Value")}
        for number in numbers
    ]
