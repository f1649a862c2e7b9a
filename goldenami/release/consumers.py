"""Consumers: principals that launch images for an account, such as the service-linked role of Auto Scaling.

A service that launches instances uses its own role. That role has no right to a customer managed key, unless the key's
policy or a grant gives it one. goldenami creates one grant for each consumer and key, and finds it again by its name.
A grant belongs to no release: it stays as long as a release needs the key and the environment names the consumer.

The grant is created with the credentials of the consumer's account, also for a key of another account. Then the
consumer's account first gets a grant on that key, because a grant can allow only what its creator may do. AWS requires
this for service-linked roles ("Required AWS KMS key policy for use with encrypted volumes", EC2 Auto Scaling user
guide). For accounts outside the environment, and for organizations, goldenami prints what has to be done there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from goldenami import task
from goldenami.aws import kms
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import AccessError, TargetsFailed
from goldenami.events import Emit, ignore_events
from goldenami.model import Consumer, Environment, ImageManifest, Place
from goldenami.nextstep import step
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog

KIND: Final = "consumers apply"
_PAUSES: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)  # seconds; KMS says "usually less than five minutes"

# The service-linked roles that launch instances. EKS launches the nodes of managed groups through Auto Scaling.
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "autoscaling": ("autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",),
    "spot": ("spot.amazonaws.com/AWSServiceRoleForEC2Spot",),
    "fleet": ("ec2fleet.amazonaws.com/AWSServiceRoleForEC2Fleet",),
    "spot-fleet": ("spotfleet.amazonaws.com/AWSServiceRoleForEC2SpotFleet",),
    "eks": (
        "autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
        "eks-nodegroup.amazonaws.com/AWSServiceRoleForAmazonEKSNodegroup",
    ),
}


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """A principal that needs a grant on a key (an ARN). ``place``: its account, and the region of the key."""

    place: Place
    key: str
    principal: str

    @property
    def owner(self) -> Place:
        """The place of the key."""
        return Place(self.key.split(":")[4], self.place.region)

    def __str__(self) -> str:
        return f"{self.principal} on {self.key}"


@dataclass(frozen=True, slots=True)
class Survey:
    """The grants of consumers.

    ``present``, ``missing``: needs with and without a grant. ``implied``: needs of AWS managed keys, which every
    principal of their account may use. ``others``: needs of accounts outside the environment. ``surplus``: grants that
    no release needs, each with its key's place, key and id. ``organizations``: ARNs that images are shared with ->
    their keys. ``unreachable``: places that did not answer -> reason.
    """

    present: tuple[Need, ...]
    missing: tuple[Need, ...]
    implied: tuple[Need, ...]
    others: tuple[Need, ...]
    surplus: tuple[tuple[Place, str, str, str], ...] = ()
    organizations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unreachable: Mapping[Place, str] = field(default_factory=dict)


# --- what is needed (pure) --------------------------------------------------------------------------------------------


def principals(consumer: Consumer, partition: str) -> tuple[str, ...]:
    """Return the ARNs of a consumer: the roles of its service, or its principal."""
    if consumer.service:
        role = f"arn:{partition}:iam::{consumer.account}:role/aws-service-role/"
        return tuple(role + name for name in ROLES[consumer.service])
    return (consumer.principal,)


def needs(consumers: Iterable[Consumer], manifests: Iterable[ImageManifest]) -> tuple[Need, ...]:
    """Return every principal and key of these releases' images that the principals' accounts may launch, sorted.

    For a key of another account, the consumer's account itself needs a grant, too.
    """
    by_account: dict[str, list[Consumer]] = {}
    for consumer in consumers:
        by_account.setdefault(consumer.account, []).append(consumer)
    found: set[Need] = set()
    for image in (image for manifest in manifests for image in manifest.images):
        for account in {image.account, *image.shared_with} & by_account.keys():
            for key in {s.kms_key_id for s in image.snapshots if s.kms_key_id is not None}:
                partition, owner = key.split(":")[1], key.split(":")[4]
                if owner != account:
                    found.add(Need(Place(owner, image.region), key, f"arn:{partition}:iam::{account}:root"))
                for consumer in by_account[account]:
                    place = Place(account, image.region)
                    found |= {Need(place, key, arn) for arn in principals(consumer, partition)}
    return tuple(sorted(found))


def live(catalog: Catalog) -> list[ImageManifest]:
    """Return the manifests of all releases that are neither retired nor being retired. Raises CatalogError."""
    return [
        catalog.get(name, version)
        for name in catalog.names()
        for version in catalog.versions(name)
        if catalog.marks.retirement(name, version) is None
    ]


def grant_name(catalog: str, environment: str, principal: str) -> str:
    """Return the name of a consumer's grants. KMS returns the same grant for the same name and parameters."""
    return grant_prefix(catalog, environment) + hashlib.sha256(principal.encode()).hexdigest()[:16]


