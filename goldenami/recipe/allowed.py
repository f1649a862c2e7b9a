"""The key ``environments`` of a recipe: the environments that the recipe is for."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami.recipe.document import Document
from goldenami.recipe.keptdocuments import read_all
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.similar import suggestion

KEY = "environments"


def environments_of(document: Document) -> list[str] | None:
    """Return the environments that a recipe is for, as written; None if it is for all of them."""
    written = document.value.get(KEY)
    return [name for name in written if isinstance(name, str)] if isinstance(written, list) else None


def check_environments(project: Project, document: Document, environment: str, problems: Problems) -> None:
    """Report names that goldenami.yaml does not have, and an environment that the recipe is not for."""
    listed = environments_of(document)
    if listed is None:
        return
    settings = project.document(project.file, Problems())
    every = settings.value.get("environments") if settings is not None else None
    known = list(every) if isinstance(every, dict) else []
    for index, name in enumerate(document.value[KEY]):
        if isinstance(name, str) and name not in known:
            hint = suggestion(name, known, f"Environments: {', '.join(known)}.")
            mark = document.mark((KEY, index))
            problems.add(mark, f"environments: there is no environment {name!r} in {project.shown(project.file)}", hint)
    if environment not in listed:
        problems.add(
            document.key_mark((KEY,)),
            f"the recipe is not for the environment {environment}, only for {', '.join(listed) or 'none'}",
            f"Choose one of them with --environment NAME, or add {environment} to environments.",
        )


def allowed_in(project: Project, environment: str, names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the recipes that are for an environment, and the others with the environments that they are for."""
    names = list(names)
    read_all(project, names)
    allowed: list[str] = []
    others: dict[str, list[str]] = {}
    for name in names:
        document = project.document(project.recipe_path(name), Problems())
        listed = environments_of(document) if document is not None else None
        if listed is None or environment in listed:
            allowed.append(name)
        else:
            others[name] = listed
    return allowed, others


def skipped(others: dict[str, list[str]], environment: str) -> list[str]:
    """Return a line for each recipe that was left out, for people."""
    return [
        f"skipped {name}: it is not for the environment {environment}, only for {', '.join(listed) or 'none'}"
        for name, listed in others.items()
    ]
