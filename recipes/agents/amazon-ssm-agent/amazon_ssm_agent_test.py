"""What the agent amazon-ssm-agent promises. What Systems Manager allows depends on the machine's role."""

import json


def test_agent_runs_now_and_after_a_reboot(host):
    service = host.service("amazon-ssm-agent")
    assert service.is_enabled
    assert service.is_running


def test_configuration_is_the_recipes(host, variables):
    config = variables["agents"]["amazon-ssm-agent"]["config"]
    with host.sudo():
        file = host.file("/etc/amazon/ssm/amazon-ssm-agent.json")
        if config:
            assert json.loads(file.content_string) == config
            assert file.mode == 0o600
