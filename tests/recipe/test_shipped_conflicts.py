"""Software that the shipped profiles would remove or change: told when the recipe is loaded, with what solves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.errors import InvalidInput
from goldenami.provision import demands

Write = Callable[[dict[str, str]], Path]
HEAD = 'name: web\nversion: "1.0"\nbase: {id: ami-0123456789abcdef0}\nos: debian\n'


def load(write_project: Write, profile: str, software: str, more: str = "") -> recipe.Recipe:
    text = f"{HEAD}software:\n  - {software}\nhardening:\n  profiles: [{profile}]\n{more}"
    project = recipe.load_project(write_project({"recipes/web.yaml": text}))
    return recipe.load(project, "web", recipe.environment(project))


@pytest.mark.parametrize("profile", ["debian-12-level-1", "debian-13-level-2"])
@pytest.mark.parametrize(
    ("software", "control", "reason"),
    [
        ("package: rsync", "no-unneeded-services", "package rsync: present here, absent there"),
        ("package: nginx", "no-unneeded-services", "package nginx: present here, absent there"),
        ("absent: [/etc/cron.allow]", "cron-users", "/etc/cron.allow: absent here, contents there"),
        (
            'permissions: {path: /etc/crontab, files: "0644"}',
            "cron-directories",
            "the mode of the file /etc/crontab: 0644 here, 0600 there",
        ),
        (
            'file: {dest: /etc/crontab, content: "x", mode: "0640"}',
            "cron-directories",
            "the mode of the file /etc/crontab: 0640 here, 0600 there",
        ),
    ],
)
def test_what_a_shipped_control_undoes_is_an_error_with_both_places(
    write_project: Write, profile: str, software: str, control: str, reason: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(write_project, profile, software)
    (problem,) = caught.value.problems
    assert f"the control {control} (shipped:hardening/controls/" in problem.message
    assert reason in problem.message
    assert (problem.line, f"{control}: {{reason:" in (problem.hint or "")) == (6, True)


@pytest.mark.parametrize(
    "solution",
    [
        '  waivers: {no-unneeded-services: {reason: "mirrors files", expires: 2099-01-01}}\n',
        "  variables: {unwanted_services: [telnetd]}\n",
    ],
    ids=["waiver", "variable"],
)
def test_the_solutions_that_are_told_work(write_project: Write, solution: str) -> None:
    loaded = load(write_project, "debian-12-level-1", "package: rsync", solution)
    assert "package rsync" in [b.label for stage in loaded.provisioning["x86_64"] for b in stage.operations]


@pytest.mark.parametrize(
    ("software", "control", "words"),
    [
        # The same setting in another form, or under another name.
        ('sysctl: {name: net.ipv4.ip_forward, value: "1"}', "network-no-forwarding", "ip_forward: 1 here, 0 there"),
        ('sysctl: {name: net/ipv4/ip_forward, value: "1"}', "network-no-forwarding", "ip_forward: 1 here, 0 there"),
        (
            'file: {dest: /etc/sysctl.d/70-vpn.conf, content: "# VPN\\n-net.ipv4.conf.*.rp_filter=2\\n"}',
            "network-reverse-path",
            "net.ipv4.conf.all.rp_filter: 2 here, 1 there; the kernel setting net.ipv4.conf.default.rp_filter",
        ),
        ("line: {path: /etc/sysctl.conf, line: net.ipv4.ip_forward = 1}", "network-no-forwarding", "1 here"),
        ('setting: {path: /etc/sysctl.conf, key: kernel.sysrq, value: "1"}', "kernel-sysrq", "1 here, 0 there"),
        (
            'file: {dest: /etc/ssh/sshd_config.d/x.conf, content: "X11Forwarding yes\\nMatch User a\\nBanner no\\n"}',
            "ssh-no-x11",
            "x11forwarding of the SSH server: yes here, no there",
        ),
        # Modules that are blocked: by name, by a file, and by the filesystem that needs one.
        ("kernel_module: {name: sctp, state: loaded}", "module-sctp", "sctp: loaded here, disabled there"),
        ('file: {dest: /etc/modules-load.d/x.conf, content: "sctp"}', "module-sctp", "loaded here"),
        (
            "mount: {path: /srv/disc, source: /dev/xvdb, fstype: udf, options: [ro]}",
            "module-udf",
            "the kernel module udf: loaded here, disabled there",
        ),
        # Programs where no program starts.
        (
            'unit: {name: app, content: "[Service]\\nExecStart=-/tmp/app/run --now\\n"}',
            "mount-temporary-files",
            "programs in /tmp: started here, never started there",
        ),
        ("timer: {name: a, on_calendar: daily, command: [/dev/shm/a]}", "mount-shared-memory", "programs in /dev/shm"),
        (
            'cron: {name: a, schedule: "@daily", command: "test -e /x && A=1 /tmp/a"}',
            "mount-temporary-files",
            "programs in /tmp",
        ),
        ("mount: {path: /dev/shm, options: [exec]}", "mount-shared-memory", "exec of /dev/shm: yes here, no there"),
        # Units that the profile masks, or whose package it removes.
        (
            "service: {name: systemd-journal-remote.socket, enabled: true}",
            "journal-upload",
            "systemd-journal-remote.socket masked: no here, yes there",
        ),
        ("service: {name: rsync, enabled: true}", "no-unneeded-services", "removes the package rsync"),
        # Packages that do not work with a control, though none of its operations names them.
        ("package: docker.io", "network-no-forwarding", "excludes docker.io: without forwarded packets, containers"),
        ("package: nginx-light", "no-unneeded-services", "excludes nginx-light: it needs the package nginx"),
        ("package: nfs-common", "no-unneeded-services", "it needs the package rpcbind"),
        ("package: ufw", "firewall-nftables", "excludes ufw: programs that write firewall rules"),
        ("package: ntpsec", "time-chrony", "excludes ntpsec: two programs that set the clock"),
    ],
)
def test_what_a_control_makes_useless_is_an_error_in_any_form(
    write_project: Write, software: str, control: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(write_project, "debian-12-level-2", software)
    (problem,) = caught.value.problems
    assert f"the control {control} (shipped:hardening/controls/" in problem.message
    assert words in problem.message
    assert problem.line == 6
    assert f"`{control}: {{reason:" in (problem.hint or "").replace("add `", "Add `")


@pytest.mark.parametrize(
    ("software", "solution"),
    [
        ("package: docker.io", "variables: {container_interfaces: [docker0]}"),
        ("package: podman", 'waivers: {network-no-forwarding: {reason: "rootless", expires: 2099-01-01}}'),
        ('sysctl: {name: net.ipv4.ip_forward, value: "1"}', "variables: {container_interfaces: [docker0]}"),
        ("package: nginx-light", "variables: {unwanted_services: [rsync]}"),
        ("package: ufw", "choices: [firewall-ufw]"),
        ("package: ntpsec", 'waivers: {time-chrony: {reason: "Kerberos", expires: 2099-01-01}}'),
        (
            'unit: {name: app, content: "[Service]\\nExecStart=/tmp/a\\n"}',
            "variables: {}\n  waivers: {mount-temporary-files: {reason: a, expires: 2099-01-01}}",
        ),
    ],
)
def test_what_the_hints_say_solves_it(write_project: Write, software: str, solution: str) -> None:
    assert load(write_project, "debian-12-level-2", software, f"  {solution}\n").name == "web"


@pytest.mark.parametrize(
    "software",
    [
        'permissions: {path: /etc/crontab, files: "0600"}',
        'sysctl: {name: net.ipv4.conf.eth0.rp_filter, value: "2"}',  # the kernel takes the larger value
        'unit: {name: app, content: "[Service]\\nExecStart=/bin/sh /tmp/x\\nExecReload=/opt/tmp/x\\n"}',
        'file: {dest: /etc/ssh/sshd_config.d/10-x.conf, content: "Match User a\\nX11Forwarding yes\\n"}',
        'file: {dest: /etc/modprobe.d/x.conf, content: "options sctp a=1\\ninstall udf /bin/false\\n"}',
        "command: [/tmp/install.sh]",  # before the hardening
        "package: python3-nftables",
    ],
)
def test_what_fits_is_no_conflict(write_project: Write, software: str) -> None:
    assert load(write_project, "debian-12-level-2", software).name == "web"


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        (
            "[/tmp/installer/run, --now]",
            "",
            "no program starts in /tmp of the base: the control mount-temporary-files (",
        ),
        ("[/dev/shm/x]", "", "of /dev/shm of the base: the control mount-shared-memory ("),
        ("[sh, /tmp/installer/run]", "", ""),
        ("[/opt/tmp/x]", "", ""),
        ("[/dev/shm/x]", "  - mount: {path: /dev/shm, options: [exec]}\n", ""),
    ],
)
def test_a_program_that_the_hardened_base_does_not_start(
    write_project: Write, command: str, more: str, words: str
) -> None:
    """The base of the base is hardened, so its mounts are those of the builder."""
    files = {
        "recipes/hard.yaml": f"{HEAD.replace('web', 'hard', 1)}hardening: {{profiles: [debian-12-level-1]}}\n",
        "recipes/middle.yaml": 'name: middle\nversion: "1.0"\nbase: {recipe: hard}\n',
        "recipes/web.yaml": 'name: web\nversion: "1.0"\nbase: {recipe: middle}\nsoftware:\n'
        f"{more}  - command: {command}\n",
    }
    project = recipe.load_project(write_project(files))
    if not words:
        assert recipe.load(project, "web", recipe.environment(project)).name == "web"
        return
    with pytest.raises(InvalidInput) as caught:
        recipe.load(project, "web", recipe.environment(project))
    [problem] = caught.value.problems
    assert words.removeprefix("of ") in problem.message
    assert ") of hard mounts it noexec" in problem.message
    assert "in hard: Add `mount-" in (problem.hint or "")
    assert problem.line == 5


PORTS = "hardening: {profiles: [debian-12-level-1], variables: {open_tcp_ports: [%s], open_udp_ports: [%s]}}\n"


@pytest.mark.parametrize(
    ("more", "tcp", "udp", "words"),
    [
        ("expect: {ports: [80]}\n", '"22"', "", "expect.ports: the control firewall-nftables ("),
        ("expect: {ports: [8000-8010]}\n", '"22", "8005-9000"', "", "drops the packets to port 8000-8010/tcp"),
        ('expect: {ports: ["53/udp"]}\n', '"22", "53"', "", "drops the packets to port 53/udp"),
        ("image: {ssh_port: 2222}\n", '"22"', "", "the SSH server of the image: the control firewall-nftables ("),
        ("builder: {ssh_port: 2222}\n", '"22"', "", "drops the packets to port 2222/tcp"),
        ("", '"443"', "", "drops the packets to port 22/tcp"),
        ("agents: [{name: node-exporter, params: {listen: ':9100'}}]\n", '"22"', "", ""),  # it may listen there
        ("expect: {ports: [80, 8001, '53/udp']}\n", '"22", "80", "8000-8010"', '"53"', ""),
        ("image: {ssh_port: 2222}\n", '"2222"', "", ""),
        ("expect: {ports: [80]}\n", "ssh, http", "", ""),  # nft knows names
    ],
)
@pytest.mark.parametrize("firewall", ["firewall-nftables", "firewall-ufw"])
def test_a_port_that_the_firewall_closes(
    write_project: Write, more: str, tcp: str, udp: str, words: str, firewall: str
) -> None:
    hardening = (PORTS % (tcp, udp)).replace("variables", f"choices: [{firewall}], variables")
    project = recipe.load_project(write_project({"recipes/web.yaml": HEAD + hardening + more}))
    if not words:
        assert recipe.load(project, "web", recipe.environment(project)).name == "web"
        return
    with pytest.raises(InvalidInput) as caught:
        recipe.load(project, "web", recipe.environment(project))
    [problem] = caught.value.problems
    assert words.replace("firewall-nftables", firewall) in problem.message
    variable = "open_udp_ports" if "/udp" in problem.message else "open_tcp_ports"
    assert f"to the variable {variable} under hardening.variables. Or: add `{firewall}:" in (problem.hint or "")
    assert problem.line == (6 if more else 5)


def test_a_unit_of_the_recipe_needs_no_package_of_its_name(write_project: Write) -> None:
    own = 'unit: {name: rsync, content: "[Service]\\nExecStart=/opt/rsync/bin/rsync\\n"}'
    assert load(write_project, "debian-12-level-1", f"{own}\n  - service: {{name: rsync, enabled: true}}").name == "web"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/systemd/system/a.service", "\n" * 65_000),
        ("/etc/systemd/system/a.service", "Exec" * 16_000),
        ("/etc/cron.d/a", "@daily root " + "a=;" * 20_000),
        ("/etc/cron.d/a", "@daily root " + "a=b " * 15_000),
        ("/etc/cron.d/a", "@daily root " + "exec " * 12_000),
        ("/etc/sysctl.d/a.conf", "a." * 30_000 + "="),
        ("/etc/ssh/sshd_config", " =" * 30_000),
    ],
)
def test_the_contents_of_a_file_are_read_in_bounded_time(path: str, text: str) -> None:
    """A quadratic expression would take minutes for these."""
    assert "programs in /" not in demands.of_file(path, text)


def test_an_agent_is_software_too(write_project: Write) -> None:
    text = f"{HEAD}agents: [chrony]\nhardening:\n  profiles: [debian-12-level-1]\n  choices: [time-timesyncd]\n"
    project = recipe.load_project(write_project({"recipes/web.yaml": text}))
    with pytest.raises(InvalidInput) as caught:
        recipe.load(project, "web", recipe.environment(project))
    [problem] = caught.value.problems
    assert "the control time-timesyncd (shipped:hardening/controls/choices.yaml:" in problem.message
    assert "excludes chrony: two programs that set the clock" in problem.message
