"""Checks of keys: those of KMS exist, and who copies and launches may use them; and the key that signs can sign."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws import kms
from goldenami.errors import NotFound, UsageError
from goldenami.model import KmsSigningKey, Place, Target
from goldenami.preflight.context import Context, for_each_target
from goldenami.preflight.finding import Finding, from_error
from goldenami.release import targets as modes


def check_keys(context: Context) -> Iterator[Finding]:
    """The key of each target exists in its region, can encrypt snapshots, and its account's role may use it."""
    owning = [target for target in context.reachable if modes.get_mode(target).owns_image]

    def check(target: Target) -> Iterator[Finding]:
        arn = (context.keys or {}).get(target.label) or kms.resolve(context.cloud, target.place, target.kms_key).arn
        denied = kms.denied_use(context.cloud, target.place, arn)
        # Nobody may use the AWS managed key of EBS directly; EC2 may use it for every principal of the account.
        if denied and kms.manager(context.cloud, target.place, arn) != "AWS":
            yield Finding(
                "key",
                context.level(target),
                f"the role of account {target.account.name} may not encrypt with {target.kms_key}: {denied}",
                f"Allow kms:GenerateDataKeyWithoutPlaintext in the policy of the key {arn}.",
                target.place,
                context.mark("targets", target.label, "kms_key"),
                4,
            )

    yield from for_each_target(context, "key", check, owning)


def check_signing_key(context: Context) -> Iterator[Finding]:
    """The key that signs statements can be read or used, and verifiers of the environment trust it."""
    signing = context.environment.signing
    if signing is None or signing.key is None or not context.home_answers:
        return
    from goldenami.evidence import signing_keys  # here, because it loads cryptography, and few builds sign

    mark = context.mark("signing", "key")
    try:
        signer = signing_keys.open_signer(signing, context.cloud)
        trusted = signing_keys.trusted_keys(signing, context.cloud) if signing.trusted else {}
    except (NotFound, UsageError) as error:
        yield from_error("signing-key", error, mark=mark)
        return
    if isinstance(signing.key, KmsSigningKey):
        key, place = signing.key.key, Place(context.environment.home.id, signing.key.region)
        if denied := kms.denied_signing(context.cloud, place, key):
            hint = f"Allow kms:Sign in the policy of the key {key}, and in the policy of the role."
            message = f"the role of the home account may not sign with {key}: {denied}"
            yield Finding("signing-key", "error", message, hint, place, mark, 4)
    if signer is not None and trusted and signer.public not in trusted.values():
        listed = ", ".join(trusted)
        yield Finding(
            "signing-key",
            "error" if signing.required else "warning",
            f"the key that signs ({signer.public.id[:16]}…) is none of the trusted keys, {listed}",
            "Add its public half to signing.trusted, or set signing.key to a private key of them.",
            mark=context.mark("signing", "trusted"),
            exit_code=2,
        )
