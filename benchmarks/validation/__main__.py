"""Measure validation: `python -m benchmarks.validation [--runs N] [--delays 0,20,60] [--peers]`.

A hundred testinfra checks, unmodified, of one instance of the sandbox, over a relay that delays: by goldenami,
and by one hand-written script that gathers the same facts. Then the two gates of the recipe debian-12-web are built
with it: see `make bench`. Needs root. The goals are printed with the figures; the exit status is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from goldenami_sandbox import control

from benchmarks import figures
from benchmarks.host import launched
from benchmarks.provisioning.relay import Delayed, delayed
from benchmarks.validation import bound, checks
from goldenami import ssh
from goldenami.model import SshEndpoint
from goldenami.validate import prepare, require, run_suite

_START_SECONDS = 2.5
_GATE = "builder"
MOST_RATIO, MOST_TURNS = 1.5, 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.validation", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--delays", default="0,20,60", help="round trip times in milliseconds")
    parser.add_argument("--peers", action="store_true", help="testinfra's own ssh backend as well, which takes long")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        home = Path(folder)
        info = control.up("bench", home=home / "sandbox", die_with_parent=True)
        try:
            with launched(info) as host, delayed(host.address, host.port) as wire:
                endpoint = replace(host, address="127.0.0.1", port=wire.port)
                return measure(endpoint, wire, home, arguments.runs, arguments.delays.split(","), arguments.peers)
        finally:
            control.down("bench", home=home / "sandbox")


def measure(endpoint: SshEndpoint, wire: Delayed, home: Path, runs: int, delays: list[str], peers: bool) -> int:
    ours, cold = "goldenami, as in a build", "goldenami, with the start of pytest"
    one = "one script (the bound)"
    ways: dict[str, Callable[[], None]] = {
        one: script(endpoint, home),
        ours: suite(endpoint, home),
        cold: suite(endpoint, home),
    }
    if peers:
        ways["testinfra's ssh backend"] = testinfra(endpoint, home)
    missed = False
    for text in delays:
        delay = float(text) / 1000
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        turns: dict[str, list[int]] = {name: [] for name in ways}
        wire.set(delay)
        connect(endpoint)
        to_connect = wire.set(delay)
        for _ in range(runs):
            for name, run in ways.items():
                if name == ours:  # as a build does it, while the host is provisioned or captured
                    prepare([Path(checks.__file__)], gate=_GATE, architecture="x86_64", report_dir=home / "reports")
                    time.sleep(_START_SECONDS)
                wire.set(delay)
                started = time.monotonic()
                run()
                seconds[name].append(time.monotonic() - started)
                turns[name].append(wire.set(delay) - to_connect)
        print(f"\n100 checks at {text} ms")
        for name in ways:
            taken, turned = statistics.median(seconds[name]), statistics.median(turns[name])
            print(f"  {name:<40} {taken:6.2f} s   {turned:4.0f} turns after connecting", flush=True)
        ratio = statistics.median(seconds[ours]) / statistics.median(seconds[one])
        turned = statistics.median(turns[ours])
        good = ratio <= MOST_RATIO and turned <= MOST_TURNS
        missed = missed or not good
        figures.note(f"100 checks at {text} ms, to one script", ratio, "", most=MOST_RATIO)
        goal = f"goals <= {MOST_RATIO:g} and <= {MOST_TURNS}"
        print(f"  ratio {ratio:.2f}, {turned:.0f} turns, {goal}{'' if good else '  MISSED'}", flush=True)
    return int(missed)


def connect(endpoint: SshEndpoint) -> None:
    ssh.connect(endpoint, timeout=60).close()


def suite(endpoint: SshEndpoint, home: Path) -> Callable[[], None]:
    """The tests in a process of their own, which may have been prepared."""

    def run() -> None:
        report = run_suite(
            endpoint, [Path(checks.__file__)], gate=_GATE, architecture="x86_64", report_dir=home / "reports"
        )
        require(report)
        if report.flaky:
            raise SystemExit(f"{report.flaky} tests were flaky: see {report.junit}")

    return run


def _options(endpoint: SshEndpoint, home: Path) -> list[str]:
    key, known = home / "key", home / "known_hosts"
    key.write_text(endpoint.private_key)
    key.chmod(0o600)
    known.write_text(f"[127.0.0.1]:{endpoint.port} {endpoint.host_key}\n")
    return ["-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes"]


def script(endpoint: SshEndpoint, home: Path) -> Callable[[], None]:
    """OpenSSH's client, one connection, the script on stdin of a shell."""
    to = ["-p", str(endpoint.port), f"{endpoint.user}@127.0.0.1"]
    command = ["ssh", *_options(endpoint, home), *to, "sh", "-s"]
    data = bound.script().encode()

    def run() -> None:
        done = subprocess.run(command, input=data, capture_output=True, timeout=60)
        if b"bookworm" not in done.stdout or b"root" not in done.stdout:
            raise SystemExit(f"the script failed: {done.stderr.decode()}")

    return run


def testinfra(endpoint: SshEndpoint, home: Path) -> Callable[[], None]:
    """testinfra over OpenSSH with a shared connection (ControlPath)."""
    config = home / "ssh_config"
    options = _options(endpoint, home)
    lines = [f"Port {endpoint.port}", f"User {endpoint.user}", f"IdentityFile {home / 'key'}", *options[5::2]]
    lines += [f"UserKnownHostsFile {home / 'known_hosts'}", "ControlMaster auto", "ControlPersist 5"]
    lines += [f"ControlPath {home / 'control'}"]
    config.write_text("Host 127.0.0.1\n" + "".join(f"  {line.replace('=', ' ')}\n" for line in lines if line))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", checks.__file__]
    command += [f"--ssh-config={config}", "--hosts=ssh://127.0.0.1"]

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=home)

    return run


if __name__ == "__main__":
    sys.exit(main())
