"""Software that the shipped profiles would remove or change: told when the recipe is loaded, with what solves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.errors import InvalidInput
from goldenami.provision import demands
from goldenami.recipe.conflicts import check_ssh_port
from goldenami.recipe.problems import Problems

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
        # The same value, written in another way.
        'sysctl: {name: net.ipv4.ip_forward, value: "0"}',
        'file: {dest: /etc/sysctl.d/70-x.conf, content: "net.ipv4.ip_forward = 0  # no router\\nkernel.sysrq=0 #\\n"}',
        'line: {path: /etc/sysctl.conf, line: "net.ipv4.ip_forward = \\"0\\""}',
        'file: {dest: /etc/ssh/sshd_config.d/x.conf, content: "X11Forwarding NO # a\\nBanner \\"/etc/issue.net\\"\\n"}',
        'file: {dest: /etc/ssh/sshd_config.d/x.conf, content: "LogLevel info\\nClientAliveInterval 5m\\n"}',
        # Texts that start nothing, and units with mounts of their own.
        'unit: {name: app, content: "[Service]\\nExecStart=/opt/a\\nExecPaths=/tmp/a\\nExecSearchPath=/tmp/a\\n"}',
        'unit: {name: app, content: "[Service]\\nExecStart=/opt/a\\nExecSearchPath=/tmp/a:/opt\\n"}',
        'unit: {name: app, content: "[Service]\\nRootDirectory=/srv/app\\nExecStart=/tmp/a\\n"}',
        'cron: {name: a, schedule: "@daily", command: "date >| /tmp/a; date >& /tmp/b"}',
        "cron: {name: a, schedule: '@daily', command: 'logger \"a; /tmp/b\" \\; /tmp/c # ; /tmp/d'}",
        'file: {dest: /etc/cron.d/a, content: "SHELL = /tmp/sh\\n@daily root mail a%; /tmp/b\\n"}',
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
        ("[/tmp/a/x]", "  - mount: {path: /tmp/a, source: tmpfs, fstype: tmpfs, options: [exec]}\n", ""),
        ("[/tmp/a/x]", "  - mount: {path: /tmp/a, source: tmpfs, fstype: tmpfs}\n", ""),
        ("[/tmp/a/x]", "  - mount: {path: /tmp, state: absent}\n", ""),
        ("[/tmp/a/x]", "  - mount: {path: /tmp/b, options: [exec]}\n", "no program starts in /tmp of the base"),
        ("[/tmp/a/x]", "  - mount: {path: /tmp, options: [noexec]}\n", "no program starts in /tmp of the base"),
        ("[/tmp/a/x]", '  - command: [mount, -o, "remount,exec", /tmp]\n', ""),
        ("[/tmp/a/x]", '  - script: {content: "umount /tmp"}\n', ""),
        ("[/tmp/a/x]", "  - script: scripts/prepare.sh\n", ""),
        ("[/tmp/a/x]", "  - command: [apt-get, update]\n", "no program starts in /tmp of the base"),
        ("[/tmp/a/x]", "  - link: {path: /tmp/a, target: /opt/a}\n", ""),
        ("[/tmp/a/x]", "  - service: {name: tmp.mount, state: stopped}\n", ""),
        ("[/tmp/a/x]", "  - line: {path: /etc/fstab, line: tmpfs /tmp tmpfs exec 0 0}\n  - reboot: {}\n", ""),
    ],
)
def test_a_program_that_the_hardened_base_does_not_start(
    write_project: Write, command: str, more: str, words: str
) -> None:
    """The base of the base is hardened, so its mounts are those of the builder."""
    files = {
        "recipes/hard.yaml": f"{HEAD.replace('web', 'hard', 1)}hardening: {{profiles: [debian-12-level-1]}}\n",
        "recipes/scripts/prepare.sh": "#!/bin/sh\nmount -o remount,exec /tmp\n",
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
    assert problem.line == 5 + more.count("\n")


def test_a_base_between_can_have_changed_the_mounts_of_the_hardened_base(write_project: Write) -> None:
    mount = "software:\n  - mount: {path: /tmp, options: [exec]}\n"
    files = {
        "recipes/hard.yaml": f"{HEAD.replace('web', 'hard', 1)}hardening: {{profiles: [debian-12-level-1]}}\n",
        "recipes/middle.yaml": f'name: middle\nversion: "1.0"\nbase: {{recipe: hard}}\n{mount}',
        "recipes/web.yaml": 'name: web\nversion: "1.0"\nbase: {recipe: middle}\nsoftware:\n  - command: [/tmp/x]\n',
    }
    project = recipe.load_project(write_project(files))
    assert recipe.load(project, "web", recipe.environment(project)).name == "web"


PORTS = "hardening: {profiles: [debian-12-level-1], variables: {open_tcp_ports: [%s], open_udp_ports: [%s]}}\n"


@pytest.mark.parametrize(
    ("more", "tcp", "udp", "words"),
    [
        ("image: {ssh_port: 2222}\n", '"22"', "", "the SSH server of the image: the control firewall-nftables ("),
        ("builder: {ssh_port: 2222}\n", '"22"', "", "drops the packets to port 2222/tcp"),
        ("", '"443"', "", "drops the packets to port 22/tcp"),
        ("agents: [{name: node-exporter, params: {listen: ':9100'}}]\n", '"22"', "", ""),  # it may listen there
        (
            "expect: {ports: [80, '53/udp', 8080-8090]}\n",
            '"22"',
            "",
            "",
        ),  # the image may listen where nobody reaches it
        ("image: {ssh_port: 2222}\n", '"2222"', "", ""),
        ("image: {ssh_port: 2222}\n", '"22", "2200-2210", "2211-2300"', "", ""),
        ("", "ssh, http", "", ""),  # nft knows names
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
    assert f"to the variable open_tcp_ports under hardening.variables. Or: add `{firewall}:" in (problem.hint or "")
    assert problem.line == (6 if more else 5)


@pytest.mark.parametrize("applies", ["", "test -e /srv/router", "false"])
def test_a_firewall_that_may_not_apply_closes_nothing(write_project: Write, applies: str) -> None:
    control = recipe.load(
        project := recipe.load_project(write_project({"recipes/web.yaml": HEAD + (PORTS % ('"22"', ""))})),
        "web",
        recipe.environment(project),
    )
    problems, mark = Problems(), control.mark
    firewalls = [replace(c, applies=applies) for c in control.hardening["x86_64"].controls if c.opens is not None]
    check_ssh_port(problems, firewalls, 2222, mark)
    assert (len(firewalls), len(problems.found)) == (1, 0 if applies else 1)


@pytest.mark.parametrize(
    "brought",
    [
        'unit: {name: rsync, content: "[Service]\\nExecStart=/opt/rsync/bin/rsync\\n"}',
        'file: {dest: /etc/systemd/system/rsync.service, content: "[Service]\\nExecStart=/opt/rsync\\n"}',
        'template: {dest: /usr/lib/systemd/system/rsync.service, content: "[Service]\\nExecStart=/opt/rsync\\n"}',
        'file: {dest: /etc/init.d/rsync, content: "#!/bin/sh\\n"}',
        "tree: {src: units, dest: /etc/systemd/system}",
        "link: {path: /etc/systemd/system/rsync.service, target: /opt/rsync/rsync.service}",
        "package: rsync-plus",
        "command: [/opt/rsync/install.sh]",
        "script: {content: /opt/rsync/install.sh}",
    ],
)
def test_a_unit_that_the_recipe_can_have_brought_needs_no_package_of_its_name(
    write_project: Write, brought: str
) -> None:
    software = f"software:\n  - {brought}\n  - service: {{name: rsync, enabled: true}}\n"
    files = {
        "recipes/web.yaml": f"{HEAD}{software}hardening: {{profiles: [debian-12-level-1]}}\n",
        "recipes/units/rsync.service": "[Service]\nExecStart=/opt/rsync\n",
    }
    project = recipe.load_project(write_project(files))
    assert recipe.load(project, "web", recipe.environment(project)).name == "web"


@pytest.mark.parametrize(
    "brought",
    [
        'file: {dest: /etc/rsyncd.conf, content: "[data]\\n"}',
        "user: {name: rsync}",
        "package: {name: telnetd, state: absent}",
    ],
)
def test_what_brings_no_unit_hides_no_conflict(write_project: Write, brought: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(write_project, "debian-12-level-1", f"{brought}\n  - service: {{name: rsync, enabled: true}}")
    [problem] = caught.value.problems
    assert "removes the package rsync" in problem.message


def test_a_unit_that_the_base_recipe_can_have_brought_needs_no_package_of_its_name(write_project: Write) -> None:
    files = {
        "recipes/own.yaml": f"{HEAD.replace('web', 'own', 1)}software:\n  - command: [/opt/rsync/install.sh]\n",
        "recipes/web.yaml": 'name: web\nversion: "1.0"\nbase: {recipe: own}\n'
        "software:\n  - service: {name: rsync, enabled: true}\nhardening: {profiles: [debian-12-level-1]}\n",
    }
    project = recipe.load_project(write_project(files))
    assert recipe.load(project, "web", recipe.environment(project)).name == "web"


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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ClientAliveInterval 5m", "clientaliveinterval = 300"),
        ("LoginGraceTime 1H30m", 'LoginGraceTime "5400"'),
        ("LogLevel VERBOSE", "LogLevel verbose # more"),
        ("PermitRootLogin without-password", "PermitRootLogin Prohibit-Password"),
        ("AllowUsers  a   b", "AllowUsers a b"),
    ],
)
def test_values_that_the_ssh_server_reads_as_the_same_are_one_claim(one: str, other: str) -> None:
    path = "/etc/ssh/sshd_config"
    assert demands.of_file(path, one) == demands.of_file(path, other) != {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ClientAliveInterval 5m", "ClientAliveInterval 5"),
        ("Banner /etc/Issue", "Banner /etc/issue"),
        ("MaxSessions 1m", "MaxSessions 60"),
    ],
)
def test_other_values_of_the_ssh_server_are_other_claims(one: str, other: str) -> None:
    path = "/etc/ssh/sshd_config"
    assert demands.of_file(path, one) != demands.of_file(path, other)


@pytest.mark.parametrize(
    "text", ["exec /tmp/a", "true || /tmp/a>/dev/null 2>&1", "cd /; A=1 /tmp/a 'b c'", "date &>/x; /tmp/a"]
)
def test_the_programs_of_a_shell_command(text: str) -> None:
    assert demands.shell_programs(text) == {"programs in /tmp": "started"}


def test_an_agent_is_software_too(write_project: Write) -> None:
    text = f"{HEAD}agents: [chrony]\nhardening:\n  profiles: [debian-12-level-1]\n  choices: [time-timesyncd]\n"
    project = recipe.load_project(write_project({"recipes/web.yaml": text}))
    with pytest.raises(InvalidInput) as caught:
        recipe.load(project, "web", recipe.environment(project))
    [problem] = caught.value.problems
    assert "the control time-timesyncd (shipped:hardening/controls/choices.yaml:" in problem.message
    assert "excludes chrony: two programs that set the clock" in problem.message
