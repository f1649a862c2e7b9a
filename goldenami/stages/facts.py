"""The facts that a plan needs from the cloud and the catalog: base images, keys, the caller. Reads only.

The bases, the targets and the encryption settings of the home account are read at the same time. A best-effort target
that cannot be read is listed with the reason, and holds nothing up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from goldenami.aws import encryption, images, kms, regions, snapshots
from goldenami.aws.encryption import EbsDefaults
from goldenami.aws.kms import Key
from goldenami.aws.session import Cloud, Identity
from goldenami.each import AT_ONCE_BESIDE, beside, both, each
from goldenami.errors import AccessError, GoldenAmiError, NotFound, TargetsFailed, UsageError
from goldenami.git import Repository
from goldenami.model import Architecture, BaseImage, Environment, Mark, Place, Target
from goldenami.nextstep import step
from goldenami.planning import Facts, SourceSnapshot
from goldenami.preflight import Finding, PreflightFailed, from_error
from goldenami.recipe import BaseRef, Recipe
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference
from goldenami.stages import volume_keys

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class _Targets:
    """The keys of the targets that own an image, and the reasons why best-effort targets cannot be used; by label.
    ``arns``: of the keys."""

    keys: Mapping[str, Key]
    unavailable: Mapping[str, str]
    arns: Mapping[str, str]


class Shared:
    """What the plans of one command have in common. Thread-safe: of two callers at the same time, one reads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._reading_defaults = threading.Lock()  # of its own: they are read beside the targets
        self._defaults: dict[Place, EbsDefaults] = {}
        self._commits: dict[Path, str | None] = {}
        # By identity: recipes that name no targets share those of the environment, and a hash of many takes long.
        self._targets: dict[int, tuple[tuple[Target, ...], _Targets]] = {}

    def commit(self, directory: Path) -> str | None:
        """Return :func:`git_commit` of a directory."""
        with self._mutex:
            if directory not in self._commits:
                self._commits[directory] = git_commit(directory)
            return self._commits[directory]

    def defaults(self, cloud: Cloud, place: Place) -> EbsDefaults:
        """Return :func:`encryption.read_defaults` of a place."""
        with self._reading_defaults:
            if place not in self._defaults:
                self._defaults[place] = encryption.read_defaults(cloud, place)
            return self._defaults[place]

    def has(self, targets: tuple[Target, ...]) -> bool:
        """Return whether :meth:`targets` has returned for these targets."""
        return id(targets) in self._targets

    def targets(self, cloud: Cloud, environment: Environment, targets: tuple[Target, ...], *, builds: bool) -> _Targets:
        """Return what is known about targets. Raises as ``gather`` does, for each caller again."""
        with self._mutex:
            if id(targets) not in self._targets:
                same = next((found for given, found in self._targets.values() if given == targets), None)
                self._targets[id(targets)] = targets, same or _read_targets(cloud, environment, targets, builds=builds)
            return self._targets[id(targets)][1]


def gather(
    cloud: Cloud,
    environment: Environment,
    catalog: Catalog,
    recipe: Recipe,
    *,
    bases: Mapping[Architecture, BaseImage] | None = None,
    shared: Shared | None = None,
    builds: bool = False,
) -> Facts:
    """Resolve everything that the recipe and the environment name. Changes nothing.

    ``bases``: the bases if they are known already; an empty id stands for an image that has yet to be built.
    ``shared``: what earlier calls for the same cloud have read. ``builds``: the facts are for a build, so the roles
    may use the keys: this takes one call for each key, where a description and a check of the use take two.

    Only the home account and the accounts of the recipe's targets are used. Raises AccessError for wrong credentials of
    the home account or of all required targets, TargetsFailed if some required targets cannot be used, NotFound for a
    region, key or base that does not exist, and UsageError for keys that other accounts cannot use.
    """
    home = environment.home_place
    regions.check_home(cloud)
    given, shared = bases or {}, shared or Shared()
    is_first = not shared.has(recipe.distribution.targets)
    caller = sign_in(cloud, recipe.distribution.targets) if is_first else cloud.check_caller()
    targets, found, defaults = _at_once(
        lambda: shared.targets(cloud, environment, recipe.distribution.targets, builds=builds),
        lambda: _bases(
            recipe, lambda a: given.get(a) or find_base(cloud, environment, catalog, recipe.base[a], architecture=a)
        ),
        lambda: shared.defaults(cloud, home),
        threads=3 if is_first else 1,  # later plans find most answers in the memory of the cloud
    )
    base = dict(zip(recipe.architectures, found, strict=True))
    sources = source_snapshots(cloud, home, recipe)
    # The snapshots of an image that does not exist yet have no key.
    there = {a: image for a, image in base.items() if image.image_id}
    keys = volume_keys.of_bases(cloud, home, there, recipe, defaults, sources)
    choices = volume_keys.choose(recipe, home, targets.keys, keys, defaults, environment.encryption)
    return Facts(
        base=base,
        kms_keys=targets.arns,
        caller_arn=caller.arn,
        git_commit=shared.commit(recipe.source.parent),
        volume_keys=choices,
        unavailable=targets.unavailable,
        snapshots=sources,
    )


