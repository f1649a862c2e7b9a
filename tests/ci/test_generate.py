"""The child pipeline of GitLab: valid for GitLab's schema and limits, whatever the graph of the recipes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenami.ci import gitlab, scaffold
from goldenami.ci.dotenv import variable
from goldenami.ci.gitlab import Node, Settings
from goldenami.cli.main import main
from goldenami.errors import UsageError
from tests.ci.schema import check, check_limits, jobs_of, parse

NIGHT = Settings("production", "all recipes", include=".gitlab/goldenami.yml")
WEB = Node("debian-12-web", "debian-12-base", "candidate")
BASE = Node("debian-12-base", None, "candidate")

# The names of recipes (``words.NAME``), and longer ones than a recipe can have.
names = st.from_regex(r"[a-z0-9]{1,9}((-|\.)[a-z0-9]{1,9}){0,5}", fullmatch=True) | st.text("ab0", min_size=240)


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Recipes, each on one of those before it or on another image."""
    found: list[Node] = []
    for name in draw(st.lists(names, max_size=60, unique=True)):
        base = draw(st.none() | st.sampled_from(found)) if found else None
        found.append(Node(name, base.name if base else None, draw(st.sampled_from(["candidate", "stable"]))))
    return draw(st.permutations(found))


@settings(max_examples=25)
@given(graphs(), st.sampled_from(["stable", None]))
def test_any_graph_is_a_pipeline_that_gitlab_accepts(nodes: list[Node], channel: str | None) -> None:
    text = gitlab.generate(nodes, Settings("production", "why", promote_to=channel))
    # All jobs have the same keys, and the schema takes half a second for fifty jobs.
    pipeline = check(text) if len(nodes) < 6 else parse(text)
    check_limits(pipeline)
    jobs = jobs_of(pipeline)
    builds = [job for name, job in jobs.items() if name.startswith("build ")]
    assert sorted(job["variables"]["GOLDENAMI_RECIPE"] for job in builds) == sorted(node.name for node in nodes)
    assert len({job["resource_group"] for job in builds}) == len(nodes)
    promoted = {node.name for node in nodes if channel and node.channel != channel}
    assert len(jobs) == max(len(nodes) + len(promoted), 1)


def test_a_star_of_a_thousand_children_needs_one_job_each() -> None:
    nodes = [BASE, *(Node(f"child-{number}", BASE.name, "candidate") for number in range(1000))]
    text = gitlab.generate(nodes, NIGHT)
    check_limits(parse(text))
    assert len(text) < gitlab.MOST_BYTES / 4


def test_a_pipeline_that_gitlab_would_not_read_is_refused() -> None:
    nodes = [Node(f"{number:05}{'a' * 1000}", None, "stable") for number in range(1000)]
    with pytest.raises(UsageError, match="1000 recipes has"):
        gitlab.generate(nodes, NIGHT)


def test_the_jobs_of_a_base_and_its_child() -> None:
    pipeline = check(gitlab.generate([WEB, BASE], NIGHT))
    assert pipeline["include"] == [{"local": ".gitlab/goldenami.yml"}]
    jobs = jobs_of(pipeline)
    assert list(jobs) == [f"{verb} {name}" for verb in ("build", "promote") for name in (WEB.name, BASE.name)]
    base, web, promote = jobs["build debian-12-base"], jobs["build debian-12-web"], jobs["promote debian-12-web"]

    assert base["needs"] == []
    assert web["needs"] == [{"job": "build debian-12-base", "artifacts": True}]
    assert web["interruptible"] is False
    assert web["resource_group"] == promote["resource_group"] == "goldenami/production/debian-12-web"
    assert web["id_tokens"] == {"GOLDENAMI_ID_TOKEN": {"aud": "$GOLDENAMI_OIDC_AUDIENCE"}}
    assert "GOLDENAMI_BUILD_ROLE" in web["script"][0]
    assert "GOLDENAMI_BUILD_ROLE" in web["after_script"][0]
    assert "goldenami clean --recipe" in web["after_script"][-1]
    assert set(web["artifacts"]["reports"]) == {"junit", "dotenv"}

    assert promote["when"] == "manual"
    assert promote["environment"] == {"name": "production/debian-12-web", "deployment_tier": "production"}
    assert promote["needs"] == [{"job": "build debian-12-web", "artifacts": True}]
    assert "GOLDENAMI_PROMOTE_ROLE" in promote["script"][0]
    assert '"$GOLDENAMI_RECIPE@${AMI_DEBIAN_12_WEB_VERSION}" --to stable' in promote["script"][1]


