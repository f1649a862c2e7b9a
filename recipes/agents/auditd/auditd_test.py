"""Tests of the agent auditd."""

import pytest


def test_daemon_runs_now_and_after_a_reboot(host):
    assert host.service("auditd").is_enabled
    if host.run("systemd-detect-virt --container --quiet").rc == 0:
        pytest.skip("NOT PROVEN: a container has no separate audit system, so the daemon cannot run here")
    assert host.service("auditd").is_running


def test_rules_are_those_of_the_recipe(host, variables):
    rules = variables["agents"]["auditd"]["rules"]
    with host.sudo():
        text = host.file("/etc/audit/rules.d/50-golden.rules").content_string
    assert text.split("\n")[:-1] == list(rules)


def test_log_settings_are_those_of_the_recipe(host, variables):
    params = variables["agents"]["auditd"]
    with host.sudo():
        text = host.file("/etc/audit/auditd.conf").content_string
    settings = {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in text.splitlines()) if v}
    for key in ("max_log_file", "num_logs", "max_log_file_action", "space_left_action"):
        assert settings[key].lower() == str(params[key]).lower()
