"""Writes the files of ``goldenami init --ci gitlab``: the pipeline of a project, and the settings of its jobs."""

from __future__ import annotations

from typing import Final

from goldenami import __version__
from goldenami.ci import gitlab, note

PIPELINE: Final = ".gitlab-ci.yml"
SETTINGS: Final = ".gitlab/goldenami.yml"

_SETTINGS = """\
# How the jobs of goldenami run. .gitlab-ci.yml includes this file, and so do the child pipelines that build images.
default:
  image: python:3.13
  timeout: 6 hours              # more than the longest build takes
  # tags: [images]              # runners that reach the builders: see network in goldenami.yaml
  before_script:
    - command -v goldenami >/dev/null || pip install --quiet "$GOLDENAMI_REQUIREMENT"

variables:
  GOLDENAMI_REQUIREMENT: goldenami==%(version)s
  # An environment of goldenami.yaml. Its catalog and its journals (builds) must be in a bucket, for all runners.
  GOLDENAMI_ENVIRONMENT: %(environment)s
  # The audience of the jobs' ID tokens: the client id of the OpenID Connect provider in IAM.
  %(audience)s: sts.amazonaws.com
  # In the settings of the GitLab project (CI/CD > Variables), set the ARNs of the roles:
  #   %(plan)s      reads only; pipelines of merge requests may assume it
  #   %(build)s     only pipelines of protected branches may assume it
  #   %(promote)s   only jobs of protected environments may assume it
  # and, if you like, %(token)s: a project access token with the scope api, for the notes with plans.
"""