def grant_prefix(catalog: str, environment: str) -> str:
    """Return how the names of the grants of all consumers of an environment begin."""
    return f"goldenami-{catalog}-consumer-{hashlib.sha256(environment.encode()).hexdigest()[:8]}-"


def _organizations(manifests: Iterable[ImageManifest]) -> dict[str, tuple[str, ...]]:
    """Return ARN of the organization or unit -> keys of the images that are shared with it."""
    found: dict[str, set[str]] = {}
    for image in (image for manifest in manifests for image in manifest.images if modes.owns(image)):
        keys = {s.kms_key_id for s in image.snapshots if s.kms_key_id is not None}
        for arn in image.shared_with:
            if arn.startswith("arn:"):
                found.setdefault(arn, set()).update(keys)
    return {arn: tuple(sorted(keys)) for arn, keys in sorted(found.items())}


# --- what is there ----------------------------------------------------------------------------------------------------


def survey(cloud: Cloud, environment: Environment, catalog: Catalog) -> Survey:
    """Compare the grants on all keys of the live releases with what the environment's consumers need.

    Changes nothing. A place that does not answer is listed in ``unreachable``.
    """
    manifests = live(catalog)
    needed = needs(environment.consumers, manifests)
    known = {account.id for account in environment.accounts.values()}
    own = [need for need in needed if need.place.account in known]
    every = (image for manifest in manifests for image in manifest.images)
    keys = {(Place(key.split(":")[4], image.region), key) for image in every for key in _keys(image)}
    readable = sorted(pair for pair in keys if pair[0].account in known)
    identity = catalog.identity()
    prefix = grant_prefix(identity, environment.name) if identity is not None else None
    answers = each(readable, lambda pair: _read_key(cloud, *pair, prefix))
    managed = {key for (_, key), (aws_managed, _) in answers.results.items() if aws_managed}
    granted = {(key, principal) for (_, key), (_, grants) in answers.results.items() for principal, _ in grants}
    wanted = {(need.key, need.principal) for need in needed}
    unread = {key for _, key in answers.errors}
    return Survey(
        present=tuple(n for n in own if (n.key, n.principal) in granted),
        missing=tuple(n for n in own if n.key not in managed | unread and (n.key, n.principal) not in granted),
        implied=tuple(n for n in own if n.key in managed),
        others=tuple(n for n in needed if n.place.account not in known),
        surplus=tuple(
            (place, key, id, principal)
            for (place, key), (_, grants) in answers.results.items()
            for principal, id in grants
            if (key, principal) not in wanted
        ),
        organizations=_organizations(manifests),
        unreachable={place: reason for (place, _), reason in answers.reasons.items()},
    )


def _keys(image: Any) -> set[str]:
    return {s.kms_key_id for s in image.snapshots if s.kms_key_id is not None}


def _read_key(cloud: Cloud, place: Place, key: str, prefix: str | None) -> tuple[bool, list[tuple[str, str]]]:
    """Return whether AWS manages a key, and the principal and id of each grant whose name has the prefix."""
    if kms.manager(cloud, place, key) == "AWS":
        return True, []
    found = kms.grants(cloud, place, key) if prefix is not None else []
    return False, [
        (str(g["GranteePrincipal"]), str(g["GrantId"])) for g in found if str(g.get("Name", "")).startswith(str(prefix))
    ]


