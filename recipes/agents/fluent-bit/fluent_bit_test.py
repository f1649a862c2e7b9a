"""Tests of the agent fluent-bit."""


def test_agent_runs_now_and_after_a_reboot(host):
    service = host.service("fluent-bit")
    assert service.is_enabled
    assert service.is_running


def test_configuration_has_the_inputs_and_outputs_of_the_recipe(host, variables):
    params = variables["agents"]["fluent-bit"]
    with host.sudo():
        text = host.file("/etc/fluent-bit/fluent-bit.conf").content_string
        assert host.run("/opt/fluent-bit/bin/fluent-bit --dry-run -c /etc/fluent-bit/fluent-bit.conf").rc == 0
    lines = [line.strip() for line in text.splitlines()]
    for section, parts in (("[INPUT]", params["inputs"]), ("[OUTPUT]", params["outputs"])):
        assert lines.count(section) == len(parts)
        for part in parts:
            assert f"name {part['name']}" in lines
