"""Tables as programs and people write them: quotation marks, byte order marks, delimiters, labels in every form."""

import codecs
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import DataError
from tests.data.own import kinds_of_warnings, prepare, rows_of

TABLE = {"text": "text", "label_list": "tags"}
ROWS = [(f"text {number}", "abc"[number % 3]) for number in range(30)]
EXPECTED = {text: [tag] for text, tag in ROWS}
BOM = codecs.BOM_UTF8.decode()


def lines(rows: list[tuple[str, str]], separator: str = ",") -> str:
    return "".join(f"{text}{separator}{tag}\n" for text, tag in [("text", "tags"), *rows])


# Quotation marks


def test_quotation_marks_of_a_tsv_are_ordinary_characters(tmp_path: Path) -> None:
    rows = [*ROWS]
    rows[3], rows[20], rows[25] = ('"open', "a"), ('"another', "b"), ('5" screen', "c")
    (tmp_path / "t.tsv").write_text(lines(rows, "\t"), encoding="utf-8")
    assert rows_of(prepare(tmp_path, "table", path="t.tsv", **TABLE)) == {text: [tag] for text, tag in rows}


@pytest.mark.parametrize(
    "closing",
    ['"another', 'more" and', '5"', '"'],  # a cell that starts, ends, holds or is the next quotation mark
)
def test_a_quotation_mark_that_is_not_closed_is_an_error_with_its_line(tmp_path: Path, closing: str) -> None:
    rows = [*ROWS]
    rows[3], rows[20] = ('"open', "a"), (closing, "b")
    (tmp_path / "t.csv").write_text(lines(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:5: .*quotation mark.*'\"open,a'"):
        prepare(tmp_path, "table", path="t.csv", **TABLE)
    rows[20] = ROWS[20]
    (tmp_path / "t.csv").write_text(lines(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:5: a quotation mark is not closed"):
        prepare(tmp_path, "table", path="t.csv", **TABLE)
    kept = rows_of(prepare(tmp_path, "table", path="t.csv", quoting="none", **TABLE))
    assert kept['"open'] == ["a"]


def test_swallowed_rows_are_noticed_with_columns_of_labels(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{number % 2},1\n" for number in range(20))
    (tmp_path / "t.csv").write_text(f'text,a,b\n"open,1,0\n{rows}five",0,1\n{rows}', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:2: .* runs over 22 lines, which look like rows"):
        prepare(tmp_path, "table", path="t.csv", text="text", label_columns=["a", "b"])


def test_swallowed_rows_are_noticed_where_the_text_holds_the_delimiter(tmp_path: Path) -> None:
    rows = [f"{number % 2},text {number}\n" for number in range(30)]
    rows[4], rows[12] = '0,"one, two\n', '0,three, four"\n'
    (tmp_path / "t.csv").write_text("a,text\n" + "".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:6: .* runs over 9 lines, which look like rows"):
        prepare(tmp_path, "table", path="t.csv", text="text", label_columns=["a"])
    poem = "".join(f'{number % 2},"rose {number},\nthorn,\nleaf"\n' for number in range(12))
    (tmp_path / "t.csv").write_text(f"a,text\n{poem}", encoding="utf-8")
    assert len(rows_of(prepare(tmp_path, "table", path="t.csv", text="text", label_columns=["a"]))) == 12


@pytest.mark.parametrize(
    "swallowed",
    [
        "four,a\nfive,rare\nsix,b\n",  # a label that occurs nowhere else
        "four,a\n\nfive,b\n\n",
        "four,\nfive,a\n",
        "four,['a']\nfive,['b']\n",
    ],
)
def test_swallowed_rows_are_noticed_whatever_else_they_hold(tmp_path: Path, swallowed: str) -> None:
    (tmp_path / "t.csv").write_text(f'{lines(ROWS)}"open,a\n{swallowed}close",c\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:32: .* which look like rows of their own: '\"open,a'"):
        prepare(tmp_path, "table", path="t.csv", **TABLE)


def test_lines_of_a_text_that_end_like_a_row_are_no_rows(tmp_path: Path) -> None:
    text = '"Roses, red\nviolets, a\nsugar, sweet\nhoney, too"'
    (tmp_path / "t.csv").write_text(f"{lines(ROWS)}{text},b\n", encoding="utf-8")
    dataset = prepare(tmp_path, "table", path="t.csv", **TABLE)
    assert rows_of(dataset)["Roses, red violets, a sugar, sweet honey, too"] == ["b"]


def test_labels_in_lines_of_a_cell(tmp_path: Path) -> None:
    """As Excel writes them where Alt and Enter separate them."""
    (tmp_path / "t.csv").write_text(f'{lines(ROWS)}two,"a\nb"\nthree,"a\nb\nc"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"'a\\nb' holds a line break .*set separator: \"\\n\""):
        prepare(tmp_path, "table", path="t.csv", **TABLE)
    rows = rows_of(prepare(tmp_path, "table", path="t.csv", separator="\n", **TABLE))
    assert (rows["two"], rows["three"]) == (["a", "b"], ["a", "b", "c"])


def test_quoted_cells_over_several_lines_are_read_and_counted(tmp_path: Path) -> None:
    letter = '"Dear Sir,\nmy order, number 7,\n\nis late"'
    (tmp_path / "t.csv").write_text(lines(ROWS) + f"{letter},b\n\n", encoding="utf-8")
    dataset = prepare(tmp_path, "table", path="t.csv", **TABLE)
    assert rows_of(dataset)["Dear Sir, my order, number 7, is late"] == ["b"]
    assert dataset.card["found"]["files"] == [
        {"file": "t.csv", "rows": 31, "lines": 36, "blank_lines": 1, "lines_within_quoted_cells": 3}
    ]


def test_a_quoted_tsv_is_read_when_it_says_so(tmp_path: Path) -> None:
    text = lines([(f'"{text}"', f'"{tag}"') for text, tag in ROWS], "\t")
    (tmp_path / "t.tsv").write_text(text.replace("text\ttags", '"text"\t"tags"'), encoding="utf-8")
    with pytest.raises(DataError, match="the column names stand in quotation marks; set quoting: minimal"):
        prepare(tmp_path, "table", path="t.tsv", **TABLE)
    assert rows_of(prepare(tmp_path, "table", path="t.tsv", quoting="minimal", **TABLE)) == EXPECTED


# Delimiters, names of files, encodings


@pytest.mark.parametrize(
    ("name", "separator", "settings"),
    [
        ("t.txt", "\t", {}),
        ("t.tab", "\t", {}),
        ("t.csv", ";", {"delimiter": ";"}),
        ("t.data", "|", {"delimiter": "|"}),
        ("t.csv", "\t", {"delimiter": "\\t"}),
    ],
)
def test_delimiters(tmp_path: Path, name: str, separator: str, settings: dict[str, str]) -> None:
    (tmp_path / name).write_text(lines(ROWS, separator), encoding="utf-8")
    assert rows_of(prepare(tmp_path, "table", path=name, **settings, **TABLE)) == EXPECTED


def test_another_delimiter_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(lines(ROWS, ";"), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"t\.csv:1: the header 'text;tags' is one cell; .*set delimiter: \";\""
    ):
        prepare(tmp_path, "table", path="t.csv", **TABLE)
    with pytest.raises(DataError, match="delimiter 'ab': must be one character"):
        prepare(tmp_path, "table", path="t.csv", delimiter="ab", **TABLE)
    (tmp_path / "t.docx").write_text("x", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"unknown kind of table '\.docx'; valid are \.csv, .*or set delimiter"
    ):
        prepare(tmp_path, "table", path="t.docx", **TABLE)


def test_a_zip_with_one_table_is_read(tmp_path: Path) -> None:
    for names in (["a.csv"], ["a.csv", "b.csv"]):
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
            archive.writestr("__MACOSX/._a.csv", "x")
            for name in names:
                archive.writestr(f"folder/{name}", lines(ROWS))
        if len(names) == 1:
            assert rows_of(prepare(tmp_path, "table", path="t.zip", **TABLE)) == EXPECTED
        else:
            with pytest.raises(
                DataError, match=r"must hold one table, holds 2: folder/a\.csv, folder/b\.csv"
            ):
                prepare(tmp_path, "table", path="t.zip", **TABLE)


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, quote: str) -> None:
    header = f"{quote}text{quote},{quote}tags{quote}\r\n"
    (tmp_path / "t.csv").write_bytes((BOM + header + lines(ROWS)[10:]).encode())
    assert rows_of(prepare(tmp_path, "table", path="t.csv", **TABLE)) == EXPECTED
    (tmp_path / "t.jsonl").write_text(
        BOM + "".join(json.dumps({"text": text, "tags": [tag]}) + "\n" for text, tag in ROWS),
        encoding="utf-8",
    )
    assert rows_of(prepare(tmp_path, "table", path="t.jsonl", **TABLE)) == EXPECTED
    (tmp_path / "u.csv").write_bytes(lines(ROWS).encode("utf-16"))
    with pytest.raises(DataError, match=r"u\.csv: is UTF-16 text \(or no text\); convert the file to UTF-8"):
        prepare(tmp_path, "table", path="u.csv", **TABLE)


def test_files_that_were_put_together(tmp_path: Path) -> None:
    more = [(f"more {text}", tag) for text, tag in ROWS]
    (tmp_path / "t.csv").write_text(BOM + BOM + lines(ROWS) + BOM + lines(more), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:32: repeats the header"):
        prepare(tmp_path, "table", path="t.csv", **TABLE)
    rows = [(tag, text) for text, tag in ROWS]
    more = [(tag, text) for text, tag in more]
    text = "".join(f"{tag},{text}\n" for tag, text in more)
    (tmp_path / "t.csv").write_text(BOM + "tags,text\n" + lines(rows)[10:] + BOM + text, encoding="utf-8")
    assert prepare(tmp_path, "table", path="t.csv", **TABLE).label_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,tags\rone,a\rtwo,b\r", "lines end with CR alone"),
        ("text,tags\none,a\n".encode("utf-16-le"), r"is UTF-16 text \(or no text\)"),
        ("sep=;\ntext;tags\none;a\n", "is a line for Excel"),
        ('"text";"tags"\n"one";"a"\n', r'if \';\' separates its columns, set delimiter: ";"'),
        ("text,tags\none\rmore,a\n", "t.csv:2: a cell that is not quoted holds a carriage return"),
    ],
)
def test_text_files_of_other_programs_are_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, "table", path="t.csv", **TABLE)


def test_a_key_that_an_object_has_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "one", "tags": ["a"], "tags": ["b"]}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.jsonl:1: not valid JSON \(the key 'tags' occurs twice\)"):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)


def test_a_byte_order_mark_in_other_files(tmp_path: Path) -> None:
    rows = "".join(f"{number % 3} {number}:1\n" for number in range(12))
    (tmp_path / "t.svm").write_text(BOM + rows, encoding="utf-8")
    (tmp_path / "names.txt").write_text(f"{BOM}sports\nculture\npolitics\n", encoding="utf-8")
    dataset = prepare(tmp_path, "svmlight", path="t.svm", label_names="names.txt")
    assert dataset.label_names == ["sports", "culture", "politics"]
    arff = "".join(f"{number},{number % 2}\n" for number in range(12))
    (tmp_path / "t.arff").write_text(
        f"{BOM}@attribute a numeric\n@attribute l {{0,1}}\n@data\n{arff}", encoding="utf-8"
    )
    assert prepare(tmp_path, "arff", path="t.arff", labels=["l"])["train"].vectors.shape == (8, 1)


# Labels


TAGS = [["a"], ["b", "c"], ["c"], ["a", "b"], [], ["a", "c"], ["b"], ["c", "b", "a"]] * 2
LISTS = {
    "pandas": repr,
    "numpy": lambda tags: f"[{' '.join(map(repr, tags))}]",
    "numpy over lines": lambda tags: f"[{chr(10).join(map(repr, tags))}]",
    "sets": lambda tags: repr(set(tags)),
    "tuples": lambda tags: repr(tuple(tags)),
    "JSON": json.dumps,
    "Postgres": lambda tags: f"{{{','.join(tags)}}}",
    "unquoted": lambda tags: f"[{', '.join(tags)}]",
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_that_were_written_as_text_are_lists(tmp_path: Path, kind: str) -> None:
    rows = [{"text": f"row {number}", "tags": LISTS[kind](tags)} for number, tags in enumerate(TAGS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    dataset = prepare(tmp_path, "table", path="t.jsonl", **TABLE)
    found = {text: sorted(labels) for text, labels in rows_of(dataset).items()}
    assert found == {f"row {number}": sorted(tags) for number, tags in enumerate(TAGS)}


def test_names_and_lists_in_json_may_be_mixed(tmp_path: Path) -> None:
    """Label Studio writes a name where there is one label, and JSON where there are several."""
    cells = [
        "a",
        '["a", "b"]',
        '{"choices": ["b", "c"]}',
        '[{"name": "c"}]',
        '{"a": 1, "b": 0, "c": 1}',
        "",
        "[]",
    ]
    labels = [["a"], ["a", "b"], ["b", "c"], ["c"], ["a", "c"], [], []]
    rows = [{"text": f"row {number}", "tags": cells[number % 7]} for number in range(35)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = rows_of(prepare(tmp_path, "table", path="t.jsonl", **TABLE))
    assert {text: sorted(row) for text, row in found.items()} == {
        f"row {n}": labels[n % 7] for n in range(35)
    }


@pytest.mark.parametrize("cell", ["a", "None"])
def test_a_cell_that_is_no_list_among_lists_is_named(tmp_path: Path, cell: str) -> None:
    rows = [{"text": text, "tags": cell if n == 7 else f"['{tag}']"} for n, (text, tag) in enumerate(ROWS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=rf"must all be lists \(.*t\.jsonl:8 holds '{cell}'\)"):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)


@pytest.mark.parametrize("joint", [";", "|", " | ", ",", "\t"])
def test_another_separator_is_an_error_that_names_it(tmp_path: Path, joint: str) -> None:
    given = "#" if joint != "#" else ","
    rows = [{"text": f"row {number}", "tags": joint.join(tags)} for number, tags in enumerate(TAGS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"t\.jsonl:2: label .* (looks like several|holds a control character)"
    ):
        prepare(tmp_path, "table", path="t.jsonl", separator=given, **TABLE)
    dataset = prepare(tmp_path, "table", path="t.jsonl", separator=joint.strip(" "), **TABLE)
    assert sorted(dataset.label_names) == ["a", "b", "c"]


@pytest.mark.parametrize("joint", ["/", " ", " and ", "+", " > ", ":", "-", "_", "，", "、", "·", "||"])
def test_combinations_of_labels_are_an_error_whatever_joins_them(tmp_path: Path, joint: str) -> None:
    rows = [{"text": f"row {number}", "tags": joint.join(tags)} for number, tags in enumerate(TAGS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"t\.jsonl:2: label .* looks like several, joined by .*; set separator"
    ):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)
    bare = "".join(f"row {number},[{joint.join(tags)}]\n" for number, tags in enumerate(TAGS))
    (tmp_path / "t.csv").write_text(f"text,tags\n{bare}", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:\d+: label .* looks like (several|a missing value)"):
        prepare(tmp_path, "table", path="t.csv", **TABLE)


def test_names_of_several_words_are_no_combinations(tmp_path: Path) -> None:
    names = [
        "machine learning",
        "learning",
        "machine translation",
        "red-green",
        "red",
        "green",
        "<18",
        "> 65",
        "c++",
    ]
    rows = [{"text": f"row {number}", "tags": names[number % len(names)]} for number in range(36)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert sorted(prepare(tmp_path, "table", path="t.jsonl", **TABLE).label_names) == sorted(names)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("['a', b", "looks like a piece of a list"),
        ("frozenset({'a'})", "looks like a piece of a list"),
        ("array(['a'], dtype=object)", "looks like a piece of a list"),
        ("{'a': True, 'b': False}", "looks like a piece of a list"),
        ("character(0)", "looks like a missing value"),
        ("String[]", "looks like a missing value"),
        ("[b'a']", "looks like a piece of a list"),
        ("<a,b>", "looks like a piece of a list"),
        ("<li>a</li>", "looks like a piece of a list"),
        ("‘a’", "looks like a piece of a list"),
        ("...", "looks like a piece of a list"),
        ("[]", r"looks like a missing value; set na_values: \['\[\]'\]"),
        ("-", r"looks like a missing value; set na_values: \['-'\]"),
        ("a\u200b", r"label 'a\\u200b' holds an invisible character \(U\+200B\)"),
        ("a\u3164b", r"holds an invisible character \(U\+3164\)"),
        ("a\U000e0041", r"holds an invisible character \(U\+E0041\)"),
        ("'a'", "looks like a piece of a list"),
        ("nan", r"looks like a missing value; set na_values: \['nan'\]"),
        ("a\nb", r"label 'a\\nb' holds a line break \(U\+000A\)"),
        ("a\x1b[31m", r"label 'a\\x1b\[31m' holds a control character \(U\+001B\)"),
        ("a\u202eb", r"label 'a\\u202eb' holds a control character \(U\+202E\)"),
    ],
)
def test_labels_that_look_misread_are_errors_with_the_row(tmp_path: Path, tag: str, message: str) -> None:
    rows = [
        {"text": text, "tags": tag if number == 7 else label} for number, (text, label) in enumerate(ROWS)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=rf"t\.jsonl:8: .*{message}"):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)


def test_labels_that_are_listed_may_look_odd(tmp_path: Path) -> None:
    odd = ["nan", "'a'", "[deleted]", "a;b", "a", "b"]
    rows = [{"text": f"row {number}", "tags": odd[number % 6]} for number in range(30)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert prepare(tmp_path, "table", path="t.jsonl", labels=odd, **TABLE).label_names == odd
    (tmp_path / "o.jsonl").write_text(
        "\n".join(
            json.dumps({**row, "tags": ['5" disk', "cost ($) in %", "C++ (old)"][n % 3]})
            for n, row in enumerate(rows)
        ),
        encoding="utf-8",
    )
    assert len(prepare(tmp_path, "table", path="o.jsonl", **TABLE).label_names) == 3


@pytest.mark.parametrize("form", [float, int, bool])
def test_vectors_of_zeros_and_ones_need_names(tmp_path: Path, form: type) -> None:
    hot = np.random.default_rng(0).integers(0, 2, (30, 4))
    rows = [
        {"text": f"row {number}", "tags": list(map(form, row.tolist()))} for number, row in enumerate(hot)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"t\.jsonl:1: .* vectors of 4 zeros and ones; name these labels.*labels:"
    ):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)
    found = rows_of(prepare(tmp_path, "table", path="t.jsonl", labels=["w", "x", "y", "z"], **TABLE))
    assert found == {f"row {n}": ["wxyz"[bit] for bit in np.flatnonzero(row)] for n, row in enumerate(hot)}
    rows[5]["tags"] = [form(1)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=r"of different lengths \(1, 4\)"):
        prepare(tmp_path, "table", path="t.jsonl", labels=["w", "x", "y", "z"], **TABLE)


@pytest.mark.parametrize(
    "form",
    [
        lambda row: ",".join(map(str, row)),
        lambda row: ",".join(str(bool(bit)) for bit in row),
        lambda row: [str(bit) for bit in row],
        lambda row: [f"{bit:.1f}" for bit in row],
        lambda row: [["no", "yes"][bit] for bit in row],
    ],
)
def test_vectors_written_as_texts_are_vectors(tmp_path: Path, form: Any) -> None:
    hot = np.random.default_rng(0).integers(0, 2, (30, 4)).tolist()
    rows = [{"text": f"row {number}", "tags": form(row)} for number, row in enumerate(hot)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.jsonl:1: .* vectors of 4 zeros and ones; name these labels"):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)
    found = rows_of(prepare(tmp_path, "table", path="t.jsonl", labels=["w", "x", "y", "z"], **TABLE))
    assert found == {f"row {n}": ["wxyz"[bit] for bit in np.flatnonzero(row)] for n, row in enumerate(hot)}


def test_vectors_of_two_words_are_an_error_unless_these_are_the_labels(tmp_path: Path) -> None:
    hot = np.random.default_rng(0).integers(0, 2, (30, 4)).tolist()
    rows = [{"text": f"row {n}", "tags": ["-+"[bit] for bit in row]} for n, row in enumerate(hot)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.jsonl:1: .* looks like vectors of the words '\+' and '-'"):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)
    found = rows_of(prepare(tmp_path, "table", path="t.jsonl", labels=["-", "+"], **TABLE))
    assert found == {
        f"row {n}": [word for bit, word in enumerate("-+") if bit in row] for n, row in enumerate(hot)
    }
    yes_and_no = [{"text": f"row {n}", "tags": ["yes", "no"]} for n in range(30)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, yes_and_no)), encoding="utf-8")
    found = rows_of(prepare(tmp_path, "table", path="t.jsonl", labels=["no", "yes"], **TABLE))
    assert found == {f"row {n}": ["no", "yes"] for n in range(30)}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda row: "".join(map(str, row)), "looks like a vector of zeros and ones"),
        (lambda row: " ".join(map(str, row)), "looks like a vector of zeros and ones"),
        (
            lambda row: [bit or -100 for bit in row],
            "lists a label number twice; vectors must hold zeros and ones",
        ),
        (lambda row: [bit or None for bit in row], "lists a label number twice"),
        (lambda row: [2 * bit - 1 for bit in row], "lists a label number twice"),
    ],
)
def test_vectors_of_other_values_are_errors(tmp_path: Path, form: Any, message: str) -> None:
    hot = np.random.default_rng(0).integers(0, 2, (30, 4)).tolist()
    rows = [{"text": f"row {number}", "tags": form(row)} for number, row in enumerate(hot)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for settings in ({}, {"labels": ["w", "x", "y", "z"]}, {"na_values": ["-1", "-100"]}):
        with pytest.raises(DataError, match=rf"t\.jsonl:\d+: .*{message}"):
            prepare(tmp_path, "table", path="t.jsonl", **settings, **TABLE)


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        ([["0", "2"], ["1"], "0,1"], [["0", "2"], ["1"], ["0", "1"]]),
        ([{"a": 1, "b": 0}, {"a": 0, "b": 1}, {"a": True, "b": True}], [["a"], ["b"], ["a", "b"]]),
        ([[{"name": "a"}], [{"name": "b"}], [{"name": "a"}, {"name": "b"}]], [["a"], ["b"], ["a", "b"]]),
        (["a", ["a", "b"], []], [["a"], ["a", "b"], []]),
        ([[3, 5], [3], []], [["3", "5"], ["3"], []]),
        ([3, 3.0, "3"], [["3"], ["3"], ["3"]]),
        (["café", "cafe\u0301", " café "], [["café"]] * 3),
    ],
)
def test_labels_of_other_forms(tmp_path: Path, cells: list[Any], labels: list[list[str]]) -> None:
    rows = [{"text": f"row {number}", "tags": cells[number % 3]} for number in range(30)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = {
        text: sorted(row)
        for text, row in rows_of(prepare(tmp_path, "table", path="t.jsonl", **TABLE)).items()
    }
    assert found == {f"row {number}": labels[number % 3] for number in range(30)}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"a": 0.7}, "says 'a': '0.7', expected 0 or 1"),
        ([{"name": "a", "score": 1}], "objects with the keys name, score"),
        ([["a"]], "lists .* which is no label name"),
        (True, "True in column 'tags' is no label name"),
        (0.5, "0.5 in column 'tags' is no label number"),
        ([-1], r"label -1 is negative; .*na_values: \['-1'\]"),
    ],
)
def test_cells_that_hold_no_labels_are_errors(tmp_path: Path, cell: Any, message: str) -> None:
    rows = [{"text": f"row {number}", "tags": cell if number == 4 else 3} for number in range(30)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=rf"t\.jsonl:5: .*{message}"):
        prepare(tmp_path, "table", path="t.jsonl", **TABLE)


def test_names_that_differ_by_case_or_space_are_a_warning(tmp_path: Path) -> None:
    rows = [
        (text, ["Price", "price ", "good value", "good-value"][number % 4])
        for number, (text, _) in enumerate(ROWS)
    ]
    (tmp_path / "t.csv").write_text(lines(rows), encoding="utf-8")
    dataset = prepare(tmp_path, "table", path="t.csv", **TABLE)
    warning = next(entry for entry in dataset.card["warnings"] if "differ by case" in entry["kind"])
    assert warning["count"] == 2
    assert sorted(warning["examples"]) == ["Price / price", "good value / good-value"]


def test_na_values_and_missing_labels(tmp_path: Path) -> None:
    cells = ["1", "0", "", "nan"]
    rows = "".join(f"row {number},{cells[number % 4]},1\n" for number in range(40))
    (tmp_path / "t.csv").write_text(f"text,a,b\n{rows}", encoding="utf-8")
    settings: dict[str, Any] = {"path": "t.csv", "text": "text", "label_columns": ["a", "b"]}
    with pytest.raises(DataError, match=r"t\.csv:4: column 'a' has no value; set on_missing_label: negative"):
        prepare(tmp_path, "table", **settings)
    with pytest.raises(DataError, match=r"t\.csv:5: column a is 'nan', expected 0 or 1"):
        prepare(tmp_path, "table", on_missing_label="negative", **settings)
    settings["na_values"] = ["nan"]
    negative = prepare(tmp_path, "table", on_missing_label="negative", **settings)
    assert sum("a" in labels for labels in rows_of(negative).values()) == 10
    assert len(rows_of(negative)) == 40
    skipped = prepare(tmp_path, "table", on_missing_label="skip", **settings)
    assert len(rows_of(skipped)) == 20
    assert "rows left out: a label is missing" in kinds_of_warnings(skipped)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_columns": ["tags"], "separator": ";"}, "'separator' has no effect"),
        ({"label_list": "tags", "on_missing_label": "skip"}, "'on_missing_label' has no effect"),
        ({"label_list": "tags", "size": 64}, "'size' has no effect: it is of images"),
        ({"label_list": "tags", "test_path": "t.csv", "test": 0.5}, "'test' has no effect"),
        (
            {"label_list": "tags", "test_path": "t.csv", "val_path": "t.csv", "seed": 5},
            "'seed' has no effect",
        ),
        ({"label_list": "tags", "test_path": "t.csv", "split": "text"}, "splits are given twice"),
        ({"label_columns": [True]}, "YAML reads yes, on and true as True: put the word in quotation marks"),
        ({"label_columns": [1]}, "put it in quotation marks: '1'"),
        ({"label_list": "tags", "val": "1e-1"}, "1.0e-1"),
        (
            {"label_list": "tags", "lable_columns": []},
            "did you mean label_columns.* valid are cleaning, delimiter",
        ),
    ],
)
def test_settings_without_effect_or_of_another_type_are_errors(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "t.csv").write_text(lines(ROWS), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        prepare(tmp_path, "table", path="t.csv", text="text", **settings)
    assert "\n" not in str(error.value)


def test_a_title_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    import data_prep

    (tmp_path / "t.csv").write_text(lines(ROWS), encoding="utf-8")
    settings = {"path": "t.csv", **TABLE}
    first, second = (
        data_prep.plan("table", {**settings, **more}, tmp_path, False) for more in ({}, {"title": "Reviews"})
    )
    assert first.fingerprint == second.fingerprint
    assert second.title == "Reviews"
