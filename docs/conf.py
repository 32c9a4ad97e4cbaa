"""Sphinx configuration. Nothing here needs the network: `make docs` works offline once its packages are installed."""

from importlib.metadata import version as version_of

project = "dicomnet"
author = "the dicomnet authors"
project_copyright = "2026, the dicomnet authors"
release = version = version_of("dicomnet")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"dicomnet {release}"
