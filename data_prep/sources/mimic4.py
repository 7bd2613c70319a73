"""MIMIC-IV: discharge summaries with ICD-9 or ICD-10 codes.

Files of PhysioNet's MIMIC-IV 2.2 (hosp/diagnoses_icd.csv, hosp/procedures_icd.csv) and MIMIC-IV-Note 2.2
(note/discharge.csv), gzipped or not. Without splits of their own: admissions are split by patient, 80 / 10 / 10 %.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.labels import by_frequency
from data_prep.readers.splits import assign_groups
from data_prep.source import About, RawFile, RawPaths, Settings, Source
from data_prep.sources._mimic import Spool, caml_words, dotted, table

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

NOTES = RawFile("note/discharge.csv")
CODES = {RawFile("hosp/diagnoses_icd.csv"): False, RawFile("hosp/procedures_icd.csv"): True}


class Mimic4Settings(Settings):
    """Which codes, and how admissions are split."""

    icd: Literal[9, 10] = Field(
        default=10, description="version of the codes; admissions coded in it are used"
    )
    min_count: int = Field(default=10, ge=1, description="admissions that a code needs to be kept")
    val: float = Field(default=0.1, gt=0, lt=0.5, description="share of patients for validation")
    test: float = Field(default=0.1, gt=0, lt=0.5, description="share of patients for the test")
    seed: int = Field(default=0, ge=0, description="which patients")


CITATIONS = {"johnson2023mimiciv": ""}


def about(settings: Mimic4Settings) -> About:
    """Title of the chosen version of the codes."""
    return About(
        title=f"MIMIC-IV (ICD-{settings.icd})",
        citation="Johnson et al.: MIMIC-IV, a freely accessible electronic health record dataset. Scientific Data 10, "
        "2023.",
        homepage="https://physionet.org/content/mimic-iv-note/2.2/",
        licence="PhysioNet Credentialed Health Data Use Agreement; may not be shared.",
        by_hand="become a credentialed user of PhysioNet, sign the agreements of MIMIC-IV and MIMIC-IV-Note, put "
        "hosp/diagnoses_icd.csv.gz, hosp/procedures_icd.csv.gz and note/discharge.csv.gz here",
    )


def prepare(settings: Mimic4Settings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the discharge summaries of the admissions that are coded in the chosen version."""
    codes, patients = _codes(settings, raw)
    counts = Counter(code for listed in codes.values() for code in listed)
    frequent = Counter({code: count for code, count in counts.items() if count >= settings.min_count})
    if not frequent:
        raise DataError(
            f"mimic4: no ICD-{settings.icd} code has {settings.min_count} admissions; lower min_count"
        )
    writer.labels(by_frequency(frequent))
    writer.note(
        f"Codes of fewer than {settings.min_count} admissions are left out. Split by patient, at random."
    )
    with Spool() as spool:
        for _, (admission, text) in table(raw[NOTES.path], ("hadm_id", "text")):
            if admission in codes:
                spool.add(admission, caml_words(text))
        admissions = [admission for admission in codes if admission in spool]
        shares = {"train": 1 - settings.val - settings.test, "val": settings.val, "test": settings.test}
        splits = assign_groups([patients[admission] for admission in admissions], shares, settings.seed)
        for admission, split in zip(admissions, splits, strict=True):
            labels = [code for code in codes[admission] if code in frequent]
            writer.split(split).add(admission, labels, spool.text(admission))


def _codes(settings: Mimic4Settings, raw: RawPaths) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Admission -> its codes of the chosen version, and -> its patient."""
    found: dict[str, dict[str, None]] = {}
    patients: dict[str, str] = {}
    columns = ("subject_id", "hadm_id", "icd_code", "icd_version")
    for file, procedure in CODES.items():
        for _, (patient, admission, code, version) in table(raw[file.path], columns):
            if version.strip() == str(settings.icd):
                found.setdefault(admission, {})[dotted(code, procedure, settings.icd)] = None
                patients[admission] = patient
    return {admission: list(listed) for admission, listed in found.items()}, patients


SOURCE = Source(
    about=about,
    modality="text",
    settings=Mimic4Settings,
    files=lambda settings: (NOTES, *CODES),
    prepare=prepare,
)
