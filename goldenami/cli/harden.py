"""The commands about hardening: list profiles and controls, coverage of a recipe, drift of a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing
from goldenami.cli.context import choose_environment, print_json, print_table
from goldenami.cli.endpoints import endpoint_of
from goldenami.cli.options import environment_option, json_option, ssh_options, variable_options
from goldenami.cli.shipped import force_option, project_or_shipped, require, tell
from goldenami.errors import BuilderError, InvalidInput, NotFound, TestsFailed, UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.hardening import CheckResult, Control, Hardening
    from goldenami.recipe import Project
    from goldenami.ssh import Access

PROFILES_SCHEMA = "goldenami.hardening-profiles/1"
CONTROLS_SCHEMA = "goldenami.hardening-controls/1"
COVERAGE_SCHEMA = "goldenami.hardening-coverage/1"
DRIFT_SCHEMA = "goldenami.hardening-drift/1"
_LONGEST = 1800.0  # seconds for the checks, which may search whole filesystems


@click.group()
def harden() -> None:
    """List hardening profiles and controls, show the coverage of a recipe, and check a running host for drift.

    Profiles and controls are shipped. Those of the project in hardening/ take precedence.
    """


@harden.command("list")
@click.argument("profile", required=False, shell_complete=completing.profiles)
@json_option
def list_controls(profile: str | None, as_json: bool) -> None:
    """List the profiles with their origin, or the controls of PROFILE in the order of application.

    Works without a project as well."""
    project = project_or_shipped()
    if profile is None:
        _list_profiles(project, as_json)
        return
    found = _of_profile(project, profile)
    if as_json:
        controls = [_described(control) for control in found.controls]
        print_json({"schema": CONTROLS_SCHEMA, "profile": profile, "controls": controls})
        return
    if not found.controls:
        click.echo(f"{profile} has no controls. Add files of controls to files: of the profile.", err=True)
    width = max((len(control.id) for control in found.controls), default=0)
    for control in found.controls:
        click.echo(f"{control.id:<{width}}  {control.level}  {control.title}")


def _list_profiles(project: Project, as_json: bool) -> None:
    """Print every profile with the number of its controls. The controls are counted as they are written:
    to render them takes ten times as long."""
    from goldenami.model import Mark
    from goldenami.recipe.controls import Library
    from goldenami.recipe.problems import Problems

    problems = Problems()
    library = Library(project, problems)
    rows = []
    for name in library.profile_names():
        place, profile = project.find("profile", name), library.profile(name, Mark(name, 0, 0))
        if place is not None and profile is not None:
            rows.append((place, profile))
    if problems.found:
        raise InvalidInput(problems.found)
    require(rows, "profiles")
    if as_json:
        listed = [{**place.to_json(), "title": p.title, "controls": len(p.controls)} for place, p in rows]
        print_json({"schema": PROFILES_SCHEMA, "profiles": listed})
        return
    cells = [(place.name, str(len(p.controls)), place.origin, p.title) for place, p in rows]
    print_table(("PROFILE", "CONTROLS", "FROM", "TITLE"), cells)


@harden.command("copy")
@click.argument("profile", shell_complete=completing.profiles)
@force_option
def copy_profile(profile: str, force: bool) -> None:
    """Copy a shipped PROFILE into hardening/, with the profiles that it extends and the controls that it takes.

    The project uses the copies from then on, and you can change them. Prints the files that it wrote. Files of the
    project are overwritten only with --force.
    """
    from goldenami import recipe
    from goldenami.recipe import copying

    tell(copying.copy_profile(recipe.load_project(Path.cwd()), profile, force=force))


@harden.command("explain")
@click.argument("control_id", metavar="CONTROL")
@click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=completing.profiles,
    help="Show the control as this profile has it. Default: the first profile that has it.",
)
@json_option
def explain(control_id: str, profile: str | None, as_json: bool) -> None:
    """Explain CONTROL: its reason, its operations and its checks."""
    project = project_or_shipped()
    known: list[str] = []
    for name in [profile] if profile is not None else _profile_names(project):
        found = _of_profile(project, name, choices=True)
        known += [control.id for control in found.controls]
        control = next((c for c in found.controls if c.id == control_id), None)
        if control is not None:
            break
    else:
        from goldenami.recipe.similar import suggestion

        hint = suggestion(control_id, known, f"{step('harden list', 'PROFILE')} prints the controls.")
        raise NotFound(f"there is no control {control_id!r}", hint=hint)
    if as_json:
        print_json({"schema": CONTROLS_SCHEMA, "profile": name, "controls": [_described(control)]})
        return
    click.echo(f"{control.id}: {control.title}\n\n{control.why}\n")
    facts = {
        "level": str(control.level),
        "references": ", ".join(control.references),
        "group": f"{control.exclusive}, of which one is chosen" if control.exclusive else "",
        "needs": "a reboot" if control.reboot else "",
        "order": {False: "", True: "after the others", "of-all": "after all others"}[control.last],
        "not where": control.otherwise,
        "not beside": ", ".join(name for one in control.excludes for name in one.packages),
        "written in": str(control.mark),
    }
    for label, value in facts.items():
        if value:
            click.echo(f"{label:<11} {value}")
    click.echo("\noperations")
    for bound in control.operations:
        click.echo(f"  - {bound.label}")
    click.echo("checks")
    for check in control.checks:
        click.echo(f"  - {' '.join(check.reads.split())}\n      expects {check.expected}")


@harden.command("coverage")
@click.argument("recipe_ref", metavar="RECIPE", shell_complete=completing.recipes)
@environment_option
@variable_options
@json_option
def coverage(recipe_ref: str, environment_name: str | None, variables: dict[str, str], as_json: bool) -> None:
    """Show how much of each profile for its operating system RECIPE covers, and its waivers."""
    from goldenami import recipe as recipes

    project = recipes.load_project(Path.cwd())
    environment = choose_environment(project, environment_name)
    recipe = recipes.load(project, recipe_ref, environment, variables)
    own = next(iter(recipe.hardening.values()))
    applied, waived = {c.id for c in own.controls}, {w.control for w in own.waivers}
    rows: list[dict[str, Any]] = []
    for name in _profile_names(project):
        if recipe.os not in _of_profile(project, name).systems:
            continue
        ids = [control.id for control in _of_profile(project, name, os=recipe.os).controls]
        lacking = [id for id in ids if id not in applied and id not in waived]
        rows.append(
            {
                "profile": name,
                "chosen": name in own.profiles,
                "controls": len(ids),
                "applied": len([id for id in ids if id in applied]),
                "waived": [id for id in ids if id in waived],
                "lacking": lacking,
            }
        )
    waivers = [
        {"control": w.control, "reason": w.reason, "expires": w.expires.isoformat()}
        for w in sorted(own.waivers, key=lambda w: (w.expires, w.control))
    ]
    if as_json:
        print_json({"schema": COVERAGE_SCHEMA, "recipe": recipe.name, "profiles": rows, "waivers": waivers})
        return
    if not own.profiles:
        click.echo(f"{recipe.name} has no section hardening", err=True)
    for row in rows:
        mark = "*" if row["chosen"] else " "
        share = 100 * row["applied"] // max(1, row["controls"])
        click.echo(
            f"{mark} {row['profile']:<24} {row['applied']:>3} of {row['controls']:>3} controls ({share} %)"
            + (f", {len(row['waived'])} waived" if row["waived"] else "")
        )
    for row in rows:
        if row["chosen"] and row["lacking"]:
            click.echo(f"  not of {row['profile']}: {', '.join(row['lacking'])}")
    for waiver in waivers:
        click.echo(f"  waived: {waiver['control']} until {waiver['expires']}: {waiver['reason']}")


@harden.command("check")
@click.argument("host")
@click.option(
    "--recipe",
    "recipe_ref",
    metavar="RECIPE",
    shell_complete=completing.recipes,
    help="Check the controls of this recipe, without the waived ones.",
)
@click.option(
    "--profile",
    "profiles",
    metavar="PROFILE",
    shell_complete=completing.profiles,
    multiple=True,
    help="Check the controls of this profile, with its values.",
)
@click.option("--all", "every", is_flag=True, help="Print all controls, also those that hold or do not apply.")
@ssh_options
@environment_option
@variable_options
@json_option
def check(
    host: str,
    recipe_ref: str | None,
    profiles: tuple[str, ...],
    every: bool,
    access: Access,
    environment_name: str | None,
    variables: dict[str, str],
    as_json: bool,
) -> int:
    """Report how a running HOST ([USER@]HOST[:PORT]) differs from a recipe or profile. Nothing on it is changed.

    Prints the controls that do not hold, with level and title. All values are read over one SSH connection, in one go.
    The exit code is 5 if a control does not hold.
    """
    from goldenami import ssh
    from goldenami.hardening import Batch, check_control

    if (recipe_ref is None) == (not profiles):
        raise UsageError("say what to check against: --recipe RECIPE, or --profile PROFILE")
    sets = _sets(recipe_ref, profiles, environment_name, variables)
    controls = {control.id: control for found in sets for control in found.controls}
    endpoint = endpoint_of(host, access)
    batch = Batch.of(controls.values())
    with ssh.connect(endpoint, timeout=access.timeout) as connection:
        done = connection.run(
            batch.command,
            stdin=batch.program,
            timeout=_LONGEST,
            on_silence=lambda seconds: click.echo(f"{host}: the checks go on for {seconds:.0f} s", err=True),
        )
    try:
        values = batch.values(done.stdout)
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BuilderError(f"{host}: {error}" + (f": {said[-1]}" if said else "")) from None
    verdicts = {subject.id: check_control(subject, values) for subject in batch.subjects}
    failed = {id: verdict for id, verdict in verdicts.items() if verdict.outcome == "failed"}
    if as_json:
        rows = [
            {
                "control": id,
                "title": controls[id].title,
                "level": controls[id].level,
                "outcome": verdict.outcome,
                "message": verdict.message,
                **({"value": verdict.value, "expected": verdict.expected} if verdict.outcome == "failed" else {}),
            }
            for id, verdict in verdicts.items()
        ]
        print_json({"schema": DRIFT_SCHEMA, "host": host, "drift": bool(failed), "controls": rows})
    else:
        for line in told(controls, verdicts if every else failed):
            click.echo(line)
        others = len(verdicts) - len(failed)
        skipped = sum(verdict.outcome == "not-applicable" for verdict in verdicts.values())
        note = f", {skipped} of them not applicable" if skipped else ""
        click.echo(f"{host}: {len(failed)} of {len(verdicts)} controls do not hold; {others} do{note}", err=True)
    return TestsFailed.exit_code if failed else 0


_WORDS = {"failed": "", "passed": "holds: ", "not-applicable": "not applicable: "}


def told(controls: Mapping[str, Control], verdicts: Mapping[str, CheckResult]) -> Iterator[str]:
    """Yield the lines for results of controls: id, level and title, and below them the reason."""
    for id, verdict in verdicts.items():
        control = controls[id]
        yield f"{_WORDS[verdict.outcome]}{id} (level {control.level}): {control.title}"
        if verdict.message:
            yield f"    {verdict.message.removeprefix(f'{id}: ')}"


def _profile_names(project: Project) -> list[str]:
    from goldenami.recipe.controls import Library
    from goldenami.recipe.problems import Problems

    return Library(project, Problems()).profile_names()


def _of_profile(project: Project, name: str, *, choices: bool = False, os: str | None = None) -> Hardening:
    """A profile's controls. Raises NotFound, with the nearest name, or InvalidInput."""
    from goldenami.recipe.hardening import of_profile
    from goldenami.recipe.problems import Problems
    from goldenami.recipe.similar import suggestion

    known = _profile_names(project)
    if name not in known:
        hint = suggestion(name, known, f"Profiles: {', '.join(known)}.")
        raise NotFound(f"there is no profile {name!r}", hint=hint)
    problems = Problems()
    found = of_profile(project, name, problems, choices=choices, os=os)
    if problems.found:
        raise InvalidInput(problems.found)
    return found


