"""From a base image to a candidate: launch, connect, provision, validate (gate 1), seal, capture."""

from __future__ import annotations

from goldenami import provision, ssh, validate
from goldenami.aws import images, instances, waiters
from goldenami.aws.instances import RootVolume
from goldenami.errors import BuilderError
from goldenami.model import Architecture, TestReport
from goldenami.recipe.secrets import Secret
from goldenami.stages import hosts
from goldenami.stages.build import Build, Candidate
from goldenami.stages.filling import filled
from goldenami.stages.hosts import Host
from goldenami.validate import TestPath


def make(build: Build, architecture: Architecture) -> Candidate:
    """Ensure that there is a candidate: captured, available, its builder on the way out.

    One that an earlier run captured is used as it is; anything short of that is done again from a new builder, since
    nobody knows in the middle of what the old one stopped.
    """
    done = build.journal.stage(f"candidate/{architecture}")
    if done is not None and build.ledger.existing(image_key(architecture)) == done["image_id"]:
        build.note(f"continuing with the {architecture} image that was captured already: {done['image_id']}")
        return Candidate.from_json(architecture, done)
    build.ledger.delete_key(image_key(architecture))
    with build.stage("launch", architecture):
        base = build.plan.facts.base[architecture]
        host = hosts.launch(build, architecture, "builder", base.image_id, root_volume(build, architecture))
    with hosts.connected(build, host, architecture) as connection:
        before = provision.packages(connection)
        prepare(build, architecture, connection)
        report = check(build, architecture, host)
        after = provision.packages(connection)
        traces = validate.read_traces(connection, host.login_key)
        with build.stage("seal", architecture):
            provision.seal(connection, login_key=host.login_key, emit=build.emit)
    image_id = capture(build, architecture, host)
    candidate = Candidate(architecture, image_id, report, after, provision.package_changes(before, after), traces)
    build.journal.stage_done(f"candidate/{architecture}", **candidate.to_json())
    return candidate


def prepare(build: Build, architecture: Architecture, connection: ssh.Connection) -> None:
    """Patch and provision, one program a stage; a reboot in between where one is due."""
    stages = (provision.patch_stage(build.recipe.patches[architecture]), *build.recipe.provisioning[architecture])
    for stage in stages:
        if stage.operations:
            with build.stage(stage.name, architecture):
                provision.run_stage(connection, filled(stage, build.secrets), emit=build.emit)


def check(build: Build, architecture: Architecture, host: Host) -> TestReport:
    """Gate 1: the tests of the recipe on the builder. Raises TestsFailed."""
    with build.stage("test builder", architecture):
        report = validate.run_suite(
            host.endpoint,
            tests(build),
            gate="builder",
            architecture=architecture,
            report_dir=build.reports,
            emit=build.emit,
            variables=test_variables(build, architecture),
            secrets=tuple(build.secrets.values()),
            stop=build.stop,
        )
        validate.require(report)
    return report


def capture(build: Build, architecture: Architecture, host: Host) -> str:
    """Stop the builder, make the image, wait for it, and terminate the builder the moment it is available."""
    with build.stage("capture", architecture):
        _stop(build, host)
        image_id = images.create(
            build.ledger,
            image_key(architecture),
            build.home,
            instance_id=host.instance_id,
            name=f"{build.recipe.name}-{build.version}-{architecture}-candidate-{build.journal.build_id}",
            description=f"candidate for {build.label}; not released",
            boot_mode=build.recipe.image.boot_mode,
            temporary=True,
        )
        seen = images.wait(build.ledger, build.home, [image_id])[image_id]
        hosts.dispose(build, host)
        if not seen.ok:
            raise waiters.failure(seen, "image", build.home)
    return image_id


def image_key(architecture: Architecture) -> str:
    """The candidate's key in the ledger."""
    return f"candidate/{architecture}"


def root_volume(build: Build, architecture: Architecture) -> RootVolume:
    """The builder's root volume, which becomes the image's."""
    base, wanted = build.plan.facts.base[architecture], build.recipe.image.root_volume
    size = wanted.size_gib or base.root_volume_gib
    return RootVolume(base.root_device_name, size, wanted.type, wanted.iops, wanted.throughput)


def tests(build: Build) -> tuple[TestPath | str, ...]:
    """The recipe's tests as validate/ takes them: built-in suites by name, files with the name that people know."""
    return tuple(TestPath(t.path, t.name) if t.path is not None else t.name for t in build.recipe.tests)


def test_variables(build: Build, architecture: Architecture) -> dict[str, object]:
    """What tests may know of the build they are run for."""
    return {
        **{k: v for k, v in build.recipe.variables.items() if not isinstance(v, Secret)},
        "recipe": build.recipe.name,
        "version": build.version,
        "architecture": architecture,
        "environment": build.environment.name,
    }


def _stop(build: Build, host: Host) -> None:
    """A stopped root volume is captured clean. Spot instances of the one-time kind cannot be stopped; CreateImage shuts
    those down itself for as long as it copies."""
    found = instances.describe_many(build.cloud, build.home, [host.instance_id])
    instance = found.get(host.instance_id)
    if instance is None or instance.state not in ("running", "stopping", "stopped"):
        state = instance.state if instance else "gone"
        raise BuilderError(f"builder {host.instance_id} is {state} before it was captured")
    if instance.market == "on-demand":
        instances.stop(build.ledger, f"{host.key}/stop/{host.instance_id}", build.home, host.instance_id)