def test_nothing_to_build_is_a_job_that_prints_so(tmp_path: Path) -> None:
    pipeline = check(gitlab.generate([], Settings("production", "recipes that changed since it's $HOME")))
    (job,) = jobs_of(pipeline).values()
    done = subprocess.run(job["script"][0], shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert done.stdout == "nothing to build: recipes that changed since it's $HOME\n"


def test_the_variables_of_a_recipe_can_be_exported() -> None:
    assert variable("ubuntu-24.04-base") == "AMI_UBUNTU_24_04_BASE"


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
@pytest.mark.parametrize("role", ["", "arn:aws:iam::111111111111:role/builder"])
def test_the_login_of_a_job(shell: str, role: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    command = """
: "${AWS_ROLE_ARN:=}" "${AWS_ROLE_SESSION_NAME:=}"
echo "$AWS_ROLE_ARN $AWS_ROLE_SESSION_NAME"
if [ -n "$AWS_ROLE_ARN" ]; then cat "$AWS_WEB_IDENTITY_TOKEN_FILE"; fi
"""
    done = subprocess.run(
        [program, "-euc", "\n".join([*gitlab.login("build"), command])],
        env={
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(tmp_path),
            "GOLDENAMI_BUILD_ROLE": role,
            "GOLDENAMI_ID_TOKEN": "token'%s",
            "GITLAB_USER_LOGIN": "a" * 100,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout == (f"{role} gitlab-{'a' * 57}\ntoken'%s" if role else " \n")
    assert list(tmp_path.iterdir()) == [], "the token does not stay on the disk"


# --- the files of init ------------------------------------------------------------------------------------------------


def test_init_writes_a_pipeline_that_gitlab_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--ci", "gitlab", "-e", "images", str(tmp_path)]) == 0
    pipeline = check((tmp_path / ".gitlab-ci.yml").read_text())
    own = check((tmp_path / ".gitlab/goldenami.yml").read_text())
    assert pipeline["include"] == [{"local": ".gitlab/goldenami.yml"}]
    assert own["variables"]["GOLDENAMI_ENVIRONMENT"] == "images"
    jobs = jobs_of(pipeline)
    assert list(jobs) == ["validate", "changes", "plan", "generate", "images", "clean", "drift", "pages", "retire"]
    for job in jobs.values():
        assert job["stage"] in pipeline["stages"]
    assert jobs["images"]["trigger"]["include"] == [{"artifact": "goldenami-pipeline.yml", "job": "generate"}]
    merge_request, *others = jobs["images"]["rules"]
    assert merge_request == {"if": '$CI_PIPELINE_SOURCE == "merge_request_event"', "when": "never"}
    assert others == jobs["generate"]["rules"]
    assert main(["-C", str(tmp_path), "validate"]) == 0


def test_init_adds_a_pipeline_to_a_project_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    assert main(["init", "--ci", "gitlab", str(tmp_path)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [tmp_path / scaffold.PIPELINE, tmp_path / scaffold.SETTINGS]
    before = [path.read_text() for path in written]
    written[0].write_text("mine\n")
    assert main(["init", "--ci", "gitlab", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "nothing was written" in told
    assert "merge include" in told
    assert [path.read_text() for path in written] == ["mine\n", before[1]]
    assert main(["init", "--ci", "gitlab", "--from", "debian-12-base", str(tmp_path)]) == 2


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert main(["init", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


def repository(project: Path) -> str:
    """Commit the files of a project in a new repository. Returns the id of the commit."""
    git = ["git", "-C", str(project), "-c", "user.name=Author", "-c", "user.email=author@example.com"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "First"]):
        subprocess.run([*git, *command], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_the_night_has_all_recipes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["ci", "generate", "--night"]) == 0
    out, err = capsys.readouterr()
    assert list(jobs_of(check(out))) == ["build first-image", "promote first-image"]
    assert "1 recipe to build: first-image" in err
    assert main(["ci", "generate", "--night", "--no-promote", "--output", "out/child.yml"]) == 0
    assert list(jobs_of(check(Path("out/child.yml").read_text()))) == ["build first-image"]
    assert capsys.readouterr().out == ""


def test_what_changed_since_a_commit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on = {
        "web": '{filter: debian-12-amd64-*, owners: ["136693071363"]}',
        "app": "{recipe: web, channel: candidate}",
        "shop": "{recipe: web, channel: stable}",
    }
    for name, base in on.items():
        Path(f"recipes/{name}.yaml").write_text(
            f"name: {name}\nversion: '1.0'\nbase: {base}\ntests: [base]\ndescription: its purpose\n"
        )
    commit = repository(project)

    def changed(ref: str) -> list[str]:
        capsys.readouterr()
        assert main(["ci", "generate", "--changed-since", ref, "--no-promote"]) == 0
        return list(jobs_of(check(capsys.readouterr().out)))

    assert changed("HEAD") == ["nothing to build"]
    (project / "recipes/app.yaml").write_text((project / "recipes/app.yaml").read_text().replace("purpose", "use"))
    assert changed(commit) == ["nothing to build"]
    (project / "recipes/web.yaml").write_text((project / "recipes/web.yaml").read_text().replace("1.0", "1.1"))
    assert changed("main") == ["build web", "build app"]
    assert main(["ci", "generate", "--changed-since", commit]) == 0
    out, err = capsys.readouterr()
    assert f"# recipes that changed since {commit[:12]}, and those that follow, for the environment sandbox\n" in out
    assert jobs_of(check(out))["build app"]["needs"] == [{"job": "build web", "artifacts": True}]
    assert "shop: it is built on web@stable, and a build of web moves candidate: it follows after a promotion" in err
    assert changed("0" * 40) == [f"build {name}" for name in ("web", "app", "first-image", "shop")], "all recipes"


def test_wrong_options_are_errors(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ci", "generate"]) == main(["ci", "generate", "--night", "--changed-since", "HEAD"]) == 2
    assert capsys.readouterr().err.count("expected either --night or --changed-since REF") == 2
    assert main(["ci", "generate", "--changed-since", ""]) == 2
    assert main(["ci", "generate", "--changed-since", "HEAD"]) == 2
    assert "is not in a Git repository" in capsys.readouterr().err
    repository(project)
    assert main(["ci", "generate", "--changed-since", "1" * 40]) == 3
    assert main(["ci", "generate", "--night", "--promote-to", "$(id)"]) == 2
    Path("recipes/first-image.yaml").write_text("name: first-image\n")
    assert main(["ci", "generate", "--night"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "recipes/first-image.yaml:1:1" in err
