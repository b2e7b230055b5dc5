"""Build the site: ``sphinx-build -W -n docs site``; it needs no other host."""

from importlib.metadata import version as version_of
from typing import Any

from docutils.nodes import TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "async-goc"
author = "the async-goc developers"
copyright = author  # noqa: A001 - Sphinx's own name
release = version = version_of(project)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]

# Headings have the anchors that they have where the pages are read as plain Markdown.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Defaults": "Defaults", "Factory": "Factory"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Other projects' names, which only their own sites know.
nitpick_ignore_regex = [
    ("py:.*", r"(asyncio|collections|contextlib|dataclasses|datetime|typing)\..*"),
    ("py:.*", r"(opentelemetry|prometheus_client|sqlalchemy|AsyncSession)\..*"),
    ("py:class", r"(.*\.)?(T|R|S|Ts|ForUpdateArg|Defaults|Factory)"),
    # Overloads are shown as they are written, without the modules of their names.
    (
        "py:class",
        r"Async(Session|Engine)|AbstractAsyncContextManager|async_sessionmaker",
    ),
    # What two of ours have in common, and nobody is to catch.
    ("py:class", r"async_goc\.exceptions\.(documented|errors)\..*"),
]

html_theme = "furo"
html_favicon = "icon.svg"
html_title = f"async-goc {release}"
html_copy_source = False
html_show_sphinx = False
# The theme's own one underlines what is no link.
pygments_dark_style = "github-dark"
html_theme_options = {"navigation_with_keys": True}


def find_public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement
) -> Any:
    """Find what a docstring names without its module, or by the one it is made in."""
    name = node["reftarget"].rpartition(".")[2]
    domain = env.domains.python_domain
    for place in ("async_goc", "async_goc.exceptions"):
        if f"{place}.{name}" in domain.objects:
            node["reftarget"] = f"{place}.{name}"
            found = (env, node["refdoc"], app.builder, "obj", node["reftarget"])
            return domain.resolve_xref(*found, node, text)
    return None


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", find_public)
