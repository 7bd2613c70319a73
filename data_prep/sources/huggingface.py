"""A dataset of the `datasets` library: an id on the hub, or a directory that `save_to_disk` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_prep.errors import DataError, closest
from data_prep.readers.images import OnDamaged, Picture, add_pictures
from data_prep.readers.label_cells import LabelColumn
from data_prep.readers.labels import normal_form
from data_prep.readers.tables import as_text
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, Modality, RawPaths, Source
from data_prep.sources._own import (
    ALL,
    SPLIT_NAMES,
    OwnSettings,
    final_splits,
    is_set,
    own_about,
    own_files,
    refuse_unused,
)

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter


class HuggingFaceSettings(OwnSettings):
    """Which dataset, and what its columns mean."""

    path: str = Field(default="", description="a directory that save_to_disk wrote")
    name: str = Field(default="", description="or: an id on the hub")
    config: str = Field(default="", description="the configuration, where there are several")
    revision: str = Field(default="", description="a commit of the dataset on the hub; fixes its content")
    text: str = Field(default="text", description="the column with the text")
    image: str = Field(default="", description="or: the column with the image")
    labels: str = Field(
        default="labels",
        description="the column with the row's labels: class numbers, names, or a 0/1 vector",
    )
    label_names: list[str] = Field(
        default=[],
        description="names of a vector's positions, or all labels there may be; a ClassLabel has its own",
    )
    label_columns: list[str] = Field(default=[], description="or: a column of 0 and 1 for each label")
    separator: str = Field(default=",", min_length=1, description="between the labels of a text")
    na_values: list[str] = Field(default=[], description="values that stand for no label, -1 say")
    id: str = Field(default="", description="column of row ids; without it rows are numbered")
    cleaning: Cleaning = Field(
        default="plain", description="of the text: plain, or comprehensive (ASCII, lower case)"
    )
    size: int = Field(default=224, ge=8, le=1024, description="height and width of the stored images")
    on_damaged: OnDamaged = Field(
        default="error", description="images that are missing or damaged: an error, or left out and counted"
    )


def about(settings: HuggingFaceSettings) -> About:
    """Title and home, as far as settings tell; raises DataError unless exactly one of path and name is given."""
    if bool(settings.path) == bool(settings.name):
        raise DataError("huggingface: say either path (a saved directory) or name (an id on the hub)")
    if settings.name and not settings.revision:
        raise DataError(
            "huggingface: name needs revision, a commit of the dataset on the hub: its content may change"
        )
    return own_about(settings, settings.path or settings.name)


def modality(settings: HuggingFaceSettings) -> Modality:
    """Images where a column of them is named, else texts. Raises DataError for settings without an effect."""
    if settings.path:
        refuse_unused(settings, ("config", "revision"), "it belongs to name, and path is given")
    if settings.label_columns:
        refuse_unused(settings, ("labels", "label_names", "separator"), "label_columns is set")
    if settings.image:
        refuse_unused(settings, ("text", "cleaning"), "it is of texts, and image is set")
        return "image"
    refuse_unused(settings, ("size", "on_damaged"), "it is of images, and the rows are texts")
    return "text"


def prepare(settings: HuggingFaceSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the dataset's splits; what is missing is drawn from train."""
    parts = _load(settings, raw.get(settings.path))
    names, labels = _labels(settings, parts, writer)
    writer.labels(names)
    given = [part for part, rows in parts.items() for _ in range(len(rows))]
    splits = final_splits(settings, given, labels, writer)
    if settings.image:
        add_pictures(writer, _pictures(settings, parts, splits, labels), settings.size, settings.on_damaged)
        return
    for split, row_labels, (where, row_id, row) in zip(splits, labels, _rows(settings, parts), strict=True):
        text = clean(as_text(row[settings.text], where, settings.text), settings.cleaning)
        writer.split(split).add(row_id, row_labels, text, where=where)


