"""Ways in which a stored file can be damaged, drawn at random."""

from __future__ import annotations

import random
import re
from pathlib import Path

KINDS = ("bit", "cut", "emptied", "edited", "swapped", "noise")


def damage(file: Path, others: list[Path], draw: random.Random) -> str:
    """Damages the file in one way and says in which. `others` are files of the same name to swap it with.

    Always leaves other bytes than before. `edited` changes one digit of a text file, as by hand.
    """
    before = file.read_bytes()
    for kind in draw.sample(KINDS, len(KINDS)):
        after = _damaged(kind, before, others, draw)
        if after is not None and after != before:
            file.write_bytes(after)
            return kind
    raise AssertionError(f"{file}: could not be damaged")


def _damaged(kind: str, before: bytes, others: list[Path], draw: random.Random) -> bytes | None:
    """None where the kind does not suit the file."""
    if kind == "emptied":
        return b""
    if kind == "swapped":
        return draw.choice(others).read_bytes() if others else None
    if not before:
        return None
    place = draw.randrange(len(before))
    if kind == "bit":
        return before[:place] + bytes([before[place] ^ 1 << draw.randrange(8)]) + before[place + 1 :]
    if kind == "cut":
        return before[:place]
    if kind == "noise":
        return before[:place] + draw.randbytes(min(64, len(before) - place)) + before[place + 64 :]
    digits = [match.start() for match in re.finditer(rb"\d", before)]
    if b"\0" in before[:1000] or not digits:
        return None
    place = draw.choice(digits)
    return (
        before[:place]
        + str((int(chr(before[place])) + draw.randint(1, 9)) % 10).encode()
        + before[place + 1 :]
    )
