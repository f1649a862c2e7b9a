"""Plans: a recipe, an environment and facts make a ``BuildPlan``, which is frozen data. The functions here are pure.

The digest covers everything that determines the images and their targets, and nothing else: the rendered recipe, the
values of its variables, which tests read too, the contents of its files and tests, the code of operations that are not
built in, the ids of the base images, the attributes of the image, and the targets with the ARNs of their keys. A change
of formatting, comments, the order of keys, descriptions, owners, titles, builder (except its user data) or retention
does not change the digest. A new value of a secret does not change it, but a new reference to a secret does. An update
of an installed package changes it (``Freshness``).

``inputs`` has one hash for each part. ``changes`` uses it to explain a changed digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, Final, NamedTuple

from goldenami.errors import GoldenAmiError, UsageError
from goldenami.hardening import Hardening
from goldenami.model import IMAGE_NAME, Architecture, BaseImage, Environment, PackageUpdate, Place, Target
from goldenami.nextstep import step
from goldenami.provision import BoundOperation, Stage, all_operations
from goldenami.recipe import Recipe, lookup
from goldenami.recipe.expectspec import Expected
from goldenami.recipe.schema import VolumeSpec
from goldenami.recipe.secrets import SecretRef, display, has_secret
from goldenami.release import targets as modes
from goldenami.same import for_the_same
from goldenami.sharedjson import Parts

SCHEMA = "goldenami.plan/1"


@dataclass(frozen=True, slots=True)
class VolumeChoice:
    """The key of the builder's volumes (an ARN), and why it is used."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """What has happened since the last release with the same inputs, and what differs from the last one of all.

    ``release``: the label of the release with the same inputs; empty if there is none. ``updates``: the updates of its
    packages that are due now. ``due``: label -> value, the reasons to build it again; they are inputs of the plan.
    ``carried``: if there is no such reason, the hashes of the reasons for which that release was built, so that its
    digest and that of the plan are equal. ``reasons``: why a build is needed, as text. ``changed``: if there is no such
    release, the labels of the inputs that differ from those of the last one. ``looked_up``: the number of repositories
    that were read; ``signed``: of how many a signature was checked. ``notes``: what could not be looked up, and why.
    """

    release: str = ""
    updates: Mapping[Architecture, tuple[PackageUpdate, ...]] = field(default_factory=dict)
    due: Mapping[str, Any] = field(default_factory=dict)
    carried: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    looked_up: int = 0
    signed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What is known about updates since the release, as the end of a sentence; empty if they do not matter."""
        known = []
        if self.looked_up:
            count = self.looked_up
            read = f"{count} repositor{'y was' if count == 1 else 'ies were'} read"
            signed = f", {self.signed} with a checked signature" if self.signed else ""
            known.append(f"no update since ({read}{signed})")
        return "; ".join((*known, *self.notes))

    @property
    def since(self) -> str:
        """The summary, to append to a sentence."""
        return f"; {self.summary}" if self.summary else ""


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A snapshot that a data volume starts from."""

    size_gib: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a plan, as the cloud and the catalog gave them.

    ``kms_keys``: label of the target -> ARN of its key, for targets that own an image. ``volume_keys``: the key under
    which the builder's volumes are launched; an architecture without one leaves their encryption to EC2.
    ``unavailable``: label of a best-effort target -> why it cannot be used now.
    """

    base: Mapping[Architecture, BaseImage]
    kms_keys: Mapping[str, str]
    caller_arn: str = ""
    git_commit: str | None = None
    volume_keys: Mapping[Architecture, VolumeChoice] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    freshness: Freshness = Freshness()
    snapshots: Mapping[str, SourceSnapshot] = field(default_factory=dict)  # of image.volumes, by id


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The inputs of a build, and their digest. ``inputs``: label -> SHA-256 of each part that the digest covers."""

    recipe: Recipe
    environment: Environment
    facts: Facts
    digest: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of the environment that the recipe chose, in the order of the environment."""
        return self.recipe.distribution.targets

    @property
    def best_effort(self) -> frozenset[Place]:
        """The places of the targets that a release does not require."""
        return _best_effort(self.targets)

    @property
    def awaits_base(self) -> bool:
        """Whether the base has yet to be built, so that its image ids and the digest are not known."""
        return any(not base.image_id for base in self.facts.base.values())


