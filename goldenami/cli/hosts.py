"""The commands that work on one host: log in to a builder, apply a recipe, run its tests."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

import click

from goldenami.cli import completing
from goldenami.cli.context import open_catalog, open_journals, open_project, print_json, reach
from goldenami.cli.endpoints import HOST, endpoint_of
from goldenami.cli.options import (
    environment_option,
    events_option,
    json_option,
    ssh_options,
    ssh_user_option,
    variable_options,
)
from goldenami.cli.output import write_file
from goldenami.cli.tasks import find_place, run_task
from goldenami.errors import TestsFailed, UsageError

if TYPE_CHECKING:
    from goldenami.model import Architecture, BaseImage, Environment, ImageManifest, Place, SshEndpoint, TestReport
    from goldenami.recipe import Recipe
    from goldenami.ssh import Access
    from goldenami.stages.host_work import Known

APPLY_SCHEMA = "goldenami.apply/1"
TEST_SCHEMA = "goldenami.test/1"
_BUILD_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")

# As ``host_work.SUITES``, whose module loads slowly; a test compares them.
_SUITES = ("base", "hygiene", "performance", "reboot", "sealed", "agents", "hardening", "recipe")

_HOST = f"BUILD_ID|{HOST}"


@click.command()
@click.argument("build_id", shell_complete=completing.builds)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@environment_option
@click.option("--host", "name", metavar="HOST", help="The instance, if there are several: builder, or proof/arm64.")
@ssh_user_option
@click.option(
    "--proxy", is_flag=True, hidden=True, help="Carry the connection over stdin and stdout, for ProxyCommand."
)
def ssh(
    build_id: str,
    command: tuple[str, ...],
    environment_name: str | None,
    name: str | None,
    ssh_user: str | None,
    proxy: bool,
) -> int:
    """Log in to the builder of a build that runs, or that was kept by `build --on-failure keep`.

    Example: goldenami ssh 20261128-205708-239239b5 -- sudo journalctl -b

    This runs the ssh of this machine with the key and the pinned host key of the build, through the transport of the
    environment. It reads no configuration of the user. The exit code is that of COMMAND, or 255 if ssh has no
    connection. What you change on a builder that runs becomes part of the image.
    """
    from goldenami import ssh as connections
    from goldenami.aws.session import Cloud
    from goldenami.stages import logins, transports

    project, environment = open_project(environment_name)
    journals = open_journals(environment)
    journals.read(build_id)  # an unknown id is an error before a sandbox is started
    program = shutil.which("ssh")
    if program is None:
        raise UsageError("there is no program ssh on this machine", hint="Install the OpenSSH client.")
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    if proxy:
        with transports.opened(environment, cloud) as transport:
            login = logins.find(
                environment, cloud, journals, build_id, name=name, user=ssh_user, opener=transport.opener
            )
            connections.relay(login.endpoint)
        return 0
    login = logins.find(environment, cloud, journals, build_id, name=name, user=ssh_user)
    words = logins.ssh_command(login, journals.storage.directory(build_id), environment, project.root)
    return _run([program, *words[1:], *(("--", *command) if command else ())])


def _run(command: Sequence[str]) -> int:
    """Run a program in the foreground, and return its exit code. Ctrl-C is for the program only."""

    def ignored(number: int, frame: FrameType | None) -> None:
        """Do nothing. SIG_IGN would be inherited by the program."""

    before = signal.signal(signal.SIGINT, ignored)
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


# --- apply and test ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("recipe_ref", metavar="RECIPE", shell_complete=completing.recipes)
@click.option(
    "--on",
    "where",
    required=True,
    metavar=_HOST,
    shell_complete=completing.builds,
    help="The host: a kept builder, or an address.",
)
@click.option(
    "--check", is_flag=True, help="Change nothing; report what differs. The exit code is 5 if something does."
)
@click.option(
    "--reboot", is_flag=True, help="Reboot the host if the patches of the recipe need it. Default: report it."
)
@ssh_options
@environment_option
@variable_options
@events_option
@json_option
def apply(
    recipe_ref: str,
    where: str,
    check: bool,
    reboot: bool,
    access: Access,
    environment_name: str | None,
    variables: dict[str, str],
    events: Path | None,
    as_json: bool,
) -> int:
    """Bring a host to the state of RECIPE: patches, agents, software and hardening. A second run changes nothing.

    Example: goldenami apply debian-12-web --on admin@192.0.2.7 --check

    The host is the builder of a build that was kept (`build --on-failure keep`), or any host that you may log in to and
    use sudo on. Its host key must be in known_hosts, or given by --ssh-host-key. No image is made, and the cloud does
    not change.
    """
    from goldenami import report, ssh
    from goldenami.events import masked
    from goldenami.stages import remote

    environment, recipe = _load(recipe_ref, environment_name, variables)
    mode: Literal["apply", "check"] = "check" if check else "apply"
    with _host(where, environment, access, f"{'check' if check else 'apply'} {recipe.name}") as endpoint:
        secrets = _secrets(recipe, environment)
        with (
            report.progress(report.stderr_console(), events=events) as emit,
            ssh.connect(endpoint, timeout=access.timeout) as connection,
        ):
            to = masked(emit, tuple(secrets.values()))
            done = remote.apply(recipe, connection, secrets, to, mode=mode, reboot=reboot)
    if as_json:
        rows = [
            {"stage": stage, "title": one.title, "place": one.place, "status": one.status, "detail": one.detail}
            for stage, one in done.operations
        ]
        facts = {"recipe": recipe.name, "host": where, "architecture": done.architecture, "check": check}
        print_json(
            {
                "schema": APPLY_SCHEMA,
                **facts,
                "changed": done.changed,
                "reboot_due": done.reboot_due,
                "operations": rows,
            }
        )
    word = "differ" if check else "changed"
    click.echo(f"{where}: {done.changed} of {len(done.operations)} operations {word}", err=True)
    return TestsFailed.exit_code if check and done.changed else 0


@click.command()
@click.argument("subject", metavar="RECIPE|IMAGE|RELEASE", shell_complete=completing.recipes_or_releases)
@click.option(
    "--on",
    "where",
    metavar=_HOST,
    shell_complete=completing.builds,
    help="Run the tests on this host. Default: on a fresh instance.",
)
@click.option(
    "--recipe",
    "recipe_ref",
    metavar="RECIPE",
    shell_complete=completing.recipes,
    help="The recipe with the tests. Default: that of the release.",
)
@click.option(
    "--suite",
    "suites",
    type=click.Choice(_SUITES),
    multiple=True,
    help="Only these tests. Can be repeated. recipe: its own files. Default: all of the recipe.",
)
@click.option("--region", metavar="REGION", help="Launch the instance there. Default: the home region.")
@click.option(
    "--account",
    metavar="ACCOUNT",
    help="Launch it in this account, with its role: a name of goldenami.yaml, or 12 digits. Default: the home account.",
)
@click.option(
    "--through",
    type=click.Choice(["role", "autoscaling"]),
    default="role",
    show_default=True,
    help="Who launches the instance: the role of the account, or a temporary Auto Scaling group with its own role.",
)
@click.option("--reboot", is_flag=True, help="Reboot the instance after the tests, and run tests again.")
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the results as JUnit."
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the results as a web page."
)
@click.option("--architecture", type=click.Choice(["x86_64", "arm64"]), help="Only this one. Default: all.")
@ssh_options
@environment_option
@variable_options
@events_option
@json_option
def test(
    subject: str,
    where: str | None,
    recipe_ref: str | None,
    suites: tuple[str, ...],
    region: str | None,
    account: str | None,
    through: Literal["role", "autoscaling"],
    reboot: bool,
    junit: Path | None,
    html: Path | None,
    architecture: Architecture | None,
    access: Access,
    environment_name: str | None,
    variables: dict[str, str],
    events: Path | None,
    as_json: bool,
) -> int:
    """Run the tests of a recipe on a host, or on a fresh instance of an image or release.

    Examples: goldenami test debian-12-web --on admin@192.0.2.7; goldenami test debian-12-web@stable --account apps;
    goldenami test ami-0123456789abcdef0 --suite hygiene

    Without --on, an instance of the image is launched, tested and deleted. RECIPE alone means the release that the
    channel of the recipe points to. The tests are those that the recipe has now. For an image that goldenami did not
    build, and without --recipe, they are those that hold for any image. The exit code is 5 if a test failed.
    """
    chosen = suites or None
    if where is not None:
        if subject.startswith("ami-"):
            raise UsageError(f"found {subject} and --on, expected a recipe with --on")
        grouped = through == "autoscaling"
        options = ("--region", "--account", "--reboot", "--through autoscaling")
        for option, given in zip(options, (region, account, reboot, grouped), strict=True):
            if given:
                raise UsageError(f"found {option} and --on, expected {option} for a fresh instance only")
        reports = [_test_on(where, recipe_ref or subject, environment_name, variables, access, events, chosen)]
    else:
        _refuse_login(access, "no --on", "--on")
        wanted = _Fresh(subject, recipe_ref, architecture, region, account, access.user, through == "autoscaling")
        reports = _test_fresh(wanted, environment_name, variables, chosen, reboot)
    from goldenami import validate
    from goldenami.stages.build import report_to_json

    _write_results(subject, reports, junit, html)
    if as_json:
        print_json({"schema": TEST_SCHEMA, "subject": subject, "host": where, "tests": [*map(report_to_json, reports)]})
        return 0 if all(report.ok for report in reports) else TestsFailed.exit_code
    for report in reports:
        validate.require(report)
    return 0


def _write_results(subject: str, reports: Sequence[TestReport], junit: Path | None, html: Path | None) -> None:
    """Write the files that the user asked for. Raises OutputFailed."""
    from goldenami.report import testpage

    if junit is not None:
        write_file(junit, testpage.junit(reports), "--junit")
    if html is not None:
        write_file(html, testpage.page(f"Tests of {subject}", reports), "--html")


def _load(recipe_ref: str, environment_name: str | None, variables: Mapping[str, str]) -> tuple[Environment, Recipe]:
    from goldenami import recipe as recipes

    project, environment = open_project(environment_name)
    project = project.trusted()  # the operations and tests of the project are executed
    return environment, recipes.load(project, recipe_ref, environment, variables)


def _secrets(recipe: Recipe, environment: Environment) -> Mapping[str, str]:
    """Read the secrets of a recipe. Without secrets, no cloud is needed."""
    if not recipe.secrets:
        return {}
    from goldenami.aws.session import Cloud
    from goldenami.stages.opening import secrets_of

    reach(environment)
    return secrets_of(recipe, Cloud.of(environment))


@contextmanager
def _host(where: str, environment: Environment, access: Access, doing: str) -> Iterator[SshEndpoint]:
    """Provide the endpoint of a host. The build of a builder is locked meanwhile, so that nothing cleans or resumes it,
    and its journal notes ``doing``. Raises Busy if a process works on the build."""
    if not _BUILD_ID.fullmatch(where):
        yield endpoint_of(where, access, f"the id of a build or {HOST}")
        return
    _refuse_login(access, f"the build {where}", "a host")
    from goldenami.aws.session import Cloud
    from goldenami.stages import logins, transports

    journals = open_journals(environment)
    journals.read(where)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    with journals.open(where) as journal, transports.opened(environment, cloud) as transport:
        login = logins.find(environment, cloud, journals, where, user=access.user, opener=transport.opener)
        journal.note("worked on a host", host=login.key, doing=doing)
        yield login.endpoint


def _refuse_login(access: Access, what: str, expected: str) -> None:
    """Raise UsageError for options of a login that goldenami knows itself: to a builder or a fresh instance."""
    options = {
        "--ssh-port": access.port,
        "--ssh-key": access.key_file,
        "--ssh-host-key": access.host_key,
        "--ssh-known-hosts": access.known_hosts,
    }
    for option, given in options.items():
        if given is not None:
            raise UsageError(f"found {option} and {what}, expected {option} with {expected} only")


def _test_on(
    where: str,
    recipe_ref: str,
    environment_name: str | None,
    variables: Mapping[str, str],
    access: Access,
    events: Path | None,
    suites: Sequence[str] | None,
) -> TestReport:
    from goldenami import report
    from goldenami.events import masked
    from goldenami.stages import remote

    environment, recipe = _load(recipe_ref.partition("@")[0], environment_name, variables)
    is_build = _BUILD_ID.fullmatch(where) is not None
    with _host(where, environment, access, f"test {recipe.name}") as endpoint:
        secrets = _secrets(recipe, environment)
        with report.progress(report.stderr_console(), events=events) as emit:
            return remote.test(
                recipe,
                environment,
                endpoint,
                secrets,
                masked(emit, tuple(secrets.values())),
                gate="builder" if is_build else "image",
                report_dir=Path(environment.local) / "tests" / endpoint.address.replace(":", "-"),
                timeout=access.timeout,
                suites=suites,
            )


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The image to test on a fresh instance, as the user names it, and where."""

    subject: str
    recipe_ref: str | None
    architecture: Architecture | None
    region: str | None
    account: str | None
    ssh_user: str | None
    in_group: bool


