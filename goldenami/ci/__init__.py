"""Continuous integration: pipelines of GitLab that build recipes, and the notes that they write."""