@for_the_same
def _best_effort(targets: tuple[Target, ...]) -> frozenset[Place]:
    return frozenset(target.place for target in targets if not target.required)


def make(recipe: Recipe, environment: Environment, facts: Facts) -> BuildPlan:
    """Make the plan of a recipe.

    Raises GoldenAmiError if the facts have no base image for an architecture or no key for a target, or if a base does
    not fit the recipe.
    """
    for architecture in recipe.architectures:
        base = facts.base.get(architecture)
        if base is None:
            raise GoldenAmiError(f"no base image was found for {architecture}: {recipe.base[architecture]}")
        if base.architecture != architecture:
            place = recipe.base[architecture].mark
            raise GoldenAmiError(
                f"{place}: the base {base.image_id} ({base.name}) is {base.architecture}, expected {architecture}",
                hint="Use {{ architecture }} in the base, or list the architectures of the base in `architectures`.",
            )
        boot_mode_override(recipe, base)
        size = recipe.image.root_volume.size_gib
        if size is not None and size < base.root_volume_gib:
            raise GoldenAmiError(
                f"{recipe.mark.file}: image.root_volume.size_gib is {size}, "
                f"expected {base.root_volume_gib} or more: the base {base.image_id} has {base.root_volume_gib} GiB",
                hint="A volume cannot be smaller than the snapshot that it is created from.",
            )
        _check_volumes(recipe, base, facts)
    for target in modes.owners(recipe.distribution.targets):
        if target.required and target.label not in facts.kms_keys:
            raise GoldenAmiError(f"{target.label}: no key was found for {target.kms_key}")
    for architecture, builder in recipe.builder.items():
        if environment.network.transport == "ssm" and not (builder.instance_profile or environment.instance_profile):
            raise UsageError(
                f"{recipe.mark.file}: builder.instance_profile is missing for {architecture}: the environment "
                f"{environment.name} reaches builders by ssm, which needs the policy AmazonSSMManagedInstanceCore",
                hint="Set builder.instance_profile in the recipe, or for all recipes in the environment.",
            )
    bases = {architecture: facts.base[architecture].image_id for architecture in recipe.architectures}
    inputs = {label: _sha256(part) for label, part in _material(recipe, environment, bases).items()}
    return _with_inputs(BuildPlan(recipe, environment, facts, ""), inputs)


def completed(plan: BuildPlan, freshness: Freshness) -> BuildPlan:
    """Return a plan that was made without a freshness, with one."""
    made = replace(plan, facts=replace(plan.facts, freshness=freshness))
    if not freshness.due and not freshness.carried:
        return made
    return _with_inputs(made, {label: one for label, one in plan.inputs.items() if not label.startswith(_TARGET)})


def _with_inputs(plan: BuildPlan, inputs: Mapping[str, str]) -> BuildPlan:
    """Return a plan with its inputs, also those of its freshness and its targets, and its digest. ``inputs``: the
    others, as label -> hash."""
    fresh = plan.facts.freshness
    due = {label: _sha256(part) for label, part in fresh.due.items()}
    others = sorted({**inputs, **due, **fresh.carried}.items())
    # The labels of the targets follow each other in the sorted inputs, and many plans have the same ones.
    at = bisect(others, (_TARGET,))
    before, after = dict(others[:at]), dict(others[at:])
    targets = _of_targets(plan.targets, plan.facts.kms_keys)
    parts = [canonical(before)[1:-1], targets.text, canonical(after)[1:-1]]
    digest = hashlib.sha256(b"{" + b",".join(filter(None, parts)) + b"}").hexdigest()
    return replace(plan, inputs=_Inputs(before, targets.inputs, after), digest=digest)


def inputs_with(
    recipe: Recipe, environment: Environment, bases: Mapping[Architecture, Any], keys: Mapping[str, str]
) -> dict[str, str]:
    """Return the inputs of a plan without its facts, by label, and without updates. ``bases``: the image id of the base
    of each architecture, or what stands for it. ``keys``: the ARN of each target's key, by label."""
    inputs = {label: _sha256(part) for label, part in _material(recipe, environment, bases).items()}
    return {**inputs, **_of_targets(recipe.distribution.targets, keys).inputs}


