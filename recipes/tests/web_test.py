"""Tests of debian-12-web: nginx answers as configured, from the first boot on."""

import pytest

pytestmark = pytest.mark.reads  # these tests change nothing, so their commands are sent ahead, in batches


def test_nginx_runs_now_and_after_a_reboot(host):
    nginx = host.service("nginx")
    assert nginx.is_enabled
    assert nginx.is_running


def test_configuration_is_valid(host):
    with host.sudo():
        assert host.run("/usr/sbin/nginx -t").rc == 0


def test_configuration_comes_from_the_template(host, variables):
    configuration = host.file("/etc/nginx/nginx.conf")
    assert configuration.mode == 0o644
    assert configuration.contains(f"worker_connections {variables['worker_connections']};")


def test_port_80_is_open(host):
    assert host.socket("tcp://0.0.0.0:80").is_listening


def test_page_is_served(host, variables, architecture):
    page = host.check_output("curl -fsS http://127.0.0.1/")
    assert f"<h1>{variables['title']}</h1>" in page
    assert f"<p>debian-12-web 1.4 on {architecture}</p>" in page


def test_health_check_answers(host):
    assert host.check_output("curl -fsS http://127.0.0.1/healthz") == "ok"


def test_unknown_page_is_404_and_shows_no_version(host):
    answer = host.check_output("curl -sS -i http://127.0.0.1/nothing-here")
    assert " 404 " in answer.splitlines()[0]
    assert "Server: nginx\r" in answer + "\r"
    assert "nginx/" not in answer


def test_deploy_user_owns_the_pages(host, variables):
    deploy = host.user("deploy")
    assert deploy.exists
    assert deploy.group == "deploy"
    root = host.file(variables["document_root"])
    assert (root.user, root.group, root.mode) == ("deploy", "www-data", 0o755)


def test_backlog_is_large_enough(host):
    assert host.sysctl("net.core.somaxconn") == 4096
