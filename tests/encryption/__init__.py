"""Accounts that encrypt every new volume."""