def written_inputs(recipe: Recipe, environment: Environment) -> dict[str, str]:
    """Return the inputs as far as the files of a project give them: bases and keys as they are written. They are
    comparable with each other, not with those of a plan."""
    bases = {a: [ref.kind, ref.value, list(ref.owners), ref.channel] for a, ref in recipe.base.items()}
    return inputs_with(recipe, environment, bases, {t.label: t.kms_key for t in recipe.distribution.targets})


def _check_volumes(recipe: Recipe, base: BaseImage, facts: Facts) -> None:
    """Raise GoldenAmiError for a data volume that does not fit the base or its snapshot."""
    there = {device.device_name: device for device in base.devices}
    for volume in recipe.image.volumes:
        where = f"{recipe.mark.file}: image.volumes: {volume.device}"
        if volume.device == base.root_device_name:
            hint = "Set image.root_volume, or choose another device name, such as /dev/sdf."
            raise UsageError(f"{where} is the root device of the base {base.image_id}", hint=hint)
        same = [name for name in there if name != volume.device and name.endswith(f"d{volume.letter}")]
        if same:
            hint = f"Write {same[0]} to change that volume, or choose another device name."
            raise UsageError(f"{where} is the device {same[0]} of the base {base.image_id}", hint=hint)
        source = facts.snapshots.get(volume.snapshot or "")
        least = source.size_gib if source is not None else 0
        if source is None and volume.device in there:
            least = there[volume.device].size_gib
        if volume.size_gib is None and not least:
            hint = "Write size_gib, or a snapshot to start from."
            raise UsageError(f"{where} has no size_gib, and the base {base.image_id} has no volume there", hint=hint)
        if volume.size_gib is not None and volume.size_gib < least:
            raise UsageError(
                f"{where} has size_gib {volume.size_gib}, expected {least} or more: its snapshot has {least} GiB",
                hint="A volume cannot be smaller than the snapshot that it is created from.",
            )


def kept_devices(recipe: Recipe, base: BaseImage) -> tuple[str, ...]:
    """Return the devices of an image whose volumes outlive its instances: those of the base, as the recipe changes
    them."""
    deleted = {d.device_name: d.delete_on_termination for d in base.devices if d.device_name != base.root_device_name}
    deleted |= {volume.device: volume.delete_on_termination for volume in recipe.image.volumes}
    return tuple(sorted(device for device, is_deleted in deleted.items() if not is_deleted))


def boot_mode_override(recipe: Recipe, base: BaseImage) -> str | None:
    """Return the boot mode with which CreateImage must override that of the base, or None.

    The only override is uefi, and only of a builder that booted by UEFI: its base is uefi-preferred, or is for arm64
    and has no boot mode ("Set the boot mode of an AMI", EC2 user guide). Raises UsageError for a boot mode that the
    image cannot get.
    """
    wanted = recipe.image.boot_mode
    if wanted is None or wanted == base.boot_mode:
        return None
    if wanted == "uefi" and (base.boot_mode or _BOOTS_BY_DEFAULT[base.architecture]) in ("uefi", "uefi-preferred"):
        return wanted
    raise UsageError(
        f"{recipe.mark.file}: image.boot_mode is {wanted}, but the base {base.image_id} ({base.name}) has "
        f"{base.boot_mode or 'no boot mode'}. Expected {base.boot_mode or 'no value'}"
        f"{', or uefi' if base.boot_mode == 'uefi-preferred' else ''}.",
        hint="EC2 can change the boot mode of a captured image only to uefi, if the builder boots by UEFI. Remove "
        "boot_mode, or choose a base with this boot mode: `snapshot register` has the option --boot-mode.",
    )


# The boot mode of instances whose image has none.
_BOOTS_BY_DEFAULT: Final[Mapping[Architecture, str]] = {"x86_64": "legacy-bios", "arm64": "uefi"}


