"""`mlcl new`: a commented file to start from, which runs as it stands."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Literal

from mlcl.errors import MlclError

Kind = Literal["study", "loss", "dataset"]
TEMPLATES: dict[Kind, dict[str, str]] = {
    "study": {"study.yaml": "{name}.yaml"},
    "loss": {"loss.py.txt": "{name}.py"},
    "dataset": {"dataset.csv": "{name}.csv", "dataset.yaml": "{name}.yaml"},
}
"""kind -> template in `mlcl/templates` -> the file that is made of it."""


def write_new(kind: Kind, name: str, folder: Path) -> list[Path]:
    """Writes the files of a new study, loss or dataset; returns them. Raises MlclError for a name that cannot be a
    file's or a class's, and for a file that is there already: nothing is written then."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise MlclError(
            f"{name}: a name starts with a letter and has lower-case letters, digits and '_' only"
        )
    written = {template: folder / file.format(name=name) for template, file in TEMPLATES[kind].items()}
    if there := [file for file in written.values() if file.exists()]:
        raise MlclError(f"{there[0]}: is there already; take another name, or remove it")
    words = {
        "name": name,
        "file": next(str(file) for file in written.values() if file.suffix != ".csv"),
        "folder": json.dumps(str(folder.resolve())),  # a quoted YAML text
        "title": name.replace("_", " ").capitalize(),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for template, file in written.items():
        text = files("mlcl").joinpath("templates", template).read_text(encoding="utf-8")
        file.write_text(text if file.suffix == ".csv" else text.format(**words), encoding="utf-8")
    return list(written.values())
