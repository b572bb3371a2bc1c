"""Builds the documentation: ``sphinx-build -W -b html docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from figures import FIGURES

from alarm_mw.model.version import VERSION

project = "alarm_mw"
copyright = "the authors of alarm_mw"  # noqa: A001  # Sphinx's name
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "measured", "reference", "servers", "ways"]
exclude_patterns = ["_build", "_ext", "_static"]

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3
myst_substitutions = FIGURES

default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"

html_theme = "furo"
html_title = f"alarm_mw {version}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["wide.css"]
