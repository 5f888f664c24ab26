"""The site: `make docs` builds it into build/site."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ.setdefault("KERAS_BACKEND", "jax")

import recurra

project = "Recurra"
author = "The Recurra developers"
copyright = "The Recurra developers"
version = release = recurra.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "cells",
    "docstrings",
    "live_report",
    "repository",
]
exclude_patterns = ["_ext", "_static"]
templates_path: list[str] = []

# --- Markdown ---
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]

# --- Docstrings: see _ext/docstrings.py ---
default_role = "py:code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Lists that take several names at once, and "Returns" as text: napoleon would take what stands
# before the first colon for a type.
napoleon_use_param = False
napoleon_custom_sections = [
    "Returns",
    "Yields",
    ("Attributes", "params_style"),
    ("Call arguments", "params_style"),
]
python_display_short_literal_types = True
add_module_names = False
nitpicky = False

# --- The look ---
# Dashes, but no curly quotes: strings in the text are code.
smartquotes_action = "D"
html_theme = "furo"
html_title = "Recurra"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
# The summaries would be fetched, which browsers refuse where the site is read from files.
html_show_search_summary = False
html_show_copyright = False
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {
        "color-brand-primary": "#7a3b00",
        "color-brand-content": "#0b6a8c",
        "code-font-size": "78%",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
    },
    "dark_css_variables": {
        "color-brand-primary": "#f0a860",
        "color-brand-content": "#5cc3e6",
    },
}
