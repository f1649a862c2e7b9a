"""Tests of the agent amazon-ssm-agent. Access to Systems Manager is not tested; it depends on the instance role."""

import json


def test_agent_runs_now_and_after_a_reboot(host):
    service = host.service("amazon-ssm-agent")
    assert service.is_enabled
    assert service.is_running


def test_configuration_is_that_of_the_recipe(host, variables):
    config = variables["agents"]["amazon-ssm-agent"]["config"]
    with host.sudo():
        file = host.file("/etc/amazon/ssm/amazon-ssm-agent.json")
        if config:
            assert json.loads(file.content_string) == config
            assert file.mode == 0o600
