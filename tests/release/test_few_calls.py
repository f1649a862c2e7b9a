"""A build makes few calls, and none is throttled: counted on paper, in virtual time, with AWS's default limits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.distribution import CHANNEL, FORMER, OWNED, SHARED, Grid, run, run_again
from goldenami.agenda import SLEEPERS
from goldenami.each import AT_ONCE
from tests.worlds import events

GRID = Grid(regions=2, copies=1, shares=25)


def test_a_build_makes_few_calls(tmp_path: Path) -> None:
    with events.timed_world(tmp_path) as world:
        figures = run(world, GRID)
        again = run_again(world)
    shares = GRID.targets - GRID.owned
    stages = Counter[str]()
    for (stage, action), count in figures.calls.items():
        if action != "iam:SimulatePrincipalPolicy":  # beside the launch, and beside whatever follows
            stages[stage] += count
    # Images are read back when the last target that uses them has ended, so in the stage of the copies.
    verifying = OWNED["verify"] * GRID.owned + SHARED["verify"] * shares
    assert verifying <= stages["copy"] + stages.get("verify", 0) <= 12 * GRID.owned + 2 * shares + verifying
    assert figures.by(1).get("kms:ListGrants", 0) == 0, "the build has created the grants"
    # Most of the clean-up is beside the publication, and so in its stage.
    publishing = OWNED["publish"] * GRID.owned + SHARED["publish"] * shares
    assert stages["publish"] + stages.get("clean up", 0) <= publishing + 25
    # A candidate requires IMDSv2, and its copies inherit that. Others get permissions: its borrower, and the sharers.
    assert figures.calls["copy", "ec2:ModifyImageAttribute"] <= GRID.copies + GRID.regions
    # Each copy reads its own progress once, since it may have failed, and is described at its end. The first one reads
    # it twice, for all.
    assert figures.calls["copy", "ec2:DescribeSnapshots"] <= GRID.owned + 3
    # Each copy is described when it ends; the accounts that use images of others look at them.
    looks = figures.calls["copy", "ec2:DescribeImages"] + figures.calls["verify", "ec2:DescribeImages"]
    assert looks <= GRID.owned + 3 + shares
    assert figures.calls["plan", "ec2:DescribeInstanceTypes"] == 1, "the checks of types and of quotas share it"
    assert stages["capture"] <= 16
    assert stages["launch"] <= 8, "the first login ends the wait"
    assert again.calls["capture", "ec2:DescribeSnapshots"] <= 2, "the last build told how long that takes"
    described = ("copy", "ec2:DescribeImages")
    assert again.calls[described] <= figures.calls[described], "none is described before it has ended"
    # All of a place are read back together, and where an image lives, those of the version before.
    assert figures.calls["publish", "ssm:GetParameters"] == GRID.targets + GRID.owned
    assert again.by(1)["ssm:DescribeParameters"] <= GRID.targets + 1
    assert "ssm:ListTagsForResource" not in again.by(1), "whose parameters are is asked for all of a place at once"
    assert "iam:SimulatePrincipalPolicy" not in again.by(1), "the first build has asked today"
    assert again.count <= figures.count + CHANNEL * GRID.targets + FORMER * GRID.owned
    assert figures.count <= 1.05 * GRID.needed_calls
    assert figures.clients < 20, "the accounts of a region share their clients"
    assert figures.kinds < figures.clients, "the clients of a service share their methods"
    # How many threads there are at a time depends on the machine. How many there can be is a matter of their pools: a
    # thread for each target would be one more of a pool, or one with another name.
    assert 0 < figures.widest["each"] <= 2 * AT_ONCE, "a pool for many items has few threads"
    assert 0 < figures.pools["distribute"] <= AT_ONCE + SLEEPERS, "targets that use another one's image take no thread"
    others = {name: most for name, most in figures.pools.items() if name not in ("each", "distribute", "ec2")}
    assert all(most <= 2 for most in others.values()), others
    assert sum(others.values()) <= 6, others  # such as the server
    assert figures.throttled == 0
