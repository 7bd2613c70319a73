"""Cleaning of texts."""

import re
import unicodedata
from typing import Literal

Cleaning = Literal["plain", "r1"]

SPACES = re.compile(r"\s+")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
NOT_KEPT_IN_R1 = re.compile(r"[^A-Za-z0-9(),!?'`.]")


def clean(text: str, how: Cleaning) -> str:
    """`plain`: Unicode NFC, no control characters, single spaces. `r1`: as the comprehensive study's code does,
    only the characters A-Z a-z 0-9 ( ) , ! ? ' ` . are kept, in lower case, with single spaces."""
    if how == "r1":
        text = NOT_KEPT_IN_R1.sub(" ", text).lower()
    else:
        text = CONTROLS.sub(" ", unicodedata.normalize("NFC", text))
    return SPACES.sub(" ", text).strip()