def changes(plan: BuildPlan, before: Mapping[str, str]) -> list[str]:
    """Return the labels of the inputs that were added, removed or changed, sorted.

    ``before``: ``ImageManifest.inputs`` of an earlier release.
    """
    return sorted(label for label in {*plan.inputs, *before} if plan.inputs.get(label) != before.get(label))


LAPSING: Final = ("updates", "age")  # the labels of the inputs in ``Freshness.due``, before a colon


def lasting(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs of a plan or a release without those of ``Freshness``."""
    return {label: value for label, value in inputs.items() if label.partition(":")[0] not in LAPSING}


def canonical(value: Any) -> bytes:
    """Encode a value as JSON with sorted keys and no spaces. Equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _material(recipe: Recipe, environment: Environment, bases: Mapping[Architecture, Any]) -> dict[str, Any]:
    """Return the parts that the digest covers, by label, without the targets. ``bases``: what stands for the base of
    each architecture."""
    parts: dict[str, Any] = {
        "recipe": {
            "name": recipe.name,
            "version": recipe.version,
            "architectures": sorted(recipe.architectures),
            "os": recipe.os,
        },
        # Without data volumes, the digest is that of a version that had none.
        "image": recipe.image.model_dump(mode="json", exclude=None if recipe.image.volumes else {"volumes"}),
        "share": sorted(recipe.distribution.share_accounts),
    }
    if recipe.variables:
        parts["vars"] = variables(recipe)
    if environment.image_name != IMAGE_NAME:
        parts["image_name"] = environment.image_name
    if environment.encryption != "copy":  # without it, the digest is that of a version that had no choice
        parts["encryption"] = environment.encryption
    if recipe.distribution.share_organizations:
        parts["share:organizations"] = list(recipe.distribution.share_organizations)
    if recipe.secrets:
        parts["secrets"] = {ref.name: [ref.source, _key_of(ref, recipe)] for ref in recipe.secrets}
    for test in recipe.tests:
        parts[f"test:{test.name}"] = test.sha256
    for architecture, expected in recipe.expect.items():
        if expected != Expected():
            parts[f"expect:{architecture}"] = expected.to_json()
    if recipe.distribution.prove != "home":
        parts["prove"] = recipe.distribution.prove
    for architecture in recipe.architectures:
        parts[f"base:{architecture}"] = bases[architecture]
        parts[f"patches:{architecture}"] = recipe.patches[architecture].model_dump(mode="json")
        if recipe.builder[architecture].user_data:
            parts[f"user_data:{architecture}"] = recipe.builder[architecture].user_data
        hardening = recipe.hardening.get(architecture, Hardening())
        if hardening.profiles:
            parts[f"controls:{architecture}"] = _controls(hardening)
        for stage in recipe.provisioning[architecture]:
            parts[f"{stage.name}:{architecture}"] = _stage(stage)
            for bound in all_operations(stage):
                code = bound.operation.inner
                if code.code_digest:
                    parts[f"operation:{code.kind}"] = code.code_digest
    return parts


def _key_of(ref: SecretRef, recipe: Recipe) -> str:
    """Return the name of a secret at its source. That of a file does not depend on where the project was checked
    out."""
    return os.path.relpath(ref.key, recipe.source.parent) if ref.source == "file" else ref.key


_TARGET: Final = "target:"


class _Inputs(Parts):
    """The inputs of a plan, sorted. Those of the targets are not copied: with many recipes and targets, the copies
    would take most of the memory of all plans."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: dict[str, str]) -> None:
        """``parts``: sorted, one after the other."""
        self._parts = parts

    def parts(self) -> tuple[dict[str, str], ...]:
        return self._parts

    def __getitem__(self, label: str) -> str:
        for part in self._parts:
            if label in part:
                return part[label]
        raise KeyError(label)

    def __iter__(self) -> Iterator[str]:
        return chain(*self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    # A dict that lives for a moment is many times faster than the methods of Mapping.

    def keys(self) -> KeysView[str]:
        return self._whole().keys()

    def values(self) -> ValuesView[str]:
        return self._whole().values()

    def items(self) -> ItemsView[str, str]:
        return self._whole().items()

    def _whole(self) -> dict[str, str]:
        return {label: value for part in self._parts for label, value in part.items()}


class _Hashes(NamedTuple):
    """The hashes of targets by label, sorted, and the same as the inside of a canonical mapping."""

    inputs: dict[str, str]
    text: bytes


@for_the_same
def _of_targets(targets: tuple[Target, ...], keys: Mapping[str, str]) -> _Hashes:
    """Return the hashes of targets. ``keys``: label -> ARN of the key."""
    found = {
        f"{_TARGET}{target.label}": _sha256(
            [
                target.account.id,
                target.mode,
                target.required,
                # A best-effort target may be unavailable now. The key as written does not depend on that.
                keys.get(target.label) if target.required else target.kms_key,
            ]
        )
        for target in targets
    }
    return _Hashes(dict(sorted(found.items())), canonical(found)[1:-1])


def variables(recipe: Recipe) -> dict[str, Any]:
    """Return the values of the recipe's variables as used. Secrets, and texts made of them, are left out."""
    return {name: value for name, value in recipe.variables.items() if not has_secret(value)}


def _controls(hardening: Hardening) -> Any:
    """Return the checked controls and the waivers of a hardened image. The manifest lists both."""
    checked = [[c.id, c.applies, [check.to_json() for check in c.checks]] for c in hardening.controls]
    return [checked, [[w.control, w.reason, w.expires.isoformat()] for w in hardening.waivers]]


def _stage(stage: Stage) -> Any:
    return [
        [_bound(o) for o in stage.operations],
        [[h.name, [_bound(o) for o in h.operations]] for h in stage.handlers],
    ]


def _bound(bound: BoundOperation) -> Any:
    fields = bound.operation.model_dump(mode="json")
    payloads = {}
    for name, payload in bound.payloads.items():
        # The content of a file counts, its path does not. Its permissions count only if the operation sets no mode.
        fields.pop(name, None)
        payloads[name] = [payload.sha256, payload.mode if fields.get("mode") is None else None]
    retries = [bound.retries] if bound.retries else []
    return [bound.operation.kind, fields, payloads, list(bound.notify), *retries]


# --- for people and programs ------------------------------------------------------------------------------------------


def to_json(plan: BuildPlan) -> dict[str, Any]:
    """Return the plan as JSON values of the schema "goldenami.plan/1". Within a schema version keys are only added."""
    return {**to_long_json(plan), "inputs": dict(plan.inputs.items())}


def to_long_json(plan: BuildPlan) -> dict[str, Any]:
    """Return the plan as :func:`to_json` does, for a document of many plans: the inputs are ``Parts``, and what many
    plans have in common is the same object in each."""
    recipe, facts = plan.recipe, plan.facts
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "version": recipe.version,
        "description": recipe.description,
        "environment": plan.environment.name,
        "digest": None if plan.awaits_base else plan.digest,
        "inputs": plan.inputs,
        "caller": facts.caller_arn,
        "git_commit": facts.git_commit,
        "home": {"account": plan.environment.home.id, "region": plan.environment.home_region},
        "encryption": plan.environment.encryption,
        "images": [
            {
                "architecture": architecture,
                "base": {
                    "image_id": facts.base[architecture].image_id or None,
                    "name": facts.base[architecture].name,
                    "owner": facts.base[architecture].owner,
                    "creation_date": facts.base[architecture].creation_date,
                    "source": facts.base[architecture].source,
                    "release": facts.base[architecture].release,
                },
                "instance_types": list(recipe.builder[architecture].instance_types),
                "volume_key_arn": _volume_key(facts, architecture),
                "patches": recipe.patches[architecture].model_dump(mode="json"),
                "stages": [
                    {"name": stage.name, "operations": [_operation_json(o) for o in stage.operations]}
                    for stage in recipe.provisioning[architecture]
                ],
            }
            for architecture in recipe.architectures
        ],
        "variables": variables(recipe),
        "agents": list(recipe.agents),
        "lookups": [one.to_json() for one in recipe.lookups],
        "tests": [test.name for test in recipe.tests],
        "image": recipe.image.model_dump(mode="json"),
        "targets": _targets_json(plan.targets, facts.kms_keys, facts.unavailable),
        "share_accounts": list(recipe.distribution.share_accounts),
        "share_organizations": list(recipe.distribution.share_organizations),
        "fast_restore": {str(place): list(zones) for place, zones in recipe.distribution.fast_restore.items()},
        "channel": recipe.distribution.channel,
        "proved_in": [
            str(plan.environment.home_place),
            *(str(t.place) for t in proved_elsewhere(recipe, plan.environment.home_place, plan.targets)),
        ],
        "expect": {str(architecture): one.to_json() for architecture, one in recipe.expect.items()},
        "freshness": _freshness_json(facts.freshness),
    }