def sign_in(cloud: Cloud, targets: Sequence[Target]) -> Identity:
    """Check the credentials for the home account, and assume the roles of the targets' accounts at the same time.
    Return the caller. A role that cannot be assumed fails where it is used.

    Raises UsageError before the first call if a target or a role is in another partition: no credentials are valid in
    two of them, so the calls would fail for a reason that does not help."""
    regions.check_partitions(cloud, [cloud.home, *(target.place for target in targets)])
    others = sorted({target.account.id for target in targets} - {cloud.home.account})
    caller, _ = beside(cloud.check_caller, lambda: each(others, cloud.check_account))
    return caller


def try_to_sign_in(cloud: Cloud, targets: Sequence[Target]) -> GoldenAmiError | None:
    """Do :func:`sign_in` while something else is prepared. Return its error."""
    try:
        regions.check_home(cloud)
        sign_in(cloud, targets)
    except GoldenAmiError as error:
        return error
    return None


def source_snapshots(cloud: Cloud, home: Place, recipe: Recipe) -> dict[str, SourceSnapshot]:
    """Return the snapshots of the recipe's data volumes. Raises NotFound for one that cannot be used."""
    ids = sorted({volume.snapshot for volume in recipe.image.volumes if volume.snapshot is not None})
    seen = snapshots.describe_many(cloud, home, ids)
    for id in ids:
        state = seen[id].get("State") if id in seen else "not visible"
        if state != "completed":
            raise NotFound(
                f"{recipe.mark.file}: image.volumes: snapshot {id} is {state} in {home}, expected completed",
                hint="Name a snapshot of the home account and region, or one that is shared with the home account.",
            )
    return {id: SourceSnapshot(int(seen[id]["VolumeSize"]), bool(seen[id].get("Encrypted"))) for id in ids}


def _at_once(
    targets: Callable[[], _Targets],
    bases: Callable[[], list[BaseImage]],
    defaults: Callable[[], EbsDefaults],
    threads: int,
) -> tuple[_Targets, list[BaseImage], EbsDefaults]:
    reads: dict[str, Callable[[], object]] = {"targets": targets, "bases": bases, "defaults": defaults}
    answers = each(reads, lambda name: reads[name](), at_once=threads)
    _refuse_all(answers.errors)
    first, second, third = answers.results.values()
    assert isinstance(first, _Targets)
    assert isinstance(second, list)
    assert isinstance(third, EbsDefaults)
    return first, second, third


def _bases(recipe: Recipe, find: Callable[[Architecture], BaseImage]) -> list[BaseImage]:
    """Return the bases of all architectures. Raises what is wrong with any of them, at its place in the recipe."""

    def found(architecture: Architecture) -> BaseImage:
        with _at(recipe.base[architecture].mark):
            return find(architecture)

    answers = each(recipe.architectures, found)
    _refuse_all(answers.errors)
    return list(answers.results.values())


@contextmanager
def _at(mark: Mark) -> Iterator[None]:
    """Add the place in a file to an error that a change of the file ends."""
    try:
        yield
    except (NotFound, UsageError) as error:
        raise error.at(mark) from error.__cause__


def _refuse_all(errors: Mapping[_Key, GoldenAmiError], *, told_too: tuple[type[GoldenAmiError], ...] = ()) -> None:
    """Raise what is wrong in files, all at once; but first an error that no change of a file ends, such as a missing
    permission. ``told_too``: classes of other errors that are told with the rest."""
    findings: list[Finding] = []
    for error in errors.values():
        if not isinstance(error, (NotFound, UsageError, PreflightFailed, *told_too)):
            raise error
        findings += error.findings if isinstance(error, PreflightFailed) else [from_error("plan", error)]
    if len(set(findings)) == 1:
        raise next(iter(errors.values()))
    if findings:
        raise PreflightFailed(dict.fromkeys(findings))


