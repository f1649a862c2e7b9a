"""The last page of a build: what the move of the channel means for who uses its images, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goldenami.nextstep import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from goldenami.model import Environment, ImageManifest

_FIRST: Final = "candidate"  # the channel that recipes have by default
_AFTER_FIRST: Final = "stable"


def render(
    console: Console, environment: Environment, manifest: ImageManifest, channel: str, before: str | None
) -> None:
    """Print the channel from which to which version, the parameters that have its image ids, and the next commands.
    ``before``: the version that was in the channel; None if there was none."""
    from goldenami import report
    from goldenami.release.parameters import parameter_name

    architectures = sorted({image.architecture for image in manifest.images})
    moved = manifest.version if before == manifest.version else f"{before or 'none'} → {manifest.version}"
    prefix = environment.parameter_prefix
    report.render_next(
        console,
        channel=f"{channel}: {moved}",
        parameters=[parameter_name(prefix, manifest.recipe, one, channel) for one in architectures],
        next_steps=_steps(environment, manifest, channel, architectures),
    )


def _steps(
    environment: Environment, manifest: ImageManifest, channel: str, architectures: Sequence[str]
) -> dict[str, str]:
    reference = f"{manifest.recipe}@{channel}"
    one = ["--architecture", architectures[0]] if len(architectures) > 1 else []
    steps = {"get its image id": command("resolve", reference, "--region", environment.home_region, *one)}
    after = next((name for name, rules in environment.channels.items() if channel in rules.sources), None)
    if after is None and channel == _FIRST:
        after = _AFTER_FIRST
    if after is not None:
        steps[f"point {after} to it"] = command("promote", reference, "--to", after)
    return steps
