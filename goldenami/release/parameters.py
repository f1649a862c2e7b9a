"""The SSM parameters that name the images of a release, one in every account and region that has an image.

What a build did to each is in its journal, and that is asked first: SSM validates a value after it answered, so that
what it shows need not be what it will show.
"""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.aws import parameters
from goldenami.aws.ledger import Ledger
from goldenami.errors import CloudError
from goldenami.journal import Intent
from goldenami.model import Architecture, ImageManifest, ManifestImage, Place


@dataclass(frozen=True, slots=True)
class Parameter:
    """One SSM parameter, and the image it is to name."""

    place: Place
    name: str
    image: ManifestImage

    @property
    def key(self) -> str:
        return f"parameter/{self.place}{self.name}"


def parameter_name(prefix: str, recipe: str, architecture: Architecture, which: str) -> str:
    """``/golden-ami/debian-12-web/x86_64/stable/image-id``; ``which``: a channel or a version."""
    return f"{prefix}/{recipe}/{architecture}/{which}/image-id"


def parameters_for(manifest: ImageManifest, prefix: str, which: str) -> tuple[Parameter, ...]:
    """One for each row of a manifest: in the row's own account and region."""
    return tuple(
        Parameter(
            image.place,
            parameter_name(prefix, manifest.recipe, image.architecture, which),
            image,
        )
        for image in manifest.images
    )


class Parameters:
    """What one build does to each of a release's parameters. A second call of any step changes nothing."""

    def __init__(self, ledger: Ledger, manifest: ImageManifest) -> None:
        self._ledger = ledger
        self._cloud = ledger.cloud
        self._description = f"{manifest.recipe}: {manifest.description}".removesuffix(": ")

    def make(self, parameter: Parameter, *, temporary: bool) -> None:
        """A version's: it is made once. ``temporary``: with the expiry tag. Raises CloudError if it names another image
        that this build did not put there."""
        self._settle(parameter)
        current = self.read(parameter)
        if current == parameter.image.image_id:
            return
        if current is not None and self._ledger.existing(parameter.key) is None:
            raise CloudError(
                f"parameter {parameter.name} in {parameter.place} is {current} already; a version never changes",
                code="goldenami.Immutable",
                account=parameter.place.account,
                region=parameter.place.region,
                hint="Find out who made it, and delete it if it is of no use.",
            )
        self._create(parameter, temporary=temporary)

    def move(self, parameter: Parameter) -> None:
        """A channel's: it names the image from now on, whatever it named."""
        self._settle(parameter)
        current = self.read(parameter)
        if current == parameter.image.image_id and not self._may_become_other(parameter, current):
            return
        if current is None:
            self._create(parameter)
        else:
            self._set(parameter, parameter.image.image_id)

    def put_back(self, parameter: Parameter, value: str | None) -> None:
        """It names what it named before; None: it was not there."""
        if value is None:
            self.unmake(parameter)
        elif self.may_differ(parameter, value):
            self._set(parameter, value)

    def unmake(self, parameter: Parameter) -> None:
        """It is gone, if this build made it."""
        self._settle(parameter)
        if self._ledger.existing(parameter.key) is not None:
            # One that was accepted just now may not be validated yet: there would be nothing to delete, and then it
            # would appear.
            self._ledger.patience.look(self._cloud, lambda: self.read(parameter))
            self._ledger.delete_key(parameter.key)

    def read(self, parameter: Parameter) -> str | None:
        """What it names now."""
        return parameters.find(self._cloud, parameter.place, parameter.name)

    def may_differ(self, parameter: Parameter, value: str | None) -> bool:
        """Whether it names something else than this, or will."""
        return self._may_become_other(parameter, value) or self.read(parameter) != value

    def _may_become_other(self, parameter: Parameter, value: str | None) -> bool:
        """Whether this build's last put was of another value. It may not be effective yet, and then reading the value
        tells nothing of what it will be."""
        latest = self._last_put(parameter)
        return latest is not None and latest.request["Value"] != value

    def _last_put(self, parameter: Parameter) -> Intent | None:
        """The creating call counts while what it made may be there; then the puts that followed it."""
        made = self._ledger.journal.latest(parameter.key)
        alive = made is not None and (made[1] is None or self._ledger.existing(parameter.key) is not None)
        found, number = made[0] if made is not None and alive else None, 1
        while latest := self._ledger.journal.latest(f"{parameter.key}/{number}"):
            found, number = latest[0], number + 1
        return found

    def _settle(self, parameter: Parameter) -> None:
        """Find out what came of a creating call that a process did not live to hear of: what this build made has to be
        known as such, when it is put back and when it is cleaned up."""
        latest = self._ledger.journal.latest(parameter.key)
        if latest is not None and latest[0].action == "create" and latest[1] is None:
            self._ledger.resolve(latest[0])

    def _create(self, parameter: Parameter, *, temporary: bool = False) -> None:
        # If the journal says that this build made it, somebody deleted it since; or it is of an image that a clean-up
        # deleted, before it died itself.
        self.unmake(parameter)
        parameters.create(
            self._ledger,
            parameter.key,
            parameter.place,
            name=parameter.name,
            image_id=parameter.image.image_id,
            description=self._description,
            temporary=temporary,
        )

    def _set(self, parameter: Parameter, value: str) -> None:
        # The value was read just now, and it is another: so this put is a new step, even if the journal knows one like
        # it that succeeded (it was put back since, by this build or by a person). One without a result is sent again.
        number = 1
        while (latest := self._ledger.journal.latest(f"{parameter.key}/{number}")) and latest[1] and latest[1].ok:
            number += 1
        parameters.put(self._ledger, f"{parameter.key}/{number}", parameter.place, name=parameter.name, image_id=value)
