"""What the files of a project change, compared with a commit of Git: which recipes, why, and at which places.

Reads files only: no call of AWS and no credentials. Inputs are compared as they are written: a base image or a key
that moves without a change of a file is not seen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from goldenami import many, planning
from goldenami import recipe as recipes
from goldenami.errors import GoldenAmiError, InvalidInput, NotFound
from goldenami.many import Step, Work
from goldenami.model import Environment, ImageManifest, Mark
from goldenami.nextstep import step as next_step
from goldenami.reading import FILE_BYTES, TEXT_BYTES
from goldenami.recipe import Project, Recipe, places
from goldenami.recipe.code import FOLDER as OPERATIONS
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.lookup import Found
from goldenami.recipe.places import Place, Sign
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import shown
from goldenami.recipe.revision import Revision, at_commit

Change = Literal["added", "changed", "distributed", "follows", "removed", "unchanged"]

# The keys of a recipe that make an input, by the label of the input before its colon.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "recipe": ("name", "version", "architectures", "os", "base"),
    "image": ("image",),
    "share": ("distribution",),
    "vars": ("vars",),
    "secrets": ("vars",),
    "test": ("tests", "agents"),
    "expect": ("expect", "agents"),
    "prove": ("distribution",),
    "target": ("distribution",),
    "base": ("base",),
    "patches": ("patches",),
    "controls": ("hardening",),
    "hardening": ("hardening",),
    "agents": ("agents",),
    "user_data": ("builder",),
    "setup": ("setup", "handlers"),
    "software": ("software", "handlers"),
    "operation": ("setup", "software", "handlers", "agents"),
}
_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {  # of an environment
    "image_name": ("image_name",),
    "share": ("accounts",),
    "target": ("targets", "accounts", "home", "sandbox"),
    "vars": ("vars",),
    "secrets": ("vars",),
}
_STAGES: Final = (
    "setup",
    "agents",
    "software",
    "hardening",
)  # their expressions can use these settings of an environment
_IN_EXPRESSIONS: Final = ("vars", "tags", "parameter_prefix", "home")
_GIVEN_LATER: Final = ("target", "share")  # what `goldenami distribute` applies without a build


@dataclass(frozen=True, slots=True)
class Changed:
    """What the files change for one recipe.

    ``change`` "added": the commit does not have it; "changed": inputs differ, so it is built; "distributed": only
    targets and shares differ; "follows": its base is built; "removed": only the commit has it. ``why``: the reason if
    nobody named the recipe. ``inputs``: the labels of the inputs that differ. ``places``: where. ``others``: what
    differs too, and is no input of the image.
    """

    recipe: str
    change: Change
    channel: str = ""
    why: str = ""
    reasons: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    others: tuple[Place, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def builds(self) -> bool:
        """Whether a build would make a release."""
        return self.change in ("added", "changed", "follows")


def since(project: Project, environment: Environment, work: Work, revision: Revision) -> tuple[Changed, ...]:
    """Return what has changed for each recipe since a commit, a base before its children.

    Bases of the recipes are compared too, and are in the result if they changed. A recipe that cannot be read at the
    commit counts as changed.
    """
    past = _Past(revision, environment.name)
    steps = {step.name: step for step in work.steps}
    for base in _bases(project, environment, work):
        steps.setdefault(base.name, base)
    done: dict[str, Changed] = {}
    for step in many.ordered(steps):
        done[step.name] = _along_the_graph(_compare(project, environment, step, past), step, done)
    named = {step.name for step in work.steps}
    return tuple(one for one in done.values() if one.recipe in named or one.change != "unchanged")


def removed(project: Project, environment: Environment, revision: Revision) -> tuple[Changed, ...]:
    """Return the recipes that only the commit has, of those for an environment. Their releases stay."""
    if revision.project is None:
        return ()
    with suppress(InvalidInput):
        names = recipes.allowed_in(revision.project, environment.name, revision.project.recipe_names())[0]
        gone = sorted(set(names) - set(project.recipe_names()))
        return tuple(Changed(name, "removed", reasons=(f"its file is not there any more; {_STAYS}",)) for name in gone)
    return ()


_STAYS: Final = "its releases and channels stay"


def _bases(project: Project, environment: Environment, work: Work) -> Iterator[Step]:
    graph = recipes.graph(project)
    for step in work.steps:
        base: str | None = step.base
        child = step.name
        while base is not None:
            yield Step(recipes.load(project, base, environment), base, why=f"{child} is built on it")
            child, base = base, graph.get(base)


def _along_the_graph(one: Changed, step: Step, done: Mapping[str, Changed]) -> Changed:
    """Complete what has changed for a recipe with what its base means for it."""
    above = done.get(step.base or "")
    ref = next((ref for ref in step.recipe.base.values() if ref.kind == "recipe"), None)
    if above is None or ref is None or not above.builds:
        return one
    if ref.channel != above.channel:
        hint = (
            f"it is built on {ref}, and a build of {above.recipe} moves {above.channel}: it follows after a promotion"
        )
        return replace(one, hints=(*one.hints, hint))
    reason = f"its base {above.recipe} is built first"
    if one.change in ("unchanged", "distributed"):
        return replace(one, change="follows", reasons=(reason, *one.reasons))
    return replace(one, reasons=(*one.reasons, reason))


class _Past:
    """The recipes of a commit, each loaded once."""

    def __init__(self, revision: Revision, environment: str) -> None:
        self.revision = revision
        self.environment: Environment | None = None
        self.problem = ""
        if revision.project is None:
            return
        try:
            self.environment = recipes.environment(revision.project, environment)
        except NotFound:
            pass  # the environment is new, and so is each recipe in it
        except GoldenAmiError as error:
            self.problem = revision.told(error)

    def recipe(self, name: str, given: Mapping[str, str]) -> Recipe | None:
        """Return a recipe as it was; None if the commit does not have it. Raises GoldenAmiError if it is wrong."""
        project = self.revision.project
        if self.problem:
            raise GoldenAmiError(self.problem)
        if project is None or self.environment is None or name not in project.recipe_names():
            return None
        listed, _ = recipes.allowed_in(project, self.environment.name, [name])
        if not listed:
            return None
        document = project.document(project.recipe_path(name), Problems())
        declared = document.value.get("vars") if document is not None else None
        known = declared if isinstance(declared, dict) else {}
        return recipes.load(project, name, self.environment, {k: v for k, v in given.items() if k in known})


def _compare(project: Project, environment: Environment, step: Step, past: _Past) -> Changed:
    one = Changed(step.name, "unchanged", step.recipe.distribution.channel, step.why)
    ref = past.revision.ref
    try:
        before = past.recipe(step.name, step.variables)
    except GoldenAmiError as error:
        return replace(one, change="changed", reasons=(f"it cannot be compared: {past.revision.told(error)}",))
    if before is None or past.environment is None or past.revision.project is None:
        return replace(one, change="added", reasons=(f"{ref} does not have it in this environment",))
    old = planning.written_inputs(before, past.environment)
    new = planning.written_inputs(step.recipe, environment)
    labels = tuple(sorted(label for label in {*old, *new} if old.get(label) != new.get(label)))
    sides = Sides(past.revision.project, project, before, step.recipe, environment.name, past.revision.named)
    found, others = find_places(sides, labels)
    one = replace(one, inputs=labels, places=found, others=others)
    if not labels:
        return one
    if all(label.partition(":")[0] in _GIVEN_LATER for label in labels):
        command = next_step("distribute", f"{step.name}@{one.channel}")
        reason = f"only targets and shares differ: {command} applies them to its release without a build"
        return replace(one, change="distributed", reasons=(reason,))
    return replace(one, change="changed", reasons=(f"inputs differ: {', '.join(labels)}",))


# --- releases ---------------------------------------------------------------------------------------------------------


class Commits:
    """The commits that releases were built from, as far as the repository has them. Each is read once."""

    def __init__(self, project: Project, environment: Environment, opened: ExitStack) -> None:
        self._project = project
        self._environment = environment
        self._opened = opened
        self._known: dict[str, _Past | str] = {}

    def places(self, step: Step, release: ImageManifest, labels: Sequence[str]) -> tuple[tuple[Place, ...], str]:
        """Return where inputs of a recipe differ from those of a release; or none, and why they cannot be found.

        The places are exact: nothing is returned if the files of the commit do not give the inputs of the release.
        """
        commit = release.git_commit or ""
        if not commit or commit.endswith("-dirty"):
            return (), f"{release.label} was built from files that no commit has"
        if commit not in self._known and len(self._known) == _COMMITS:
            return (), f"{release.label} was built from the commit {commit[:12]}, which was not compared"
        if commit not in self._known:
            self._known[commit] = self._open(commit)
        past = self._known[commit]
        if isinstance(past, str):
            return (), f"{release.label} was built from the commit {commit[:12]}: {past}"
        try:
            before = past.recipe(step.name, step.variables)
        except GoldenAmiError as error:
            return (), f"{release.label} cannot be compared: {past.revision.told(error)}"
        if before is None or past.environment is None or past.revision.project is None:
            return (), f"{release.label} was built from another recipe than that of its commit {commit[:12]}"
        written = planning.written_inputs(before, past.environment)
        other = [k for k in sorted({*written, *release.inputs}) if _in_files_only(k)]
        other = [k for k in other if written.get(k) != release.inputs.get(k)]
        if other:
            what = ", ".join(other)
            return (), f"{release.label} had other values than the files of its commit {commit[:12]}: {what}"
        sides = Sides(
            past.revision.project, self._project, before, step.recipe, self._environment.name, past.revision.named
        )
        return find_places(sides, labels)[0], ""

    def _open(self, commit: str) -> _Past | str:
        try:
            return _Past(self._opened.enter_context(at_commit(self._project, commit[:12])), self._environment.name)
        except GoldenAmiError as error:
            return " ".join(filter(None, (error.message, error.hint)))


_COMMITS: Final = 20  # that one plan reads


def _in_files_only(label: str) -> bool:
    """Whether an input does not depend on what a cloud answers."""
    return label.partition(":")[0] not in ("base", "target", *planning.LAPSING)


@contextmanager
def commits_of(project: Project, environment: Environment) -> Iterator[Commits]:
    """Yield the commits of releases, and delete their files at the end."""
    with ExitStack() as opened:
        yield Commits(project, environment, opened)


# --- places -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sides:
    """A recipe in two states of its project. ``named``: returns a text with the names of the files of ``then``."""

    then: Project
    now: Project
    before: Recipe
    after: Recipe
    environment: str
    named: Callable[[str], str]


def find_places(sides: Sides, labels: Sequence[str]) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Return where the inputs with these labels differ between two states of a recipe; and the places in the recipe
    that are no input."""
    kinds = {label.partition(":")[0] for label in labels}
    keys = {key for kind in kinds for key in _KEYS.get(kind, ())}
    in_recipe = _values(sides, sides.before.source, sides.after.source)
    found = [place for path, place in in_recipe if path[:1] and path[0] in keys]
    others = [place for path, place in in_recipe if place not in found]
    if kinds & {*_STAGES, "controls", "test"}:
        found += _in_definitions(sides)
    found += _in_files(sides)
    if "operation" in kinds:
        found += _in_code(sides)
    found += _in_settings(sides, kinds)
    if labels and not found:  # such as a description that an expression uses
        found, others = others, []
    every = dict.fromkeys(_renamed(place, sides.named) for place in found)
    return tuple(every), tuple(dict.fromkeys(_renamed(place, sides.named) for place in others))


