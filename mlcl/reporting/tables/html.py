"""Tables in HTML: columns sort by a button in their header, rows filter by a text above (see report.html)."""

from __future__ import annotations

from markupsafe import Markup, escape

from mlcl.reporting.tables.table import Cell, Number, Row, Table, letter
from mlcl.reporting.visible import visible


def render(table: Table) -> Markup:
    if table.is_empty:
        return Markup("<p>There are no results yet.</p>")
    body = Markup("").join(_row(row, block) for block, rows in enumerate(table.blocks) for row in rows)
    return Markup(
        '<figure class="table" id="table-{name}"><figcaption>{caption}</figcaption>'
        '<p class="tools"><label>Show rows with <input type="search" data-filter="{name}"></label> '
        '<span role="status" data-count="{name}"></span></p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table {name}">'
        '<table class="sortable" data-name="{name}"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
        "{notes}</figure>"
    ).format(
        name=table.name,
        caption=visible(table.caption_in_study),
        head=_head(table),
        body=body,
        notes=_notes(table),
    )


def _head(table: Table) -> Markup:
    levels = len(table.levels)
    shown = [level for level in range(levels) if any(text for text, _ in table.groups(level))]
    lines = []
    for level in shown:
        groups = table.groups(level)
        if level == levels - 1:
            stubs = Markup("").join(_button(stub, "stub") for stub in table.stubs)
            cells = Markup("").join(_button(text) for text, _ in groups)
        else:
            stubs = Markup("<td></td>") * len(table.stubs)
            cells = Markup("").join(
                Markup('<th scope="colgroup" colspan="{}">{}</th>').format(n, visible(text))
                for text, n in groups
            )
        lines.append(Markup("<tr>{}{}</tr>").format(stubs, cells))
    return Markup("").join(lines)


def _button(text: str, kind: str = "value") -> Markup:
    template = Markup('<th scope="col" class="{}" aria-sort="none"><button type="button">{}</button></th>')
    return template.format(kind, visible(text))


def _row(row: Row, block: int) -> Markup:
    headers = Markup("").join(
        Markup('<th scope="row" data-value="{0}">{0}</th>').format(visible(header)) for header in row.headers
    )
    return Markup('<tr data-block="{}">{}{}</tr>').format(
        block, headers, Markup("").join(map(_cell, row.cells))
    )


def _cell(cell: Cell) -> Markup:
    marks = (
        Markup("<sup>{}</sup>").format(", ".join(letter(note) for note in cell.notes)) if cell.notes else ""
    )
    if not isinstance(cell, Number):
        return Markup('<td class="absent">{}{}</td>').format(visible(cell.text), marks)
    text = escape(cell.text)
    if cell.mark == "best":
        text = Markup('<strong title="best">{}</strong>').format(text)
    elif cell.mark == "second":
        text = Markup('<u title="second">{}</u>').format(text)
    spread = Markup(' <span class="spread">{}</span>').format(cell.spread_text) if cell.spread_text else ""
    return Markup('<td data-value="{}" title="{}">{}{}{}</td>').format(
        repr(cell.value), f"{cell.n} of {cell.expected} seeds", text, spread, marks
    )


def _notes(table: Table) -> Markup:
    if not table.notes:
        return Markup("")
    items = Markup("").join(
        Markup("<li><sup>{}</sup> {}.</li>").format(letter(i), visible(note))
        for i, note in enumerate(table.notes)
    )
    return Markup('<ul class="notes">{}</ul>').format(items)