def proved_elsewhere(recipe: Recipe, home: Place, targets: Iterable[Target]) -> tuple[Target, ...]:
    """Return the targets in which the final image is booted before it is published, besides the home account and
    region. In a region with several targets, each-region takes that of the home account, or the first."""
    others = (target for target in targets if target.place != home)  # not looked at by most recipes
    match recipe.distribution.prove:
        case "each-target":
            return tuple(others)
        case "each-region":
            chosen: dict[str, Target] = {}
            for target in sorted(others, key=lambda target: target.account.id != home.account):  # stable
                chosen.setdefault(target.region, target)
            return tuple(target for region, target in chosen.items() if region != home.region)
    return ()


@for_the_same
def _targets_json(
    targets: tuple[Target, ...], keys: Mapping[str, str], unavailable: Mapping[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "label": target.label,
            "account": target.account.id,
            "region": target.region,
            "mode": target.mode,
            "required": target.required,
            "kms_key_arn": keys.get(target.label),
            "unavailable": unavailable.get(target.label),
        }
        for target in targets
    ]


def _freshness_json(fresh: Freshness) -> dict[str, Any]:
    return {
        "release": fresh.release or None,
        "changed": bool(fresh.reasons),
        "reasons": list(fresh.reasons),
        "updates": {a: [asdict(update) for update in updates] for a, updates in fresh.updates.items()},
        "repositories_read": fresh.looked_up,
        "notes": list(fresh.notes),
    }


