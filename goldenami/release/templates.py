"""Launch templates that follow a channel (``launch_templates`` of an environment).

A move of the channel makes a new version of each template, with the image of that account and region, and makes it the
default version. Only templates that goldenami.yaml names are changed, and no existing version is.

- The new version has the launch parameters of the version in use: the default version, or the newest one if the
  declaration says ``default: false``. So a draft that somebody has put into a template stays a draft.
- No version is made if the version in use has the image already. With a default version, an existing version with
  exactly these parameters is used again: a rollback finds the one that was the default before.
- A template that names a parameter (``resolve:ssm:``) is left as it is: it follows by itself.
- If the move is undone, the default version of before is set again, and the versions that this move made are deleted.
  Versions that somebody has made the default since are kept.

The journal has the default version of before ahead of the first change, so that this holds after a killed process too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from goldenami.aws import launch_templates
from goldenami.aws.launch_templates import Template, Version
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.each import Answers, each
from goldenami.errors import CloudError, NotFound, UsageError
from goldenami.events import Emit, emit
from goldenami.journal import Intent
from goldenami.model import Architecture, ImageManifest, LaunchTemplate, ManifestImage, Place
from goldenami.release.parameters import images_for

KINDS: Final = (launch_templates.VERSION_KIND, launch_templates.DEFAULT_KIND)
_BY_ITSELF: Final = "resolve:ssm:"
_KEY: Final = re.compile(r"(launch-template/\d+/[^/]+/(.+))/(?:version|default)/\d+(?:/delete)?")  # of calls


@dataclass(frozen=True, slots=True)
class Follower:
    """A launch template in one place, and the image that it must have. ``release``: for the description of a version.
    ``default``: the version becomes the default one."""

    place: Place
    template: str
    image: ManifestImage
    release: str
    default: bool

    @property
    def key(self) -> str:
        return f"launch-template/{self.place}/{self.template}"

    @property
    def names_image(self) -> bool:
        """Whether the progress view shows it: it shows the parameters of the same place."""
        return False


def following(templates: Iterable[LaunchTemplate], recipe: str, channel: str) -> list[LaunchTemplate]:
    """Return the templates that follow a channel."""
    return [one for one in templates if (one.recipe, one.channel) == (recipe, channel)]


def followers(templates: Iterable[LaunchTemplate], manifest: ImageManifest, channel: str) -> tuple[Follower, ...]:
    """Return the templates of a channel in the places where a release has an image for them.

    Raises UsageError for a template without an architecture if the release has several.
    """
    found = []
    chosen = following(templates, manifest.recipe, channel)
    accounts = {place.account for one in chosen for place in one.places}
    for place, row in images_for(manifest, accounts) if chosen else ():
        for one in chosen:
            if place in one.places and row.architecture == _architecture(one, manifest):
                release = f"{manifest.recipe} {manifest.version} ({channel})"
                found.append(Follower(place, one.template, row, release, one.default))
    return tuple(found)


def read_images(cloud: Cloud, wanted: Iterable[Follower]) -> Answers[Follower, str | None]:
    """Return the image that each template gives now: of its default version, or of its newest one. None: the template
    does not exist."""

    def read(follower: Follower) -> str | None:
        found = launch_templates.find(cloud, follower.place, follower.template)
        return None if found is None else _in_use(follower, found).image_id

    return each(wanted, read)


def is_right(follower: Follower, image_id: str) -> bool:
    """Return whether a template has the right image, or a parameter by which it follows itself."""
    return image_id == follower.image.image_id or image_id.startswith(_BY_ITSELF)


def _in_use(follower: Follower, template: Template) -> Version:
    return template.default if follower.default else template.latest


def _architecture(template: LaunchTemplate, manifest: ImageManifest) -> Architecture:
    return check_architecture(template, sorted({row.architecture for row in manifest.images}))


def check_architecture(template: LaunchTemplate, every: Sequence[Architecture]) -> Architecture:
    """Return the architecture of a template's image. ``every``: those of the release. Raises UsageError."""
    wanted = template.architecture or (every[0] if len(every) == 1 else None)
    if wanted is not None and wanted in every:
        return wanted
    raise UsageError(
        f"launch template {template.template}: architecture is {template.architecture or 'missing'}, expected one of "
        f"{', '.join(every)}",
        hint="Set it in goldenami.yaml, in launch_templates of the environment. Nothing was changed.",
    )


