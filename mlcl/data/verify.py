"""Is a prepared dataset, with the tokens and features stored in it, what was written?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from data_prep import DataError
from mlcl.data.dataset import open_dataset
from mlcl.digests import first_defect, hashing_all, is_sealed

MANIFESTS = ("tokens/*/spec.json", "features/*/digests.json")
"""Files that hold the digests of those beside them."""


def defects(folder: Path) -> Iterator[str]:
    """One line, which begins with the file, for all that is not what was written; hashes every file."""
    with hashing_all():
        try:
            open_dataset(folder)
        except DataError as error:
            yield str(error)
        for manifest in sorted(path for pattern in MANIFESTS for path in folder.glob(pattern)):
            try:
                content = json.loads(manifest.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                content = None
            if not is_sealed(content):
                yield f"{manifest}: is not what was written (its seal does not fit); it is made again when it is needed"
            elif defect := first_defect(manifest.parent, content["files"]):
                yield f"{defect}; it is made again when it is needed"
