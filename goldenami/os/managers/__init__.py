"""Package managers, which several operating systems share: one module for each, with a file of shell functions."""