def _rows(settings: HuggingFaceSettings, parts: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each row with its place and id."""
    for part, rows in parts.items():
        for number, row in enumerate(rows):
            where = f"{settings.path or settings.name}:{part}:{number}"
            row_id = as_text(row[settings.id], where, settings.id) if settings.id else f"{part}-{number}"
            if not row_id:
                raise DataError(f"{where}: the id (column {settings.id!r}) is missing")
            yield where, row_id, row


def _labels(
    settings: HuggingFaceSettings, parts: dict[str, Any], writer: DatasetWriter
) -> tuple[list[str], list[tuple[str, ...]]]:
    """The label names, and those of each row."""
    for part, rows in parts.items():
        writer.read(Path(f"{settings.path or settings.name}:{part}"), len(rows))
    source = settings.path or settings.name
    if settings.label_columns:
        columns = {part: rows.select_columns(settings.label_columns) for part, rows in parts.items()}
        found = []
        for part, rows in columns.items():
            for number, row in enumerate(rows):
                found.append(_set_columns(settings, row, f"{source}:{part}:{number}"))
        return settings.label_columns, found
    classes = _class_names(settings, parts)
    if classes and settings.label_names:
        raise DataError(
            f"huggingface: label_names has no effect: column {settings.labels!r} names its classes"
        )
    column = LabelColumn(
        settings.labels,
        settings.separator,
        classes or settings.label_names,
        "label_names",
        settings.na_values,
        class_numbers=bool(classes),
    )
    cells = [
        (f"{source}:{part}:{number}", value)
        for part, rows in parts.items()
        for number, value in enumerate(rows[settings.labels])
    ]
    for where, value in cells:
        column.observe(value, where)
    names = column.decide()
    for warning in column.warnings:
        writer.warn(warning)
    one_of = {name: name for name in names}
    return names, [tuple(one_of.get(n, n) for n in column.labels(value, where)) for where, value in cells]


def _set_columns(settings: HuggingFaceSettings, row: dict[str, Any], where: str) -> tuple[str, ...]:
    labels = []
    for name in settings.label_columns:
        there = is_set(row[name], name, where, settings.na_values)
        if there is None:
            raise DataError(f"{where}: column {name!r} has no value, expected 0 or 1")
        if there:
            labels.append(name)
    return tuple(labels)


def _pictures(
    settings: HuggingFaceSettings, parts: dict[str, Any], splits: list[str], labels: list[tuple[str, ...]]
) -> Iterator[Picture]:
    rows = _rows(settings, parts)
    for split, row_labels, (where, row_id, row) in zip(splits, labels, rows, strict=True):
        image = row[settings.image]
        content = image.get("bytes") if isinstance(image, dict) else image
        problem = ""
        if not isinstance(content, bytes):
            # A path may lead anywhere on this machine; save_to_disk embeds the content.
            problem = f"{where}: column {settings.image!r} holds no image content (bytes)"
            content = b""
        yield Picture(split, row_id, row_labels, content, where, problem)


def _load(settings: HuggingFaceSettings, path: Path | None) -> dict[str, Any]:
    """Split (`all` where there is only one, `train` where the test is given) -> rows."""
    import datasets
    import pyarrow

    try:
        if path is not None:
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(settings.name, settings.config or None, revision=settings.revision)
        for rows in loaded.values() if isinstance(loaded, dict) else (loaded,):
            rows.data.validate(full=True)  # a damaged file leads the library out of its memory
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        pyarrow.ArrowException,
        datasets.exceptions.DatasetsError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"huggingface {settings.path or settings.name}: cannot be loaded ({reason})"
        ) from None
    if isinstance(loaded, datasets.Dataset):
        loaded = {ALL: loaded}
    parts: dict[str, Any] = {}
    for name, rows in loaded.items():
        split = ALL if name == ALL else SPLIT_NAMES.get(str(name).lower())
        if split is None:
            raise DataError(f"huggingface: unknown split {name!r}: {closest(str(name), SPLIT_NAMES)}")
        if split in parts:
            raise DataError(f"huggingface: two splits mean {split}: {', '.join(loaded)}")
        parts[split] = rows
    if set(parts) == {"train"}:
        parts = {ALL: parts["train"]}
    if set(parts) != {ALL} and not {"train", "test"} <= set(parts):
        raise DataError(f"huggingface: the splits {', '.join(parts)} lack train or test")
    return {name: _with_columns(settings, rows) for name, rows in parts.items()}


def _with_columns(settings: HuggingFaceSettings, rows: Any) -> Any:
    """The rows with those columns that are read. Raises DataError for one that is not there."""
    import datasets

    content = settings.image or settings.text
    wanted = [
        content,
        *(settings.label_columns or [settings.labels]),
        *([settings.id] if settings.id else []),
    ]
    for column in wanted:
        if column not in rows.column_names:
            raise DataError(
                f"huggingface: there is no column {column!r}: {closest(column, rows.column_names)}"
            )
    rows = rows.with_format(None).select_columns(list(dict.fromkeys(wanted)))
    if settings.image and isinstance(rows.features[settings.image], datasets.Image):
        rows = rows.cast_column(settings.image, datasets.Image(decode=False))
    return rows


def _class_names(settings: HuggingFaceSettings, parts: dict[str, Any]) -> list[str]:
    """The class names that the column declares; none where it holds plain values. All splits must agree."""
    named = {}
    for part, rows in parts.items():
        feature = rows.features[settings.labels]
        named[part] = list(getattr(getattr(feature, "feature", feature), "names", None) or [])
    first = next(iter(named.values()))
    for part, names in named.items():
        if names != first:
            different = min({*map(normal_form, names)} ^ {*map(normal_form, first)}, default="their order")
            raise DataError(
                f"huggingface: the classes of column {settings.labels!r} differ between the splits "
                f"{next(iter(named))} and {part}: {different}"
            )
    return first


SOURCE = Source(
    about=about,
    modality=modality,
    settings=HuggingFaceSettings,
    files=lambda settings: own_files(settings.path),
    folder=lambda settings: "",
    prepare=prepare,
)
