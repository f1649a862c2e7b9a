"""Checks of account settings that stop images: Allowed AMIs, and the block on public access."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws import account_settings
from goldenami.model import Place
from goldenami.preflight.context import Context, for_each_place
from goldenami.preflight.finding import Finding
from goldenami.release import targets as modes


def check_allowed_images(context: Context) -> Iterator[Finding]:
    """The home account may use the base images of others, and sharing accounts may use the home account's images."""
    home = context.environment.home_place
    sharing = {t.place: t for t in context.reachable if not modes.get_mode(t).owns_image}

    def check(place: Place) -> Iterator[Finding]:
        allowed = account_settings.allowed_images(context.cloud, place)
        if place in sharing and not allowed.allow(owner=context.environment.home.id, name=""):
            target = sharing[place]
            yield Finding(
                "allowed-images",
                context.level(target),
                f"the Allowed AMIs settings of account {target.account.name} exclude images of {home.account}",
                f"Add the provider {home.account} to the criteria there (EC2 console, Account attributes).",
                place,
                context.mark("targets", target.label),
            )
        if place != home:
            return
        for recipe in context.recipes:
            for base in recipe.base.values():
                owners = [owner for owner in base.owners if owner not in ("self", home.account)]
                if owners and not any(allowed.allow(owner=owner, name=base.value) for owner in owners):
                    yield Finding(
                        "allowed-images",
                        "error",
                        f"the Allowed AMIs settings of the home account exclude the base image of {', '.join(owners)}",
                        "Add the owner to the criteria (EC2 console, Account attributes), or use another base.",
                        home,
                        base.mark,
                    )

    places = [home, *(place for place in sharing if place != home)] if context.home_answers else list(sharing)
    yield from for_each_place("allowed-images", check, places)


def check_public_access(context: Context) -> Iterator[Finding]:
    """Nobody can make an image public by mistake."""

    def check(place: Place) -> Iterator[Finding]:
        if not account_settings.blocks_public_images(context.cloud, place):
            message = "block public access for AMIs is off, so an image can be made public by mistake"
            command = "enable-image-block-public-access --image-block-public-access-state block-new-sharing"
            yield Finding("public-access", "warning", message, f"aws ec2 {command} --region {place.region}", place)

    yield from for_each_place("public-access", check, list(context.places()))
