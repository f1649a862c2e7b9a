"""Tests of the agent chrony."""

import pytest


@pytest.fixture
def unit(host):
    """The unit is chrony on Debian, and chronyd on systems with dnf."""
    return host.service("chronyd" if host.exists("dnf") else "chrony")


def test_daemon_runs_now_and_after_a_reboot(host, unit):
    assert unit.is_enabled
    if host.check_output(f"systemctl show -p ConditionResult --value {unit.name}") == "no":
        pytest.skip("NOT PROVEN: the clock of a container belongs to the host")
    assert unit.is_running


def test_no_other_daemon_synchronizes_the_clock(host):
    assert not host.service("systemd-timesyncd").is_running
    assert not host.service("ntpsec").is_running


def test_configuration_has_the_servers_of_the_recipe_and_is_valid(host, variables):
    params = variables["agents"]["chrony"]
    path = "/etc/chrony.conf" if host.exists("dnf") else "/etc/chrony/chrony.conf"
    text = host.file(path).content_string
    for server in params["servers"]:
        assert f"server {server} " in text
    for pool in params["pools"]:
        assert f"pool {pool} " in text
    with host.sudo():
        assert host.run(f"/usr/sbin/chronyd -p -f {path}").rc == 0