def _read_targets(cloud: Cloud, environment: Environment, targets: Sequence[Target], *, builds: bool) -> _Targets:
    """Check the regions of all targets, and resolve the keys of those that own an image.

    Raises the error of the required targets. The errors of the others are listed in ``unavailable``.
    """
    by_label = {target.label: target for target in targets}
    known = cloud.known_regions()

    def resolve(label: str) -> Key:
        target = by_label[label]
        with _at(environment.mark("targets", label, "kms_key")):
            return kms.resolve(cloud, target.place, target.kms_key, by_use=builds)

    owning = [target.label for target in targets if modes.get_mode(target).owns_image]
    # In a region that exists, the key is asked for at the same time.
    lists, keys = both(
        lambda: regions.of_accounts(cloud, [target.place for target in targets]),
        lambda: each([label for label in owning if by_label[label].region in known], resolve, at_once=AT_ONCE_BESIDE),
    )

    def check(label: str) -> Key | None:
        target = by_label[label]
        if target.account.id in lists.errors:
            raise lists.errors[target.account.id].at(environment.mark("accounts", target.account.name, "role"))
        with _at(environment.mark("targets", label)):
            regions.check_enabled(target.place, lists.results[target.account.id], known)
        if label in keys.errors:
            raise keys.errors[label]
        return keys.results[label] if label in keys.results else resolve(label) if label in owning else None

    answers = each(by_label, check)
    needed = {target.label for target in targets if target.required}
    # A required target needs the target whose image it uses.
    needed |= {str(modes.get_mode(by_label[label]).source(by_label[label])) for label in needed} & by_label.keys()
    _refuse({label: error for label, error in answers.errors.items() if label in needed}, len(needed))
    found = {label: key for label, key in answers.results.items() if key is not None}
    return _Targets(
        found,
        {label: error.message for label, error in answers.errors.items()},
        {label: key.arn for label, key in found.items()},
    )


def _refuse(errors: Mapping[str, GoldenAmiError], count: int) -> None:
    """Raise the error of the required targets that cannot be used. ``count``: the number of required targets."""
    if any(isinstance(error, (NotFound, UsageError)) for error in errors.values()):
        _refuse_all(errors, told_too=(AccessError,))  # such as a role that cannot be assumed
    if errors and len(errors) == count:
        raise next(iter(errors.values()))
    if errors:
        raise TargetsFailed(
            f"{len(errors)} of {count} required targets cannot be used: {', '.join(errors)}",
            failures={label: error.message for label, error in errors.items()},
            hint="Give the caller access to these accounts and keys, or remove these targets from the recipe, or write "
            "`required: false` for them in goldenami.yaml.",
        )


def find_base(
    cloud: Cloud, environment: Environment, catalog: Catalog, base: BaseRef, architecture: Architecture
) -> BaseImage:
    """The image that a recipe's ``base`` means, in the home region. Raises NotFound."""
    home = environment.home_place
    match base.kind:
        case "ssm":
            return images.base_by_parameter(cloud, home, base.value, architecture=architecture)
        case "id":
            return images.base_by_id(cloud, home, base.value, architecture=architecture)
        case "filter":
            return images.find_base(
                cloud,
                home,
                architecture=architecture,
                filters={"name": [base.value]},
                owners=base.owners,
                include_deprecated=base.include_deprecated,
            )
        case "recipe":
            return released_base(cloud, environment, catalog, base, architecture)


def released_base(
    cloud: Cloud,
    environment: Environment,
    catalog: Catalog,
    base: BaseRef,
    architecture: Architecture,
    *,
    version: str | None = None,
) -> BaseImage:
    """Return the image of the release in the channel of a base recipe; or, with ``version``, of another release, to
    which the channel is about to move. Raises NotFound."""
    reference = Reference(base.value, channel=None if version else base.channel, version=version)
    home = environment.home_place
    try:
        release = catalog.find(reference)
        image = catalog.resolve(reference, home, architecture)
    except NotFound as error:
        raise NotFound(
            f"{base.mark}: the base {reference} has no {architecture} image in {home}: {error.message}",
            hint=" ".join(filter(None, (error.hint, f"To build the base: {step('build', base.value)}."))),
        ) from error
    source = f"{base} {release.version}"
    found = images.base_by_id(cloud, home, image.image_id, architecture=architecture, source=source)
    return replace(found, release=release.label)


def git_commit(directory: Path) -> str | None:
    """Return the checked-out commit of a directory, or None outside a Git repository.

    The suffix ``-dirty`` means that files differ from the commit.
    """
    try:
        return Repository.around(directory).state()
    except GoldenAmiError:
        return None