def _renamed(place: Place, named: Callable[[str], str]) -> Place:
    mark = place.mark
    return replace(place, mark=Mark(named(mark.file), mark.line, mark.column)) if place.sign == "-" else place


def _documents(sides: Sides, then: Path, now: Path) -> tuple[Document, Document] | None:
    before, after = sides.then.document(then, Problems()), sides.now.document(now, Problems())
    return (before, after) if before is not None and after is not None else None


def _values(
    sides: Sides, then: Path, now: Path, wanted: Callable[[NodePath], bool] = lambda _: True
) -> list[tuple[NodePath, Place]]:
    documents = _documents(sides, then, now)
    return places.of_values(*documents, wanted=wanted) if documents is not None else []


def _in_definitions(sides: Sides) -> Iterator[Place]:
    """Yield what differs in the agents, profiles and controls that the recipe uses."""
    before = {(one.kind, one.name): one for one in sides.before.lookups}
    after = {(one.kind, one.name): one for one in sides.after.lookups}
    for at in sorted(before.keys() & after.keys()):
        then, now = before[at], after[at]
        if then.shipped != now.shipped or then.package != now.package:
            yield Place("~", Mark(shown(now.path), 1, 1), 1, f"the {now.kind} {now.name}: {_origin(then, now)}")
        elif then.path != now.path:
            yield from (place for _, place in _values(sides, then.path, now.path, _used(sides, now)))


