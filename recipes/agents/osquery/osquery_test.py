"""Tests of the agent osquery."""

import json


def test_daemon_runs_now_and_after_a_reboot(host):
    service = host.service("osqueryd")
    assert service.is_enabled
    assert service.is_running


def test_configuration_is_that_of_the_recipe_and_valid(host, variables):
    params = variables["agents"]["osquery"]
    with host.sudo():
        assert json.loads(host.file("/etc/osquery/osquery.conf").content_string) == params["config"]
        assert host.file("/etc/osquery/osquery.flags").content_string.split("\n")[:-1] == list(params["flags"])
        assert host.run("osqueryi --config_path=/etc/osquery/osquery.conf --config_check").rc == 0