def _test_fresh(
    wanted: _Fresh,
    environment_name: str | None,
    variables: Mapping[str, str],
    suites: Sequence[str] | None,
    reboot: bool,
) -> list[TestReport]:
    from goldenami.aws.session import Cloud
    from goldenami.stages import fresh

    manifest, image_ids, recipe, environment = _find(wanted, environment_name, variables)
    place = _place(environment, wanted)
    version = manifest.version if manifest is not None else recipe.version
    reach(environment)
    cloud = Cloud.of(environment)
    reports: list[TestReport] = []
    for found, image_id in image_ids.items():
        outputs = manifest.outputs.get(found, {}) if manifest is not None else {}
        users = {a: builder.ssh_user for a, builder in recipe.builder.items()}  # for `goldenami ssh`
        ports = {a: [builder.ssh_port, builder.image_ssh_port] for a, builder in recipe.builder.items()}
        arguments = {"image": image_id, "recipe": recipe.name, "users": users, "ports": ports}
        with run_task(cloud, environment, fresh.KIND, arguments) as job:
            reports += fresh.run(
                job,
                recipe,
                version,
                found,
                image_id,
                outputs=outputs,
                place=place,
                known=_known(manifest, found),
                suites=suites,
                reboot=reboot,
                in_group=wanted.in_group,
            )
    return reports


