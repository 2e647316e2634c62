"""Sphinx configuration: build with `sphinx-build docs build/docs` (sphinx, furo, myst-parser)."""

project = "pytest-agentlimit"
author = "The pytest-agentlimit developers"
extensions = ["myst_parser"]
html_theme = "furo"
myst_heading_anchors = 3
exclude_patterns = ["_build"]
