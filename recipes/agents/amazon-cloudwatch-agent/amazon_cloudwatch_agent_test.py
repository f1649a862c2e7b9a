"""What the agent amazon-cloudwatch-agent promises. What CloudWatch takes depends on the machine's role."""

import json


def test_agent_runs_now_and_after_a_reboot(host):
    service = host.service("amazon-cloudwatch-agent")
    assert service.is_enabled
    assert service.is_running


def test_configuration_is_the_recipes(host, variables):
    file = host.file("/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json")
    assert json.loads(file.content_string) == variables["agents"]["amazon-cloudwatch-agent"]["config"]
