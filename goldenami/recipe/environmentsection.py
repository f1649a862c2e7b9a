"""goldenami.yaml: the environments of a project, as model.Environment.

``environmentspec`` has the form of the file; here are the rules between its keys. ``sandbox: true`` expands to the
accounts, regions and keys of the embedded cloud. After that, the environment is processed like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from goldenami.errors import InvalidInput
from goldenami.model import (
    Account,
    ChannelRules,
    Consumer,
    Environment,
    FeedSource,
    LaunchTemplate,
    Mark,
    Network,
    Place,
    Target,
    VulnerabilityPolicy,
    VulnerabilityWaiver,
)
from goldenami.recipe import limits, transports
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.environmentspec import (
    HOME,
    SANDBOX_ACCOUNTS,
    SANDBOX_HOME,
    SANDBOX_TARGETS,
    AccountSpec,
    Address,
    EnvironmentSpec,
    HomeSpec,
    LaunchTemplateSpec,
    ProjectSpec,
    RoleSpec,
    TargetSpec,
)
from goldenami.recipe.keptenvironments import directory, is_address, sandbox_storage
from goldenami.recipe.notifyspec import read_receivers
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.project import Project
from goldenami.recipe.schedulespec import ScheduleSpec
from goldenami.recipe.signingspec import read_signing
from goldenami.recipe.similar import suggestion
from goldenami.recipe.words import NAME, seconds
from goldenami.release import names
from goldenami.release import targets as modes

if TYPE_CHECKING:
    from goldenami.schedules.policy import Schedule

# "General purpose bucket naming rules", S3 user guide; the prefix has only characters that need no quoting.
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9!_.*'()=-]+)*/?)")

_TEMPLATE_ID = re.compile(r"lt-[0-9a-f]{8,17}")


@dataclass(frozen=True, slots=True)
class _Read:
    """A valid environment, and where its targets are written: label -> position."""

    environment: Environment
    marks: Mapping[str, Mark]


def read_environments(project: Project, problems: Problems, endpoint: str | None = None) -> dict[str, Environment]:
    """Return the valid environments by name. Every problem of the others is added to ``problems``."""
    document = project.document(project.file, problems)
    found: dict[str, _Read] = {}
    if document is not None:
        try:
            spec = ProjectSpec.model_validate(document.value)
        except ValidationError as error:
            problems.extend(translate(error, document, (), ProjectSpec))
            spec = None
        # The rules across fields are checked for each well-formed environment, even if another one is not well-formed.
        raw = document.value.get("environments")
        _check_default(document, raw, problems)
        for name in raw if isinstance(raw, dict) else ():
            if isinstance(raw[name], dict):
                limits.check_environment(raw[name], ("environments", name), document, problems)
            try:
                one = spec.environments[name] if spec else EnvironmentSpec.model_validate(raw[name])
            except ValidationError:
                continue
            made = _environment(name, one, project.root, document, problems, endpoint)
            at: NodePath = ("environments", name, "notify")
            region = one.home.region if one.home is not None else SANDBOX_HOME["region"]
            receivers = read_receivers(one.notify, at, document, project, region, problems)
            signing = read_signing(one.signing, ("environments", name, "signing"), document, project, region, problems)
            if made is not None:
                complete = replace(made.environment, notify=receivers, signing=signing)
                found[name] = replace(made, environment=complete)
        _check_parameters_apart([read for name, read in found.items() if re.fullmatch(NAME, name)], problems)
    return {name: read.environment for name, read in found.items()}


def _check_parameters_apart(found: list[_Read], problems: Problems) -> None:
    """Add a problem for each two environments that would move the same parameters."""
    for number, second in enumerate(found):
        for first in found[:number]:
            if first.environment.parameter_prefix != second.environment.parameter_prefix:
                continue
            if first.environment.sandbox != second.environment.sandbox:  # the accounts of the sandbox are not on AWS
                continue
            places: dict[Place, Mark] = {t.place: first.marks[t.label] for t in first.environment.targets}
            shared = [t for t in second.environment.targets if t.place in places]
            if shared:
                prefix, name = second.environment.parameter_prefix, first.environment.name
                listed = ", ".join(str(t.place) for t in shared)
                problems.add(
                    second.marks[shared[0].label],
                    f"the environments {name} and {second.environment.name} have the same parameters: both have "
                    f"targets in {listed} and the parameter_prefix {prefix}",
                    f"The target of {name} is at {places[shared[0].place]}. Write in one of them, for example: "
                    f"parameter_prefix: '{prefix}/{{{{ environment.name }}}}'.",
                )


def _environment(
    name: str, spec: EnvironmentSpec, root: Path, document: Document, problems: Problems, endpoint: str | None
) -> _Read | None:
    at: NodePath = ("environments", name)
    before = len(problems.found)
    if spec.sandbox:
        for key in ("home", "accounts", "targets"):
            if key in spec.model_fields_set:
                mark = document.key_mark((*at, key))
                problems.add(
                    mark, f"{key} cannot be set with sandbox: true, because the sandbox has its own", "Remove it."
                )
        spec = spec.model_copy(
            update={
                "home": HomeSpec.model_validate(SANDBOX_HOME),
                "accounts": {k: AccountSpec.model_validate(v) for k, v in SANDBOX_ACCOUNTS.items()},
                "targets": tuple(TargetSpec.model_validate(t) for t in SANDBOX_TARGETS),
            }
        )
    if spec.home is None:
        problems.add(
            document.key_mark(at),
            f"{name}: the key 'home' is missing",
            "Add the account and region of builds: home: {account: …, region: …}",
        )
        return None
    if not spec.targets:
        problems.add(
            document.key_mark(at),
            f"{name}: the key 'targets' is missing",
            "Add the accounts and regions that get images: targets: [{account: home, regions: […], kms_key: …}]",
        )
    home = _account(HOME, spec.home.account, spec.home)
    others = {key: _account(key, one.id, one, parameters=one.parameters) for key, one in spec.accounts.items()}
    accounts = {HOME: home} | others
    _check_accounts(accounts, at, document, problems)
    targets, paths = _targets(spec, accounts, at, document, problems)
    consumers = _consumers(spec, accounts, at, document, problems)
    launch_templates = _launch_templates(spec, accounts, targets, at, document, problems)
    if spec.schedules:
        from goldenami.recipe.schedulesection import read_schedules  # here, because few commands need the module

        read_schedules(spec.schedules, (*at, "schedules"), document, accounts, spec.home.region, problems)
    transport, options = transports.read(spec.network.transport, (*at, "network", "transport"), document, problems)
    address = _address(transport, spec.network.address, at, document, problems)
    local = root / ".goldenami" / name
    own = (sandbox_storage(name, endpoint) if spec.sandbox else None) or local
    if spec.catalog is None and not spec.sandbox:
        problems.add(
            document.key_mark(at),
            f"{name}: the key 'catalog' is missing",
            "Add the place of releases and channels, which all users and pipelines of the environment must share: "
            "catalog: s3://BUCKET/PREFIX. A directory is possible too, if it is kept: catalog: PATH.",
        )
    catalog = _storage("catalog", spec.catalog, own, root, at, document, problems)
    builds = _storage("builds", spec.builds, own, root, at, document, problems)
    image_name = _image_name(name, spec, at, document, problems)
    parameter_prefix = names.fill(spec.parameter_prefix, {names.ENVIRONMENT: name})
    wrong = names.prefix_problem(parameter_prefix)
    if wrong is not None:
        problems.add(document.mark((*at, "parameter_prefix")), f"parameter_prefix: {wrong[0]}", wrong[1])
    if builds.startswith("s3://") and catalog and not catalog.startswith("s3://"):
        # A machine that can read the journals but not the releases would delete what a release owns.
        problems.add(
            document.mark((*at, "builds")),
            "builds is in a bucket, but catalog is a directory, which other machines cannot read",
            "Keep both in a bucket: catalog: s3://bucket/prefix.",
        )
    if len(problems.found) > before:
        return None
    world = next((cidr for cidr in spec.network.source_cidrs if cidr.endswith("/0")), None)
    if world is not None:
        problems.warn(
            document.mark((*at, "network", "source_cidr")),
            f"source_cidr: {world} lets the whole world connect to the SSH port of the builder",
            "Name the addresses of the machines that run goldenami, or leave the key out for the caller's address.",
        )
    subnet = spec.network.subnet
    marks = {label: document.mark(path) for label, path in paths.items() if not spec.sandbox}
    made = Environment(
        name=name,
        home=home,
        home_region=spec.home.region,
        accounts=accounts,
        targets=tuple(targets),
        network=Network(
            subnet_id=subnet.id if subnet else None,
            subnet_tags=dict(subnet.tags) if subnet else {},
            transport=transport,
            options=options,
            address=address,
            source_cidrs=spec.network.source_cidrs,
            security_groups=spec.network.security_groups,
        ),
        catalog=catalog,
        builds=builds,
        local=str(local),
        tags=dict(spec.tags),
        lifetime=timedelta(seconds=seconds(spec.lifetime)),
        test_environment=spec.test_environment,
        instance_profile=spec.builder.instance_profile,
        bucket_owner=spec.bucket_owner or home.id,
        parameter_prefix=parameter_prefix,
        encryption=spec.encryption,
        image_name=image_name,
        sandbox=spec.sandbox,
        marks=_marks(spec, at, document),
        consumers=consumers,
        launch_templates=launch_templates,
        channels=_channels(spec, at, document, problems),
        vulnerabilities=_vulnerabilities(spec, root, at, document, problems),
    )
    if len(problems.found) > before:
        return None
    at_sandbox = document.key_mark((*at, "sandbox"))
    return _Read(made, {target.label: marks.get(target.label, at_sandbox) for target in targets})


def _check_default(document: Document, environments: object, problems: Problems) -> None:
    name = document.value.get("environment")
    if isinstance(name, str) and isinstance(environments, dict) and name not in environments:
        hint = suggestion(name, list(environments), f"Environments: {', '.join(environments)}.")
        problems.add(document.mark(("environment",)), f"environment: there is no environment {name!r}", hint)


def _channels(spec: EnvironmentSpec, at: NodePath, document: Document, problems: Problems) -> dict[str, ChannelRules]:
    for name, rules in spec.channels.items():
        if name in rules.sources:
            problems.add(
                document.mark((*at, "channels", name, "from")),
                f"from: the channel {name!r} cannot require itself",
                "Name the channel in which a release is before, such as candidate.",
            )
        if rules.signature and spec.signing is None:
            problems.add(
                document.mark((*at, "channels", name, "signature")),
                "signature: the environment has no section signing, so no key is trusted",
                "Add it: signing: {trusted: [FILE]}.",
            )
    return {
        name: ChannelRules(
            rules.sources,
            timedelta(seconds=seconds(rules.soak)) if rules.soak else timedelta(),
            rules.approvers,
            rules.second_person,
            rules.reason,
            signature=rules.signature,
            vulnerabilities=rules.vulnerabilities,
        )
        for name, rules in spec.channels.items()
    }


def _vulnerabilities(
    spec: EnvironmentSpec, root: Path, at: NodePath, document: Document, problems: Problems
) -> VulnerabilityPolicy:
    given = spec.vulnerabilities
    users = [f"channels.{name}.vulnerabilities" for name, rules in spec.channels.items() if rules.vulnerabilities]
    users += ["vulnerabilities.builds"] if given.builds else []
    if users and not given.feeds:
        problems.add(
            document.mark((*at, *users[0].split("."))),
            f"{users[0]} needs a feed of vulnerabilities, and the environment names none",
            "Add one: vulnerabilities: {feeds: [{url: https://…, format: osv}]}.",
        )
    return VulnerabilityPolicy(
        tuple(
            FeedSource(
                str(feed.url or root / str(feed.file)),
                feed.format,
                timedelta(seconds=seconds(feed.max_age)) if feed.max_age else None,
                feed.covered,
            )
            for feed in given.feeds
        ),
        given.severity,
        given.fixable,
        timedelta(seconds=seconds(given.max_age)),
        tuple(
            VulnerabilityWaiver(id, waiver.reason, waiver.expires, waiver.packages)
            for id, waiver in given.waivers.items()
        ),
        given.builds,
    )


def _image_name(name: str, spec: EnvironmentSpec, at: NodePath, document: Document, problems: Problems) -> str:
    """Return the template of AMI names with the name of the environment in it."""
    wrong = names.image_name_problem(spec.image_name)
    if wrong is not None:
        problems.add(document.mark((*at, "image_name")), f"image_name: {wrong[0]}", wrong[1])
    return names.fill(spec.image_name, {names.ENVIRONMENT: name})


def _account(name: str, id: str, spec: RoleSpec, *, parameters: bool = False) -> Account:
    return Account(name, id, spec.role, spec.external_id, seconds(spec.session_duration), parameters)


def _address(transport: str, address: Address, at: NodePath, document: Document, problems: Problems) -> Address:
    """Return the address to connect to: a transport of AWS or a bastion inside the network uses the private one."""
    if transport in ("ssm", "instance-connect") and address == "public":
        problems.add(
            document.mark((*at, "network", "address")),
            f"address: public is not possible with transport {transport}, which uses the private address",
            "Remove it.",
        )
    return "private" if address == "auto" and transport in ("bastion", "ssm", "instance-connect") else address


def _marks(spec: EnvironmentSpec, at: NodePath, document: Document) -> dict[tuple[str, ...], Mark]:
    """Return the positions of an environment's keys. A target has its own region's and the keys of its group."""
    found: dict[tuple[str, ...], Mark] = {(): document.key_mark(at)}
    for path in document.marks:
        if path[: len(at)] == at and len(path) > len(at):
            found[tuple(str(part) for part in path[len(at) :])] = document.key_mark(path)
    for index, group in enumerate(spec.targets):
        here: NodePath = (*at, "targets", index)
        for number, region in enumerate(group.regions):
            label = f"{group.account}/{region}"
            found["targets", label] = document.mark((*here, "regions", number))
            found["targets", label, "kms_key"] = document.mark((*here, "kms_key"))
    return found


def environment_schedules(project: Project, name: str) -> tuple[Schedule, ...]:
    """Return the schedules of an environment. Raises InvalidInput with every problem of goldenami.yaml."""
    from goldenami.recipe.schedulesection import read_schedules

    problems = Problems()
    every = read_environments(project, problems)
    document = project.document(project.file, problems)
    if problems.found or document is None:
        raise InvalidInput(problems.found)
    written = document.value["environments"][name].get("schedules", {})
    specs = {key: ScheduleSpec.model_validate(value) for key, value in written.items()}
    at: NodePath = ("environments", name, "schedules")
    return read_schedules(specs, at, document, every[name].accounts, every[name].home_region, problems)


def _consumers(
    spec: EnvironmentSpec, accounts: Mapping[str, Account], at: NodePath, document: Document, problems: Problems
) -> tuple[Consumer, ...]:
    found: list[Consumer] = []
    for index, one in enumerate(spec.consumers):
        here: NodePath = (*at, "consumers", index)
        id = accounts[one.account].id if one.account in accounts else one.account
        if not (id.isascii() and id.isdigit() and len(id) == 12):
            hint = suggestion(one.account, list(accounts), f"Accounts: {', '.join(accounts)}; or 12 digits in quotes.")
            problems.add(document.mark((*here, "account")), f"account: there is no account {one.account!r}", hint)
            continue
        found += [Consumer(id, service=service) for service in one.services]
        for number, arn in enumerate(one.principals):
            if arn.split(":")[4] != id:
                mark = document.mark((*here, "principals", number))
                problems.add(mark, f"principals: {arn} is in account {arn.split(':')[4]}, expected account {id}")
            found.append(Consumer(id, principal=arn))
    return tuple(dict.fromkeys(found))


def _launch_templates(
    spec: EnvironmentSpec,
    accounts: Mapping[str, Account],
    targets: Sequence[Target],
    at: NodePath,
    document: Document,
    problems: Problems,
) -> tuple[LaunchTemplate, ...]:
    found: list[LaunchTemplate] = []
    for index, one in enumerate(spec.launch_templates):
        here: NodePath = (*at, "launch_templates", index)
        if one.account is not None and one.account not in accounts:
            hint = suggestion(one.account, list(accounts), f"Accounts: {', '.join(accounts)}.")
            problems.add(document.mark((*here, "account")), f"account: there is no account {one.account!r}", hint)
            continue
        regions = sorted({target.region for target in targets})
        for number, region in enumerate(one.regions):
            if region not in regions:
                mark = document.mark((*here, "regions", number))
                problems.add(mark, f"regions: no target is in {region}", f"Regions of targets: {', '.join(regions)}.")
        places = _template_places(one, accounts, targets)
        mark = document.mark((*here, "template"))
        if _TEMPLATE_ID.fullmatch(one.template) and len(places) > 1:
            problems.add(
                mark,
                f"template: the id {one.template} is in one account and region, but there are {len(places)} places",
                "Add account and regions, or use the name of the template.",
            )
        for other in found:
            if other.template == one.template and (twice := sorted({*other.places} & {*places})):
                problems.add(mark, f"template: {one.template} is declared twice for {twice[0]}", "Remove one of them.")
        found.append(LaunchTemplate(one.template, one.recipe, one.channel, places, one.architecture, one.default))
    return tuple(found)


def _template_places(
    spec: LaunchTemplateSpec, accounts: Mapping[str, Account], targets: Sequence[Target]
) -> tuple[Place, ...]:
    """Return the places of a template. An account without targets gets shared images in the regions of targets."""
    own = [target for target in targets if spec.account in (None, target.account.name)]
    regions = spec.regions or sorted({target.region for target in own or targets})
    if spec.account is not None:
        return tuple(Place(accounts[spec.account].id, region) for region in dict.fromkeys(regions))
    return tuple(sorted({target.place for target in own if target.region in regions}))


def _check_accounts(accounts: Mapping[str, Account], at: NodePath, document: Document, problems: Problems) -> None:
    names: dict[str, str] = {}
    for name, account in accounts.items():
        place = document.mark((*at, "home", "role") if name == HOME else (*at, "accounts", name, "role"))
        if account.role and account.role.split(":")[4] != account.id:
            problems.add(
                place, f"role: the role is in account {account.role.split(':')[4]}, expected account {account.id}"
            )
        if name == HOME and (*at, "accounts", HOME) in document.marks:
            problems.add(
                document.key_mark((*at, "accounts", HOME)),
                "accounts: the name 'home' is reserved for the home account",
                "Choose another name.",
            )
        elif account.id in names:
            mark = document.mark((*at, "accounts", name, "id"))
            problems.add(mark, f"id: {account.id} is already the id of account {names[account.id]}")
        names.setdefault(account.id, name)


def _targets(
    spec: EnvironmentSpec, accounts: Mapping[str, Account], at: NodePath, document: Document, problems: Problems
) -> tuple[list[Target], Mapping[str, NodePath]]:
    """Return the targets, and where each one is written, by label."""
    found: dict[str, Target] = {}
    places: dict[str, NodePath] = {}
    for index, group in enumerate(spec.targets):
        here: NodePath = (*at, "targets", index)
        if group.account not in accounts:
            hint = suggestion(group.account, list(accounts), f"Accounts: {', '.join(accounts)}.")
            problems.add(document.mark((*here, "account")), f"account: there is no account {group.account!r}", hint)
            continue
        mode = modes.get_mode(group.mode)
        if mode.owns_image and group.kms_key is None:
            problems.add(
                document.mark(here),
                "the key 'kms_key' is missing: mode copy encrypts each copy under this key",
                "Add a customer managed key. Snapshots under the AWS managed key cannot be shared.",
            )
        if not mode.owns_image and group.kms_key is not None:
            problems.add(
                document.key_mark((*here, "kms_key")),
                "kms_key is not allowed: a shared image is encrypted under its owner's key",
                "Remove it.",
            )
        for number, region in enumerate(group.regions):
            target = Target(accounts[group.account], region, group.kms_key or "", group.mode, group.required)
            place: NodePath = (*here, "regions", number)
            if mode.source(target) == target.label:
                problems.add_once(
                    document.mark((*here, "mode")),
                    f"mode: {group.mode} is not possible for account {group.account}, which owns its images",
                )
                continue
            if target.label in found:
                first = document.mark(places[target.label])
                problems.add(
                    document.mark(place),
                    f"the target {target.label} is given twice",
                    f"It is given first in line {first.line}. Remove one.",
                )
                continue
            found[target.label] = target
            places[target.label] = place
    for label, target in found.items():
        mode = modes.get_mode(target)
        needed = mode.source(target)
        if needed is None:
            continue
        source = found.get(needed)
        if source is None:
            account, _, region = needed.partition("/")
            problems.add(
                document.mark(places[label]),
                f"{region}: {mode.without_source} there, because account {account} has no target in that region",
                f"Add {region} to the targets of account {account}, or use mode: copy.",
            )
        elif not mode.owns_image:
            # The target uses the image of the source, which is encrypted under the key of the source.
            found[label] = replace(target, kms_key=source.kms_key)
    return list(found.values()), places


def _storage(
    key: str, given: str | None, local: Path, root: Path, at: NodePath, document: Document, problems: Problems
) -> str:
    """Return an absolute directory or an S3 address, or "" after a problem."""
    if given is None:
        return str(local / key)
    if not is_address(given):
        return directory(root, given)
    address = _S3.fullmatch(given)
    if address is None:
        problems.add(
            document.mark((*at, key)),
            f"{key}: {given!r} is not a directory or s3://bucket/prefix",
            "The name of a bucket has 3 to 63 lower-case letters, digits, dots and hyphens.",
        )
        return ""
    return f"s3://{address['bucket']}/{address['prefix'].strip('/')}".rstrip("/")