def _origin(then: Found, now: Found) -> str:
    return f"{now.origin}, before {then.origin}"


def _used(sides: Sides, found: Found) -> Callable[[NodePath], bool]:
    """Return which values of a definition matter: of controls, only those that the recipe has in one of its states."""
    if found.kind != "controls":
        return lambda _: True
    ids = {c.id for side in (sides.before, sides.after) for h in side.hardening.values() for c in h.controls}

    def matters(path: NodePath) -> bool:
        if path[:1] != ("controls",) or len(path) < 2 or not isinstance(path[1], int):
            return True
        document = sides.now.document(found.path, Problems())
        controls = document.value.get("controls", ()) if document is not None else ()
        return path[1] >= len(controls) or controls[path[1]].get("id") in ids

    return matters


def _in_files(sides: Sides) -> Iterator[Place]:
    """Yield what differs in templates, files for the host, and tests."""
    before, after = _files(sides.before, sides.then), _files(sides.after, sides.now)
    for name in sorted({*before, *after}):
        yield from _in_file(sides, before.get(name), after.get(name))


def _files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """Return the files of a recipe by their path from the project."""
    tests = (test.path for test in recipe.tests if not test.installed)
    return {os.path.relpath(path, project.root): path for path in (*recipe.payloads, *tests) if path is not None}


