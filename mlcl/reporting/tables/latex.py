r"""Tables in LaTeX: booktabs, siunitx, multirow. One file compiles alone (`pdflatex main.tex`) and with `\input`."""

from __future__ import annotations

from collections.abc import Sequence

from mlcl.reporting.tables.table import Cell, Number, Row, Table, Text, letter
from mlcl.reporting.visible import visible

WIDEST = 6
"""Columns of numbers that fit on a page of A4."""
LONGEST = 45
"""Rows that fit on it."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "’": "'",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
}
_GREEK = {
    c: rf"$\{name}$"
    for c, name in zip(
        "αβγδτσλμ", ["alpha", "beta", "gamma", "delta", "tau", "sigma", "lambda", "mu"], strict=True
    )
}


_LATIN_1 = {
    "°": r"\textdegree{}",
    "€": r"\texteuro{}",
    "²": r"\texttwosuperior{}",
    "³": r"\textthreesuperior{}",
    "¹": r"\textonesuperior{}",
    "µ": r"\textmu{}",
    "£": r"\pounds{}",
    "§": r"\S{}",
    "©": r"\copyright{}",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "¿": r"\textquestiondown{}",
    "¡": r"\textexclamdown{}",
    "«": r"\guillemotleft{}",
    "»": r"\guillemotright{}",
    "½": r"\textonehalf{}",
    "¼": r"\textonequarter{}",
    "¾": r"\textthreequarters{}",
    "·": r"\textperiodcentered{}",
    "•": r"\textbullet{}",
    "‘": "`",
    "‐": "-",
}
_KNOWN = _SPECIAL | _GREEK | _LATIN_1


def escape(text: str) -> str:
    """Plain text as LaTeX. A character that T1-encoded fonts lack is shown by its number, such as [U+042F].

    At the start of a table's row, LaTeX takes `[` and `*` for arguments of the line break before it.
    """
    code = "".join(_KNOWN.get(c, c if _is_latin(c) else f"[U+{ord(c):04X}]") for c in _plain(text))
    return f"{{}}{code}" if code.startswith(("[", "*")) else code


def absent_characters(table: Table) -> list[str]:
    """The characters of a table's texts that its LaTeX form shows by their numbers."""
    texts = [table.caption, *table.stubs, *table.notes]
    texts += [header for column in table.columns for header in column.headers]
    texts += [header for row in table.rows for header in row.headers]
    texts += [cell.text for row in table.rows for cell in row.cells if isinstance(cell, Text)]
    return sorted({c for text in texts for c in _plain(text) if c not in _KNOWN and not _is_latin(c)})


def _plain(text: str) -> str:
    return " ".join(visible(text).split())


def _is_latin(char: str) -> bool:
    return " " <= char <= "~" or "\u00c0" <= char <= "\u017f"


def render(table: Table, source: str) -> str:
    """The file. `source` names what the table was made of."""
    parts = [(page, columns) for page in table.pages(LONGEST) for columns in table.panels(WIDEST)]
    if table.is_empty:
        body = [_empty(table)]
    else:
        body = [_part(page, columns, i, len(parts)) for i, (page, columns) in enumerate(parts)]
    return "\n".join([_head(source), *body, r"\csname mlclend\endcsname", ""])


def _head(source: str) -> str:
    return rf"""% Made by mlcl from {source}; changes here are lost.
% Compiles alone, and with \input into a document that loads booktabs, multirow and siunitx.
\expandafter\ifx\csname @nodocument\endcsname\relax
  \expandafter\let\csname mlclend\endcsname\relax
\else
  \documentclass{{article}}
  \usepackage[T1]{{fontenc}}
  \usepackage[utf8]{{inputenc}}
  \usepackage{{lmodern}}
  \usepackage[a4paper,margin=15mm]{{geometry}}
  \usepackage{{booktabs,multirow,siunitx}}
  \pagestyle{{empty}}
  \ifdefined\pdftrailerid\pdftrailerid{{}}\fi
  \begin{{document}}
  \expandafter\def\csname mlclend\endcsname{{\end{{document}}}}
\fi"""


def _empty(table: Table) -> str:
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape(table.caption)}}}",
            rf"\label{{{table.label}}}",
            "There are no results yet.",
            r"\end{table}",
        ]
    )