def _place(environment: Environment, wanted: _Fresh) -> Place:
    """Return where the instance is launched. Raises UsageError for a place where `clean --expired` would not search for
    what a lost machine leaves."""
    place = find_place(environment, wanted.region, wanted.account)
    if place not in environment.places:
        raise UsageError(
            f"{place} is no place of environment {environment.name}: {', '.join(map(str, environment.places))}",
            hint="Choose one of these places with --account and --region, or add a target to goldenami.yaml.",
        )
    return place


def _known(manifest: ImageManifest | None, architecture: Architecture) -> Known:
    """Return what the built-in suites compare an image with: what its build found."""
    from goldenami.stages.host_work import Known

    reports = manifest.tests if manifest is not None else ()
    facts = next((r.facts for r in reports if (r.gate, r.architecture, r.place) == ("image", architecture, "")), {})
    set_id = tuple(facts["set_id"]) if "set_id" in facts else None
    return Known(set_id=set_id, earlier=facts, made_here=False)


def _strange_image(environment: Environment, place: Place, wanted: _Fresh) -> BaseImage:
    """Return an image that is in no release. Raises NotFound if there is no such image, UsageError if it has another
    architecture than the wanted one."""
    from goldenami.aws import images
    from goldenami.aws.session import Cloud

    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    hint = "Image ids differ in each region. Name that of the image with --region."
    found = images.base_by_id(cloud, place, wanted.subject, hint=hint)
    if wanted.architecture not in (None, found.architecture):
        raise UsageError(f"{wanted.subject} is for {found.architecture}, found --architecture {wanted.architecture}")
    return found


