"""The transports ssm and instance-connect: the calls, and the programs as they are started.

The programs are stand-ins, real processes: they record their arguments and environment, and forward to a real sshd.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from goldenami import ssh
from goldenami.aws import network
from goldenami.aws.security_groups import Source
from goldenami.aws.session import Cloud
from goldenami.errors import BuilderError, NotFound
from goldenami.model import Account, Environment, Network, Place, SshEndpoint
from goldenami.ssh import NotReachable
from goldenami.ssh.transport import open_transport
from goldenami.stages.transports import HostTransport, make_transport
from tests.worlds.ledgers import new_session

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

PLACE = Place("111111111111", "eu-central-1")
ROLE = f"arn:aws:iam::{PLACE.account}:role/goldenami-builder"

PROGRAM = """\
#!{python}
import json, os, select, socket, sys
if sys.argv[1:] == ["--version"]:
    print({version!r})
    sys.exit()
kept = {{k: v for k, v in os.environ.items() if k.startswith("AWS_")}}
open({log!r}, "a").write(json.dumps([sys.argv, kept]) + "\\n")
with socket.create_connection(("127.0.0.1", {port})) as host:
    while True:
        for ready in select.select([0, host], [], [])[0]:
            data = os.read(0, 65536) if ready == 0 else host.recv(65536)
            if not data:
                sys.exit()
            os.write(1, data) if ready is host else host.sendall(data)
