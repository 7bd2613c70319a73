"""BibTeX entries by key: those of `references.bib`, in which losses, sources and encoders name theirs, and others."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from mlcl.errors import ConfigError
from mlcl.suggest import closest

SUITE = "mlcl"
"""The key of the suite's own entry."""
_ENTRY = re.compile(r"^@\w+\{([^\s,{}]+),\n.*?^\}$", re.MULTILINE | re.DOTALL)


@cache
def entries() -> dict[str, str]:
    """key -> entry, as it is printed: ASCII, closed by a `}` in a line of its own."""
    text = files("mlcl.study").joinpath("references.bib").read_text(encoding="ascii")
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


def entry(citation: str, where: str) -> tuple[str, str]:
    """Key and entry of a key of `references.bib`, or of a text that is an entry itself.

    Raises ConfigError, which names `where`, for what is neither.
    """
    if not citation.lstrip().startswith("@"):
        if citation not in entries():
            raise ConfigError(
                f"{where}: '{citation}' is no key of mlcl/study/references.bib; {closest(citation, entries())}, or "
                "give the BibTeX entry itself"
            )
        return citation, entries()[citation]
    text = citation.strip()
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{where}: is no BibTeX entry: '@misc{{key,', a line for each field, and '}}' in a line alone"
        )
    return match[1], text
