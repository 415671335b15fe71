"""Builds the documents with Sphinx and MyST; the same files read well as plain Markdown."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "edge_opcua"
author = "The edge_opcua maintainers"
copyright = "2026, The edge_opcua maintainers"  # noqa: A001 - Sphinx names it so
release = version = installed_version("edge-opcua")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build", "generate.py"]
nitpicky = True

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
# Links to files of the repository (../../examples, ../../CONTRIBUTING.md) leave the documents on purpose.
suppress_warnings = ["myst.xref_missing"]

html_theme = "alabaster"
html_theme_options = {"description": "PLC data in, model verdicts out, over OPC UA", "page_width": "70rem"}
