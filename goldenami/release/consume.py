"""Resolve a release for a consumer: with the address of the catalog, and without goldenami.yaml.

A consumer needs to read one object: ``channels/<name>/<channel>.json`` for NAME@CHANNEL, and ``index/catalog.json`` for
everything else. It lists nothing. So these are the only permissions::

    s3:GetObject on arn:aws:s3:::BUCKET/PREFIX/channels/NAME/CHANNEL.json
    s3:GetObject on arn:aws:s3:::BUCKET/PREFIX/index/catalog.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from goldenami.errors import AccessError, NotFound, UsageError
from goldenami.model import Architecture, Place
from goldenami.release.catalog import Catalog, Located, choose_image
from goldenami.release.versions import Reference
from goldenami.store import Store

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """The image of a release in one place. ``version``: None if it is not known. ``channels``: the channels that are
    known to point to the release."""

    image_id: str
    name: str
    version: str | None
    created: str | None
    architecture: str
    place: Place
    channels: tuple[str, ...]


def resolve_in(
    store: Store,
    reference: Reference,
    region: str,
    account: str | None,
    architecture: Architecture | None,
    caller: Callable[[], str | None],
) -> ResolvedImage:
    """Return the image of a reference from the catalog in a store.

    ``account``: the account that uses the image. None: the account of the caller, or the only account with an image in
    the region. Raises NotFound, UsageError if the account or the architecture must be chosen, and AccessError if the
    object cannot be read.
    """
    catalog = Catalog("", store=store)
    if reference.channel is not None:
        return _of_channel(store, catalog, reference, region, account, architecture, caller)
    view = catalog.indexed(reference.name) if store.lists_freely else _read(store, reference, catalog.only_indexed)
    version = view.existing_version_of(reference)
    entry = view.entry(reference.name, version)
    view.refuse_unusable_version(reference.name, version)
    place = _place(entry.label, entry.images, region, account, caller)
    image = choose_image(entry.label, entry.images, place, architecture)
    channels = tuple(c.channel for c in view.channels(reference.name) if c.current == version)
    return ResolvedImage(image.image_id, entry.name, version, entry.created, image.architecture, image.place, channels)


def _of_channel(
    store: Store,
    catalog: Catalog,
    reference: Reference,
    region: str,
    account: str | None,
    architecture: Architecture | None,
    caller: Callable[[], str | None],
) -> ResolvedImage:
    name, channel = reference.name, str(reference.channel)
    pointer = _read(store, reference, lambda: catalog.channel(name, channel))
    if pointer is None:
        raise NotFound(f"{store.where(f'channels/{name}/{channel}.json')} does not exist", hint="Check the reference.")
    label = f"{name} {pointer.current}"
    if pointer.unusable is not None:
        raise NotFound(f"{label} is {pointer.unusable}", hint=f"{reference} has no earlier release.")
    images, created = pointer.images, pointer.created
    if not images:  # an earlier version of goldenami wrote the channel
        manifest = _read(store, reference, lambda: catalog.get(name, pointer.current))
        images, created = manifest.images, manifest.created
    place = _place(label, images, region, account, caller)
    image = choose_image(label, images, place, architecture)
    return ResolvedImage(image.image_id, name, pointer.current, created, image.architecture, image.place, (channel,))


def _read(store: Store, reference: Reference, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except AccessError as error:
        key = f"channels/{reference.name}/{reference.channel}.json" if reference.channel else "index/catalog.json"
        raise AccessError(
            f"{store.where(key)} cannot be read: {error.message}",
            hint="Check the reference, and that the caller has s3:GetObject on this object, and kms:Decrypt if the "
            "bucket is encrypted with a key. S3 gives the same answer if the object does not exist.",
        ) from error


def _place(
    label: str, images: Sequence[Located], region: str, account: str | None, caller: Callable[[], str | None]
) -> Place:
    """Return the place whose image is used."""
    if account is not None:
        return Place(account, region)
    accounts = sorted({image.place.account for image in images if image.place.region == region})
    if len(accounts) == 1:
        return Place(accounts[0], region)
    own = caller()
    if accounts and own not in accounts:
        raise UsageError(
            f"--account is missing, and {label} has images for several accounts in {region}",
            hint=f"Give one of {', '.join(accounts)}.",
        )
    return Place(own or "", region)
