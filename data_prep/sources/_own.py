"""What the kinds of the user's own data share: settings, splits, and labels and ids in columns of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_prep.errors import DataError, closest
from data_prep.format import SPLITS
from data_prep.readers.label_cells import LabelColumn
from data_prep.readers.labels import normal_form
from data_prep.readers.lines import lines
from data_prep.readers.splits import assign, assign_stratified
from data_prep.readers.tables import LongCell, Quoting, Row, Table, as_text, cell
from data_prep.source import About, RawFile, Settings
from data_prep.unknown_labels import OnMissingLabel

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

YES = {"1", "1.0", "true", "yes"}
NO = {"0", "0.0", "false", "no"}
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
TABLE_SETTINGS = (
    "label_columns",
    "label_list",
    "separator",
    "na_values",
    "on_missing_label",
    "id",
    "split",
    "delimiter",
    "quoting",
)
"""Settings that only data in a table uses."""
ALL = "all"
"""The split of a row for which none is given."""
UNUSED = ""
"""The split of a row that no list of a split names."""
Labels = tuple[str, ...]
ON_MISSING_LABEL = (
    "a label without a value (a blank cell, in ARFF ?): an error, a 0 (negative), a row that is left out (skip), or "
    "unknown, and left out of loss and metrics (ignore)"
)
ADVICE_ON_MISSING_LABEL = (
    "set on_missing_label: negative (it is 0), skip (leave the row out) or ignore (it is unknown, and left out of loss "
    "and metrics)"
)


class OwnSettings(Settings):
    """Splits and title; every path is absolute or relative to the data root."""

    title: str = Field(default="", description="what tables and cards call the dataset")
    val: float = Field(
        default=0.1, gt=0, lt=1, description="share of rows for validation, where none is given"
    )
    test: float = Field(
        default=0.2, gt=0, lt=1, description="share of rows for the test, where none is given"
    )
    seed: int = Field(default=0, ge=0, description="which rows, where splits are drawn")
    stratify: bool = Field(
        default=True,
        description="whether splits that are drawn get the same share of every label's positives",
    )


class LabelColumns(OwnSettings):
    """How the table is written; which columns hold the labels, the row's id, its split."""

    delimiter: str = Field(
        default="", description='between cells: "," in .csv, "\\t" in .tsv, .tab and .txt, unless set'
    )
    quoting: Quoting = Field(
        default="", description="minimal (cells may be quoted) or none; none where a tab delimits, unless set"
    )
    label_columns: list[str] = Field(default=[], description="a column of 0 and 1 for each label")
    label_list: str = Field(default="", description="or: one column that lists the labels of the row")
    separator: str = Field(default=",", min_length=1, description="between the labels of that column")
    labels: list[str] = Field(
        default=[],
        description="all labels that label_list may hold, or the names of its 0/1 vectors, in order",
    )
    na_values: list[str] = Field(default=[], description="texts that stand for a missing value, besides none")
    on_missing_label: OnMissingLabel = Field(default="error", description=ON_MISSING_LABEL)
    id: str = Field(default="", description="column of row ids; without it rows are numbered")
    split: str = Field(default="", description="column that says train, val or test")


def own_about(settings: OwnSettings, path: str) -> About:
    """The user's data: only its title is known."""
    return About(settings.title or Path(path).name, "the user's own data", "", "as the user says")


def own_files(*paths: str) -> tuple[RawFile, ...]:
    """The files that settings name, each once; empty names are left out."""
    return tuple(RawFile(path) for path in dict.fromkeys(paths) if path)


def refuse_unused(settings: Settings, names: Iterable[str], reason: str) -> None:
    """Raise DataError where one of these settings is set: it would have no effect."""
    for name in names:
        if getattr(settings, name) != type(settings).model_fields[name].default:
            raise DataError(f"setting {name!r} has no effect: {reason}; remove it")


@dataclass(frozen=True)
class OwnRow:
    """A row of a table, its split and labels known."""

    where: str
    row: Row
    row_id: str
    split: str
    labels: Labels
    unknown: Labels
    """Labels that the row says nothing about, with `on_missing_label: ignore`."""


@dataclass
class _Observed:
    """What the first pass over a table keeps of each row."""

    splits: list[str]
    labels: list[Labels | None]
    """None: the row is left out, for a missing label."""
    unknown: dict[int, Labels]
    """Row number -> its unknown labels."""


