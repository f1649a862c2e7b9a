"""The declared state of a release: what its recipe and its environment say *now*. Pure.

The manifest of a release tells what was made, and the declaration where it should be: targets, accounts and
organizations that may launch the images, tags, the time of deprecation. ``difference`` compares both with what the
cloud returns.

What is fixed when an image is made is not declared here: its key, boot mode and size, and the mode of a target that
has its image already. A build with another value makes another release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from goldenami.aws import tags
from goldenami.model import Account, Architecture, Declaration, Environment, ImageManifest, ManifestImage, Place, Target
from goldenami.release import consumers
from goldenami.release import targets as modes
from goldenami.release.catalog import Evidence
from goldenami.release.distribute import Placed
from goldenami.release.order import ReleaseOrder
from goldenami.release.parameters import Parameter, channel_parameters, parameters_for
from goldenami.release.templates import Follower, followers
from goldenami.release.verify import Expected, expect


@dataclass(frozen=True, slots=True)
class Declared:
    """The declared state of one release.

    ``order``: all targets that have an image or must get one. ``images``: the expected images, one for each that the
    release owns. ``missing``: targets that have no image yet. ``leaving``: rows of accounts that may not use the image
    of another account any more. ``kept``: what is not declared any more, or declared differently, and stays as it is.
    ``channels``: the channels that point to the release. ``parameters``: of the rows that stay, by channel, and by the
    version. ``leaving_parameters``: of accounts that may not use the images any more. ``needs``: the grants of
    consumers. ``templates``: the launch templates that follow each of the channels. ``share_tags``: of shared images,
    in the accounts that use them. ``accounts``: those of the environment, which goldenami has a role for.
    """

    manifest: ImageManifest
    order: ReleaseOrder
    images: tuple[Expected, ...]
    missing: tuple[Target, ...]
    leaving: tuple[ManifestImage, ...]
    kept: tuple[str, ...]
    channels: tuple[str, ...]
    parameters: Mapping[str, tuple[Parameter, ...]]
    leaving_parameters: tuple[Parameter, ...]
    needs: tuple[consumers.Need, ...]
    templates: Mapping[str, tuple[Follower, ...]] = field(default_factory=dict)
    share_tags: Mapping[str, str] = field(default_factory=dict)
    accounts: frozenset[str] = frozenset()

    @property
    def every_template(self) -> tuple[Follower, ...]:
        """The launch templates of all channels."""
        return tuple(follower for every in self.templates.values() for follower in every)

    @property
    def every_parameter(self) -> tuple[Parameter, ...]:
        """The parameters of the rows that stay."""
        return tuple(parameter for every in self.parameters.values() for parameter in every)

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """Those of the release's images, sorted."""
        return tuple(sorted({row.architecture for row in self.manifest.images}))


