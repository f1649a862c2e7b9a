"""Sessions of AWS Systems Manager, through which a local program reaches the SSH server of an instance.

goldenami makes the call StartSession with the credentials of the environment, and starts ``session-manager-plugin`` as
the AWS CLI does: with the answer, the region, "StartSession", the name of a profile, the request, and the endpoint. The
plugin from version 1.2.497.1 on reads the answer, which has a token, from an environment variable, because arguments
are visible to all users of the machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from goldenami.aws.session import Cloud
from goldenami.errors import BuilderError, CloudError, GoldenAmiError
from goldenami.model import Place

PLUGIN: Final = "session-manager-plugin"
_VARIABLE: Final = "AWS_SSM_START_SESSION_RESPONSE"
_LAST_WITHOUT_VARIABLE: Final = (1, 2, 497, 0)
# The SSM agent of an instance registers some seconds after the boot. Until then the target is "not connected".
_NOT_YET: Final = frozenset({"TargetNotConnected", "InvalidInstanceId"})


@dataclass(frozen=True, slots=True)
class Session:
    """A started session, and the program that carries its data. ``command`` and ``variables`` may contain a token."""

    id: str
    command: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)


def require_plugin() -> str:
    """Return the path of the plugin. Raises BuilderError if it is not installed."""
    path = shutil.which(PLUGIN)
    if path is None:
        raise BuilderError(
            f"network.transport ssm: the program {PLUGIN} is not on the PATH of this machine",
            hint="Install the Session Manager plugin for the AWS CLI (AWS Systems Manager User Guide, "
            '"Install the Session Manager plugin").',
        )
    return path


def start(cloud: Cloud, place: Place, instance_id: str, port: int, document: str) -> Session:
    """Start a session to a port of an instance. Raises ConnectionError while the instance's agent is not connected."""
    request = {"Target": instance_id, "DocumentName": document, "Parameters": {"portNumber": [str(port)]}}
    try:
        answer = cloud.call(place, "ssm", "StartSession", request)
    except CloudError as error:
        if error.code in _NOT_YET:
            raise ConnectionError(
                f"the SSM agent of {instance_id} is not connected ({error.code}). It needs an instance profile with "
                "the policy AmazonSSMManagedInstanceCore, and a way to the endpoints of Systems Manager"
            ) from error
        raise
    response = json.dumps({name: answer[name] for name in ("SessionId", "TokenValue", "StreamUrl")})
    variables = dict(cloud.variables(place))
    program = require_plugin()
    if _version(program) > _LAST_WITHOUT_VARIABLE:
        variables[_VARIABLE], response = response, _VARIABLE
    endpoint = str(cloud.client("ssm", place).meta.endpoint_url)
    # The profile is empty: the plugin uses the credentials in its environment.
    command = (program, response, place.region, "StartSession", "", json.dumps(request), endpoint)
    return Session(answer["SessionId"], command, variables)


def terminate(cloud: Cloud, place: Place, session_id: str) -> None:
    """End a session. Errors are ignored: a session without a client ends by itself after its idle timeout."""
    with contextlib.suppress(GoldenAmiError):
        cloud.call(place, "ssm", "TerminateSession", {"SessionId": session_id})


def _version(program: str) -> tuple[int, ...]:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    text = done.stdout.strip()
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+(\.\d+){0,3}", text) else ()