def labelled_rows(settings: LabelColumns, files: dict[str, Path], writer: DatasetWriter) -> Iterator[OwnRow]:
    """The rows of all tables with ids, splits and labels; declares the labels to the writer.

    Reads each table twice: first for labels and splits, then row by row.

    Args:
        files: split -> table; `all` for one without a split.

    Raises:
        DataError: settings that do not fit, rows or labels that cannot be read or look misread.
    """
    check_label_settings(settings)
    tables = {name: Table(path, settings.delimiter, settings.quoting) for name, path in files.items()}
    observed, labels = _first_pass(settings, tables, writer)
    for name, table in tables.items():
        refuse_swallowed_rows(settings, table, labels)
        read_of(writer, table)
        if not observed[name].labels:
            raise DataError(f"{table.path}: holds no rows")
    if not labels:
        raise DataError(f"{next(iter(files.values()))}: no row has a label in column {settings.label_list!r}")
    writer.labels(labels)
    kept = [
        (split, row_labels)
        for part in observed.values()
        for split, row_labels in zip(part.splits, part.labels, strict=True)
        if row_labels is not None
    ]
    splits = iter(
        final_splits(settings, [split for split, _ in kept], [labels for _, labels in kept], writer)
    )
    for name, table in tables.items():
        for number, (where, row) in enumerate(table.rows()):
            row_labels = observed[name].labels[number]
            if row_labels is None:
                writer.warn("rows left out: a label is missing", where)
                continue
            row_id = _row_id(settings, row, where, f"{name}-{number}")
            unknown = observed[name].unknown.get(number, ())
            yield OwnRow(where, row, row_id, next(splits), row_labels, unknown)


def read_of(writer: DatasetWriter, table: Table) -> None:
    """Enter a table's counts into the card."""
    counts = table.counts
    writer.read(
        table.path,
        counts.rows,
        lines=counts.lines,
        blank_lines=counts.blank_lines,
        lines_within_quoted_cells=counts.lines_in_cells,
        cells_kept_in_quotation_marks=counts.quoted_cells_kept,
    )


def check_label_settings(settings: LabelColumns) -> None:
    """Raise DataError unless labels are in columns or in a list, and for settings of the other way."""
    if bool(settings.label_columns) == bool(settings.label_list):
        raise DataError(
            "say either label_columns (a column for each label) or label_list (one column of lists)"
        )
    if settings.label_columns:
        refuse_unused(settings, ("separator", "labels"), "it belongs to label_list, and label_columns is set")
    else:
        refuse_unused(settings, ("on_missing_label",), "it belongs to label_columns, and label_list is set")


def _first_pass(
    settings: LabelColumns, tables: dict[str, Table], writer: DatasetWriter
) -> tuple[dict[str, _Observed], list[str]]:
    column = LabelColumn(
        settings.label_list, settings.separator, settings.labels, "labels", settings.na_values
    )
    cells: dict[str, list[Any]] = {}
    observed = {}
    for name, table in tables.items():
        part, cells[name] = _Observed([], [], {}), []
        for where, row in table.rows():
            part.splits.append(
                split_name(cell(row, settings.split, where), where) if settings.split else name
            )
            if settings.label_columns:
                row_labels, unknown = _set_columns(settings, row, where)
                if unknown:
                    part.unknown[len(part.labels)] = unknown
                part.labels.append(row_labels)
            else:
                value = cell(row, settings.label_list, where)
                column.observe(value, where)
                cells[name].append((where, value))
        observed[name] = part
    if settings.label_columns:
        return observed, settings.label_columns
    labels = column.decide()
    names = {label: label for label in labels}  # one object for each name, however many rows have it
    for name, part in observed.items():
        for where, value in cells[name]:
            part.labels.append(tuple(names.get(label, label) for label in column.labels(value, where)))
    for warning in column.warnings:
        writer.warn(warning)
    return observed, labels


def _set_columns(settings: LabelColumns, row: Row, where: str) -> tuple[Labels | None, Labels]:
    """The labels of a row, None where it is left out, and its unknown ones."""
    labels, unknown = [], []
    for name in settings.label_columns:
        there = is_set(cell(row, name, where), name, where, settings.na_values)
        if there:
            labels.append(name)
        elif there is None:
            match settings.on_missing_label:
                case "error":
                    raise DataError(f"{where}: column {name!r} has no value; {ADVICE_ON_MISSING_LABEL}")
                case "skip":
                    return None, ()
                case "ignore":
                    unknown.append(name)
    return tuple(labels), tuple(unknown)


def is_set(value: Any, column: str, where: str, na_values: Sequence[str] = ()) -> bool | None:
    """Whether a cell of a label's column is 1; None where it has no value. Raises DataError for another value."""
    text = as_text(value, where, column).strip()
    if not text or text in na_values:
        return None
    if text.lower() in YES | NO:
        return text.lower() in YES
    raise DataError(
        f"{where}: column {column} is {value!r}, expected 0 or 1 (na_values lists texts that stand for a missing value)"
    )


def refuse_swallowed_rows(settings: LabelColumns, table: Table, labels: Sequence[str]) -> None:
    """Raise DataError where the lines of a quoted cell look like rows of their own: a quotation mark is missing.

    They do if all have as many cells as the header and those with labels hold known ones: with columns of 0 and 1 all
    of them, in a list most, since a label may occur in swallowed rows only.
    """
    known = YES | NO if settings.label_columns else set(labels)
    for long_cell in table.counts.long_cells:
        lines = [line for line in long_cell.lines[1:-1] if line.strip()]
        if not lines and "\n" not in settings.separator:
            # The first line holds the quotation mark, so that its cells cannot be counted, unless it is all there is.
            lines = [*long_cell.lines[:-1]]
        found = [_labels_of_a_row(settings, table, line) for line in lines]
        labelled = [parts for parts in found if parts]
        if None in found or not labelled:
            continue
        if settings.label_columns:
            rows = all(map(known.issuperset, labelled))
        else:
            rows = sum(not known.isdisjoint(parts) for parts in labelled) > len(labelled) / 2
        if rows:
            raise DataError(_swallowed(long_cell))