MISSING: Final = (
    "Create it, or change launch_templates of the environment in goldenami.yaml. goldenami only adds versions to "
    "templates that exist."
)


class Templates:
    """Changes the launch templates of a release for one build or task. A second call of any method changes nothing."""

    def __init__(self, ledger: Ledger, to: Emit) -> None:
        self._ledger = ledger
        self._cloud = ledger.cloud
        self._journal = ledger.journal
        self._emit = to

    def check(self, follower: Follower) -> None:
        """Raise NotFound if the template does not exist. A note names one that follows by itself."""
        template = self._find(follower)
        if _in_use(follower, template).image_id.startswith(_BY_ITSELF):
            what = f"launch template {follower.template} in {follower.place} names a parameter: it follows by itself"
            emit(self._emit, "note", message=what)

    def prepare(self, follower: Follower) -> None:
        """Ensure that the template has a version for the image. Call :meth:`check` first for all of them."""
        template = self._find(follower)
        if self._is_right(follower, template) or self._existing(follower, template) is not None:
            return
        self._remember(follower, template)
        source, image_id = _in_use(follower, template).number, follower.image.image_id
        key = self._next(
            f"{follower.key}/version",
            lambda intent: (
                (intent.request["SourceVersion"], intent.request["LaunchTemplateData"]["ImageId"])
                == (str(source), image_id)
            ),
        )
        launch_templates.create_version(
            self._ledger,
            key,
            follower.place,
            template.id,
            source=source,
            image_id=image_id,
            description=follower.release,
        )
        if self._cloud.look(lambda: self._made(follower, template.id, key)) is None:
            raise _not_effective(follower, "new version")

    def switch(self, follower: Follower) -> None:
        """Make the version for the image the default one, if the declaration says so. Call :meth:`prepare` first for
        all of them."""
        template = self._find(follower)
        if not follower.default or self._is_right(follower, template):
            return
        version = self._existing(follower, template) or self._newest_made(follower, template.id)
        if version is None:
            raise _not_effective(follower, f"version for {follower.image.image_id}")
        self._remember(follower, template)
        self._set_default(follower, template.id, version.number)

    def changed(self, manifest: ImageManifest) -> tuple[Follower, ...]:
        """Return the templates that an earlier process may have changed for a release, as the journal has them. They
        may be declared no more."""
        rows = {row.image_id: row for row in manifest.images}
        found: dict[str, Follower] = {}
        for intent in (intent for kind in KINDS for intent in self._journal.calls(kind)):
            match = _KEY.fullmatch(intent.key)
            before = self._journal.stage(match[1]) if match is not None else None
            if match is not None and before is not None and before["image"] in rows:
                found[match[1]] = Follower(intent.place, match[2], rows[before["image"]], "", True)
        return tuple(found.values())

    def put_back(self, follower: Follower) -> None:
        """Undo :meth:`switch` and :meth:`prepare`, as the journal has them."""
        before = self._journal.stage(follower.key)
        if before is None:
            return
        template = launch_templates.find(self._cloud, follower.place, before["id"])
        if template is not None:
            default = self._restore_default(follower, template, before["default"])
            for key, made in self._versions(follower):
                self._unmake(follower, template.id, key, made, default)
        self._journal.stage_undone(follower.key)

    # --- the version for an image -------------------------------------------------------------------------------------

    def _find(self, follower: Follower) -> Template:
        found = launch_templates.find(self._cloud, follower.place, follower.template)
        if found is None:
            raise NotFound(f"launch template {follower.template} does not exist in {follower.place}", hint=MISSING)
        return found

    def _is_right(self, follower: Follower, template: Template) -> bool:
        return is_right(follower, _in_use(follower, template).image_id)

    def _existing(self, follower: Follower, template: Template) -> Version | None:
        """Return the newest version that can become the default one: it differs from the version in use only in the
        image."""
        if not follower.default:
            return None
        wanted = {**template.default.data, "ImageId": follower.image.image_id}
        every = launch_templates.with_image(self._cloud, follower.place, template.id, follower.image.image_id)
        return next((version for version in every if version.data == wanted), None)

    # --- the journal --------------------------------------------------------------------------------------------------

    def _remember(self, follower: Follower, template: Template) -> None:
        """Record the default version of before, once for each move."""
        if self._journal.stage(follower.key) is None:
            before = {"id": template.id, "default": template.default.number}
            self._journal.stage_done(follower.key, **before, image=follower.image.image_id)

    def _next(self, prefix: str, is_same: Callable[[Intent], bool]) -> str:
        """Return the key of the next call. A refused call is made again under its key; one of unknown outcome is sent
        again unchanged."""
        calls = list(self._calls(prefix))
        again = next((key for key, intent, done in calls if is_same(intent) and not done), None)
        return again or f"{prefix}/{len(calls) + 1}"

    def _calls(self, prefix: str) -> Iterable[tuple[str, Intent, bool | None]]:
        """Yield the calls of this build or task: key, intent, and whether they succeeded; None: unknown."""
        number = 1
        while (latest := self._journal.latest(f"{prefix}/{number}")) is not None:
            yield f"{prefix}/{number}", latest[0], latest[1].ok if latest[1] is not None else None
            number += 1

    # --- undo ---------------------------------------------------------------------------------------------------------

    def _set_default(self, follower: Follower, id: str, number: int) -> None:
        key = self._next(f"{follower.key}/default", lambda intent: intent.request["DefaultVersion"] == str(number))
        launch_templates.set_default(self._ledger, key, follower.place, id, number)

    def _restore_default(self, follower: Follower, template: Template, before: int) -> int:
        """Set the default version of before, unless somebody has set another one since. Return the default version."""
        calls = list(self._calls(f"{follower.key}/default"))
        ours = {int(intent.request["DefaultVersion"]) for _, intent, done in calls if done is not False}
        unknown = bool(calls) and calls[-1][2] is None
        now = template.default.number
        if (now != before and now in ours) or unknown:
            self._set_default(follower, template.id, before)
            return before
        return now

    def _versions(self, follower: Follower) -> Sequence[tuple[str, Intent]]:
        calls = self._calls(f"{follower.key}/version")
        return [(key, intent) for key, intent, done in calls if done is not False]

    def _unmake(self, follower: Follower, id: str, key: str, intent: Intent, default: int) -> None:
        deleted = self._journal.latest(f"{key}/delete")
        if deleted is not None and deleted[1] is not None and deleted[1].ok:
            return
        image_id = str(intent.request["LaunchTemplateData"]["ImageId"])
        made = self._cloud.look(lambda: self._made(follower, id, key, image_id))
        if made is None:
            return
        if made.number == default:
            what = f"version {made.number} of launch template {follower.template} in {follower.place}"
            emit(self._emit, "note", message=f"{what} is kept: somebody made it the default version", level="warning")
            return
        launch_templates.delete_version(self._ledger, f"{key}/delete", follower.place, id, made.number)

    def _newest_made(self, follower: Follower, id: str) -> Version | None:
        return next(
            (one for key, _ in reversed(self._versions(follower)) if (one := self._made(follower, id, key))), None
        )

    def _made(self, follower: Follower, id: str, key: str, image_id: str | None = None) -> Version | None:
        """Return the version that a call of this build or task made."""
        image_id = image_id or follower.image.image_id
        every = launch_templates.with_image(self._cloud, follower.place, id, image_id)
        return next((one for one in every if launch_templates.is_made_by(self._ledger, key, one)), None)


def _not_effective(follower: Follower, what: str) -> CloudError:
    return CloudError(
        f"launch template {follower.template} in {follower.place} has no {what}, although it was made",
        code="goldenami.NotEffective",
        account=follower.place.account,
        region=follower.place.region,
        hint="Somebody may have changed the template at the same time. Try again.",
    )
