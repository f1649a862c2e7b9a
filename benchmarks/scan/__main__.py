"""Look at a hardened image with scanners that are not ours: `python -m benchmarks.scan [RECIPE]`.

The recipe is built in a sandbox of its own; in an instance of the result run Lynis and OpenSCAP with the newest content
of the SCAP Security Guide, all three from Debian's archive. Figures stand beside their goals. Needs root, and a while.

A container can never show some of what a machine has (a kernel of its own, partitions): rules about that are listed in
``container.txt`` and not counted. Rules that fail for a wording, though their aim is met, are in ``mistaken.txt`` and
count apart. Installing a package brings rules along, so what passes is a number, not a share.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import boto3
import yaml
from goldenami_sandbox import control
from goldenami_sandbox.control import SandboxInfo

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = Path("/var/cache/goldenami-scan")
ARCHIVE = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CONTENT = "usr/share/xml/scap/ssg/content/ssg-debian{release}-ds.xml"
RULE = "xccdf_org.ssgproject.content_rule_"
XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
# Debian 12's were set before its recipe was written; Debian 13's after its first scan, to keep what was reached.
GOALS = {
    "12": {"lynis": 85, "cis_level2_server": 420, "cis_level1_server": 328},
    "13": {"lynis": 85, "cis_level2_server": 440, "cis_level1_server": 340},
}

# What the benchmarks demand, and what is not the default, because it stops the machine.
STRICT = {"audit_admin_space_left": "halt", "audit_disk_full": "halt", "audit_disk_error": "halt"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scan", description=__doc__)
    parser.add_argument("recipe", nargs="?", default="debian-12-hardened", help="default: %(default)s")
    parser.add_argument("--release", default="12", choices=GOALS, help="of Debian (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("scan-out"), help="where reports go (default %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tools = downloaded(options.release)
    with tempfile.TemporaryDirectory(prefix="goldenami-scan-") as folder:
        info = control.up("scan", home=Path(folder), die_with_parent=True)
        try:
            image = built(info, options.recipe, Path(folder))
            figures = scanned(info, image, tools, options.out)
        finally:
            control.down("scan", home=Path(folder))
    return 0 if shown(figures, GOALS[options.release]) else 1


def downloaded(release: str) -> Path:
    """A directory with the newest Lynis and SCAP content of Debian's archive; fetched once a machine."""
    tree = CACHE / "tree"
    if (tree / CONTENT.format(release=release)).exists() and (tree / "usr/sbin/lynis").exists():
        return tree
    for path in ("lists/partial", "archives/partial", "tree"):
        (CACHE / path).mkdir(parents=True, exist_ok=True)
    (CACHE / "sources.list").write_text(f"deb [signed-by={KEYRING}] {ARCHIVE} sid main\n")
    settings = {
        "Dir::Etc::SourceList": CACHE / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": CACHE,
        "Dir::State::status": "/dev/null",
        "Dir::Cache": CACHE,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    say("fetching Lynis and the SCAP content from Debian's archive")
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", "lynis", "ssg-debian"], check=True, cwd=CACHE)
    for package in CACHE.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=True)
        package.unlink()
    return tree


def built(info: SandboxInfo, recipe: str, folder: Path) -> str:
    """The id of the image in the home region. The build has a project of its own, so that no release is in its way."""
    project = folder / "project"
    project.mkdir()
    (project / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true}\n")
    (project / "recipes").symlink_to(ROOT / "recipes")
    shutil.copytree(ROOT / "hardening", project / "hardening")
    for path in (project / "hardening/profiles").glob("*-level-2.yaml"):
        profile = yaml.safe_load(path.read_text())
        profile["variables"] = {**profile.get("variables", {}), **STRICT}
        path.write_text(yaml.safe_dump(profile))
    say(f"building {recipe}")
    command = [sys.executable, "-m", "goldenami.cli.main", "build", recipe, "--json"]
    environment = {**os.environ, **info.variables(), "GOLDENAMI_SANDBOX_HOME": str(folder)}
    output = subprocess.run(command, cwd=project, env=environment, stdout=subprocess.PIPE, check=True).stdout
    rows = json.loads(output)["builds"][-1]["manifest"]["images"]
    return str(next(row["image_id"] for row in rows if row["region"] == "eu-central-1"))


