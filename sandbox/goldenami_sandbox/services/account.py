"""AWS Account Management: enables and disables regions, at once and not within minutes as on AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.optin import DEFAULT
from goldenami_sandbox.protocol import Call, regions
from goldenami_sandbox.services import service
from goldenami_sandbox.services.modelled import Action, Modelled, Refused


@service("account")
class Account(Modelled):
    def actions(self) -> Mapping[str, Action]:
        return {
            "EnableRegion": self._enable,
            "DisableRegion": self._disable,
            "GetRegionOptStatus": self._status,
            "ListRegions": self._list,
        }

    def dump(self) -> Any:
        return self.world.optins.dump()

    def load(self, state: Any) -> None:
        self.world.optins.load(state)

    def _enable(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        self.world.optins.enable(call.account, _known(params))
        return {}

    def _disable(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        region = _known(params)
        if region in DEFAULT:
            raise Refused("ValidationException", f"The region {region} is enabled by default.")
        self.world.optins.disable(call.account, region)
        return {}

    def _status(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        region = _known(params)
        return {"RegionName": region, "RegionOptStatus": self._opt_status(call.account, region)}

    def _list(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("RegionOptStatusContains")
        every = [(region, self._opt_status(call.account, region)) for region in sorted(regions())]
        found = [{"RegionName": region, "RegionOptStatus": status} for region, status in every]
        return {"Regions": [item for item in found if not wanted or item["RegionOptStatus"] in wanted]}

    def _opt_status(self, account: str, region: str) -> str:
        if region in DEFAULT:
            return "ENABLED_BY_DEFAULT"
        return "ENABLED" if self.world.optins.is_enabled(account, region) else "DISABLED"


def _known(params: Mapping[str, Any]) -> str:
    region = str(params["RegionName"])
    if region not in regions():
        raise Refused("ValidationException", f"There is no region named {region}.")
    return region
