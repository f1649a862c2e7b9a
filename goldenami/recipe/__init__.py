"""Recipes and environments: what people write, checked as a whole and turned into frozen data.

``load_project`` finds goldenami.yaml; ``environment`` reads one of its environments; ``load`` reads, renders and
validates a recipe for it. All of them report every problem at once, as errors.InvalidInput. Nothing here talks to a
cloud.

Per architecture a recipe may differ, so ``Recipe.base``, ``.builder``, ``.patches`` and ``.provisioning`` are mappings
by architecture.

Most commands need an environment only. So the names that need the modules of recipes, agents and operations load them
when they are first used.
"""

from typing import TYPE_CHECKING

from goldenami.ondemand import load_names
from goldenami.recipe.environments import account_id, choose, environment, environments
from goldenami.recipe.project import Project, cycle, graph, load_project

if TYPE_CHECKING:
    from goldenami.recipe.allowed import allowed_in, skipped
    from goldenami.recipe.declaring import declaration, declarations
    from goldenami.recipe.given import read_files
    from goldenami.recipe.inspection import Inspection, check, fitting, inspect
    from goldenami.recipe.loader import load
    from goldenami.recipe.recipe import BaseRef, Builder, Distribution, Recipe, TestRef
    from goldenami.recipe.retention import retention_rules
    from goldenami.recipe.scheduled import choose_schedules, schedules
    from goldenami.recipe.secrets import Masker, SecretRef

__all__ = [
    "BaseRef",
    "Builder",
    "Distribution",
    "Inspection",
    "Masker",
    "Project",
    "Recipe",
    "SecretRef",
    "TestRef",
    "account_id",
    "allowed_in",
    "check",
    "choose",
    "choose_schedules",
    "cycle",
    "declaration",
    "declarations",
    "environment",
    "environments",
    "fitting",
    "graph",
    "inspect",
    "load",
    "load_project",
    "read_files",
    "retention_rules",
    "schedules",
    "skipped",
]

if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = load_names(
        __name__,
        {
            "allowed": ("allowed_in", "skipped"),
            "declaring": ("declaration", "declarations"),
            "given": ("read_files",),
            "inspection": ("Inspection", "check", "fitting", "inspect"),
            "loader": ("load",),
            "recipe": ("BaseRef", "Builder", "Distribution", "Recipe", "TestRef"),
            "retention": ("retention_rules",),
            "scheduled": ("choose_schedules", "schedules"),
            "secrets": ("Masker", "SecretRef"),
        },
    )