def scanned(info: SandboxInfo, image: str, tools: Path, out: Path) -> Mapping[str, Mapping[str, int]]:
    """Launch an instance, scan it, terminate it. Figures by scan."""
    ec2 = boto3.client("ec2", **info.client())
    answer = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)
    instance = answer["Instances"][0]["InstanceId"]
    try:
        ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 90})
        inside(info, instance, "mkdir -p /opt/scan && tar -C /opt/scan -xf -", archive(tools))
        program = (HERE / "inside.sh").read_bytes()
        found: dict[str, Mapping[str, int]] = {}
        say("Lynis")
        report = inside(info, instance, "sh -s lynis", program).decode(errors="replace")
        (out / "lynis.report").write_text(report)
        found["lynis"] = lynis(report)
        for profile in ("cis_level2_server", "cis_level1_server"):
            say(f"OpenSCAP: {profile}")
            results = inside(info, instance, f"sh -s scap {profile}", program)
            (out / f"{profile}.xml").write_bytes(results)
            verdicts = scap(results)
            lines = sorted(f"{verdict} {rule}\n" for rule, verdict in verdicts.items())
            (out / f"{profile}.verdicts").write_text("".join(lines))
            found[profile] = counted(verdicts)
        return found
    finally:
        ec2.terminate_instances(InstanceIds=[instance])


def archive(tree: Path) -> bytes:
    """What the instance needs of the packages. Everything in it is root's: Lynis refuses to run otherwise."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in (tree / "usr/share/lynis", tree / "usr/sbin/lynis", tree / "etc/lynis"):
            tar.add(path, path.relative_to(tree), filter=owned)
        for path in tree.glob(CONTENT.format(release="*")):
            tar.add(path, path.name, filter=owned)
    return packed.getvalue()


def inside(info: SandboxInfo, instance: str, command: str, stdin: bytes) -> bytes:
    """What a shell command prints that root runs in an instance."""
    done = subprocess.run(
        control.shell_argv(info, instance, ["sh", "-c", command]), input=stdin, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def lynis(report: str) -> Mapping[str, int]:
    """The index, and how many suggestions and warnings there are."""
    index = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    if index is None:
        raise SystemExit("Lynis gave no index; its report is in the output directory")
    return {
        "score": int(index[1]),
        "warnings": len(re.findall(r"^warning\[\]=", report, re.MULTILINE)),
        "suggestions": len(re.findall(r"^suggestion\[\]=", report, re.MULTILINE)),
    }


def scap(results: bytes) -> dict[str, str]:
    """Verdicts by rule, of those that the profile selects."""
    found = {}
    for result in ElementTree.fromstring(results).iter(f"{XCCDF}rule-result"):
        verdict = result.findtext(f"{XCCDF}result", "")
        if verdict != "notselected":
            found[result.get("idref", "").removeprefix(RULE)] = verdict
    return found


def counted(verdicts: Mapping[str, str]) -> Mapping[str, int]:
    """How many rules passed and failed (of these: mistaken), without those that no container can pass."""
    never, mistaken = rules("container.txt"), rules("mistaken.txt")
    fair = {rule: verdict for rule, verdict in verdicts.items() if not never.fullmatch(rule)}
    failed = [rule for rule, verdict in fair.items() if verdict in ("fail", "error", "unknown")]
    return {
        "score": Counter(fair.values())["pass"],
        "failed": len(failed),
        "mistaken": sum(1 for rule in failed if mistaken.fullmatch(rule)),
        "all": len(verdicts),
    }


def rules(name: str) -> re.Pattern[str]:
    """The ids that a list beside this file names."""
    patterns = [line.split("#")[0].strip() for line in (HERE / name).read_text().splitlines()]
    return re.compile("|".join(pattern for pattern in patterns if pattern))


def shown(figures: Mapping[str, Mapping[str, int]], goals: Mapping[str, int]) -> bool:
    """Print them, and say whether every goal is met, counting mistaken rules as passed."""
    good = True
    for scan, found in figures.items():
        mistaken = found.get("mistaken", 0)
        met = found["score"] + mistaken >= goals[scan]
        good = good and met
        score = f"{found['score']} + {mistaken} mistaken" if mistaken else str(found["score"])
        others = ", ".join(f"{count} {what}" for what, count in found.items() if what not in ("score", "mistaken"))
        print(f"{scan:<20} {score:<18} goal >= {goals[scan]}  {'ok' if met else 'NOT MET'}  ({others})")
    return good


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
