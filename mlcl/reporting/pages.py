"""Self-contained HTML pages from the templates in `templates/`, which share style, scripts and parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from mlcl.reporting.visible import visible


def render(template: str, content: Mapping[str, Any]) -> str:
    """The page. A name that the template uses and `content` lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlcl.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.finalize = _finalize
    return environment.get_template(template).render(content)


def _finalize(value: Any) -> Any:
    """Texts of others without control characters; markup of our own as it is."""
    return visible(value) if type(value) is str else value
