"""Provisioning, measured: the same host and the same forty operations, by goldenami and by its peers."""
