"""What the agent node-exporter promises."""


def test_exporter_runs_now_and_after_a_reboot(host):
    service = host.service("prometheus-node-exporter")
    assert service.is_enabled
    assert service.is_running


def test_metrics_of_this_machine_are_served(host):
    metrics = host.check_output("curl -fsS http://127.0.0.1:9100/metrics")
    assert "\nnode_memory_MemTotal_bytes " in metrics
    assert f'nodename="{host.check_output("uname -n")}"' in metrics


def test_unneeded_collectors_are_off(host):
    assert 'collector="wifi"' not in host.check_output("curl -fsS http://127.0.0.1:9100/metrics")


def test_metrics_are_local(host):
    assert host.socket("tcp://127.0.0.1:9100").is_listening
    assert not host.socket("tcp://0.0.0.0:9100").is_listening
