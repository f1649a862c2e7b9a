"""Tests of the agent amazon-cloudwatch-agent. Access to CloudWatch is not tested; it depends on the instance role."""

import json


def test_agent_runs_now_and_after_a_reboot(host):
    service = host.service("amazon-cloudwatch-agent")
    assert service.is_enabled
    assert service.is_running


def test_configuration_is_that_of_the_recipe(host, variables):
    file = host.file("/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json")
    assert json.loads(file.content_string) == variables["agents"]["amazon-cloudwatch-agent"]["config"]
