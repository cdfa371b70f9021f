"""Settings of the site, which `sphinx-build -W -b html docs build/site` makes.

The build needs no network. `extensions/generated_pages.py` writes the pages that follow
from the package, and copies the notebooks.
"""

import pathlib
import sys

import rpn_jax

sys.path.insert(0, str(pathlib.Path(__file__).parent / "extensions"))

project = "rpn_jax"
author = "The rpn_jax authors"
release = rpn_jax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "breaks_in_names",
    "generated_pages",
    "names_in_docstrings",
]
exclude_patterns = ["generated"]

# Markdown: headings are targets of links, and notebooks show the outputs they hold.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"

# Every link must resolve. Types in signatures, and code in single backticks that names
# nothing public, are shown without a link.
nitpicky = True
nitpick_ignore_regex = [("py:(class|data)", ".*"), ("py:obj", r"(?!rpn_jax\.).*")]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autoclass_content = "both"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 72
default_role = "name"

html_theme = "furo"
html_show_copyright = False
pygments_dark_style = "github-dark"
html_title = f"rpn_jax {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b57d0"},
    "dark_css_variables": {"color-brand-primary": "#8ab4f8"},
}
