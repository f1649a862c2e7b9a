"""The environments of a project by name, as commands need them.

To read and check goldenami.yaml takes longer than most commands, because of the models of pydantic. So the result is
kept in the user's cache (``keptenvironments``), and goldenami.yaml is checked again only after a change.
"""

from __future__ import annotations

from collections.abc import Mapping

from goldenami.errors import NotFound, UsageError
from goldenami.model import Environment
from goldenami.recipe import keptenvironments
from goldenami.recipe.project import Project
from goldenami.recipe.similar import suggestion

DEFAULT = "sandbox"


def environment(project: Project, name: str | None = None, *, endpoint: str | None = None) -> Environment:
    """Return the named environment; without a name that of the key ``environment``, else ``sandbox``, or the only one.

    ``endpoint``: the URL of the cloud's API, which decides where the catalog of a sandbox environment is; by default
    AWS_ENDPOINT_URL, or the sandbox of this machine.

    Raises InvalidInput with every problem of goldenami.yaml (of all environments), NotFound for an unknown name,
    UsageError if a name is needed.
    """
    return choose(project, environments(project, endpoint), name)


def environments(project: Project, endpoint: str | None = None) -> Mapping[str, Environment]:
    """Return all environments of goldenami.yaml. Raises InvalidInput with every problem. ``endpoint``: as for
    ``environment``."""
    kept = keptenvironments.read(project, endpoint)
    if kept is not None:
        return kept
    # here, because they load pydantic and the parser of YAML
    from goldenami.recipe.environmentsection import read_environments
    from goldenami.recipe.problems import Problems

    problems = Problems()
    found = read_environments(project, problems, endpoint)
    problems.refuse_any()
    keptenvironments.write(project, endpoint, found)
    return found


def choose(project: Project, every: Mapping[str, Environment], name: str | None) -> Environment:
    """Return one of ``every`` by its name. Rules and errors are those of ``environment``."""
    if name is None:
        if project.settings.environment is not None:
            name = project.settings.environment
        elif DEFAULT in every:
            name = DEFAULT
        elif len(every) == 1:
            name = next(iter(every))
        else:
            raise UsageError(
                f"--environment is missing: {project.shown(project.file)} has {', '.join(every)}",
                hint=f"Name one of them: --environment NAME, or `environment: NAME` in {project.shown(project.file)}.",
            )
    if name not in every:
        hint = suggestion(name, list(every), f"Environments: {', '.join(every)}.")
        raise NotFound(f"there is no environment {name!r} in {project.shown(project.file)}", hint=hint)
    return every[name]


def account_id(environment: Environment, account: str | None) -> str:
    """Return the id of an account, given by its name in goldenami.yaml or 12 digits; None means home. Raises
    NotFound."""
    if account is None:
        return environment.home.id
    if account in environment.accounts:
        return environment.accounts[account].id
    if account.isascii() and account.isdigit() and len(account) == 12:
        return account
    named = ", ".join(f"{a.name} ({a.id})" for a in environment.accounts.values())
    raise NotFound(f"there is no account {account!r} in environment {environment.name}", hint=f"Accounts: {named}.")