"""


@dataclass
class Site:
    """A cloud, an environment with a role, and a folder of programs, which is the whole PATH."""

    paper: PaperCloud
    folder: Path
    sshd: SshEndpoint

    @property
    def ec2(self) -> Any:
        return cast(Any, new_session().create_client("ec2", **self.paper.client()))

    def program(self, name: str, version: str = "") -> Path:
        path = self.folder / "bin" / name
        text = PROGRAM.format(python=sys.executable, version=version, log=str(self.log), port=self.sshd.port)
        path.write_text(text)
        path.chmod(0o755)
        return path

    @property
    def log(self) -> Path:
        return self.folder / "programs.jsonl"

    def started(self) -> tuple[list[str], dict[str, str]]:
        """The arguments and the AWS variables of the last program."""
        argv, variables = json.loads(self.log.read_text().splitlines()[-1])
        return argv, variables

    def transport(self, name: str, **options: object) -> HostTransport:
        home = Account("home", PLACE.account, ROLE)
        environment = Environment(
            name="test",
            home=home,
            home_region=PLACE.region,
            accounts={"home": home},
            targets=(),
            network=Network(transport=name, options=options, address="private"),
            catalog="",
            builds="",
        )
        return make_transport(environment, Cloud.of(environment))

    def instance(self, profile: bool = True) -> str:
        iam = cast(Any, new_session().create_client("iam", **self.paper.client()))
        options: dict[str, Any] = {}
        if profile:
            iam.create_instance_profile(InstanceProfileName="managed")
            options["IamInstanceProfile"] = {"Name": "managed"}
        [image] = self.ec2.describe_images(
            Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}]
        )["Images"]
        answer = self.ec2.run_instances(
            ImageId=image["ImageId"], MinCount=1, MaxCount=1, InstanceType="t3.small", **options
        )
        self.paper.cloud.settle()
        return str(answer["Instances"][0]["InstanceId"])

    def calls(self, action: str) -> list[dict[str, Any]]:
        return [call for call in self.paper.calls if call["action"] == action]


@pytest.fixture
def site(
    paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: SshEndpoint
) -> Site:
    made = Site(paper_cloud(), tmp_path, endpoint)
    for name, value in made.paper.variables().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return made


def test_ssm_starts_a_session_and_the_plugin(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = site.program("session-manager-plugin", "1.2.553.0")
    instance = site.instance()
    transport = site.transport("ssm", document="AWS-StartSSHSession")
    transport.start()
    host = replace(site.sshd, transport=transport.opener, instance_id=instance, region=PLACE.region)
    with ssh.connect(host, timeout=60) as connection:
        assert connection.run("echo through a session").text == "through a session"
        argv, variables = site.started()
        request = {
            "Target": instance,
            "DocumentName": "AWS-StartSSHSession",
            "Parameters": {"portNumber": [str(host.port)]},
        }
        assert argv == [
            str(plugin),
            "AWS_SSM_START_SESSION_RESPONSE",
            "eu-central-1",
            "StartSession",
            "",
            json.dumps(request),
            site.paper.endpoint,
        ]
        response = json.loads(variables["AWS_SSM_START_SESSION_RESPONSE"])
        assert sorted(response) == ["SessionId", "StreamUrl", "TokenValue"]
        assert variables["AWS_ACCESS_KEY_ID"].startswith("ASIA"), "the credentials of the role"
        assert variables["AWS_SESSION_TOKEN"]
        assert variables["AWS_REGION"] == "eu-central-1"
    [started] = site.calls("StartSession")
    assert ":assumed-role/goldenami-builder/" in started["principal"]
    until = time.monotonic() + 60
    while not site.calls("TerminateSession") and time.monotonic() < until:
        time.sleep(0.05)
    assert len(site.calls("TerminateSession")) == 1, "the session is ended with the connection"


def test_an_old_plugin_gets_the_answer_as_an_argument(site: Site) -> None:
    site.program("session-manager-plugin", "1.2.497.0")
    instance = site.instance()
    transport = site.transport("ssm", document="AWS-StartSSHSession")
    host = replace(site.sshd, transport=transport.opener, instance_id=instance, region=PLACE.region)
    with ssh.connect(host, timeout=60):
        argv, variables = site.started()
    assert sorted(json.loads(argv[1])) == ["SessionId", "StreamUrl", "TokenValue"]
    assert "AWS_SSM_START_SESSION_RESPONSE" not in variables


def test_the_token_of_a_session_is_not_in_the_error(site: Site) -> None:
    plugin = site.program("session-manager-plugin", "1.2.497.0")
    text = plugin.read_text()
    plugin.write_text(text.replace("with socket", 'sys.exit("no route to the message gateway")\nwith socket'))
    transport = site.transport("ssm", document="AWS-StartSSHSession")
    host = replace(site.sshd, transport=transport.opener, instance_id=site.instance(), region=PLACE.region)
    with pytest.raises(NotReachable, match="`session-manager-plugin` ended with status 1\n    no route to") as raised:
        open_transport(host, 5)
    token = json.loads(site.started()[0][1])["TokenValue"]
    assert token not in raised.value.message


def test_an_instance_whose_agent_is_not_connected_is_tried_again(site: Site) -> None:
    site.program("session-manager-plugin", "1.2.553.0")
    instance = site.instance(profile=False)
    transport = site.transport("ssm", document="AWS-StartSSHSession")
    host = replace(site.sshd, transport=transport.opener, instance_id=instance, region=PLACE.region)
    attempts: list[float] = []  # they alone move the clock, however long the first call takes
    with pytest.raises(NotReachable, match=rf"the SSM agent of {instance} is not connected \(TargetNotConnected\)"):
        ssh.connect(host, timeout=60, sleep=attempts.append, clock=lambda: 20.0 * len(attempts))
    assert len(site.calls("StartSession")) > 1


def test_ssm_needs_no_inbound_rule(site: Site) -> None:
    transport = site.transport("ssm", document="AWS-StartSSHSession")
    subnet = network.subnets(transport.cloud, PLACE, Network())[0]
    assert transport.source(subnet) == Source()


def test_a_missing_program_is_an_error_before_anything_is_launched(site: Site) -> None:
    with pytest.raises(BuilderError, match="session-manager-plugin is not on the PATH") as raised:
        site.transport("ssm", document="AWS-StartSSHSession").start()
    assert "Install the Session Manager plugin" in (raised.value.hint or "")
    with pytest.raises(BuilderError, match="the AWS CLI"):
        site.transport("instance-connect", endpoint=None).start()
    with pytest.raises(BuilderError, match="the program no-such-program is not on the PATH"):
        site.transport("command", run="no-such-program {address}").start()
    assert not site.calls("StartSession")


def test_instance_connect_opens_a_tunnel_with_the_cli(site: Site) -> None:
    program = site.program("aws")
    transport = site.transport("instance-connect", endpoint=None)
    subnets = network.subnets(transport.cloud, PLACE, Network())
    with pytest.raises(NotFound, match=r"has no usable EC2 Instance Connect Endpoint in VPC vpc-"):
        transport.start()
    group = site.ec2.create_security_group(GroupName="eice", Description="eice", VpcId=subnets[0].vpc_id)["GroupId"]
    made = site.ec2.create_instance_connect_endpoint(
        SubnetId=subnets[1].id, SecurityGroupIds=[group], PreserveClientIp=False
    )["InstanceConnectEndpoint"]
    transport.start()
    assert transport.source(subnets[0]) == Source(groups=(group,))
    host = replace(site.sshd, transport=transport.opener, instance_id="i-1", region=PLACE.region)
    with ssh.connect(host, timeout=60) as connection:
        assert connection.run("echo through a tunnel").text == "through a tunnel"
    argv, variables = site.started()
    assert argv == [
        str(program),
        "ec2-instance-connect",
        "open-tunnel",
        "--region",
        "eu-central-1",
        "--instance-connect-endpoint-id",
        made["InstanceConnectEndpointId"],
        "--private-ip-address",
        "127.0.0.1",
        "--remote-port",
        str(host.port),
    ]
    assert variables["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert variables["AWS_ENDPOINT_URL"] == site.paper.endpoint


def test_an_endpoint_that_preserves_addresses_needs_a_rule_for_this_machine(site: Site) -> None:
    site.program("aws")
    transport = site.transport("instance-connect", endpoint=None)
    subnet = network.subnets(transport.cloud, PLACE, Network())[0]
    site.ec2.create_instance_connect_endpoint(SubnetId=subnet.id, PreserveClientIp=True)
    assert transport.source(subnet) == Source(("127.0.0.1/32",)), "the endpoint of the API is on this machine"
