"""Raw files, damaged at random: a dataset or one line of error, no traceback, no hang, nothing written elsewhere.

`MLCL_FUZZED_FILES` says how many in all, `MLCL_FUZZING_SEED` which: a campaign may be split over several runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults.cases import ALL, Case

FILES = int(os.environ.get("MLCL_FUZZED_FILES", "5000"))
SEED = int(os.environ.get("MLCL_FUZZING_SEED", "0"))
# Pieces that mean something to one reader or another.
TOKENS = [
    b"", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"'", b'""', b",", b";", b"\t",
    b"\\", b"{", b"}", b"[", b"]", b"[[[[[[[[", b"(", b"<", b">", b"</", b"&amp;", b"&x;", b"<!DOCTYPE", b"%", b"?",
    b"@data", b"@attribute", b":", b"0", b"-1", b"1e999", b"nan", b"NaN", b"Infinity", b"null", b"true",
    b"99999999999999999999", b"3000000", b"0.5", b"../x", b"/etc/passwd", b"\xc3\xa9", b"e\xcc\x81", b"\xed\xa0\x80",
    b"\xe2\x80\xae", b"\\ud83d", b"a" * 300, b" " * 50,
]  # fmt: skip


@st.composite
def damages(draw: st.DrawFn, original: bytes) -> bytes:
    """The file after a few random changes."""
    content = original
    for _ in range(draw(st.integers(1, 4))):
        size = len(content)
        start = draw(st.integers(0, size))
        end = min(size, start + draw(st.sampled_from([0, 1, 2, 8, 64, size])))
        what = draw(st.sampled_from(["token", "token", "bytes", "cut", "repeat", "flip", "swap"]))
        if what == "token":
            content = content[:start] + draw(st.sampled_from(TOKENS)) + content[end:]
        elif what == "bytes":
            content = content[:start] + draw(st.binary(max_size=12)) + content[end:]
        elif what == "cut":
            content = content[:start]
        elif what == "repeat":
            content = content[:end] + content[start:end] * draw(st.integers(1, 30)) + content[end:]
        elif what == "swap":
            content = content[end:] + content[:end]
        elif size:
            place = min(start, size - 1)
            content = (
                content[:place]
                + bytes([content[place] ^ (1 << draw(st.integers(0, 7)))])
                + content[place + 1 :]
            )
    return content[: 1 << 20]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ALL)
def test_damaged_files_are_read_or_refused_in_one_line(kind: str, quick_disk: Path) -> None:
    case = Case(quick_disk, kind)

    @seed(SEED)
    @settings(
        max_examples=-(-FILES // len(ALL)),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damages(case.undamaged))
    def read(content: bytes) -> None:
        case.attempt(content)

    read()
