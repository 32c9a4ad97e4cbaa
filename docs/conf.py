"""Sphinx configuration. Nothing here needs the network: `make docs` works offline once its packages are installed."""

from importlib.metadata import version as version_of

from dicomnet.cli.program import COMMANDS

project = "dicomnet"
author = "the dicomnet authors"
project_copyright = "2026, the dicomnet authors"
release = version = version_of("dicomnet")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]  # "Association" in a signature is that of either face, and leads to one of them

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"dicomnet {release}"

# Manual pages: page, name, what stands beside the name, authors, section.
man_pages = [
    ("reference/command-line", "dicomnet", "move DICOM instances over the network", "", 1),
    *(
        (f"reference/commands/{name}", f"dicomnet-{name}", text[0].lower() + text[1:].rstrip("."), "", 1)
        for name, text in COMMANDS.items()
    ),
    ("reference/dicomnet-toml", "dicomnet.toml", "names for peers, and how to call them", "", 5),
]
