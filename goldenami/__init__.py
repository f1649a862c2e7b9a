"""goldenami: tested, encrypted, distributed machine images from declarative recipes."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("goldenami")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0+unknown"