def _volume_key(facts: Facts, architecture: Architecture) -> str | None:
    choice = facts.volume_keys.get(architecture)
    return None if choice is None else choice.key


def _operation_json(bound: BoundOperation) -> dict[str, Any]:
    return {"kind": bound.operation.kind, "title": display(bound.label), "place": str(bound.mark)}


def describe(plan: BuildPlan, *, decided: bool = False) -> list[str]:
    """Return the plan as lines of text: inputs, images and targets. ``decided``: the caller says itself whether the
    recipe is unchanged, and why it is built."""
    recipe, facts = plan.recipe, plan.facts
    lines = [f"{recipe.name} {recipe.version} in the environment {plan.environment.name}"]
    if recipe.description:
        lines.append(f"  {recipe.description}")
    for architecture in recipe.architectures:
        base = facts.base[architecture]
        builder = recipe.builder[architecture]
        spot = " (spot first)" if builder.spot else ""
        release = f", release {base.release}" if base.release else ""
        lines += [
            "",
            f"{architecture}",
            *_base_lines(base, release),
            f"  builder   {', '.join(builder.instance_types)}{spot} in {plan.environment.home_place}",
            *_volume_lines(facts.volume_keys.get(architecture)),
            f"  patches   {_patches(plan, architecture)}",
        ]
        for stage in recipe.provisioning[architecture]:
            count = len(stage.operations)
            lines.append(f"  {stage.name:<9} {count} operation{'s' if count != 1 else ''}")
            lines += [f"            - {display(bound.label)}" for bound in stage.operations]
        hardening = recipe.hardening.get(architecture, Hardening())
        if hardening.profiles:
            waived = [f"{w.control} until {w.expires}" for w in hardening.waivers]
            lines.append(f"  controls  {len(hardening.controls)} of {', '.join(hardening.profiles)}")
            lines += [f"            waived: {', '.join(waived)}"] if waived else []
    lines += ["", "volumes", *map(_data_volume, recipe.image.volumes)] if recipe.image.volumes else []
    if recipe.lookups:
        lines += ["", "definitions", *(f"  {line}" for line in lookup.describe(recipe.lookups))]
    lines += [
        "",
        "tests",
        *(f"  {test.name}{f' (agent {test.origin})' if test.origin else ''}" for test in recipe.tests),
    ]
    elsewhere = proved_elsewhere(recipe, plan.environment.home_place, plan.targets)
    if elsewhere:
        lines += ["", "boots before it is published", f"  in {plan.environment.home_place} (home)"]
        lines += [f"  in {target.place} ({target.label})" for target in elsewhere]
    lines += ["", "targets"]
    width = max((len(target.label) for target in plan.targets), default=0)
    for target in plan.targets:
        what = modes.get_mode(target).plan(target, facts.kms_keys.get(target.label, ""))
        if plan.environment.encryption == "launch" and modes.is_home(target, plan.environment.home_place):
            what = f"image of the builder, encrypted under {facts.kms_keys.get(target.label, '')}"
        if target.label in facts.unavailable:
            what = f"unavailable: {facts.unavailable[target.label]}"
        lines.append(f"  {target.label:<{width}}  {what}{'' if target.required else ' (not required)'}")
    if recipe.distribution.share_accounts:
        lines.append(f"  also usable by {', '.join(recipe.distribution.share_accounts)}")
    for arn in recipe.distribution.share_organizations:
        lines.append(f"  can be launched by {arn}, but not copied; the policies of the keys must allow it")
    if recipe.distribution.share_organizations:
        lines.append(f"  {step('consumers show')} prints the statement for the policies")
    for place, zones in recipe.distribution.fast_restore.items():
        lines.append(f"  fast snapshot restore in {place.account}: {', '.join(zones)}")
    lines += [] if decided else _freshness_lines(facts.freshness)
    digest = "known after its base is built" if plan.awaits_base else plan.digest
    lines += ["", f"channel   {recipe.distribution.channel}", f"digest    {digest}"]
    return lines


