"""Tests of rocky-9-base."""

import pytest


@pytest.mark.parametrize(("name", "value"), [("kernel.dmesg_restrict", 1), ("net.ipv4.conf.all.rp_filter", 2)])
def test_kernel_setting_is_in_force(host, name, value):
    assert host.sysctl(name) == value


def test_clock_is_synchronized(host):
    assert host.service("chronyd").is_running


def test_journal_is_kept_on_disk(host):
    assert host.file("/var/log/journal").is_directory


def test_programs_are_confined(host):
    assert host.check_output("getenforce") == "Enforcing"
