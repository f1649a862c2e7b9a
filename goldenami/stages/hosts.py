"""Temporary instances: launches them, connects to them, terminates them.

The host keys are created here and passed in the user data, so they are known before the first connection. So no machine
on the way can impersonate the builder. cloud-init installs the keys (``ssh_keys``) and deletes the host keys of the
image. Sealing removes them. The user data also ends the instance after its lifetime (``goldenami.lifetime``), and has
what the recipe adds for its builder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from goldenami import lifetime, provision, ssh
from goldenami.aws import autoscaling, instances, keypairs, network, security_groups
from goldenami.aws.instances import DataVolume, LaunchSpec, RootVolume
from goldenami.aws.waiters import Observation
from goldenami.each import both
from goldenami.errors import BuilderError
from goldenami.events import emit
from goldenami.model import Architecture, Place, SshEndpoint
from goldenami.polling import Interval, pauses, poll
from goldenami.recipe import Recipe
from goldenami.recipe.secrets import fill
from goldenami.stages import hostfacts
from goldenami.stages.build import BuildContext, Host
from goldenami.stages.userdata import KEY_KINDS, KeyKind, user_data
from goldenami.stages.watch import watched

SECURITY_GROUP = "security-group"
_KNOCKS: Final = Interval(0.03, 1.02, 0.1)
_LOOKS: Final = Interval(first=0.5)  # at EC2, at most, while there is no server to knock at
_AT_LEAST: Final = 10.0  # seconds between two looks at EC2 while the SSH server is asked
_AT_MOST: Final = 15.0
_PUBLIC: Mapping[str, bool | None] = {"auto": None, "public": True, "private": False}


def launch(
    build: BuildContext,
    architecture: Architecture,
    purpose: str,
    image_id: str,
    root_volume: RootVolume | None,
    *,
    volume_key: str | None = None,
    image_key: str | None = None,
    data_devices: tuple[str, ...] = (),
    volumes: tuple[DataVolume, ...] = (),
    kept_devices: tuple[str, ...] = (),
    spot: bool = True,
    place: Place | None = None,
    in_group: bool = False,
    access: Access | None = None,
    meanwhile: Callable[[], None] = ssh.preload,
) -> Host:
    """Launch a temporary instance and wait until it runs: somebody can log in, or EC2 reports it.

    An instance of an earlier run is replaced, because its state is unknown. ``purpose``: "builder" or "proof".
    ``volume_key``: the ARN of the key of the root volume and of the volumes of ``data_devices``; None: EC2's choice.
    ``image_key``: the ARN of the key of the image, if it is known, for messages.
    ``volumes``: data volumes. ``kept_devices``: devices of the image whose volumes would outlive the instance.
    ``spot``: False launches an on-demand instance even if the recipe requests a spot instance. ``place``: where;
    None: the home account and region. The transport of the build must be for the same place. ``in_group``: an Auto
    Scaling group launches it, with its service-linked role. ``access``: what :func:`prepare` returned for it.
    ``meanwhile``: is called while EC2 launches the instance, maybe again; it loads what a login needs, at least.
    """
    ledger, there = build.ledger, place or build.home
    name = _named(build, purpose, there)
    key = f"{name}/{architecture}"
    ledger.delete_key(key)
    wanted, settings = build.recipe.builder[architecture], network.settings_in(build.environment, there)
    access = access or _access(build, architecture, purpose, there)
    logins, host_keys, subnets, groups = access.logins, access.host_keys, access.subnets, access.groups
    data = _user_data(build, architecture, purpose, logins, host_keys)
    # Instance profiles are of the home account.
    profile = wanted.instance_profile or build.environment.instance_profile
    spec = LaunchSpec(
        image_id=image_id,
        instance_types=wanted.instance_types,
        subnets=subnets,
        security_group_id=groups[0],
        more_groups=groups[1:],
        hop_limit=wanted.hop_limit,
        key_name=access.key_name,
        user_data=data,
        root_volume=root_volume,
        volume_key=volume_key,
        image_key=image_key,
        data_devices=data_devices,
        volumes=volumes,
        kept_devices=kept_devices,
        spot=wanted.spot and spot,
        name=f"goldenami {purpose} {build.label}",
        instance_profile=profile if there.account == build.home.account else None,
        public_address=_PUBLIC[settings.address],
    )

    def endpoint(instance: instances.Instance) -> SshEndpoint:
        return SshEndpoint(
            address=instances.address(instance, settings),
            user=wanted.ssh_user,
            private_key="".join(pair.private_key for pair in logins),
            host_key="\n".join(pair.public_key for pair in host_keys),
            port=wanted.port_of(purpose),
            transport=build.transport.opener,
            instance_id=instance.id,
            region=there.region,
            in_user_namespace=build.transport.reach.in_user_namespace,
        )

    # The work on an instance with data volumes needs their description, which is complete when EC2 reports it running.
    knock = _Knock(build, endpoint, logs_in=not build.recipe.image.volumes)

    def beside() -> None:
        access.let_in()  # first: a call that waits leaves the processor to the launch
        meanwhile()

    login_key = "\n".join(pair.public_key for pair in logins)
    with ExitStack() as unless_used:
        unless_used.callback(knock.close)
        if in_group:
            beside()
            instance = autoscaling.launch_running(ledger, key, there, spec, more=wanted.tags)
        else:
            instance = instances.launch_running(
                ledger,
                key,
                there,
                spec,
                tags=wanted.tags,
                warn=lambda text: build.note(text, "warning"),
                pause=knock.pause,
                beside=beside,
            )
        emit(build.emit, "host.launched", purpose=purpose, architecture=architecture, instance_id=instance.id)
        used = knock.connection if purpose == "builder" else None  # the tests connect by themselves
        group = access.default_group
        host = Host(key, instance.id, endpoint(instance), login_key, there, group, instance.launched, used)
        if used is not None:
            unless_used.pop_all()
    return host


class _Knock:
    """Ends the wait for an instance when it lets somebody in: then it runs, which EC2 may report later. ``connection``:
    of that login. If its SSH server accepts connections and no login yet, only the pause ends: EC2 probably says that
    it runs, and ``connected`` tries for longer. Meanwhile EC2 is asked less often: only about an instance that fails.
    Only for the transport ``direct``: no tunnel is opened for it.

    A pause may be long, because the last instance took long. So it is cut short: an instance that fails is noticed a
    little late at most. Until EC2 has described the address, and after an answer that EC2 does not confirm, no pause
    is longer than usual."""

    def __init__(
        self, build: BuildContext, endpoint: Callable[[instances.Instance], SshEndpoint], *, logs_in: bool
    ) -> None:
        """``endpoint``: returns how to reach an instance. ``logs_in``: a login ends the wait; otherwise only EC2."""
        self.connection: ssh.Connection | None = None
        self._build = build
        self._endpoint = endpoint
        self._logs_in = logs_in
        self._ids: tuple[str, ...] = ()
        self._usual = pauses(_LOOKS, build.cloud.jitter)
        self._answered = False

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()

    def pause(self, seconds: float, seen: Mapping[str, Observation]) -> bool:
        """Sleep, until the server answers for the first time. Return whether it let us in."""
        cloud, work = self._build.cloud, self._build.host_work
        if self._build.transport.opener is not None:
            cloud.sleep(seconds)
            return False
        if tuple(seen) != self._ids:  # another instance, in place of one that did not start
            self._ids, self._answered, self._usual = tuple(seen), False, pauses(_LOOKS, self._build.cloud.jitter)
        endpoint = self._described(seen) if not self._answered else None
        if endpoint is None:
            cloud.sleep(min(seconds, next(self._usual)))
            return False
        longest = min(max(seconds, _AT_LEAST), _AT_MOST)
        for _ in poll(cloud.clock, cloud.sleep, timeout=longest, interval=_KNOCKS, last_look=True):
            if work.answers(endpoint.address, endpoint.port):
                self._answered, self._usual = True, pauses(_LOOKS, self._build.cloud.jitter)
                self.connection = work.log_in(self._build, endpoint) if self._logs_in else None
                return self.connection is not None
        return False

    def _described(self, seen: Mapping[str, Observation]) -> SshEndpoint | None:
        """Return how to reach the instance, if EC2 describes its address already."""
        items = [one.item for one in seen.values() if one.item]
        with suppress(BuilderError):  # a public one may come later
            return self._endpoint(instances.of_item(items[0])) if items else None
        return None


@dataclass(frozen=True, slots=True)
class Access:
    """How an instance is reached: its subnets, the security groups, the name of the key pair, and the private keys.
    ``let_in``: ensures that its security group lets this machine in. ``default_group``: see ``Host``."""

    subnets: tuple[network.Subnet, ...]
    groups: tuple[str, ...]
    key_name: str
    logins: list[ssh.KeyPair]
    host_keys: list[ssh.KeyPair]
    let_in: Callable[[], None]
    default_group: str | None = None


def prepare(build: BuildContext, architecture: Architecture, purpose: str, place: Place | None = None) -> Access:
    """Make what an instance needs before its launch: keys, and a security group if the environment names none. A second
    call returns the same. ``place``: None: the home account and region."""
    access = _access(build, architecture, purpose, place or build.home)
    access.let_in()
    return access


def _access(build: BuildContext, architecture: Architecture, purpose: str, there: Place) -> Access:
    """Return :func:`prepare`, but for the rule of the security group: only who connects needs it."""
    ledger = build.ledger
    name = _named(build, purpose, there)
    wanted, settings = build.recipe.builder[architecture], network.settings_in(build.environment, there)
    # Gate 2 proves that the builder's key is removed, so it logs in with its own key.
    logins = _key_pairs(build, f"{name}-login-key")
    host_keys = _key_pairs(build, f"{name}-{architecture}-host-key")
    _user_data(build, architecture, purpose, logins, host_keys)  # refused before there is anything else

    subnets = network.fresh_subnets(build.cloud, there, settings)
    key = _named(build, SECURITY_GROUP, there)

    def groups() -> tuple[tuple[str, ...], str | None, security_groups.Source]:
        if settings.security_groups:
            return settings.security_groups, None, security_groups.Source()
        source = build.transport.source(subnets[0])
        group = security_groups.create(ledger, key, there, vpc_id=subnets[0].vpc_id)
        # The builder ends long before the build. Its last instance would be waited for.
        is_last = purpose == "proof"
        default = security_groups.default_of(build.cloud, there, subnets[0].vpc_id) if is_last else None
        return (group,), default, source

    def key_name() -> str:
        return keypairs.create(ledger, f"key-pair/{name}", there, public_key=logins[0].public_key)

    (chosen, default, source), pair = both(groups, key_name)

    def let_in() -> None:
        if not settings.security_groups:
            ports = sorted({wanted.ssh_port, wanted.image_ssh_port})
            security_groups.allow(ledger, key, there, chosen[0], source=source, ports=ports)

    return Access(subnets, chosen, pair, logins, host_keys, let_in, default)


def _named(build: BuildContext, what: str, place: Place) -> str:
    return what if place == build.home else f"{what}-{place.account}-{place.region}"


@contextmanager
def connected(build: BuildContext, host: Host, architecture: Architecture) -> Iterator[ssh.Connection]:
    """Open an SSH connection to a host under watch. Raises the errors of ``watched``. The end of the block waits for
    the end of its commands, unless it dropped the connection."""
    timeout = build.recipe.builder[architecture].ssh_timeout
    with watched(build, host) as watch:
        if host.connection is not None and host.connection.is_open:
            connection = host.connection.under(watch.check)
        else:
            connection = ssh.connect(
                host.endpoint,
                timeout=timeout,
                sleep=build.cloud.sleep,
                check=watch.check,
                on_wait=lambda seconds: build.note(
                    f"{host.instance_id} does not answer over SSH for {seconds:.0f} s; waiting for at most {timeout} s"
                ),
            )
        watch.reached = True
        watch.on_loss.append(connection.drop)
        with connection:
            yield connection


def key_of(purpose: str, architecture: Architecture) -> str:
    """Return the key of a temporary instance in the ledger."""
    return f"{purpose}/{architecture}"


def dispose(build: BuildContext, host: Host) -> None:
    """Terminate a temporary instance. Does not wait until it is terminated, and lets nothing else wait for that: it
    leaves the security group of the build before."""
    if host.default_group is not None:
        security_groups.leave(build.ledger, host.place or build.home, host.instance_id, host.default_group)
    build.ledger.delete_key(host.key)


def _user_data(
    build: BuildContext,
    architecture: Architecture,
    purpose: str,
    logins: list[ssh.KeyPair],
    host_keys: list[ssh.KeyPair],
) -> str:
    """Return the user data of an instance. Raises UsageError if it is too large."""
    more = _more(build, architecture) if purpose == "builder" else ""
    command = lifetime.boot_command(purpose, build.cloud.now(), build.environment.lifetime)
    # What a recipe adds may use the package manager at the same time.
    if purpose == "builder" and not more and (fetch := _fetch_lists(build.recipe, architecture)):
        # Last: the instance has its end also if this hangs. cloud-init tells the status of the last command, and must
        # tell that of the lifetime.
        command = f"{command}\ngoldenami_set=$?\n{fetch}\n(exit $goldenami_set)"
    return user_data(host_keys, command, login_keys=[pair.public_key for pair in logins[1:]], more=more)


def _fetch_lists(recipe: Recipe, architecture: Architecture) -> str:
    """Return the shell program with which a builder fetches package lists while it boots, or an empty text."""
    return provision.boot_command(
        recipe.provisioning[architecture],
        recipe.patches[architecture],
        os=recipe.os,
        network=recipe.builder[architecture].network,
    )


def _more(build: BuildContext, architecture: Architecture) -> str:
    """Return the user data that the recipe adds for its builder."""
    facts = hostfacts.of_image(build.plan.facts.base[architecture])
    return fill(build.recipe.builder[architecture].user_data, {**build.secrets, **facts})


def _key_pairs(build: BuildContext, name: str) -> list[ssh.KeyPair]:
    """Return the key pairs of a build for one purpose, in the order of ``KEY_KINDS``. A resume gets the same key pairs
    from the journal."""

    def make(kind: KeyKind) -> bytes:
        return ssh.generate_keypair(kind).private_key.encode()

    made = [build.journal.secret(secret_name(name, kind), partial(make, kind)) for kind in KEY_KINDS]
    return [ssh.KeyPair.from_private(secret.decode()) for secret in made]


def secret_name(name: str, kind: KeyKind) -> str:
    """Return the name of a private key among the secrets of a journal."""
    return name if kind == KEY_KINDS[0] else f"{name}-{kind}"
