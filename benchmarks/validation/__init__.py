"""Validation, measured: a hundred usual checks of one host, against one script that gathers what they ask for."""
