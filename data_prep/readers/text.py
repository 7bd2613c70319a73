"""Cleaning of texts."""

import re
import unicodedata
from typing import Literal

Cleaning = Literal["plain", "comprehensive"]

SPACES = re.compile(r"\s+")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
REPLACED_IN_COMPREHENSIVE = re.compile(r"[^A-Za-z0-9(),!?'`.]")


def clean(text: str, how: Cleaning) -> str:
    """`plain`: Unicode NFC, no control characters, single spaces.

    `comprehensive`: as in the code of the comprehensive study (arXiv 2412.00101): only the characters A-Z a-z 0-9
    ( ) , ! ? ' ` . are kept, in lower case, with single spaces.
    """
    if how == "comprehensive":
        text = REPLACED_IN_COMPREHENSIVE.sub(" ", text).lower()
    else:
        text = CONTROLS.sub(" ", unicodedata.normalize("NFC", text))
    return SPACES.sub(" ", text).strip()