def _sets(
    recipe_ref: str | None, profiles: tuple[str, ...], environment_name: str | None, variables: dict[str, str]
) -> list[Hardening]:
    if recipe_ref is None:
        project = project_or_shipped()
        return [_of_profile(project, name) for name in profiles]
    from goldenami import recipe as recipes

    project = recipes.load_project(Path.cwd())
    environment = choose_environment(project, environment_name)
    found = recipes.load(project, recipe_ref, environment, variables)
    sets = [hardening for hardening in found.hardening.values() if hardening.controls]
    if not sets:
        raise UsageError(f"{found.name} has no hardening to check against", hint="Name a profile with --profile.")
    return sets[:1]


def _described(control: Control) -> dict[str, Any]:
    return {
        "id": control.id,
        "title": control.title,
        "why": control.why,
        "level": control.level,
        "references": list(control.references),
        "exclusive": control.exclusive or None,
        "needs_reboot": control.reboot,
        "last": control.last is not False,
        "not_applicable_because": control.otherwise or None,
        "excludes": [{"packages": list(one.packages), "because": one.because} for one in control.excludes],
        "place": str(control.mark),
        "operations": [{"kind": _kind(bound), "title": bound.label} for bound in control.operations],
        "checks": [{"reads": check.reads, "expected": str(check.expected)} for check in control.checks],
    }


def _kind(bound: Any) -> str:
    return str(bound.operation.kind)
