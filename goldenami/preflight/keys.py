"""Checks of KMS keys: they exist, and those who copy and launch may use them."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws import kms
from goldenami.model import Target
from goldenami.preflight.context import Context, for_each_target
from goldenami.preflight.finding import Finding
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
