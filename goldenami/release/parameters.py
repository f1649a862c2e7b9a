"""The SSM parameters of a release, in the account and region of each of its images.

The id of the image is in ``…/VERSION/image-id``, which never changes, and in ``…/CHANNEL/image-id``, which moves with
the channel. Beside the latter, ``…/CHANNEL/version`` has the version of the release, and ``…/CHANNEL/manifest`` has all
facts in one value (JSON), so that one read returns facts that belong together. An account that an image is only shared
with gets the same parameters if the environment says so (``accounts.NAME.parameters``).

The journal of a build records each change of a parameter. The functions read the journal first, because SSM validates a
new value after it has answered the call. Until then, SSM still returns the old value.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws import images, parameters, tags
from goldenami.aws.kinds import kind_of, parameter_tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.ownership import Owner
from goldenami.aws.parameters import Current
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError
from goldenami.journal import Intent
from goldenami.model import Architecture, ImageManifest, ManifestImage, Place
from goldenami.release.catalog import Catalog, Evidence
from goldenami.release.versions import is_version

MANIFEST_SCHEMA: Final = "goldenami.channel-manifest/1"
CHANNEL_PARAMETERS: Final = ("version", "manifest", "image-id")  # the last parts of their names
_PUTS: Final = 2  # that a move may need for one parameter: the new value, and the earlier one if the move is undone
NOT_OURS: Final = "goldenami.NotOurs"  # the code of an error: a parameter belongs to another catalog or program


@dataclass(frozen=True, slots=True)
class Parameter:
    """One SSM parameter, and the value that it must have. ``image``: the image that the value is or describes."""

    place: Place
    name: str
    image: ManifestImage
    value: str
    data_type: str = parameters.IMAGE

    @property
    def key(self) -> str:
        return f"parameter/{self.place}{self.name}"

    @property
    def names_image(self) -> bool:
        """Whether the value is the id of the image."""
        return self.data_type == parameters.IMAGE


def parameter_name(prefix: str, recipe: str, architecture: Architecture, which: str, what: str = "image-id") -> str:
    """Return a name such as ``/golden-ami/debian-12-web/x86_64/stable/image-id``. ``which``: a channel or a version.
    ``what``: "image-id", "version" or "manifest"."""
    return f"{prefix}/{recipe}/{architecture}/{which}/{what}"


def parameter_of_version(name: str) -> tuple[str, str] | None:
    """Return the recipe and the version of the parameter with this name; None for one of a channel, and for others."""
    *_, recipe, _, which, _ = ("", "", "", *name.split("/"))
    return (recipe, which) if is_version(which) else None


def parameters_for(
    manifest: ImageManifest, prefix: str, which: str, accounts: Collection[str] = ()
) -> tuple[Parameter, ...]:
    """Return the parameters with the image ids of a channel or a version: one for each row of a manifest.

    ``accounts``: ids of accounts that also get one for each image that is shared with them.
    """
    return tuple(
        Parameter(
            place, parameter_name(prefix, manifest.recipe, image.architecture, which), image, value=image.image_id
        )
        for place, image in images_for(manifest, accounts)
    )


def channel_parameters(
    manifest: ImageManifest, prefix: str, channel: str, evidence: Evidence, accounts: Collection[str] = ()
) -> tuple[Parameter, ...]:
    """Return all parameters of a channel: the texts first, then the image ids. They must be set in this order.

    Who reacts to a new image id then finds the version and the manifest of the same image.
    """
    texts = []
    for place, image in images_for(manifest, accounts):
        facts = {
            "schema": MANIFEST_SCHEMA,
            "name": manifest.recipe,
            "version": manifest.version,
            "architecture": image.architecture,
            "image_id": image.image_id,
            "created": manifest.created,
            "manifest": evidence.address,
            "sha256": evidence.sha256,
        }
        for what, value in (("version", manifest.version), ("manifest", json.dumps(facts))):
            name = parameter_name(prefix, manifest.recipe, image.architecture, channel, what)
            texts.append(Parameter(place, name, image, value, parameters.TEXT))
    return (*texts, *parameters_for(manifest, prefix, channel, accounts))


def images_for(manifest: ImageManifest, accounts: Collection[str]) -> Iterator[tuple[Place, ManifestImage]]:
    """Yield each row of a manifest with its place, and then each row that is shared with one of ``accounts`` and for
    which that account has no row."""
    rows = {(row.place, row.architecture) for row in manifest.images}
    yield from ((row.place, row) for row in manifest.images)
    for row in manifest.images:
        for account in sorted(set(row.shared_with) & set(accounts)):
            place = Place(account, row.region)
            if (place, row.architecture) not in rows:
                yield place, row


def why_not_ours(
    cloud: Cloud,
    catalog: Catalog,
    owner: Owner,
    recipe: str,
    place: Place,
    found: Mapping[str, Current],
) -> dict[str, str]:
    """Return why parameters of one place must not be changed, by name; those of this catalog are left out.

    Their tags must be ours, and their values an image or a release of this catalog. The value of another program is
    kept, also if the tags are ours, since that program replaced it on purpose. A parameter that was found to be ours is
    not read again while it has the same version.
    """
    who = (owner.catalog, owner.environment)
    unknown = {name: one for name, one in found.items() if cloud.own_parameters.get((place, name)) != (*who, one)}
    listed: Collection[str] = ()
    if len(unknown) > 1 and owner.catalog:
        wanted = {tags.CATALOG: owner.catalog, tags.ENVIRONMENT: owner.environment}
        listed = parameters.with_tags(cloud, place, unknown, wanted)
    reasons: dict[str, str] = {}
    for name, one in sorted(unknown.items()):
        reason = None if name in listed else _not_ours_by_tags(cloud, owner, place, name, one.value)
        reason = reason or _not_ours_by_value(cloud, catalog, owner, recipe, place, name, one.value)
        if reason is not None:
            reasons[name] = reason
        else:
            cloud.own_parameters[place, name] = (*who, one)
    return reasons


def _not_ours_by_tags(cloud: Cloud, owner: Owner, place: Place, name: str, value: str) -> str | None:
    # A new parameter may not show its tags yet.
    answer = owner.of_tags(cloud.look(lambda: parameter_tags(cloud, place, name)) or {})
    return None if answer.is_ours else f"Parameter {name} in {place} with the value {value} is {answer.reason}"


def _not_ours_by_value(
    cloud: Cloud, catalog: Catalog, owner: Owner, recipe: str, place: Place, name: str, value: str
) -> str | None:
    if name.endswith(("/version", "/manifest")):
        if _version_in(name, recipe, value) in catalog.versions(recipe):
            return None
        return f"Parameter {name} in {place} has the value {value}, which is not a release of this catalog"
    if catalog.has_image(recipe, value):
        return None
    # A build that was killed while it published has set the parameter before it wrote the catalog.
    image = images.describe_many(cloud, place, [value]).get(value) if value.startswith("ami-") else None
    if image is not None and owner.of_tags(tags.from_list(image.get("Tags"))).is_ours:
        return None
    return f"Parameter {name} in {place} has the value {value}, which is not an image of this catalog"


def _version_in(name: str, recipe: str, value: str) -> str:
    """Return the version in the value of a parameter with a text; empty if the value has another form."""
    if name.endswith("/version"):
        return value
    facts = manifest_facts(value)
    return str(facts.get("version", "")) if facts.get("name") == recipe else ""


def manifest_facts(value: str) -> dict[str, Any]:
    """Return what the parameter ``…/manifest`` says; empty for a value of another form."""
    try:
        facts = json.loads(value)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


class Parameters:
    """Changes the parameters of a release for one build. A second call of any method changes nothing."""

    def __init__(self, ledger: Ledger, catalog: Catalog, manifest: ImageManifest) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._recipe = manifest.recipe
        self._cloud = ledger.cloud
        self._description = f"{manifest.recipe}: {manifest.description}".removesuffix(": ")

    def make(self, parameter: Parameter) -> None:
        """Create the parameter of a version. Call :meth:`wait` afterwards.

        Raises CloudError if it exists with another image that this build did not write.
        """
        self._settle(parameter)
        made = self._ledger.existing(parameter.key) is not None
        if not made:
            try:
                self._create(parameter)
            except CloudError as error:
                if error.code not in kind_of("parameter").duplicate_codes:
                    raise
            else:
                return
        current = self._read(parameter)
        if current == parameter.value:
            return
        if current is not None and not made:
            raise CloudError(
                f"parameter {parameter.name} in {parameter.place} is {current}, expected {parameter.value}: "
                "the parameter of a version never changes",
                code="goldenami.Immutable",
                account=parameter.place.account,
                region=parameter.place.region,
                hint="Look in CloudTrail for the account that created it. Delete it if no program reads it.",
            )
        self._create(parameter)

    def move(self, parameter: Parameter, current: Current | None) -> None:
        """Set the parameter of a channel. Creates the parameter if it does not exist. ``current``: what :meth:`read`
        returned for it; None if it does not exist: SSM refuses to create one that does.

        Call :meth:`refuse` before, and :meth:`wait` afterwards.
        """
        self._settle(parameter)
        if current is None:
            self._create(parameter)
        elif current.value != parameter.value or self._may_become_other(parameter, current.value):
            self._set(parameter, parameter.value)

    def read(self, wanted: Sequence[Parameter]) -> dict[str, Current]:
        """Return the current parameters of one place that exist, by name. One call for ten of them."""
        return parameters.current_of(self._cloud, wanted[0].place, [p.name for p in wanted]) if wanted else {}

    def are_missing(self, wanted: Iterable[Parameter]) -> bool:
        """Return whether none of the parameters existed when this process searched the names of the release, and this
        build has not created any."""
        known, journal = self._cloud.missing_parameters, self._ledger.journal
        return all((p.place, p.name) in known and journal.latest(p.key) is None for p in wanted)

    def wait(self, wanted: Sequence[Parameter], *, beside: Sequence[Parameter] = ()) -> dict[str, Current]:
        """Wait until the parameters of one place have their values. One call for ten of them and round. Returns the
        current ones ``beside``, by name, which are read together with them."""
        if not wanted:
            return self.read(beside)
        values = {p.name: p.value for p in wanted}
        return parameters.await_values(self._cloud, wanted[0].place, values, beside=[p.name for p in beside])

    def refuse(self, parameter: Parameter, current: Current | None) -> None:
        """Raise CloudError if a parameter must be changed and does not belong to this catalog, or if SSM would refuse
        the change or its undo. ``current``: what :meth:`read` returned for it."""
        if current is None or (
            current.value == parameter.value and not self._may_become_other(parameter, current.value)
        ):
            return
        header, place = self._ledger.journal.header, parameter.place
        owner = Owner(header.catalog, header.environment)
        found = {parameter.name: current}
        reason = why_not_ours(self._cloud, self._catalog, owner, self._recipe, place, found).get(parameter.name)
        if reason is not None:
            raise CloudError(
                f"{reason}. It is not changed",
                code=NOT_OURS,
                account=place.account,
                region=place.region,
                hint="Set another parameter_prefix, or use the catalog that the parameter belongs to.",
            )
        # Most parameters have few versions. They need no further call.
        if current.version + _PUTS > parameters.MOST_VERSIONS:
            full = parameters.why_full(self._cloud, place, parameter.name, _PUTS)
            if full is not None:
                code = "ParameterMaxVersionLimitExceeded"
                raise CloudError(full, code=code, account=place.account, region=place.region)

    def put_back(self, parameter: Parameter, value: str | None) -> None:
        """Restore the earlier value of a parameter. ``value`` None deletes it if this build created it."""
        if value is None:
            self.unmake(parameter)
        elif self.may_differ(parameter, value):
            self._set(parameter, value)
            parameters.await_values(self._cloud, parameter.place, {parameter.name: value})

    def unmake(self, parameter: Parameter) -> None:
        """Delete the parameter if this build created it. Keeps one that another program created since under this
        name."""
        self._settle(parameter)
        if self._ledger.existing(parameter.key) is not None:
            # SSM may not have validated a new parameter yet. A deletion would find nothing, and the parameter would
            # appear later.
            kind, place, name = kind_of("parameter"), parameter.place, parameter.name
            current = self._ledger.look(kind, place, name, lambda: self._read(parameter))
            if current is None or kind.still_ours(self._ledger, place, name):
                self._ledger.delete_key(parameter.key)

    def _read(self, parameter: Parameter) -> str | None:
        return parameters.find(self._cloud, parameter.place, parameter.name)

    def may_differ(self, parameter: Parameter, value: str | None) -> bool:
        """Return whether the parameter has another value than ``value``, or may get one."""
        return self._may_become_other(parameter, value) or self._read(parameter) != value

    def _may_become_other(self, parameter: Parameter, value: str | None) -> bool:
        """Return whether the last value that this build wrote differs from ``value``.

        SSM may not have applied that value yet. Until then, reading the parameter returns an older value.
        """
        latest = self._last_put(parameter)
        return latest is not None and latest.request["Value"] != value

    def _last_put(self, parameter: Parameter) -> Intent | None:
        """Return the last call of this build that wrote the parameter: its creation, or a later PutParameter.

        The creation counts only while the parameter that it created may exist.
        """
        made = self._ledger.journal.latest(parameter.key)
        alive = made is not None and (made[1] is None or self._ledger.existing(parameter.key) is not None)
        found, number = made[0] if made is not None and alive else None, 1
        while latest := self._ledger.journal.latest(f"{parameter.key}/{number}"):
            found, number = latest[0], number + 1
        return found

    def _settle(self, parameter: Parameter) -> None:
        """Resolve a creating call without a result, because the process was killed.

        The restore and the clean-up must know whether this build created the parameter.
        """
        latest = self._ledger.journal.latest(parameter.key)
        if latest is not None and latest[0].action == "create" and latest[1] is None:
            self._ledger.resolve(latest[0])

    def _create(self, parameter: Parameter) -> None:
        # If this build created the parameter before, another program has deleted it, or it names an image that a
        # killed clean-up has deleted.
        self.unmake(parameter)
        parameters.create(
            self._ledger,
            parameter.key,
            parameter.place,
            name=parameter.name,
            value=parameter.value,
            data_type=parameter.data_type,
            description=self._description,
        )

    def _set(self, parameter: Parameter, value: str) -> None:
        # The parameter has another value now. So this write is a new step, even if an earlier one in the journal
        # succeeded: this build or a user has restored the value since. A write without a result is repeated.
        number = 1
        while (latest := self._ledger.journal.latest(f"{parameter.key}/{number}")) and latest[1] and latest[1].ok:
            number += 1
        parameters.put(
            self._ledger,
            f"{parameter.key}/{number}",
            parameter.place,
            name=parameter.name,
            value=value,
            data_type=parameter.data_type,
        )
