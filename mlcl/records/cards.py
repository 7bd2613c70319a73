"""Copies of datasets' cards beside the records: `results/<study>/<dataset>/card.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlcl.digests import is_sealed
from mlcl.errors import RecordError

CARD_AGAIN = "copy the card of the prepared dataset there, or remove it and run the study"


def read_card(file: Path) -> dict[str, Any] | None:
    """The card; None if there is none. Raises RecordError if it is not what was written when the dataset was made."""
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        card = None
    if not is_sealed(card):
        raise RecordError(
            f"{file}: is not what was written (no card of a dataset, or its seal does not fit); {CARD_AGAIN}"
        )
    return dict(card)