def _strange_recipe(found: BaseImage, wanted: _Fresh) -> Recipe:
    """Return a recipe with the tests that hold for any image. Raises UsageError if the operating system of the image is
    not known."""
    from goldenami.os import of_reference
    from goldenami.recipe.stranger import recipe_for_image

    system = of_reference(found.name)
    if system is None:
        raise UsageError(
            f"{wanted.subject} is no image of this catalog, and its name {found.name!r} does not show its operating "
            "system, so its tests are unknown",
            hint="Give --recipe RECIPE.",
        )
    return recipe_for_image(wanted.subject, system.id, found.architecture, ssh_user=wanted.ssh_user)


def _find(
    wanted: _Fresh, environment_name: str | None, variables: Mapping[str, str]
) -> tuple[ImageManifest | None, dict[Architecture, str], Recipe, Environment]:
    """Return the release, its images in the wanted place, and the recipe with the tests. Raises NotFound or UsageError
    without one of them."""
    from goldenami.release.versions import Reference

    subject, recipe_ref, architecture = wanted.subject, wanted.recipe_ref, wanted.architecture
    _, environment = open_project(environment_name)
    place = _place(environment, wanted)
    catalog = open_catalog(environment)
    manifest: ImageManifest | None
    if subject.startswith("ami-"):
        entry = catalog.entry_with_image(subject)
        manifest = catalog.get(entry.name, entry.version) if entry is not None else None
        if manifest is None:
            if recipe_ref is None:
                recipe = _strange_recipe(found := _strange_image(environment, place, wanted), wanted)
            else:
                environment, recipe = _load(recipe_ref, environment_name, variables)
                found = _strange_image(environment, place, wanted)
            if found.architecture not in recipe.architectures:
                raise UsageError(
                    f"{subject} is for {found.architecture}, and {recipe.name} for {', '.join(recipe.architectures)}"
                )
            return None, {found.architecture: subject}, recipe, environment
        images = [image for image in manifest.images if image.image_id == subject]
    else:
        name = subject
        if "@" not in subject:
            environment, recipe = _load(subject, environment_name, variables)
            name = f"{recipe.name}@{recipe.distribution.channel}"
        manifest = catalog.find(Reference.parse(name))
        images = list(manifest.images)
    environment, recipe = _load(recipe_ref or manifest.recipe, environment_name, variables)
    chosen: dict[Architecture, str] = {
        image.architecture: image.image_id
        for image in images
        if image.place == place and architecture in (None, image.architecture)
    }
    known = sorted({image.architecture for image in images})
    if architecture is not None and architecture not in known:
        raise UsageError(f"{manifest.label} has no image for {architecture}", hint=f"It has {', '.join(known)}.")
    if not chosen:
        places = ", ".join(sorted({f"{image.place} ({image.architecture})" for image in images}))
        raise UsageError(
            f"{manifest.label} has no such image in {place}: {places}",
            hint="Choose one of these places with --account and --region.",
        )
    return manifest, chosen, recipe, environment
