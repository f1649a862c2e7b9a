"""Schedules that Amazon Data Lifecycle Manager (DLM) runs, instead of ``goldenami schedule run``.

- ``express`` converts a schedule to PolicyDetails, or returns the reasons why DLM cannot run it. Pure.
- ``sync`` compares schedules with the existing policies, and applies the differences.
- ``imports`` converts existing policies to schedules for goldenami.yaml. Pure.
"""
