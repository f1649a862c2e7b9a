"""goldenami: tested, encrypted, distributed machine images from declarative recipes.

This is the public Python API; docs/python.md explains it. ``import goldenami`` loads no other module. Each name is
imported from its module at its first use.
"""

TYPE_CHECKING = False  # the same constant as in typing, whose import takes 15 ms
if TYPE_CHECKING:
    from goldenami import errors, events
    from goldenami.api import (
        Plan,
        Project,
        Release,
        build,
        clean,
        distribute,
        doctor,
        drift,
        fleet,
        plan,
        promote,
        rebuild_catalog,
        releases,
        resolve,
        restore,
        resume,
        revoke,
        rollback,
    )
    from goldenami.background import Run, start
    from goldenami.errors import GoldenAmiError, Problem
    from goldenami.events import Event
    from goldenami.model import Connection, Environment, ImageManifest, ManifestImage, Place, Target
    from goldenami.pipeline import Outcome
    from goldenami.preflight import Finding
    from goldenami.provision.operation import Operation
    from goldenami.reconcile import CleanUp
    from goldenami.release.channels import Moved, Revoked
    from goldenami.release.difference import Change, Difference
    from goldenami.release.fleet import Fleet
    from goldenami.release.rebuild import Rebuild
    from goldenami.release.redistribute import Redistributed

# The version of both distributions: pyproject.toml and sandbox/pyproject.toml read it from here.
__version__ = "0.2.0"

_MODULES = {
    "goldenami.api": (
        *("Plan", "Project", "Release"),
        *("build", "clean", "distribute", "doctor", "drift", "fleet", "plan", "promote", "rebuild_catalog"),
        *("releases", "resolve", "restore", "resume", "revoke", "rollback"),
    ),
    "goldenami.background": ("Run", "start"),
    "goldenami.errors": ("GoldenAmiError", "Problem"),
    "goldenami.events": ("Event",),
    "goldenami.model": ("Connection", "Environment", "ImageManifest", "ManifestImage", "Place", "Target"),
    "goldenami.pipeline": ("Outcome",),
    "goldenami.preflight": ("Finding",),
    "goldenami.provision.operation": ("Operation",),
    "goldenami.reconcile": ("CleanUp",),
    "goldenami.release.channels": ("Moved", "Revoked"),
    "goldenami.release.difference": ("Change", "Difference"),
    "goldenami.release.fleet": ("Fleet",),
    "goldenami.release.rebuild": ("Rebuild",),
    "goldenami.release.redistribute": ("Redistributed",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Change",
    "CleanUp",
    "Connection",
    "Difference",
    "Environment",
    "Event",
    "Finding",
    "Fleet",
    "GoldenAmiError",
    "ImageManifest",
    "ManifestImage",
    "Moved",
    "Operation",
    "Outcome",
    "Place",
    "Plan",
    "Problem",
    "Project",
    "Rebuild",
    "Redistributed",
    "Release",
    "Revoked",
    "Run",
    "Target",
    "__version__",
    "build",
    "clean",
    "distribute",
    "doctor",
    "drift",
    "errors",
    "events",
    "fleet",
    "plan",
    "promote",
    "rebuild_catalog",
    "releases",
    "resolve",
    "restore",
    "resume",
    "revoke",
    "rollback",
    "start",
]

if not TYPE_CHECKING:  # a type checker reads the imports above, and reports a name that does not exist

    def __getattr__(name):
        from importlib import import_module

        if name in ("errors", "events"):
            return import_module(f"goldenami.{name}")
        if name not in _WHERE:
            raise AttributeError(f"module 'goldenami' has no attribute {name!r}")
        value = getattr(import_module(_WHERE[name]), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