# --- changing ---------------------------------------------------------------------------------------------------------


def allow(ledger: Ledger, environment: Environment, catalog: str, manifest: ImageManifest) -> dict[str, str]:
    """Ensure that the environment's consumers may use the keys of a release.

    ``catalog``: its id. Returns label of the target -> reason for best-effort targets that failed. Raises TargetsFailed
    if a grant for a required target cannot be created. A second call changes nothing.
    """
    known = {account.id for account in environment.accounts.values()}
    wanted = [n for n in needs(environment.consumers, [manifest]) if n.place.account in known]
    reasons = create_grants(ledger, environment, catalog, wanted)
    targets = {target.place: target for target in environment.targets}
    failures: dict[str, str] = {}
    required = []
    for need, reason in reasons.items():
        target = targets.get(need.place)
        label = target.label if target is not None else str(need.place)
        failures[label] = f"{need}: {reason}"
        if target is None or target.required:
            required.append(label)
    if required:
        raise TargetsFailed(
            f"nothing was published: consumers cannot use the keys of {', '.join(sorted(set(required)))}",
            failures=failures,
            hint="A service-linked role must exist before a grant names it (`aws iam create-service-linked-role`). The "
            f"images are kept. Remove the cause; then {step('resume')} publishes them.",
        )
    return failures


def create_grants(ledger: Ledger, environment: Environment, catalog: str, wanted: Iterable[Need]) -> dict[Need, str]:
    """Create grants of consumers. Returns the reasons of those that failed.

    A grant of another account's key is refused until the grant of the consumer's account is effective, which takes some
    minutes at most ("Grants in KMS", eventual consistency). It is tried again until then.
    """
    every = list(wanted)
    failed = dict(
        each([n for n in every if n.owner == n.place], lambda n: _grant(ledger, environment, catalog, n)).errors
    )
    left = [n for n in every if n.owner != n.place]
    for pause in (*_PAUSES, None):
        answers = each(left, lambda n: _grant(ledger, environment, catalog, n))
        left = [need for need, error in answers.errors.items() if isinstance(error, AccessError)]
        if pause is None or not left:
            failed.update(answers.errors)
            break
        failed.update({need: error for need, error in answers.errors.items() if need not in left})
        ledger.cloud.sleep(pause)
    return {need: error.message for need, error in failed.items()}


def _grant(ledger: Ledger, environment: Environment, catalog: str, need: Need) -> None:
    if kms.manager(ledger.cloud, need.place, need.key) == "AWS":
        return  # every principal of the account may use the AWS managed key of EBS
    request = {
        "KeyId": need.key,
        "GranteePrincipal": need.principal,
        "Operations": sorted(kms.CONSUMER_OPERATIONS),
        "Name": grant_name(catalog, environment.name, need.principal),
    }
    # Not a resource of the build: another release may need the same grant, so a clean-up must not revoke it.
    ledger.change(
        f"consumer/{need}", need.place, Call("kms", "CreateGrant", request), resource=need.key, kind="permission"
    )


