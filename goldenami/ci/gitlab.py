"""The child pipeline of GitLab for some recipes: a job for each recipe along their graph, and one that promotes it.

GitLab starts a job as soon as the jobs in its ``needs`` have ended. So a base is built before its children, children of
one base are built side by side, and the fleet of runners decides how many builds run at the same time. One build makes
one release with the images of all architectures of a recipe, so a recipe has one job.

What all jobs share is in hidden jobs (``.goldenami-build``, ``.goldenami-promote``), so that a pipeline of a thousand
recipes stays far below GitLab's limit for a generated file. Everything that a job needs is in its own variables: GitLab
expands them, and the shell quotes them.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from goldenami.ci.dotenv import variable
from goldenami.errors import UsageError

# "Use a dynamic child pipeline" and "CI/CD YAML syntax reference" (GitLab).
MOST_BYTES: Final = 5 << 20  # of the artifact with a generated pipeline
MOST_NEEDS: Final = 50
LONGEST_JOB_NAME: Final = 255

TOKEN: Final = "GOLDENAMI_ID_TOKEN"  # the name of a variable
AUDIENCE: Final = "GOLDENAMI_OIDC_AUDIENCE"
ROLES: Final = {"plan": "GOLDENAMI_PLAN_ROLE", "build": "GOLDENAMI_BUILD_ROLE", "promote": "GOLDENAMI_PROMOTE_ROLE"}

_FILES: Final = ".goldenami/ci"  # of the jobs, in the folder of the project, which .gitignore has
_FILE: Final = f"{_FILES}/$GOLDENAMI_RECIPE"

Pipeline = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A recipe to build. ``base``: the recipe that it is built on, if it is in the same pipeline. ``channel``: the
    channel that its build moves."""

    name: str
    base: str | None
    channel: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How a pipeline is generated.

    ``why``: the line at its top. ``include``: a file of the project with settings for all jobs, such as the image and
    the tags of runners. ``promote_to``: the channel of the manual jobs, None for a pipeline without them. ``wait``: how
    long a job waits for another build of its recipe.
    """

    environment: str
    why: str
    include: str | None = None
    promote_to: str | None = "stable"
    wait: str = "1h"


def generate(nodes: Sequence[Node], settings: Settings) -> str:
    """Return the child pipeline as YAML. Without recipes it has one job, because GitLab refuses an empty pipeline.

    Raises UsageError if it is larger than GitLab allows.
    """
    text = f"# {settings.why}\n# Written by `goldenami ci generate`.\n{dump(pipeline(nodes, settings))}"
    if len(text.encode()) > MOST_BYTES:
        raise UsageError(
            f"the pipeline of {len(nodes)} recipes has {len(text.encode())} bytes, and GitLab reads "
            f"{MOST_BYTES} at most",
            hint="Divide the recipes over several projects, or over several environments.",
        )
    return text


def pipeline(nodes: Sequence[Node], settings: Settings) -> Pipeline:
    """Return the child pipeline as YAML values."""
    made: Pipeline = {"include": [{"local": settings.include}]} if settings.include is not None else {}
    if not nodes:
        return {**made, "stages": ["build"], "nothing to build": _nothing(settings)}
    promoted = [node for node in nodes if settings.promote_to not in (None, node.channel)]
    made["stages"] = ["build", "promote"] if promoted else ["build"]
    made[".goldenami-build"] = _build(settings)
    if promoted:
        made[".goldenami-promote"] = _promote()
    names = {node.name for node in nodes}
    for node in nodes:
        made[job_name("build", node.name)] = {
            "extends": ".goldenami-build",
            "variables": {"GOLDENAMI_RECIPE": node.name},
            "resource_group": f"goldenami/{settings.environment}/{node.name}",
            "needs": [_need(node.base)] if node.base in names else [],
            "artifacts": {
                "paths": [f"{_FILES}/{node.name}.json"],
                "reports": {"junit": f"{_FILES}/{node.name}.xml", "dotenv": f"{_FILES}/{node.name}.env"},
            },
        }
    for node in promoted:
        made[job_name("promote", node.name)] = {
            "extends": ".goldenami-promote",
            "variables": {"GOLDENAMI_RECIPE": node.name},
            "resource_group": f"goldenami/{settings.environment}/{node.name}",
            "environment": {"name": f"{settings.environment}/{node.name}", "deployment_tier": "production"},
            "needs": [_need(node.name)],
            "script": [*login("promote"), _promotion(node, settings)],
        }
    return made


def job_name(verb: str, recipe: str) -> str:
    """Return the name of a job. A name that GitLab would refuse is shortened, and stays unique."""
    name = f"{verb} {recipe}"
    if len(name) <= LONGEST_JOB_NAME:
        return name
    mark = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return f"{name[: LONGEST_JOB_NAME - len(mark) - 1]}~{mark}"


def _need(recipe: str | None) -> dict[str, Any]:
    assert recipe is not None
    return {"job": job_name("build", recipe), "artifacts": True}


def _nothing(settings: Settings) -> Pipeline:
    return {
        "stage": "build",
        "variables": {"GIT_STRATEGY": "none"},
        "before_script": [],
        "cache": [],
        "script": [f"echo {shlex.quote(f'nothing to build: {settings.why}')}"],
    }


def _build(settings: Settings) -> Pipeline:
    on = shlex.quote(settings.environment)
    return {
        "stage": "build",
        "interruptible": False,  # a newer pipeline does not cancel a build that runs
        "id_tokens": id_tokens(),
        "variables": {"RUNNER_AFTER_SCRIPT_TIMEOUT": "15m"},  # the runner's own limit is 5 minutes
        "script": [
            *login("build"),
            f"mkdir -p {_FILES}",
            (
                f'goldenami build "$GOLDENAMI_RECIPE" --environment {on} --resume --wait={settings.wait} '
                f'--junit "{_FILE}.xml" --dotenv "{_FILE}.env" --json >"{_FILE}.json"'
            ),
        ],
        # A failed build has deleted what a later one cannot use; the next run continues the rest (--resume).
        "after_script": [
            *login("build"),
            (
                'if [ "$CI_JOB_STATUS" != failed ]; then '
                f'goldenami clean --recipe "$GOLDENAMI_RECIPE" --environment {on} --wait=2m; fi'
            ),
        ],
        "artifacts": {"when": "always", "expire_in": "4 weeks"},
        # Another runner continues the build of one that was lost.
        "retry": {"max": 2, "when": ["runner_system_failure", "stuck_or_timeout_failure"]},
    }


def _promote() -> Pipeline:
    return {
        "stage": "promote",
        "when": "manual",
        "allow_failure": True,  # the pipeline is not blocked until somebody promotes
        "interruptible": False,
        "id_tokens": id_tokens(),
    }


def _promotion(node: Node, settings: Settings) -> str:
    """Return the command that promotes the very release of the pipeline, which may not be the newest any more."""
    version = f"${{{variable(node.name)}_VERSION}}"
    return (
        f'goldenami promote "$GOLDENAMI_RECIPE@{version}" --to {shlex.quote(settings.promote_to or "")} '
        f"--environment {shlex.quote(settings.environment)} "
        '--reason "$CI_PIPELINE_URL, started by $GITLAB_USER_LOGIN"'
    )


# --- parts that the pipeline of a project has too (``scaffold``) ------------------------------------------------------


def id_tokens() -> dict[str, Any]:
    """Return the ID token of a job, with which AWS lets it assume a role."""
    return {TOKEN: {"aud": f"${AUDIENCE}"}}


def login(purpose: str) -> list[str]:
    """Return the commands that let boto3 assume the role of a purpose with the job's ID token.

    Without the variable of the role, the job uses the credentials that its runner has. The name of the session is that
    of the user, so that CloudTrail and the history of channels show who started the job.
    """
    role = ROLES[purpose]
    return [
        f"""if [ -n "${{{role}:-}}" ]; then
  export AWS_WEB_IDENTITY_TOKEN_FILE="$(mktemp)" AWS_ROLE_ARN="${role}"
  export AWS_ROLE_SESSION_NAME="$(printf 'gitlab-%.57s' "${{GITLAB_USER_LOGIN:-}}")"
  trap 'rm -f "$AWS_WEB_IDENTITY_TOKEN_FILE"' EXIT
  printf %s "${TOKEN}" >"$AWS_WEB_IDENTITY_TOKEN_FILE"
fi
"""
    ]


# PyYAML without libyaml: the same text, slower.
_BASE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BASE):  # type: ignore[misc]
    """Writes texts of several lines as blocks, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(values: Mapping[str, Any]) -> str:
    """Return YAML, with the keys in their order."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