def _base_lines(base: BaseImage, release: str) -> list[str]:
    if not base.image_id:
        return [f"  base      {base.source}"]
    return [
        f"  base      {base.image_id}  {base.name}{release}",
        f"            by {base.source}; owner {base.owner}, created {base.creation_date[:10]}",
    ]


def _freshness_lines(fresh: Freshness) -> list[str]:
    if not fresh.release and not fresh.reasons:
        return []
    if fresh.reasons:
        lines = ["", *(f"to build  {reason}" for reason in fresh.reasons)]
        for updates in fresh.updates.values():
            lines += [f"          - {display_update(update)}" for update in updates]
        return lines + [f"note      {note}" for note in fresh.notes]
    return ["", f"unchanged since {fresh.release}{f': {fresh.summary}' if fresh.summary else ''}"]


def display_update(update: PackageUpdate) -> str:
    """Return an update as text: "openssl 3.0.15 -> 3.0.16 (deb.debian.org bookworm-security)"."""
    origin = ", ".join((update.repository, *update.advisories))
    return f"{update.name} {update.before} -> {update.after} ({origin})"


def _volume_lines(choice: VolumeChoice | None) -> list[str]:
    return [] if choice is None else [f"            volumes encrypted under {choice.key}: {choice.reason}"]


def _data_volume(volume: VolumeSpec) -> str:
    words = [f"{volume.size_gib} GiB" if volume.size_gib else "", volume.type]
    words.append(f"from {volume.snapshot}" if volume.snapshot else "")
    if volume.filesystem is not None:
        words.append(f"{volume.filesystem.type or 'its file system'} on {volume.filesystem.mount}")
    words.append("" if volume.delete_on_termination else "kept after the instance")
    return f"  {volume.device}  {', '.join(filter(None, words))}"


def _patches(plan: BuildPlan, architecture: Architecture) -> str:
    spec = plan.recipe.patches[architecture]
    words = [spec.level + (f", except {', '.join(spec.exclude)}" if spec.exclude else "")]
    if spec.date is not None or spec.releasever is not None:
        newest = spec.releasever == "latest"
        words.append(f"packages of {'the newest release' if newest else spec.date or spec.releasever}")
    if spec.level != "none" or spec.reboot == "always":
        words.append(f"reboot {spec.reboot}")
    if spec.unattended is not None:
        words.append(f"unattended {spec.unattended.level}" if spec.unattended else "no unattended upgrades")
    return "; ".join(words)
