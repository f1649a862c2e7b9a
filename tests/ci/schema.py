"""GitLab's own schema of .gitlab-ci.yml, and the limits that the schema does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from jsonschema.validators import validator_for

from goldenami.ci.gitlab import LONGEST_JOB_NAME, MOST_NEEDS

# "CI/CD YAML syntax reference": keys at the top that are no jobs.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GLOBAL = {"default", "include", "spec", "stages", "variables", "workflow"}


@cache
def _validator(name: str) -> Any:
    schema = json.loads((files("check_jsonschema.builtin_schemas.vendor") / f"{name}.json").read_text())
    return validator_for(schema)(schema)


def check(text: str, schema: str = "gitlab-ci") -> dict[str, Any]:
    """Check YAML with the schema that check-jsonschema has, and return it."""
    found = parse(text)
    assert [error.message for error in _validator(schema).iter_errors(found)] == []
    return found


def parse(text: str) -> dict[str, Any]:
    return dict(yaml.load(text, _LOADER))


def jobs_of(pipeline: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the jobs with what they extend merged into them, as GitLab merges it: mappings in depth."""
    return {
        name: _merged(pipeline, job)
        for name, job in pipeline.items()
        if name not in _GLOBAL and not name.startswith(".")
    }


def _merged(pipeline: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    if "extends" not in job:
        return dict(job)
    return _over(_merged(pipeline, pipeline[job["extends"]]), {k: v for k, v in job.items() if k != "extends"})


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {k: _over(below[k], above[k]) for k in below.keys() & above.keys() if isinstance(above[k], dict)}
    return {**below, **above, **both}


def check_limits(pipeline: Mapping[str, Any]) -> None:
    """Assert what GitLab refuses apart from its schema."""
    jobs = jobs_of(pipeline)
    assert jobs, "GitLab refuses an empty child pipeline"
    needs = {name: [need["job"] for need in job.get("needs", [])] for name, job in jobs.items()}
    for name, job in jobs.items():
        assert len(name) <= LONGEST_JOB_NAME
        assert job["stage"] in pipeline["stages"]
        assert len(needs[name]) <= MOST_NEEDS
        assert set(needs[name]) <= jobs.keys()
    ended: set[str] = set()
    while ready := {name for name in jobs.keys() - ended if set(needs[name]) <= ended}:
        ended |= ready
    assert ended == jobs.keys(), "the needs have a cycle"