def apply(
    environment: Environment, catalog: Catalog, *, cloud: Cloud | None = None, emit_to: Emit = ignore_events
) -> tuple[Survey, dict[str, str]]:
    """Create the missing grants of all live releases, and revoke the surplus ones.

    Returns the state before, and the failures: what -> reason. A second run changes nothing.
    """
    cloud = cloud or Cloud.of(environment)
    cloud.check_caller()
    before = survey(cloud, environment, catalog)
    if not before.missing and not before.surplus:
        return before, {}
    arguments = {"grants": len(before.missing), "revoked": len(before.surplus)}
    with task.run(environment, KIND, arguments, cloud=cloud, emit_to=emit_to) as job:
        identity = catalog.ensure_identity()
        created = create_grants(job.ledger, environment, identity, before.missing)
        revoked = each(before.surplus, lambda one: job.ledger.delete("grant", one[0], one[2], parent=one[1]))
    failures = {str(need): reason for need, reason in created.items()}
    failures |= {f"{principal} on {key}": reason for (_, key, _, principal), reason in revoked.reasons.items()}
    return before, failures


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Decides which grants of consumers no live release needs. ``prefix``: how their names begin; None: there are
    none."""

    prefix: str | None
    wanted: frozenset[tuple[str, str]]  # key, principal

    def contains(self, key: str, grant: Mapping[str, Any]) -> bool:
        """Return whether this is a consumer's grant that no live release needs."""
        if self.prefix is None or not str(grant.get("Name", "")).startswith(self.prefix):
            return False
        return (key, str(grant["GranteePrincipal"])) not in self.wanted


def unneeded(environment: Environment, catalog: Catalog, gone: ImageManifest) -> Unneeded:
    """Return which grants end with a release. Raises CatalogError if another release cannot be read, since its needs
    are not known then."""
    identity = catalog.identity()
    if identity is None:
        return Unneeded(None, frozenset())
    others = [m for m in live(catalog) if (m.recipe, m.version) != (gone.recipe, gone.version)]
    wanted = frozenset((need.key, need.principal) for need in needs(environment.consumers, others))
    return Unneeded(grant_prefix(identity, environment.name), wanted)


# --- for people of other accounts -------------------------------------------------------------------------------------


def instructions(found: Survey, environment: Environment, catalog: str) -> list[str]:
    """Return what must be done in accounts that goldenami cannot use, as lines to read and to paste."""
    lines: list[str] = []
    for account in sorted({need.place.account for need in found.others}):
        lines.append(f"# With credentials of account {account}, which need kms:CreateGrant:")
        for need in (n for n in found.others if n.place.account == account):
            lines.append(grant_command(need, grant_name(catalog, environment.name, need.principal)))
    for arn, keys in found.organizations.items():
        lines.append(f"# {arn} can launch the images, but not copy them: snapshots are shared with accounts only.")
        lines.append("# Its accounts use the keys only if this statement is in the policy of each of these keys:")
        lines += [f"#   {key}" for key in keys]
        lines += json.dumps(policy_statement(arn), indent=2).splitlines()
    return lines


def grant_command(need: Need, name: str) -> str:
    """Return the command that creates a grant, for a shell."""
    operations = " ".join(sorted(kms.CONSUMER_OPERATIONS))
    return (
        f"aws kms create-grant --region {need.place.region} --key-id {need.key} "
        f"--grantee-principal {need.principal} --name {name} --operations {operations}"
    )


def policy_statement(arn: str) -> dict[str, Any]:
    """Return the statement of a key policy that lets an organization or an organizational unit use the key ("Allow
    organizations and OUs to use a KMS key", EC2 user guide)."""
    kind, *rest = arn.split(":", 5)[-1].split("/")
    organization = rest[0]
    condition: dict[str, Any] = {"StringEquals": {"aws:PrincipalOrgID": organization}}
    if kind == "ou":
        path = f"{organization}/*/{rest[1]}/*"
        condition["ForAnyValue:StringLike"] = {"aws:PrincipalOrgPaths": [path]}
    return {
        "Sid": "AllowLaunchesOf" + "".join(c for c in rest[-1] if c.isalnum()),
        "Effect": "Allow",
        "Principal": "*",
        "Action": [
            "kms:DescribeKey",
            "kms:Decrypt",
            "kms:ReEncrypt*",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:CreateGrant",
        ],
        "Resource": "*",
        "Condition": condition,
    }


def rows(found: Survey) -> Sequence[tuple[str, Need]]:
    """Return every need with the state of its grant, sorted."""
    states: Mapping[str, Collection[Need]] = {
        "granted": found.present,
        "missing": found.missing,
        "not needed": found.implied,
        "outside": found.others,
    }
    return sorted(((state, need) for state, every in states.items() for need in every), key=lambda row: row[1])
