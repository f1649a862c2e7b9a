"""Snapshots on a schedule: when they are due (``timing``, ``calendar``), what a schedule says (``policy``), what is
kept (``retention``), which runs were missed (``due``). All of that is pure; ``run`` is what acts.

    policy ── calendar: the moments ──→ due: the slots that lack a snapshot ──→ run: make them, copy them, share them
       └───── retention: keep or delete, and the rule that decided ───────────→ run: delete
"""
