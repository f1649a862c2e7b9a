"""Snapshots on a schedule.

``policy`` defines the schedule, ``timing`` and ``calendar`` compute its times, ``due`` finds the slots without a
snapshot, and ``retention`` decides which snapshots are kept. These modules are pure. ``run`` makes the API calls::

    policy ── calendar: times ──────────────→ due: slots without a snapshot ──→ run: create, copy, share
       └───── retention: keep or delete, with the rule as the reason ─────────→ run: delete
"""
