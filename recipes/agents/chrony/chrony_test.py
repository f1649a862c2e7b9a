"""What the agent chrony promises."""

import pytest


@pytest.fixture
def unit(host):
    """Debian calls it chrony, the systems with dnf call it chronyd."""
    return host.service("chronyd" if host.exists("dnf") else "chrony")


def test_daemon_runs_now_and_after_a_reboot(host, unit):
    assert unit.is_enabled
    if host.check_output(f"systemctl show -p ConditionResult --value {unit.name}") == "no":
        pytest.skip("NOT PROVEN: this machine's clock is not its own to set (a container)")
    assert unit.is_running


def test_no_other_daemon_keeps_the_clock(host):
    assert not host.service("systemd-timesyncd").is_running
    assert not host.service("ntpsec").is_running


def test_configuration_has_the_recipes_servers_and_is_valid(host, variables):
    params = variables["agents"]["chrony"]
    path = "/etc/chrony.conf" if host.exists("dnf") else "/etc/chrony/chrony.conf"
    text = host.file(path).content_string
    for server in params["servers"]:
        assert f"server {server} " in text
    for pool in params["pools"]:
        assert f"pool {pool} " in text
    with host.sudo():
        assert host.run(f"/usr/sbin/chronyd -p -f {path}").rc == 0
