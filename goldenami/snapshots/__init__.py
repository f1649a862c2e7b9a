"""EBS snapshots and volumes on their own, without a recipe: one verb a page."""