def _labels_of_a_row(settings: LabelColumns, table: Table, line: str) -> list[str] | None:
    """What stands in the columns of labels, if the line has the form of a row; cells without labels are left out."""
    cells = line.split(table.delimiter)
    if len(cells) != len(table.header):
        return None
    row = dict(zip(table.header, cells, strict=True))
    if settings.label_columns:
        parts = [row[name].strip().lower() for name in settings.label_columns]
    else:
        listed = row[settings.label_list].split(settings.separator)
        parts = [normal_form(part.strip(" \"'[](){}")) for part in listed]
    return [part for part in parts if part and part not in settings.na_values]


def _swallowed(long_cell: LongCell) -> str:
    start = long_cell.lines[0]
    shown = start if len(start) <= 40 else f"{start[:40]}..."
    return (
        f"{long_cell.where}: a cell that starts with a quotation mark runs over {len(long_cell.lines)} lines, which "
        f"look like rows of their own: {shown!r}; close or double the quotation mark, or set quoting: none"
    )


def _row_id(settings: LabelColumns, row: Row, where: str, numbered: str) -> str:
    if not settings.id:
        return numbered
    row_id = as_text(cell(row, settings.id, where), where, settings.id).strip()
    if not row_id:
        raise DataError(f"{where}: the id (column {settings.id!r}) is missing")
    return row_id


def split_name(value: Any, where: str) -> str:
    """The split that a cell or a name says. Raises DataError for another word."""
    name = str(value).strip().lower()
    if name not in SPLIT_NAMES:
        raise DataError(f"{where}: split {value!r}: {closest(name, SPLITS)}")
    return SPLIT_NAMES[name]


def splits_in_file(path: Path, rows: int) -> list[str]:
    """The splits that a text file says, one in each line. Raises DataError for another number of lines."""
    named = [split_name(line, where) for where, line in lines(path) if line.strip()]
    if len(named) != rows:
        raise DataError(f"{path}: names the split of {len(named)} rows, there are {rows}")
    return named


def final_splits(
    settings: OwnSettings, given: Sequence[str], labels: Sequence[Sequence[str]], writer: DatasetWriter
) -> list[str]:
    """The split of each row; what is not given is drawn, stratified by label unless the settings say otherwise.

    Args:
        given: `train`, `val`, `test`, UNUSED, or ALL for each row. Where no row is `val`, validation is drawn from
            the training rows.
        labels: of each row.

    Raises:
        DataError: a split would be empty, only some rows have a split, or settings of drawn splits have no effect.
    """
    named = set(given) - {UNUSED}
    if named == {ALL}:
        rest = 1 - settings.val - settings.test
        if rest <= 1e-9:
            raise DataError(f"val {settings.val} and test {settings.test} leave nothing to train on")
        shares = {"train": rest, "val": settings.val, "test": settings.test}
        return _drawn(settings, given, labels, ALL, shares, writer)
    if ALL in named:
        raise DataError("some rows have a split and some have none")
    refuse_unused(settings, ("test",), "the test rows are given")
    if "val" in named or "train" not in named:
        refuse_unused(settings, ("val", "seed"), "all splits are given")
        return list(given)
    return _drawn(settings, given, labels, "train", {"train": 1 - settings.val, "val": settings.val}, writer)


def _drawn(
    settings: OwnSettings,
    given: Sequence[str],
    labels: Sequence[Sequence[str]],
    of: str,
    shares: dict[str, float],
    writer: DatasetWriter,
) -> list[str]:
    """The given splits, with those rows that are `of` this one drawn anew."""
    rows = [row for row, name in enumerate(given) if name == of]
    found = list(given)
    if settings.stratify:
        names = assign_stratified([labels[row] for row in rows], shares, settings.seed)
    else:
        names = assign(len(rows), shares, settings.seed)
    for row, name in zip(rows, names, strict=True):
        found[row] = name
    what = "train, val and test are drawn" if of == ALL else "val is drawn from the training rows"
    how = "stratified by label (iterative stratification)" if settings.stratify else "not stratified"
    writer.note(f"Splits: {what} at random (seed {settings.seed}), {how}.")
    return found


def parts(path: str, val_path: str, test_path: str, raw: dict[str, Path]) -> dict[str, Path]:
    """Split -> file: `path` alone is everything, with a test file beside it is the training rows."""
    if not test_path:
        if val_path:
            raise DataError("val_path needs test_path beside it")
        return {ALL: raw[path]}
    named = {"train": path, "val": val_path, "test": test_path}
    return {split: raw[file] for split, file in named.items() if file}
