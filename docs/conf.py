"""Configuration of the documentation site: `make docs` builds it into build/site."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from goldenami import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# With Python's own thresholds, the collector takes a fifth of the build: a document is a million small objects.
gc.set_threshold(50_000, 20, 50)

project = "goldenami"
copyright = "the goldenami authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "generated"]
exclude_patterns = ["_ext"]
smartquotes = False  # commands in the help are copied as they are
default_role = "code"  # `name` in docstrings and in the help of commands

# Markdown as GitLab shows it: headings are link targets, and tables and bare addresses work.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}

# Everything comes from the site itself: no fonts, scripts or pictures of other hosts.
html_theme = "furo"
html_title = f"goldenami {release}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
