"""goldenami: tested, encrypted, distributed machine images from declarative recipes."""

# The version of both distributions: pyproject.toml and sandbox/pyproject.toml read it from here.
__version__ = "0.2.0"
