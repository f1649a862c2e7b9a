"""The catalog as a static site, for people who use images: ``goldenami site build``.

``gather`` reads the catalog into the facts of each page; ``write`` renders them into a folder. The site needs no server
and makes no request: it works from file://, with one style sheet and one script of its own.
"""

from goldenami.site.gather import Site, gather
from goldenami.site.write import write

__all__ = ["Site", "gather", "write"]
