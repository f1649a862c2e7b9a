"""Operations on EBS snapshots and volumes, independent of recipes. Most modules implement one command."""
