"""The notes of a table: collected while it is built, equal ones once."""

from __future__ import annotations

from mlcl.reporting.results import RowState

LONGEST = 200


class Notes:
    """Gives each text its place in the list of notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def refer(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def on(self, row: RowState) -> tuple[int, ...]:
        """What a reader has to know of a row that is not complete."""
        return tuple(self.refer(text) for text in explain(row))


def explain(row: RowState) -> list[str]:
    """In words: why there are fewer seeds than the study asks for, and which are out of date."""
    if row.skipped:
        return [f"skipped: {row.problems[0]}"]
    told = []
    if row.ok < row.expected:
        missing = sum(problem.endswith(": missing") for problem in row.problems)
        if missing == row.expected:
            told.append("not run yet")
        else:
            told.append(f"{row.ok} of {row.expected} seeds; {_shorten('; '.join(row.problems))}")
    if row.stale:
        told.append(
            f"{row.stale} of {row.expected} seeds out of date: made with other settings, data or code than the "
            f"study asks for now"
        )
    return told


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
