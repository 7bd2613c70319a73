"""MIMIC-III: discharge summaries with ICD-9 codes, all codes or the 50 most frequent.

Files of PhysioNet's MIMIC-III 1.4: NOTEEVENTS.csv, DIAGNOSES_ICD.csv, PROCEDURES_ICD.csv; lists of admissions by
Mullenbach et al. (github.com/jamesmullenbach/caml-mimic, mimicdata/mimic3): {train,dev,test}_{full,50}_hadm_ids.csv.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.labels import by_frequency
from data_prep.readers.lines import lines
from data_prep.source import About, RawFile, RawPaths, Settings, Source
from data_prep.sources._mimic import Spool, caml_words, dotted, table

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

NOTES = RawFile("NOTEEVENTS.csv")
CODES = {RawFile("DIAGNOSES_ICD.csv"): False, RawFile("PROCEDURES_ICD.csv"): True}
SPLITS = {"train": "train", "val": "dev", "test": "test"}
TOP = 50


class Mimic3Settings(Settings):
    """All codes, or the most frequent ones."""

    codes: Literal["full", "50"] = Field(
        default="full", description="full: all codes; 50: the 50 most frequent"
    )


CITATIONS = {"johnson2016mimiciii": "", "mullenbach2018explainable": "splits"}


def about(settings: Mimic3Settings) -> About:
    """Title and counts of the chosen set of codes."""
    full = settings.codes == "full"
    return About(
        title=f"MIMIC-III-{'Full' if full else '50'}",
        citation="Johnson et al.: MIMIC-III, a freely accessible critical care database. Scientific Data 3, 2016; "
        "splits: Mullenbach et al.: Explainable Prediction of Medical Codes from Clinical Text. NAACL 2018.",
        homepage="https://physionet.org/content/mimiciii/1.4/",
        licence="PhysioNet Credentialed Health Data Use Agreement; may not be shared.",
        by_hand="become a credentialed user of PhysioNet, sign the agreement, put NOTEEVENTS.csv, DIAGNOSES_ICD.csv "
        "and PROCEDURES_ICD.csv here (gzipped is fine), and the *_hadm_ids.csv of "
        "github.com/jamesmullenbach/caml-mimic",
        published={"examples": {"train": 47723, "val": 1631, "test": 3372}}
        if full
        else {"labels": 50, "examples": {"train": 8066, "val": 1573, "test": 1729}},
        published_from="Mullenbach et al.",
    )


def files(settings: Mimic3Settings) -> tuple[RawFile, ...]:
    """The three tables and the three lists of admissions."""
    return (NOTES, *CODES, *(RawFile(_list(split, settings)) for split in SPLITS))


def _list(split: str, settings: Mimic3Settings) -> str:
    return f"{SPLITS[split]}_{settings.codes}_hadm_ids.csv"


def prepare(settings: Mimic3Settings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the discharge summaries (with addenda) of the listed admissions, cleaned as in CAML."""
    admissions = {split: _admissions(raw, split, settings) for split in SPLITS}
    wanted = {admission for listed in admissions.values() for admission in listed}
    codes, counts = _codes(raw)
    names = by_frequency(counts)[:TOP] if settings.codes == "50" else by_frequency(_listed(codes, wanted))
    writer.labels(names)
    label_set = set(names)
    with Spool() as spool:
        for _, (admission, category, text) in table(raw[NOTES.path], ("hadm_id", "category", "text")):
            if category == "Discharge summary" and admission in wanted:
                spool.add(admission, caml_words(text))
        for split, listed in admissions.items():
            for admission in listed:
                if admission not in spool:
                    raise DataError(
                        f"{raw[NOTES.path]}: has no discharge summary of admission {admission} ({split})"
                    )
                labels = [code for code in codes.get(admission, []) if code in label_set]
                writer.split(split).add(admission, labels, spool.text(admission))


def _admissions(raw: RawPaths, split: str, settings: Mimic3Settings) -> list[str]:
    return [line.strip() for _, line in lines(raw[_list(split, settings)]) if line.strip()]


def _codes(raw: RawPaths) -> tuple[dict[str, list[str]], Counter[str]]:
    """Admission -> its codes; how many admissions of the whole database have each code."""
    found: dict[str, dict[str, None]] = {}
    for file, procedure in CODES.items():
        for _, (admission, code) in table(raw[file.path], ("hadm_id", "icd9_code")):
            if code:
                found.setdefault(admission, {})[dotted(code, procedure, version=9)] = None
    codes = {admission: list(listed) for admission, listed in found.items()}
    return codes, Counter(code for listed in codes.values() for code in listed)


def _listed(codes: dict[str, list[str]], wanted: set[str]) -> Counter[str]:
    return Counter(code for admission in wanted for code in codes.get(admission, []))


SOURCE = Source(about=about, modality="text", settings=Mimic3Settings, files=files, prepare=prepare)
