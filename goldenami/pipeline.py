"""The pipeline: builds a release of a recipe, resumes a build, and cleans up after one.

    load → render → plan → (unchanged? stop) → open the journal → launch a builder → connect → provision → validate →
    seal → capture → copy encrypted to every target, while a fresh instance of the image boots and is tested → share →
    verify every target by reading it back → write the manifest → catalog → move the channel → delete what was temporary

Every stage is idempotent: it skips the work that the journal records as done. So ``resume`` calls ``carry_out`` again
with a journal that is not empty. ``clean`` deletes the resources that the journal and the tags in the cloud name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from goldenami import manifest as manifests
from goldenami import planning, reconcile, task
from goldenami import recipe as recipes
from goldenami.aws.ledger import Ledger
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.each import Failures, all_of, both
from goldenami.errors import (
    CatalogError,
    ConditionsUnmet,
    GoldenAmiError,
    Interrupted,
    NotFound,
    TargetsFailed,
    UsageError,
)
from goldenami.events import Emit, emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Journal, Journals, Summary
from goldenami.model import (
    MANIFEST_SCHEMA,
    Architecture,
    Environment,
    ImageManifest,
    ManifestImage,
    TestReport,
    timestamp,
)
from goldenami.nextstep import command, step
from goldenami.notify import delivery as notify
from goldenami.planning import BuildPlan
from goldenami.recipe import Project
from goldenami.release import channels, consumers, fast_restore, protection, redistribute, scan, shared_tags
from goldenami.release.catalog import Catalog
from goldenami.release.distribute import Distributed, distribute
from goldenami.release.order import ReleaseOrder
from goldenami.release.publish import publish, withdraw
from goldenami.release.unchanged import Unchanged, find_unchanged
from goldenami.release.verify import Readings, Verified, verify
from goldenami.stages import (
    attesting,
    before,
    candidate,
    deciding,
    expired,
    nothing_new,
    notices,
    opening,
    proof,
)
from goldenami.stages.build import BuildContext, Candidate, HostWork, Prepared
from goldenami.stages.ending import to_the_end
from goldenami.stages.replacing import replacements
from goldenami.stages.tasks import UNDO
from goldenami.stages.tools import Decide, OnFailure, Tools, open_tools

VERIFIED = "verified"  # the stage's name in the journal

__all__ = ["OnFailure", "Outcome", "Request", "build", "carry_out", "clean", "clean_expired", "make_plan", "resume"]


@dataclass(frozen=True, slots=True)
class Request:
    """The recipe to build, and its environment.

    ``variables`` are those of ``--var``. ``digest``: the digest of the plan that the user has seen; None if the user
    has not seen a plan.
    """

    project: Project
    environment: Environment
    recipe: str  # a name or a path
    variables: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a build.

    ``status`` "released": ``reason`` says why it was built, if that is known (not after a resume). "unchanged": no
    build was needed; ``manifest`` is the release with the same inputs, and ``reason`` explains the decision. "moved":
    no build was needed, and the recipe's channel was pointed to that release. "distributed": a task of ``distribute``
    was completed.
    ``failures``: best-effort targets without an image or with an earlier parameter, and places where the images have no
    protection, tags or fast restore yet; label or place -> reason.
    ``left``: temporary resources that could not be deleted, and places that could not be searched for them -> reason.
    ``unsent``: receivers of notifications that did not get one -> reason.
    """

    status: Literal["released", "unchanged", "moved", "distributed"]
    manifest: ImageManifest
    reason: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)
    unsent: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this result."""
        return TargetsFailed.exit_code if self.failures or self.left else 0

    @property
    def images(self) -> tuple[ManifestImage, ...]:
        """The images of the release: one for each architecture and target."""
        return self.manifest.images


# --- build ------------------------------------------------------------------------------------------------------------


def build(
    request: Request,
    *,
    force: bool = False,
    move: bool = True,
    adopt: bool = False,
    on_failure: OnFailure | Decide = "clean",
    wait: float = 0.0,
    emit_to: Emit = ignore_events,
    host_work: HostWork | None = None,
    cloud: Cloud | None = None,
    interrupts: Interrupts | None = None,
    refused: GoldenAmiError | None = None,
) -> Outcome:
    """Build a release of a recipe, unless a release with the same inputs exists.

    If one exists, the recipe's channel is pointed to it (unless ``move`` is False), so that a reverted recipe reaches
    the consumers. The channel stays if it was rolled back from exactly that release. Raises ConditionsUnmet if that
    release is revoked or cannot move into the channel. ``adopt``: continue the newest unfinished build of the same
    inputs, if it can be resumed.

    Base recipes without a release are built first. One build of a recipe runs at a time: a second call waits up to
    ``wait`` seconds for the first build, and then raises Busy. Raises the errors of the stages, after the clean-up
    that ``on_failure`` selects (see ``stages.ending``). Raises UsageError if the digest of the plan is not
    ``request.digest``.

    ``host_work`` and ``cloud`` replace SSH and the environment's cloud, for callers that run the pipeline without
    hosts. ``interrupts``: how the caller stops the build; by default, with SIGINT, SIGTERM or SIGHUP. ``refused``: why
    the caller could not sign in; it is raised.
    """
    project, environment = request.project, request.environment
    with (
        open_tools(environment, host_work, cloud, on_failure, emit_to, wait, interrupts) as tools,
        notices.told(environment, request.recipe, tools),
    ):
        if refused is not None:
            raise refused
        recipe = recipes.load(project, request.recipe, environment, request.variables)
        for parent in deciding.unreleased_parents(project, environment, tools.catalog, recipe):
            with tools.journals.exclusive(parent.name, tools.patience):
                if tools.catalog.channel(parent.name, parent.distribution.channel) is None:
                    message = f"base recipe {parent.name} of {recipe.name} has no release: it is built first"
                    emit(emit_to, "note", message=message)
                    planned, looked = before.plan(parent, environment, tools, surely_built=True)
                    start(project, planned, {}, before.require(planned, looked, tools), tools)
        with tools.journals.exclusive(recipe.name, tools.patience):
            is_new = tools.catalog.channel(recipe.name, recipe.distribution.channel) is None
            surely_built = not adopt and (force or is_new)
            plan, looked = before.plan(recipe, environment, tools, surely_built=surely_built)
            if request.digest not in (None, plan.digest):
                raise UsageError(
                    f"the plan of {recipe.name} has changed: expected the digest {request.digest}, found {plan.digest}",
                    hint="The recipe, its files, its base image, the environment or the updates that are due changed. "
                    f"Run {step('plan', recipe.name)} again.",
                )
            unchanged = None
            if not force:
                unchanged = find_unchanged(
                    tools.cloud,
                    tools.catalog,
                    recipe.name,
                    plan.digest,
                    best_effort=plan.best_effort,
                    emit=emit_to,
                )
            fresh = plan.facts.freshness
            unfinished = tools.journals.unfinished(plan_digest=plan.digest)
            adopted = to_adopt(unfinished, unchanged) if adopt else None
            if adopted is not None:
                emit(emit_to, "note", message=f"continues build {adopted.build_id} of the same inputs")
                with opening.reopen(project, environment, adopted, tools) as opened:
                    return _to_the_end(project, opened, tools)
            if unchanged is not None:
                unchanged = replace(unchanged, reason=f"{unchanged.reason}{fresh.since}")
                soon = notices.waivers(recipe, environment, unchanged.release.build_id, tools.cloud.now())
                if soon is not None:
                    notices.alone(environment, tools, soon)
                return without_build(unchanged, plan, tools, move=move)
            for earlier in unfinished:
                id = earlier.build_id
                ways = [f"{step('resume', id)} continues it"] if earlier.can_resume else []
                ways.append(f"{step('clean', id)} deletes its resources")
                message = f"build {id} of the same inputs has not ended: {', '.join(ways)}"
                emit(emit_to, "note", message=message, level="warning")
            for text in (*fresh.notes, *fresh.reasons):
                emit(emit_to, "note", message=text)
            return start(project, plan, request.variables, before.require(plan, looked, tools), tools)


def to_adopt(unfinished: Sequence[Summary], unchanged: Unchanged | None) -> Summary | None:
    """Return the newest unfinished build that can be resumed; None if another build made a release since."""
    possible = [s for s in unfinished if s.can_resume and (s.header is None or task.kind_of(s.header) is None)]
    if not possible or (unchanged is not None and unchanged.release.build_id != possible[-1].build_id):
        return None
    return possible[-1]


def without_build(unchanged: Unchanged, plan: BuildPlan, tools: Tools, *, move: bool) -> Outcome:
    """Point the channel of a plan to the release with the same inputs, and return that release."""
    release, reason, channel = unchanged.release, unchanged.reason, plan.recipe.distribution.channel
    name = f"{release.recipe}@{channel}"
    pointer = tools.catalog.channel(release.recipe, channel)
    kept = deciding.stays(pointer, release)
    if kept:
        reason += f". {kept}"
    elif move and (pointer is None or pointer.current != release.version):
        moved = channels.move_by_build(
            plan.environment, tools.catalog, release, channel, cloud=tools.cloud, emit_to=tools.emit
        )
        before = f" instead of {moved.before}" if moved.before else ""
        reason += f". {name} points to it now{before}"
        emit(tools.emit, "build.skipped", reason=reason, release=release.version)
        return Outcome("moved", release, reason, moved.failures, moved.unsent)
    emit(tools.emit, "build.skipped", reason=reason, release=release.version)
    return Outcome("unchanged", release, reason)


def start(
    project: Project, plan: BuildPlan, variables: Mapping[str, str], names: opening.Names, tools: Tools
) -> Outcome:
    """Open the journal of a new build of a plan, and run all stages. ``names``: those of its release."""
    with opening.create(project, plan, variables, names, tools) as opened:
        return _to_the_end(project, opened, tools)


def _to_the_end(project: Project, opened: BuildContext, tools: Tools) -> Outcome:
    """Run all stages of a build, and clean up after it. What its roles lack is told once: not again by a retry, and not
    by a resume of a build that launched a builder."""

    def work() -> Outcome:
        try:
            if not before.has_launched(opened):
                opened.asides.start(partial(before.tell_permissions, opened, tools.catalog), apart=True)
            return carry_out(opened, tools.catalog)
        except GoldenAmiError:
            opened.cloud.allowed.clear()  # a permission that was there may be the cause: it is asked for again
            raise
        finally:
            opened.is_launching.set()

    return to_the_end(
        opened, tools, project.root, work, status=lambda outcome: outcome.status, exit_code=lambda o: o.exit_code
    )


def carry_out(build: BuildContext, catalog: Catalog) -> Outcome:
    """Run every stage from the builder to the release. Stages that the journal records as done are skipped."""
    ending_waivers = notices.waivers(build.recipe, build.environment, build.journal.build_id, build.cloud.now())
    if ending_waivers is not None:
        notify.due(build, ending_waivers)
    earlier = find_earlier_release(build, catalog)
    last = nothing_new.last_release(build, catalog) if earlier is None else None
    made = all_of(build.recipe.architectures, lambda a: candidate.ready(build, a)) if last is not None else []
    if last is not None and nothing_new.is_same(build, catalog, last, made):
        return end_without_release(build, catalog, last)
    manifest, failures = earlier or make_images(build, catalog, made)
    if build.environment.consumers:
        with build.stage("consumers"):
            refused = consumers.allow(build.ledger, build.environment, catalog.ensure_identity(), manifest)
            failures = {**failures, **refused}
    leftovers, restores = reconcile.Leftovers(build.ledger, manifest), FastRestores(build, catalog, manifest)
    looked = build.asides.start(restores.look_early)
    with build.stage("publish"):
        published = publish(
            build.ledger,
            catalog,
            manifest,
            channel=build.journal.header.data["channel"],
            prefix=build.environment.parameter_prefix,
            targets=build.plan.targets,
            informed=build.environment.informed,
            templates=build.environment.launch_templates,
            now=build.cloud.now(),
            by=build.plan.facts.caller_arn or None,
            attest=attesting.attester(build, catalog),
            # Beside the move of the channel: a resume does not need it, because it continues with the manifest. After
            # the instances of the tests.
            released=lambda: build.asides.start(partial(leftovers.delete, build.emit), in_turn=True),
            emit=build.emit,
        )
    if build.recipe.distribution.protection is not None:
        with build.stage("protect"):
            refused = protection.protect(build.ledger, published.manifest, build.recipe.distribution.protection)
            failures = {**failures, **refused}
    if build.recipe.distribution.share_tags:
        with build.stage("tag in accounts"):
            accounts = {account.id for account in build.environment.accounts.values()}
            declared = build.recipe.distribution.share_tags
            refused = shared_tags.bring(build.ledger, published.manifest, declared, accounts)
            failures = {**failures, **refused}
    looked()
    failures = {**failures, **restores.bring(published.manifest)}
    notices.released(build, catalog, published.manifest)
    build.is_ending.set()
    with build.stage("clean up"):
        build.asides.wait()  # only now: EC2 may keep a security group busy for minutes, and the release is there
        keep = reconcile.released(build.journal, published.manifest)
        done = reconcile.delete_all(
            build.cloud,
            build.journal,
            build.ledger.proofs,
            keep=keep,
            emit=build.emit,
            search=leftovers.search(),
        )
    notify.deliver(build)
    if done.complete:
        build.journal.finish("released")
    else:  # The build stays unfinished, so that `goldenami builds list` shows it.
        build.note(f"some temporary resources were not deleted; run: {command('clean', build.journal.build_id)}")
    return Outcome(
        "released",
        published.manifest,
        "; ".join(build.plan.facts.freshness.reasons),
        failures={**failures, **published.failures},
        unsent=notify.unsent(build.journal),
        left={**done.left, **done.unreachable},
    )


def end_without_release(build: BuildContext, catalog: Catalog, last: ImageManifest) -> Outcome:
    """End a build that found nothing new: delete what it made, and note that in the catalog."""
    nothing_new.keep(build, catalog, last)
    build.is_ending.set()
    with build.stage("clean up"):
        done = reconcile.delete_all(build.cloud, build.journal, build.ledger.proofs, emit=build.emit)
    notify.deliver(build)
    if done.complete:
        build.journal.finish("skipped")
    why = "; ".join(build.plan.facts.freshness.reasons)
    reason = f"nothing new: the packages and files are those of {last.label} (built because {why})"
    unsent = notify.unsent(build.journal)
    return Outcome("unchanged", last, reason, unsent=unsent, left={**done.left, **done.unreachable})


class FastRestores:
    """Fast snapshot restore of a release that a channel points to, and of its predecessors. What there is can be read
    beside the publication."""

    def __init__(self, build: BuildContext, catalog: Catalog, manifest: ImageManifest) -> None:
        self._build = build
        self._catalog = catalog
        self._manifest = manifest
        self._zones = build.recipe.distribution.fast_restore
        self._seen: fast_restore.Seen | None = None
        self._has_looked = False

    def look(self) -> None:
        """Read what there is. Without declared zones and predecessors there is nothing."""
        if self._zones or set(self._catalog.versions(self._manifest.recipe)) - {self._manifest.version}:
            self._seen = fast_restore.look(self._build.cloud, self._manifest, self._zones)
        self._has_looked = True

    def look_early(self) -> None:
        """Do :meth:`look` beside the publication. An error is left to :meth:`bring`, which looks again."""
        try:
            self.look()
        except Interrupted:
            raise
        except GoldenAmiError:
            return

    def bring(self, manifest: ImageManifest) -> Mapping[str, str]:
        """Enable that of the published release, and end that of its predecessors. Returns place -> reason of failures:
        the release stays. Looks again, and raises, if the look beside the publication failed."""
        if not self._has_looked:
            self.look()
        if self._seen is None:
            return {}
        build, catalog = self._build, self._catalog
        owner = Owner(catalog.identity(), build.environment.name)
        work = fast_restore.decide(self._seen, catalog, owner, manifest)
        if not self._zones and not work.old:
            return {}  # also if a place could not be read: most recipes do not have it
        with build.stage("fast restore"):
            return {**work.failures, **fast_restore.bring(build.ledger, catalog, manifest, self._zones, work)}


def find_earlier_release(build: BuildContext, catalog: Catalog) -> tuple[ImageManifest, Mapping[str, str]] | None:
    """Return the release that an earlier run of this build made, and its failed targets with the reasons.

    Only publishing and the clean-up remain then. The candidates and builders may be deleted; no stage needs them.
    Returns None if no earlier run made a release.
    """
    manifest = opening.release_of(catalog, build.journal)
    done = build.journal.stage(VERIFIED)
    return None if manifest is None else (manifest, done["failures"] if done is not None else {})


def make_images(
    build: BuildContext, catalog: Catalog, prepared: Sequence[Prepared] = ()
) -> tuple[ImageManifest, Mapping[str, str]]:
    """Run the stages up to the verified images. Returns the manifest, and label -> reason of failed targets.
    ``prepared``: the builders, if they are prepared already."""
    earlier = proof.earlier_facts(build, catalog)
    order = release_order(build)
    candidates = [replace(c, earlier=earlier.get(c.architecture, {})) for c in make_candidates(build, order, prepared)]
    readings = Readings(build.ledger, order)
    images = {c.architecture: c.image_id for c in candidates}
    with distribute(
        build.ledger, order, images, emit=build.emit, take=readings.take, arrived=readings.read_back
    ) as copies:

        def prove() -> list[TestReport]:
            try:
                return attesting.beside(
                    build,
                    candidates,
                    copies.home_image,
                    lambda: proof.boot_at_home(build, candidates, copies.home_image),
                )
            except BaseException:
                copies.give_up()  # the copies of other regions may take hours
                raise

        def place() -> tuple[Distributed, Verified]:
            manifests.prepare()  # now, while the copies are under way
            catalog.prepare()
            distributed = copies.finish()
            ended = copies.end_loans()
            with build.stage("verify", beside=True):
                return distributed, verify(
                    build.ledger, order, distributed, readings=readings, ended=ended, emit=build.emit
                )

        # Nothing that only the tests decide: the images are read back while the last of them is tested.
        proofs, (distributed, verified) = both(prove, place)
        proofs += proof.boot_elsewhere(build, candidates, distributed.placed)
    build.journal.stage_done(VERIFIED, failures=dict(verified.failures))
    return manifest_of(build, catalog, candidates, proofs, verified), verified.failures


def make_candidates(build: BuildContext, order: ReleaseOrder, prepared: Sequence[Prepared] = ()) -> list[Candidate]:
    """Make one candidate for each architecture, in parallel."""
    ready = {one.architecture: one for one in prepared}

    def make(architecture: Architecture) -> Candidate:
        one = ready.get(architecture) or candidate.ready(build, architecture)
        if build.environment.vulnerabilities.builds:
            with build.stage("vulnerabilities", architecture):
                refuse_vulnerable(build, one)
        return candidate.make(build, order, architecture, one)

    return all_of(build.recipe.architectures, make)


def refuse_vulnerable(build: BuildContext, prepared: Prepared) -> None:
    """Raise ConditionsUnmet if a builder has vulnerabilities that the environment does not accept, or if nobody can
    tell."""
    reasons = scan.unmet(build.environment.vulnerabilities, prepared.inventory, build.cloud.now())
    if reasons:
        raise ConditionsUnmet(
            f"the {prepared.architecture} image of {build.label} was not captured",
            reasons=reasons,
            hint=f"The policy is in goldenami.yaml, in vulnerabilities of the environment {build.environment.name}. "
            "Patches and newer packages are in the recipe; a waiver accepts one vulnerability up to a day.",
        )


def release_order(build: BuildContext) -> ReleaseOrder:
    """Return the expected state of the image in every target."""
    recipe = build.recipe
    return ReleaseOrder(
        recipe=recipe.name,
        version=build.version,
        home=build.home,
        targets=build.plan.targets,
        keys=build.plan.facts.kms_keys,
        description=recipe.description,
        tags=dict(recipe.image.tags),
        share_accounts=recipe.distribution.share_accounts,
        share_organizations=recipe.distribution.share_organizations,
        imds_v2=recipe.image.imds == "v2",
        boot_modes={a: recipe.image.boot_mode or base.boot_mode for a, base in build.plan.facts.base.items()},
        deprecate_at=opening.deprecation(recipe, build.journal.header.created),
        unavailable=build.plan.facts.unavailable,
        names=build.environment.image_name,
        captured=build.environment.encryption == "launch",
        volumes={volume.device: volume.delete_on_termination for volume in recipe.image.volumes},
        protection=recipe.distribution.protection,
    )


def manifest_of(
    build: BuildContext,
    catalog: Catalog,
    candidates: Sequence[Candidate],
    proofs: Sequence[TestReport],
    verified: Verified,
) -> ImageManifest:
    """Return the manifest: the inputs, the test results, and the images as they were read back from the cloud. The
    catalog gets the keys of the package sources, and what is in the images."""
    recipe, found = build.recipe, build.plan.facts
    return ImageManifest(
        schema=MANIFEST_SCHEMA,
        recipe=recipe.name,
        version=build.version,
        build_id=build.journal.build_id,
        digest=build.plan.digest,
        environment=build.environment.name,
        created=timestamp(build.journal.header.created),
        base=found.base,
        images=verified.images,
        tests=(*(c.prepared.report for c in candidates), *proofs),
        packages={c.architecture: c.prepared.packages for c in candidates},
        changes={c.architecture: c.prepared.changes for c in candidates},
        sources={
            c.architecture: replace(s, keyrings={path: catalog.keep_keyring(key) for path, key in s.keyrings.items()})
            for c in candidates
            if (s := c.prepared.sources) is not None
        },
        updates=found.freshness.updates,
        contents={c.architecture: c.prepared.contents for c in candidates if c.prepared.contents},
        inventories={
            c.architecture: catalog.keep_inventory(c.prepared.inventory) for c in candidates if c.prepared.inventory
        },
        git_commit=found.git_commit,
        description=recipe.description,
        owner=recipe.owner,
        inputs=build.plan.inputs,
        outputs={c.architecture: c.prepared.outputs for c in candidates if c.prepared.outputs},
        replacements=replacements(build),
        variables=planning.variables(recipe),
    )


# --- plan -------------------------------------------------------------------------------------------------------------


def make_plan(request: Request, *, interrupts: Interrupts | None = None) -> BuildPlan:
    """Plan a build. Changes nothing. Raises InvalidInput, NotFound or AccessError."""
    environment = request.environment
    with open_tools(environment, None, None, "clean", ignore_events, interrupts=interrupts) as tools:
        recipe = recipes.load(request.project, request.recipe, environment, request.variables)
        return deciding.plan_for(recipe, environment, tools)


# --- resume and clean -------------------------------------------------------------------------------------------------


def resume(
    project: Project,
    environment: Environment,
    build_id: str | None,
    *,
    on_failure: OnFailure | Decide = "clean",
    wait: float = 0.0,
    emit_to: Emit = ignore_events,
    host_work: HostWork | None = None,
    cloud: Cloud | None = None,
    interrupts: Interrupts | None = None,
) -> Outcome:
    """Resume a build: adopt the resources that it created, and repeat what failed. Or complete the move of a channel.

    ``build_id`` None selects the only unfinished build. Raises NotFound if there is none. Raises UsageError if there
    are several, or if the recipe, its files or the environment have changed since the build began.
    """
    with open_tools(environment, host_work, cloud, on_failure, emit_to, wait, interrupts) as tools:
        chosen = choose_build(tools.journals, build_id, environment)
        kind = task.kind_of(chosen.header) if chosen.header is not None else None
        if kind is not None:
            with tools.journals.open(chosen.build_id, tools.patience) as journal:
                opening.check_owner(journal.header, environment, tools.catalog)
                if task.is_done(journal):  # only notifications are left
                    return complete_task(environment, journal, tools)
                if kind == redistribute.KIND:
                    name = journal.header.data["arguments"]["name"]
                    wanted = recipes.declaration(project, environment, name)
                    given = redistribute.resume(
                        environment, journal, tools.cloud, tools.interrupts, wanted, emit_to=emit_to
                    )
                    reason = f"{given.manifest.label} is distributed as its recipe declares"
                    return Outcome("distributed", given.manifest, reason)
                if kind not in task.MOVES:
                    task.refuse_resume(journal.header)
                moved = channels.resume(environment, journal, tools.cloud, tools.interrupts, emit_to=emit_to)
            reason = f"{moved.channel.name}@{moved.channel.channel} points to {moved.channel.current}"
            return Outcome("moved", moved.manifest, reason, moved.failures, moved.unsent)
        recipe = chosen.header.recipe if chosen.header is not None else chosen.build_id
        with (
            tools.journals.exclusive(recipe, tools.patience),
            opening.reopen(project, environment, chosen, tools) as opened,
        ):
            return _to_the_end(project, opened, tools)


def complete_task(environment: Environment, journal: Journal, tools: Tools) -> Outcome:
    """Send the notifications of a task whose process was killed after its work was done."""
    task.clean(environment, journal, tools.cloud, tools.interrupts, emit_to=tools.emit)
    arguments = journal.header.data["arguments"]
    name, version = arguments.get("name"), arguments.get("version")
    if name is None:
        name, _, version = next(iter(arguments.get("releases", ())), "").rpartition(" ")
    if not name:
        raise UsageError(
            f"{journal.build_id} was done already; its notifications are sent now",
            hint=f"{step('builds list')} shows the unfinished builds.",
        )
    reason = f"{journal.build_id} was done already; its notifications are sent now"
    return Outcome("moved", tools.catalog.get(name, version), reason, unsent=notify.unsent(journal))


def clean(
    environment: Environment,
    build_id: str,
    *,
    dry_run: bool = False,
    wait: float = 0.0,
    emit_to: Emit = ignore_events,
    cloud: Cloud | None = None,
    interrupts: Interrupts | None = None,
) -> reconcile.CleanUp:
    """Delete the resources of a build that no release owns, or undo a task. A second call changes nothing.

    ``dry_run``: only return what would be deleted. Raises CatalogError if the build belongs to another catalog, or if
    the catalog does not have the build's release. Raises UsageError if the build is of another environment.
    """
    with (
        open_tools(environment, None, cloud, "clean", emit_to, wait, interrupts) as tools,
        tools.journals.open(build_id, tools.patience) as journal,
    ):
        opening.check_owner(journal.header, environment, tools.catalog)
        tools.cloud.check_caller()
        kind = task.kind_of(journal.header)
        if kind is not None:
            undo, keep = UNDO.get(kind), frozenset[str]()
            if kind == redistribute.KIND:
                keep = redistribute.kept(journal, redistribute.release_of(tools.catalog, journal))
            return task.clean(
                environment,
                journal,
                tools.cloud,
                tools.interrupts,
                undo=undo,
                keep=keep,
                dry_run=dry_run,
                emit_to=emit_to,
            )
        keep = opening.owned_by_release(tools.catalog, journal)
        if not keep and journal.ending == "released":
            raise CatalogError(
                f"build {build_id} made a release, but the catalog {environment.catalog} does not have it: "
                "nothing is deleted",
                hint="Set `catalog` in goldenami.yaml to the catalog that this build published to.",
            )
        if dry_run:
            return reconcile.find_all(tools.cloud, journal, tools.proofs, keep=keep)
        kept = withdraw_release(environment, journal, tools)
        done = reconcile.delete_all(tools.cloud, journal, tools.proofs, keep=keep, emit=emit_to)
        done.left.update(kept)
        if done.complete:
            journal.finish("released" if keep else "cleaned")
        return done


def clean_expired(
    environment: Environment,
    *,
    dry_run: bool = False,
    emit_to: Emit = ignore_events,
    cloud: Cloud | None = None,
) -> dict[str | None, reconcile.CleanUp]:
    """Delete expired temporary resources in every account and region of the environment.

    Returns a clean-up for each build id. Resources of builds that have a journal here are deleted through that journal.
    All others are deleted through a new task; their clean-up has the key None. ``CleanUp.others``: the resources of
    other catalogs, and those of unknown owners; they are kept. ``dry_run``: only return what would be deleted. Raises
    CatalogError for an empty catalog beside released resources.
    """
    with open_tools(environment, None, cloud, "clean", emit_to) as tools:
        left = expired.find(tools.cloud, environment, tools.catalog, tools.journals, tools.proofs)
        done: dict[str | None, reconcile.CleanUp] = {
            build_id: reconcile.CleanUp(tuple(found), {}) for build_id, found in left.builds.items()
        }
        done[None] = reconcile.CleanUp(tuple(left.orphans), {}, left.unreachable, left.others)
        cloud = tools.cloud
    if dry_run:
        return done
    # First what belongs to no build: the longer it waits, the rather somebody has published it meanwhile.
    if left.orphans:
        with task.run(environment, "clean --expired", {}, cloud=cloud, emit_to=emit_to) as job:
            deleted = reconcile.delete_these(job.ledger, left.orphans, emit=emit_to)
        done[None] = reconcile.CleanUp(deleted.deleted, deleted.left, left.unreachable, left.others)
    failures = Failures[str]()
    for build_id, found in left.builds.items():
        with failures.of(build_id):
            done[build_id] = clean(environment, build_id, emit_to=emit_to, cloud=cloud)
        if build_id in failures.reasons:
            done[build_id] = reconcile.CleanUp((), dict.fromkeys(map(str, found), failures.reasons[build_id]))
    return done


def withdraw_release(environment: Environment, journal: Journal, tools: Tools) -> dict[str, str]:
    """Undo the move of a channel that a killed build did not complete: a channel moves in all targets or in none.

    Returns what could not be restored; parameter and target -> reason.
    """
    manifest = opening.release_of(tools.catalog, journal)
    channel = journal.header.data.get("channel")
    if manifest is None or channel is None:
        return {}
    refused = withdraw(
        Ledger(tools.cloud, journal, proofs=tools.proofs, emit=tools.emit),
        tools.catalog,
        manifest,
        channel=channel,
        prefix=environment.parameter_prefix,
        targets=environment.targets,
        informed=environment.informed,
        templates=environment.launch_templates,
        emit=tools.emit,
    )
    return {f"{manifest.recipe}@{channel} in {label}": reason for label, reason in refused.items()}


def choose_build(builds: Journals, build_id: str | None, environment: Environment) -> Summary:
    """Return the build with that id, or the only unfinished build of the environment.

    Raises NotFound if there is none, and UsageError if several builds are unfinished.
    """
    if build_id is not None:
        return builds.read(build_id)
    unfinished = [summary for summary in builds.unfinished() if opening.is_of(summary.header, environment)]
    if not unfinished:
        raise NotFound("no build is unfinished", hint=f"{step('builds list')} shows all builds.")
    if len(unfinished) > 1:
        raise UsageError(
            f"{len(unfinished)} builds are unfinished: {', '.join(s.build_id for s in unfinished)}",
            hint=f"Write the id of one of them after {step('resume')}.",
        )
    return unfinished[0]
