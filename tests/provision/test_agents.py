"""The agents that are shipped, through their own definitions, on a real host; their own tests say how it went.

What Debian has comes from Debian. The others come from a server beside the host, as packages that the tests make: with
the program's and the unit's names, and programs that do no more than stay.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goldenami import recipe, ssh
from goldenami.model import SshEndpoint
from goldenami.provision import run_stage
from goldenami.reading import ANYWHERE
from goldenami.recipe import Recipe
from goldenami.validate import TestPath, run_suite
from tests.provision.archives import AptSuite, Key, Served, build_deb, served
from tests.provision.examples import bind
from tests.provision.hosts import Host

root = pytest.mark.root
PROJECT = Path(__file__).parents[2]

UNIT = "[Unit]\nDescription={name}\n[Service]\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n"
STAYS = "#!/bin/sh\nexec sleep infinity\n"
# Says yes to a file of the right form, as the real programs do when they are asked to check one.
FLUENT_BIT = """#!/bin/sh
case $1 in
--dry-run) grep -q '^\\[SERVICE\\]' "$3" ;;
*) exec sleep infinity ;;
esac
"""
OSQUERYI = """#!/bin/sh
grep -q '^{' "${1#--config_path=}"
"""


def unit(name: str, command: str) -> dict[str, str]:
    return {f"/lib/systemd/system/{name}.service": UNIT.format(name=name, command=command)}


VENDOR: dict[str, dict[str, str]] = {
    "amazon-ssm-agent": {
        "/usr/bin/amazon-ssm-agent": STAYS,
        **unit("amazon-ssm-agent", "/usr/bin/amazon-ssm-agent"),
    },
    "amazon-cloudwatch-agent": {
        "/opt/aws/amazon-cloudwatch-agent/bin/start-amazon-cloudwatch-agent": STAYS,
        **unit("amazon-cloudwatch-agent", "/opt/aws/amazon-cloudwatch-agent/bin/start-amazon-cloudwatch-agent"),
    },
    "fluent-bit": {
        "/opt/fluent-bit/bin/fluent-bit": FLUENT_BIT,
        **unit("fluent-bit", "/opt/fluent-bit/bin/fluent-bit -c /etc/fluent-bit/fluent-bit.conf"),
    },
    "osquery": {
        "/usr/bin/osqueryd": STAYS,
        "/usr/bin/osqueryi": OSQUERYI,
        **unit("osqueryd", "/usr/bin/osqueryd --flagfile /etc/osquery/osquery.flags"),
    },
}

CLOUDWATCH = """{
  "agent": {"metrics_collection_interval": {{ vars.interval }}},
  "metrics": {"namespace": "{{ recipe.name }}"}
}
"""


@pytest.fixture(scope="module")
def host(launch: Callable[[str], SshEndpoint]) -> Iterator[Host]:
    with ssh.connect(launch("debian-12"), timeout=60) as connection:
        host = Host(connection)
        host.run(bind("package", name="curl"))  # as on every image of ours; tests ask with it
        yield host


@pytest.fixture(scope="module")
def web(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web"), host.connection.endpoint.address) as server:
        yield server


@pytest.fixture(scope="module")
def loaded(web: Served, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe with all agents: two from files at a URL, two from repositories with a key, the rest from Debian."""
    key = Key.generate(tmp_path_factory.mktemp("key") / "gpg")
    for name in ("fluent-bit", "osquery"):
        suite = AptSuite(web.folder / name, key, "stable")
        suite.add(name, "5.1.0", VENDOR[name])
        suite.publish()
    (web.folder / "key.asc").write_text(key.armored)
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "recipes", project / "recipes")
    (project / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    (project / "recipes/cloudwatch.json.j2").write_text(CLOUDWATCH)
    (project / "recipes/vendor.asc").write_text(key.armored)
    stable = {"suites": ["stable"], "components": ["main"]}
    by_url = {"key_url": f"{web.url}/key.asc", "fingerprint": key.fingerprint}
    by_file = {"key_src": "vendor.asc", "fingerprint": key.fingerprint}
    agents: list[dict[str, Any]] = [
        {"name": "node-exporter", "params": {"listen": ":9200", "collectors_off": ["wifi", "zfs"]}},
        {"name": "chrony", "params": {"pools": ["2.debian.pool.ntp.org"]}},
        {"name": "auditd", "params": {"num_logs": 7}},
        {
            "name": "amazon-ssm-agent",
            "params": {"source": file_at(web, "amazon-ssm-agent"), "config": {"Profile": {"ShareCreds": True}}},
        },
        {
            "name": "amazon-cloudwatch-agent",
            "params": {"source": file_at(web, "amazon-cloudwatch-agent"), "config": "cloudwatch.json.j2"},
        },
        {
            "name": "fluent-bit",
            "params": {
                "source": {"repository": {**stable, "uris": [f"{web.url}/fluent-bit"], **by_url}},
                "outputs": [{"name": "forward", "match": "*", "host": "logs.example.test"}],
            },
        },
        {
            "name": "osquery",
            "params": {
                "source": {"repository": {**stable, "uris": [f"{web.url}/osquery"], **by_file}},
                "flags": ["--disable_events=false"],
            },
        },
    ]
    text = {
        "name": "all",
        "version": "1.0",
        "base": {"id": "ami-0123456789abcdef0"},
        "os": "debian",
        "vars": {"interval": 30},
        "agents": agents,
    }
    (project / "recipes/all.yaml").write_text(json.dumps(text))  # JSON is YAML
    found = recipe.load_project(project)
    return recipe.load(found, "all", recipe.environment(found, "sandbox"))


def file_at(web: Served, name: str) -> dict[str, str]:
    from goldenami.provision import Payload

    built = build_deb(web.folder / "files", name, "3.3.0", VENDOR[name])
    return {"url": f"{web.url}/files/{built.name}", "sha256": Payload.read(built, ANYWHERE).sha256}


def test_every_agent_that_is_shipped_is_tested_here(loaded: Recipe) -> None:
    shipped = {path.parent.name for path in (PROJECT / "recipes/agents").glob("*/agent.yaml")}
    assert set(loaded.agents) == shipped
    assert {test.origin for test in loaded.tests} - {""} == shipped, "each brings a test of its own"


@root
def test_agents_are_installed_and_do_what_their_own_tests_say(host: Host, loaded: Recipe, tmp_path: Path) -> None:
    (stage,) = loaded.provisioning["x86_64"]
    try:
        first = run_stage(host.connection, stage, host.events.append)
    except Exception as error:
        error.add_note("\n".join(host.output()))
        raise
    assert first.changed > 15
    again = run_stage(host.connection, stage)
    assert [(o.title, o.detail) for o in again.operations if o.status == "changed"] == []
    failed = host.sh("systemctl list-units --state=failed --plain --no-legend | cut -d ' ' -f 1")
    assert failed.split() == []
    report = run_suite(
        host.connection.endpoint,
        [TestPath(t.path, t.name) for t in loaded.tests if t.path is not None],
        gate="builder",
        architecture="x86_64",
        report_dir=tmp_path,
        variables={"agents": {name: dict(params) for name, params in loaded.agents.items()}},
    )
    assert report.ok, report.failures
    assert report.passed >= 15
    assert report.skipped == 2, "a container has neither a clock nor an audit trail of its own"
    assert json.loads(host.sh("cat /opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json")) == {
        "agent": {"metrics_collection_interval": 30},
        "metrics": {"namespace": "all"},
    }