def declare(
    manifest: ImageManifest,
    declaration: Declaration,
    environment: Environment,
    catalog: str | None,
    channels: Iterable[str],
    evidence: Evidence,
) -> Declared:
    """Return the declared state of a release. ``catalog``: the id of the catalog. ``channels``: those that point to the
    release. ``evidence``: its manifest as the build wrote it."""
    targets = tuple(_targets(manifest, declaration, environment))
    declared = {target.place for target in declaration.targets}
    rows = {row.place for row in manifest.images}
    leaving = tuple(row for row in manifest.images if row.place not in declared and not modes.owns(row))
    staying = replace(manifest, images=tuple(row for row in manifest.images if row not in leaving))
    created = datetime.fromisoformat(manifest.created)
    order = ReleaseOrder(
        recipe=manifest.recipe,
        version=manifest.version,
        home=environment.home_place,
        targets=targets,
        keys=_keys(manifest, targets),
        description=manifest.description,
        tags=declaration.tags,
        share_accounts=declaration.share_accounts,
        share_organizations=declaration.share_organizations,
        imds_v2=declaration.imds_v2,
        deprecate_at=created + declaration.deprecate_after if declaration.deprecate_after is not None else None,
        names=environment.image_name,
        protection=declaration.protection,
    )
    every_tag = {
        **environment.tags,
        tags.RECIPE: manifest.recipe,
        tags.VERSION: manifest.version,
        tags.ENVIRONMENT: environment.name,
        **({tags.CATALOG: catalog} if catalog is not None else {}),
    }
    by_place = {target.place: target for target in targets}
    pointing = tuple(sorted(channels))
    images = []
    for row in staying.images:
        if modes.owns(row):
            one = expect(order, Placed(by_place[row.place], row.architecture, row.image_id), every_tag)
            zones = frozenset(declaration.fast_restore.get(row.place, ()) if pointing else ())
            every = {**one.tags, tags.NAME: row.name}
            images.append(replace(one, name=row.name, tags=every, fast_restore=zones))
    shared = {one.image_id: tuple(sorted(one.users | one.organizations)) for one in images}
    after = replace(staying, images=tuple(_with_access(row, shared) for row in staying.images))
    wanted = wanted_parameters(after, environment, pointing, evidence)
    names = {(parameter.place, parameter.name) for every in wanted.values() for parameter in every}
    return Declared(
        manifest=manifest,
        order=order,
        images=tuple(images),
        missing=tuple(target for target in targets if target.place not in rows),
        leaving=leaving,
        kept=tuple(_kept(manifest, declaration, declared)),
        channels=pointing,
        parameters=wanted,
        leaving_parameters=tuple(
            parameter
            for every in wanted_parameters(manifest, environment, pointing, evidence).values()
            for parameter in every
            if (parameter.place, parameter.name) not in names
        ),
        needs=consumers.needs(environment.consumers, [after]),
        templates={one: followers(environment.launch_templates, after, one) for one in pointing},
        share_tags=declaration.share_tags,
        accounts=frozenset(account.id for account in environment.accounts.values()),
    )


def wanted_parameters(
    manifest: ImageManifest, environment: Environment, channels: Iterable[str], evidence: Evidence
) -> dict[str, tuple[Parameter, ...]]:
    """Return the parameters of a release: those of its version, and those of the channels that point to it."""
    prefix, accounts = environment.parameter_prefix, [account.id for account in environment.informed]
    of_channels = {one: channel_parameters(manifest, prefix, one, evidence, accounts) for one in channels}
    return {manifest.version: parameters_for(manifest, prefix, manifest.version, accounts), **of_channels}


def _targets(manifest: ImageManifest, declaration: Declaration, environment: Environment) -> Iterator[Target]:
    """Yield the declared targets, and the places of images that are kept although they are not declared any more.

    A target that has its image keeps its mode.
    """
    rows = {row.place: row for row in manifest.images}
    for target in declaration.targets:
        row = rows.pop(target.place, None)
        yield target if row is None else replace(target, mode=row.mode)
    accounts = {account.id: account for account in environment.accounts.values()}
    for place, row in sorted(rows.items()):
        if modes.owns(row):
            account = accounts.get(place.account) or Account(place.account, place.account)
            yield Target(account, place.region, key_of(row), mode=row.mode, required=False)


def _keys(manifest: ImageManifest, targets: Iterable[Target]) -> dict[str, str]:
    """Return label -> key: the ARN of the key of an image, and what goldenami.yaml says for a target without one."""
    rows = {row.place: row for row in manifest.images}
    return {target.label: key_of(rows[target.place]) if target.place in rows else target.kms_key for target in targets}


def key_of(row: ManifestImage) -> str:
    """Return the ARN of the key of an image's snapshots; empty if they are not encrypted."""
    return next((s.kms_key_id for s in row.snapshots if s.kms_key_id is not None), "")


def _with_access(row: ManifestImage, shared: Mapping[str, tuple[str, ...]]) -> ManifestImage:
    return replace(row, shared_with=shared[row.image_id]) if modes.owns(row) else row


def _kept(manifest: ImageManifest, declaration: Declaration, declared: set[Place]) -> Iterator[str]:
    given = {target.place: target for target in declaration.targets}
    for row in manifest.images:
        if row.place not in declared and modes.owns(row):
            yield (
                f"{row.place} is not a target any more; {row.image_id} and its parameters stay until the release is "
                "retired"
            )
        elif row.place in given and given[row.place].mode != row.mode:
            yield f"{row.place} has the mode {given[row.place].mode} now; {row.image_id} stays as {row.mode}"
