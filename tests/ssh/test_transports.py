"""A transport of an installed package: SSH over its socket works in the same way as over a direct connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import extensions, ssh
from goldenami.errors import NotFound, UsageError
from goldenami.model import SshEndpoint

MODULE = '''\
import socket
import threading

calls = []


def open_socket(endpoint, patience):
    """A relay in this process, with a socket pair."""
    calls.append((endpoint.instance_id, endpoint.region))
    if len(calls) == 1:
        raise ConnectionRefusedError("not yet")
    ours, theirs = socket.socketpair()
    host = socket.create_connection((endpoint.address, endpoint.port))
    for source, sink in ((theirs, host), (host, theirs)):
        threading.Thread(target=copy, args=(source, sink), daemon=True).start()
    return ours


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an installed package that adds the transport ``relay``."""
    (tmp_path / "relay_transport.py").write_text(MODULE)
    install(tmp_path, "relay", "relay = relay_transport:open_socket")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    import sys

    sys.modules.pop("relay_transport", None)


def install(site: Path, name: str, *entries: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[goldenami.transports]", *entries, ""]))


def test_commands_run_over_the_transport_of_a_package(endpoint: SshEndpoint, site: Path) -> None:
    by_relay = replace(endpoint, transport="relay", instance_id="i-1", region="eu-central-1")
    with ssh.connect(by_relay, timeout=20) as connection:
        assert connection.run("cat", stdin=b"x" * 3_000_000).stdout == b"x" * 3_000_000
        connection.reconnect(timeout=20)
        assert connection.run("echo again").text == "again"
    import relay_transport  # type: ignore[import-not-found]

    # The first attempt was refused and repeated. Then there is one for each connection.
    assert relay_transport.calls == [("i-1", "eu-central-1")] * 3


def test_a_transport_that_is_not_installed_is_an_error(endpoint: SshEndpoint) -> None:
    with pytest.raises(NotFound, match=r"no installed package adds 'relay' to goldenami\.transports"):
        ssh.connect(replace(endpoint, transport="relay"), timeout=5)


def test_a_transport_that_cannot_be_imported_is_an_error(endpoint: SshEndpoint, site: Path) -> None:
    (site / "relay_transport.py").write_text("import nowhere")
    with pytest.raises(UsageError, match=r"relay 1\.0: .*ModuleNotFoundError: No module named 'nowhere'"):
        ssh.connect(replace(endpoint, transport="relay"), timeout=5)


def test_two_packages_with_the_same_transport_name_are_an_error(site: Path) -> None:
    install(site, "other", "relay = other_transport:open_socket")
    with pytest.raises(UsageError, match=r"two packages add 'relay' to goldenami\.transports"):
        extensions.installed(extensions.TRANSPORTS)