def _part(table: Table, columns: range, number: int, of: int) -> str:
    part = f" (Part {number + 1} of {of}.)" if of > 1 else ""
    label = table.label + (f"-{number + 1}" if number else "")
    shown = [
        i
        for i in range(len(table.notes))
        if any(i in row.cells[c].notes for row in table.rows for c in columns)
    ]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\small",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape(table.caption + part)}}}",
            rf"\label{{{label}}}",
            r"\par\medskip",
            r"\sisetup{mode=text, detect-weight=true, retain-explicit-plus=true}",
            rf"\begin{{tabular}}{{@{{}}{_column_types(table, columns)}@{{}}}}",
            r"\toprule",
            *_header_lines(table, columns),
            r"\midrule",
            "\n\\midrule\n".join(_block(table, b, columns) for b in range(len(table.blocks))),
            r"\bottomrule",
            r"\end{tabular}",
            *_notes(table, shown),
            r"\end{table}",
        ]
    )


def _column_types(table: Table, columns: range) -> str:
    numbers = [f"S[table-format={_integers(table, c)}.{_decimals(table, c)}]@{{\\,}}l" for c in columns]
    return "l" * len(table.stubs) + " " + " ".join(numbers)


def _numbers(table: Table, column: int) -> list[Number]:
    return [cell for row in table.rows if isinstance(cell := row.cells[column], Number)]


def _integers(table: Table, column: int) -> int:
    return max((len(number.text.partition(".")[0]) for number in _numbers(table, column)), default=2)


def _decimals(table: Table, column: int) -> int:
    return max((number.decimals for number in _numbers(table, column)), default=1)


def _header_lines(table: Table, columns: range) -> list[str]:
    """One line a level; empty levels are left out; a rule below each group that is wider than a column."""
    lines = []
    stubs = len(table.stubs)
    levels = len(table.columns[0].headers)
    for level in range(levels):
        groups = table.groups(level, columns)
        if not any(text for text, _ in groups):
            continue
        is_last = level == levels - 1
        stub_texts = [escape(stub) if is_last else "" for stub in table.stubs]
        spans = [rf"\multicolumn{{{2 * n}}}{{c}}{{{escape(text)}}}" for text, n in groups]
        lines.append(" & ".join([*stub_texts, *spans]) + r" \\")
        if not is_last:
            rules, start = [], stubs + 1
            for text, n in groups:
                if text:
                    rules.append(rf"\cmidrule(lr){{{start}-{start + 2 * n - 1}}}")
                start += 2 * n
            lines.append(" ".join(rules))
    return lines


def _block(table: Table, block: int, columns: range) -> str:
    rows = table.blocks[block]
    lines = []
    for i, row in enumerate(rows):
        stubs = [_stub(rows, i, level) for level in range(len(row.headers))]
        cells = [_cell(row.cells[c], _integers(table, c)) for c in columns]
        lines.append(" & ".join([*stubs, *cells]) + r" \\")
    return "\n".join(lines)


def _stub(rows: Sequence[Row], i: int, level: int) -> str:
    """A row header; what neighbouring rows share is written once, but for the last level."""
    text = escape(rows[i].headers[level])
    if level == len(rows[i].headers) - 1:
        return text
    paths = [row.headers[: level + 1] for row in rows]
    if i and paths[i] == paths[i - 1]:
        return ""
    n = next((k for k in range(i, len(paths)) if paths[k] != paths[i]), len(paths)) - i
    return rf"\multirow[t]{{{n}}}{{*}}{{{text}}}" if n > 1 else text


def _cell(cell: Cell, integers: int) -> str:
    marks = _note_marks(cell.notes)
    if isinstance(cell, Text):
        return rf"\multicolumn{{2}}{{c}}{{{escape(cell.text)}{marks}}}"
    shown = cell.spread_text.replace("± ", r"$\pm$\,").replace("-", "$-$")
    spread = rf"{{\scriptsize{shown if shown.startswith('$') else ' ' + shown}}}" if shown else ""
    return f"{_number(cell, integers)} & {spread}{marks}"


def _number(cell: Number, integers: int) -> str:
    if cell.mark == "best":
        return rf"\bfseries {cell.text}"
    if cell.mark == "second":
        # siunitx does not underline: the number is set as text, filled up to the width of the column.
        fill = r"\phantom{" + "0" * missing + "}" if (missing := integers - cell.text.index(".")) else ""
        return rf"{{{fill}\underline{{{cell.text}}}}}"
    return cell.text


def _note_marks(notes: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(letter(note) for note in notes)}}}" if notes else ""


def _notes(table: Table, shown: Sequence[int]) -> list[str]:
    if not shown:
        return []
    texts = [rf"\textsuperscript{{{letter(i)}}}\,{escape(table.notes[i])}." for i in shown]
    return [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        *texts,
        r"\end{minipage}",
    ]
