"""Writes the files of ``goldenami init``: the smallest project that builds in the sandbox, with explanations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from goldenami.errors import UsageError
from goldenami.nextstep import command
from goldenami.recipe.jsonschema import KINDS, json_schema

_PROJECT = """\
# yaml-language-server: $schema=.goldenami/schema/environment.json
# Where images are built and published. Commands use the environment sandbox unless --environment names another.
environments:
  sandbox:
    sandbox: true                 # the embedded cloud on this machine: goldenami sandbox up

  # production:
  #   home:                       # builders run here
  #     account: "111111111111"   # account ids need quotes, or YAML reads a number
  #     region: eu-central-1
  #     role: arn:aws:iam::111111111111:role/goldenami-builder
  #   accounts:
  #     apps: {id: "222222222222", role: "arn:aws:iam::222222222222:role/goldenami-publisher"}
  #   targets:
  #     - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}
  #     - {account: apps, regions: [eu-central-1], kms_key: alias/golden-ami}
  #     - {account: apps, regions: [eu-west-1], mode: share}
  #   encryption: launch                       # the builder has the home target's key: no copy there; default: copy
  #   catalog: s3://acme-golden-ami/catalog    # releases and channels; all users and pipelines share it
  #   builds: s3://acme-golden-ami/journals    # journals; in a bucket, another machine can resume a build
"""

_RECIPE = """\
# yaml-language-server: $schema=../.goldenami/schema/recipe.json
# One file, one image. The order of the sections is the order of work. Every key: goldenami schema recipe
name: first-image                 # the file's name
version: "1.0"                    # MAJOR.MINOR; each build appends its date and number
description: Debian 12, patched, with a greeting
owner: me

base:                             # exactly one of ssm, filter (with owners), id, recipe (with channel)
  filter: debian-12-amd64-*
  owners: ["136693071363"]        # the Debian project

vars:                             # used as {{ vars.greeting }}; --var greeting=… overrides
  greeting: Welcome to a golden image

patches: {level: security}        # or all, none

# agents: [chrony]                # goldenami agents list

software:                         # applied in this order, and only if a change is needed
  - package: {name: curl}
  - template: {src: templates/greeting.j2, dest: /etc/greeting, mode: "0644"}
  - sysctl: {name: kernel.dmesg_restrict, value: "1"}

# hardening: {profiles: [debian-12-level-1]}   # goldenami harden list

tests: [base, hygiene, tests/first_image_test.py]   # expect: {ports: [80]}, if it serves something
# Checks in shell: tests/NAME.checks
distribution: {targets: all, channel: candidate}
"""

_TEMPLATE = """\
{{ vars.greeting }} ({{ recipe.name }} {{ recipe.version }})
"""

_TEST = '''\
"""Tests of first-image: pytest-testinfra, run on the builder and again on an instance of the finished image."""


def test_curl_is_installed(host):
    assert host.package("curl").is_installed


def test_greeting_is_the_recipes(host):
    assert "first-image 1.0" in host.file("/etc/greeting").content_string


def test_kernel_log_is_for_root_only(host):
    assert host.sysctl("kernel.dmesg_restrict") == 1
'''

_GITIGNORE = """\
.goldenami/
__pycache__/
"""

FILES = {
    "goldenami.yaml": _PROJECT,
    ".gitignore": _GITIGNORE,
}
EXAMPLE = {
    "recipes/first-image.yaml": _RECIPE,
    "recipes/templates/greeting.j2": _TEMPLATE,
    "recipes/tests/first_image_test.py": _TEST,
}


def scaffold(directory: Path, *, example: bool = True, more: Mapping[str, str] | None = None) -> list[Path]:
    """Write the files of a new project, with the schemas for editors under .goldenami/schema; returns their paths.

    ``example``: write also a first recipe, its template and its test. ``more``: other files, by path.

    Raises UsageError and writes nothing if one of the files exists.
    """
    contents = {**FILES, **(EXAMPLE if example else {}), **(more or {})}
    for kind in KINDS:
        contents[f".goldenami/schema/{kind}.json"] = json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
    hint = f"Choose another directory: {command('init', 'DIR')}"
    return write_new({directory / name: text for name, text in contents.items()}, hint)


def write_new(contents: Mapping[Path, str], hint: str) -> list[Path]:
    """Write files that do not exist; returns their paths. Raises UsageError with the hint, and writes nothing, if one
    of them exists."""
    existing = [str(path) for path in contents if path.exists()]
    if existing:
        raise UsageError(f"nothing was written: these files exist: {', '.join(existing)}", hint=hint)
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Mode "x" fails for a file that was created after the check, and does not overwrite it.
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from None
    return list(contents)