_PIPELINE = """\
# The pipeline of golden images:
#
#   merge request             validate; what the files change and the plan, as notes; the child pipeline, as an artifact
#   push to the main branch   validate, plan, and a child pipeline that builds what the push changed, and what follows
#   by hand (New pipeline)    the same, for all recipes; one that did not change is not built
#   schedules                 set the variable GOLDENAMI_SCHEDULE of a pipeline schedule (Build > Pipeline schedules):
#                             nightly: build what has updates, delete what lost builds left, look for drift, and
#                                      publish the catalog with GitLab Pages, if GOLDENAMI_PAGES is yes
#                             weekly: deprecate and delete old releases
include:
  - local: %(settings)s

stages: [check, plan, generate, images, upkeep]

workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH

validate:
  stage: check
  interruptible: true
  rules:
    - if: $CI_PIPELINE_SOURCE != "schedule"
  script:
    - goldenami validate --format codeclimate >gl-code-quality-report.json
  artifacts:
    when: always
    reports:
      codequality: gl-code-quality-report.json

# What the files of the merge request change, and where. It needs no role, so merge requests of forks have it, too.
changes:
  stage: check
  interruptible: true
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  variables:
    GIT_DEPTH: "0" # the commit to compare with
  script:
    # The target branch in pipelines for merged results, otherwise the commit where the branch began.
    - since="${CI_MERGE_REQUEST_TARGET_BRANCH_SHA:-$CI_MERGE_REQUEST_DIFF_BASE_SHA}"
    - goldenami plan --diff "$since" --markdown >changes.md
    - goldenami ci note changes.md
  artifacts:
    paths: [changes.md]

# What a build would do now: also updates of packages, new base images, releases that are gone.
plan:
  stage: plan
  needs: [validate]
  interruptible: true
  rules:
    - if: $CI_PIPELINE_SOURCE != "schedule"
  id_tokens:
    %(id_token)s:
      aud: $%(audience)s
  script:
    - |
%(login_plan)s
    # The note is written also if some of the recipes cannot be planned.
    - |
      code=0
      goldenami plan --all --markdown >plan.md || code=$?
      if [ -s plan.md ]; then goldenami ci note plan.md; fi
      exit "$code"
  artifacts:
    when: always
    paths: [plan.md]

# The child pipeline: a job for each recipe to build, and manual jobs that promote the new releases.
generate:
  stage: generate
  rules:
    - if: $CI_PIPELINE_SOURCE != "schedule"
    - if: $GOLDENAMI_SCHEDULE == "nightly"
  needs:
    - job: validate
      optional: true
  variables:
    GIT_DEPTH: "0"
  script:
    # CI_COMMIT_BEFORE_SHA: the commit before a push. It is zeros if there is none, and that selects all recipes.
    - |
      since="$CI_COMMIT_BEFORE_SHA"
      if [ "$CI_PIPELINE_SOURCE" = merge_request_event ]; then
        since="${CI_MERGE_REQUEST_TARGET_BRANCH_SHA:-$CI_MERGE_REQUEST_DIFF_BASE_SHA}"
      fi
      set -- --changed-since "$since"
      if [ "$CI_PIPELINE_SOURCE" = schedule ]; then set -- --night; fi
      goldenami ci generate "$@" --promote-to stable --include %(settings)s --output goldenami-pipeline.yml
  artifacts:
    paths: [goldenami-pipeline.yml]

# A merge request builds nothing: only reviewed recipes reach the channels.
images:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      when: never
    - if: $CI_PIPELINE_SOURCE != "schedule"
    - if: $GOLDENAMI_SCHEDULE == "nightly"
  stage: images
  needs: [generate]
  trigger:
    include:
      - artifact: goldenami-pipeline.yml
        job: generate
    strategy: depend

.upkeep:
  stage: upkeep
  needs: []
  interruptible: false
  id_tokens:
    %(id_token)s:
      aud: $%(audience)s

# Temporary resources of builds whose runner and journal are lost.
clean:
  extends: .upkeep
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule" && $GOLDENAMI_SCHEDULE == "nightly"
  script:
    - |
%(login_build)s
    - goldenami clean --expired

# Releases that differ from what their recipes and goldenami.yaml declare now. Exit code 8: there are some.
drift:
  extends: .upkeep
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule" && $GOLDENAMI_SCHEDULE == "nightly"
  allow_failure:
    exit_codes: [8]
  script:
    - |
%(login_plan)s
    - goldenami drift --detailed-exitcode

# The catalog as pages for the teams that use the images (GitLab Pages), also if a build of the night failed. Set the
# variable GOLDENAMI_PAGES to yes, and decide who may see the pages: Settings > General > Visibility. The pages name
# vulnerabilities if goldenami.yaml has feeds; and instances and snapshots if a job before this one keeps fleet.json
# (goldenami fleet --json) and lineage/NAME.json (goldenami snapshot lineage NAME@CHANNEL --json) as artifacts.
pages:
  extends: .upkeep
  needs:
    - job: images
      optional: true
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule" && $GOLDENAMI_SCHEDULE == "nightly" && $GOLDENAMI_PAGES == "yes"
      when: always
  script:
    - |
%(login_plan)s
    - |
      if [ ! -e scan.json ]; then
        goldenami scan --all --json >scan.json || [ $? = 5 ] || rm scan.json
      fi
      set -- --out public
      for report in scan fleet; do
        if [ -e "$report.json" ]; then set -- "$@" "--$report" "$report.json"; fi
      done
      for report in lineage/*.json; do
        if [ -e "$report" ]; then set -- "$@" --lineage "$report"; fi
      done
      goldenami site build "$@"
  artifacts:
    paths: [public]

retire:
  extends: .upkeep
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule" && $GOLDENAMI_SCHEDULE == "weekly"
  script:
    - |
%(login_build)s
    - goldenami retire
"""


def files(environment: str) -> dict[str, str]:
    """Return the files of the pipeline: path -> text. ``environment``: the one of goldenami.yaml that is built for."""
    values = {
        "version": __version__,
        "environment": environment,
        "settings": SETTINGS,
        "audience": gitlab.AUDIENCE,
        "id_token": gitlab.TOKEN,
        "token": note.TOKEN,
        **gitlab.ROLES,
        **{f"login_{purpose}": _block(gitlab.login(purpose)) for purpose in gitlab.ROLES},
    }
    return {PIPELINE: _PIPELINE % values, SETTINGS: _SETTINGS % values}


def _block(commands: list[str]) -> str:
    """Indent commands for a block of YAML in a list of a job."""
    return "\n".join(f"      {line}" for command in commands for line in command.splitlines())