def _in_file(sides: Sides, then: Path | None, now: Path | None) -> Iterator[Place]:
    if then == now:
        return  # a shipped one
    if then is None or now is None:
        sign: Sign = "+" if then is None else "-"
        yield Place(sign, Mark(shown(now or then or Path()), 0, 0), 0)
        return
    old, new = _read(sides.then, then), _read(sides.now, now)
    if old != new:
        if isinstance(old, _Digest) or isinstance(new, _Digest) or b"\0" in old or b"\0" in new:
            yield Place("~", Mark(shown(now), 0, 0), 0)
        else:
            before, after = old.decode(errors="replace"), new.decode(errors="replace")
            yield from places.of_lines(before, after, shown(now), shown(then))
    elif then.stat().st_mode != now.stat().st_mode:
        yield Place("~", Mark(shown(now), 0, 0), 0, "permissions")


_PART: Final = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class _Digest:
    """What a file is compared by that cannot be compared line by line: its digest; or why it cannot be read."""

    value: str


def _read(project: Project, path: Path) -> bytes | _Digest:
    """Return the contents of a file; of a large one its digest, since files for the host can have a gibibyte."""
    with suppress(OSError):
        return project.files.read_bytes(path, TEXT_BYTES)
    try:
        digest = hashlib.sha256()
        with project.files.open(path, FILE_BYTES) as stream:
            while part := stream.read(_PART):
                digest.update(part)
        return _Digest(digest.hexdigest())
    except OSError as error:
        return _Digest(str(error.strerror))


def _in_code(sides: Sides) -> Iterator[Place]:
    """Yield what differs below ``operations/``."""
    found: list[dict[str, Path]] = []
    for project in (sides.then, sides.now):
        folder = project.root / OPERATIONS
        files = (path for path in sorted(folder.rglob("*.py")) if path.is_file()) if folder.is_dir() else ()
        found.append({os.path.relpath(path, project.root): path for path in files})
    before, after = found
    for name in sorted({*before, *after}):
        yield from _in_file(sides, before.get(name), after.get(name))


def _in_settings(sides: Sides, kinds: Iterable[str]) -> Iterator[Place]:
    """Yield what differs in the environment, as far as the changed inputs can come from it."""
    documents = _documents(sides, sides.then.file, sides.now.file)
    keys = {key for kind in kinds for key in _SETTINGS.get(kind, ())}
    keys |= {key for kind in kinds if kind in _STAGES for key in _IN_EXPRESSIONS}
    if documents is None or not keys:
        return
    declared = {*sides.before.variables, *sides.after.variables}
    at: NodePath = ("environments", sides.environment)

    def wanted(path: NodePath) -> bool:
        below = path[2:]
        return not below or (below[0] in keys and (below[0] != "vars" or len(below) == 1 or below[1] in declared))

    yield from (place for _, place in places.of_values(*documents, at, wanted=wanted))
