"""Tests of the agent node-exporter."""

import pytest

pytestmark = pytest.mark.reads  # these tests change nothing, so their commands are sent ahead, in batches


@pytest.fixture
def params(variables):
    return variables["agents"]["node-exporter"]


@pytest.fixture
def metrics(host, params):
    address, _, port = params["listen"].rpartition(":")
    return host.check_output(f"curl -fsS http://{address or '127.0.0.1'}:{port}/metrics")


def test_exporter_runs_now_and_after_a_reboot(host):
    service = host.service("prometheus-node-exporter")
    assert service.is_enabled
    assert service.is_running


def test_metrics_of_this_machine_are_served(host, metrics):
    assert "\nnode_memory_MemTotal_bytes " in metrics
    assert f'nodename="{host.check_output("uname -n")}"' in metrics


def test_unneeded_collectors_are_off(metrics, params):
    for name in params["collectors_off"]:
        assert f'collector="{name}"' not in metrics


def test_metrics_are_served_on_the_configured_address_only(host, params):
    address, _, port = params["listen"].rpartition(":")
    assert host.socket(f"tcp://{params['listen']}" if address else f"tcp://{port}").is_listening
    if address not in ("", "0.0.0.0"):
        assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening
