"""`goldenami doctor`: finds what would make a build fail, without changing anything."""

from __future__ import annotations

from collections import Counter

import click

from goldenami.cli import completing, context
from goldenami.cli.options import environment_option, json_option


@click.command()
@click.argument("recipes", nargs=-1, metavar="[RECIPE]...", shell_complete=completing.recipes)
@environment_option
@json_option
def doctor(recipes: tuple[str, ...], environment_name: str | None, as_json: bool) -> int:
    """Check accounts, keys, network, quotas and settings, and print all findings at once.

    With recipes, their builders and base images are checked, too; without, all recipes for the environment are. Only
    reads are made. `goldenami build` makes the same checks before it creates anything.

    Exit code: 0 without errors (there may be warnings), else that of the errors, or 1 if they differ.
    """
    from goldenami import preflight
    from goldenami import recipe as loader
    from goldenami.aws.session import Cloud
    from goldenami.stages.checks import check_plans, check_proofs

    project, environment = context.open_project(environment_name)
    names = recipes or tuple(context.recipes_for(project, environment))
    loaded = [loader.load(project, name, environment, {}) for name in names]
    context.reach(environment)
    cloud = Cloud.of(environment)
    findings = preflight.find(
        cloud, environment, context.open_catalog(environment), loaded, more=[check_plans, check_proofs]
    )
    if as_json:
        report = {"schema": preflight.SCHEMA, "environment": environment.name, "recipes": list(names)}
        context.print_json({**report, "checks": preflight.CODES, "findings": [f.to_json() for f in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.level:<7}  {finding.code:<14}  {finding}")
            if finding.hint:
                click.echo(f"{'':<25}{finding.hint}")
        levels = Counter(finding.level for finding in findings)
        counts = f"{levels['error']} errors, {levels['warning']} warnings, {levels['unknown']} unknown"
        click.echo(f"{len(preflight.CODES)} checks of the environment {environment.name}: {counts}", err=True)
    codes = {finding.exit_code for finding in findings if finding.level == "error"}
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1
