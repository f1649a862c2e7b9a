"""Tests of the base recipes."""

import pytest


@pytest.mark.parametrize("name", ["ca-certificates", "curl", "less", "procps"])
def test_tools_are_installed(host, name):
    assert host.package(name).is_installed


@pytest.mark.parametrize(("name", "value"), [("kernel.dmesg_restrict", 1), ("net.ipv4.conf.all.rp_filter", 2)])
def test_kernel_setting_is_in_force(host, name, value):
    assert host.sysctl(name) == value


def test_journal_is_kept_on_disk(host):
    assert host.file("/var/log/journal").is_directory
    assert "Storage=persistent" in host.file("/etc/systemd/journald.conf.d/50-golden.conf").content_string


def test_login_shell_reads_our_profile(host):
    assert host.check_output("sh -lc 'echo $LESS'") == "-FRX"


def test_tls_works_with_the_installed_certificates(host):
    assert int(host.check_output("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt")) > 50
