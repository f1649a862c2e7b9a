"""Service Quotas: the quotas of EC2 that the sandbox enforces. Their values are in the settings.

The codes are those of AWS ("Amazon EC2 service quotas", EC2 User Guide): the vCPUs of running On-Demand Standard
instances, and of Standard Spot instance requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call, json_response
from goldenami_sandbox.services import Service, service

_NAMES: Final = {
    "L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    "L-34B43A08": "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
}


@service("servicequotas")
class ServiceQuotas(Service):
    def serve(self, call: Call, identity: Identity) -> Response | None:
        if call.json.get("ServiceCode") != "ec2":
            return None
        if call.action == "ListServiceQuotas":
            return json_response({"Quotas": [self._quota(call, code) for code in _NAMES]})
        if call.action != "GetServiceQuota":
            return None
        code = call.json.get("QuotaCode")
        if code not in _NAMES:
            return call.error("NoSuchResourceException", f"The quota {code} does not exist.", 400)
        return json_response({"Quota": self._quota(call, code)})

    def _quota(self, call: Call, code: str) -> Mapping[str, Any]:
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{call.region}:{call.account}:ec2/{code}",
            "QuotaCode": code,
            "QuotaName": _NAMES[code],
            "Value": float(self.world.settings().vcpu_quotas[code]),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }
