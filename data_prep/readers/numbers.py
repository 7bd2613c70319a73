"""Numbers in texts."""

import math


def finite(text: str) -> float | None:
    """The number that a text says; None for one that says none, or none that is finite.

    True and False, as booleans become texts, are 1 and 0. Underscores, which Python allows between digits, are not.
    """
    word = text.strip()
    if word in ("True", "False"):
        return float(word == "True")
    if "_" in word:
        return None
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
