"""Datasets whose files are not at hand: tiny files in the exact official layout (sources cited in each module)."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data_prep
from data_prep import DataError
from mlcl.data import PreparedDataset, open_dataset


def prepare(root: Path, name: str, **settings: object) -> PreparedDataset:
    out = root / f"prepared_{len(list(root.glob('prepared_*')))}"
    data_prep.prepare(data_prep.plan(name, settings, root, accept_local=True), root, out)
    return open_dataset(out)


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_zip(path: Path, files: dict[str, str | bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def make_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def picture(value: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (value, value, value)).save(file, kind)
    return file.getvalue()


def rows_of(dataset: PreparedDataset, *splits: str) -> dict[str, list[str]]:
    """id -> label names, sorted."""
    return {
        str(row_id): sorted(dataset.label_names[number] for number in np.flatnonzero(labels))
        for split in map(dataset.__getitem__, splits or ("train", "val", "test"))
        for row_id, labels in zip(split.ids, split.dense_labels(), strict=True)
    }


def sizes(dataset: PreparedDataset) -> list[int]:
    return [len(dataset[split]) for split in ("train", "val", "test")]


def sgml(number: int, split: str, topics: str, used: str = "YES") -> str:
    listed = "".join(f"<D>{topic}</D>" for topic in topics.split())
    return (
        f'<REUTERS TOPICS="{used}" LEWISSPLIT="{split}" CGISPLIT="TRAINING-SET" OLDID="1" NEWID="{number}">\n'
        f"<DATE>26-FEB-1987</DATE>\n<TOPICS>{listed}</TOPICS>\n<PLACES><D>usa</D></PLACES>\n"
        f"<TEXT>&#2;\n<TITLE>TITLE {number}</TITLE>\n<DATELINE>X, Feb 26 - </DATELINE>"
        f"<BODY>Body &lt;of&gt; {number}\n caf\xe9 Reuter\n&#3;</BODY></TEXT>\n</REUTERS>\n"
    )


def test_reuters_modapte(tmp_path: Path) -> None:
    documents = [sgml(number, "TRAIN", "earn acq" if number % 2 else "earn") for number in range(1, 21)]
    documents += [
        sgml(21, "TEST", "earn"),
        sgml(22, "TEST", "acq gold"),  # gold has no training document
        sgml(23, "TEST", "gold"),
        sgml(24, "TRAIN", "rare"),
        sgml(25, "TRAIN", "earn", used="NO"),
        sgml(26, "NOT-USED", "earn"),
        sgml(27, "TRAIN", ""),
    ]
    text = '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n' + "".join(documents)
    make_tar(tmp_path / "reuters21578" / "reuters21578.tar.gz", {"./reut2-000.sgm": text.encode("latin-1")})
    dataset = prepare(tmp_path, "reuters21578")
    assert dataset.label_names == ["earn", "acq"]
    assert sizes(dataset) == [18, 2, 2]
    assert rows_of(dataset, "test") == {"21": ["earn"], "22": ["acq"]}
    assert dataset["test"].texts[0] == "TITLE 21 Body <of> 21 café Reuter \x03".replace(" \x03", "")


def test_aapd(tmp_path: Path) -> None:
    files = {}
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        files[f"text_{split}"] = "".join(f"abstract {number} of {split}\n" for number in range(count))
        files[f"label_{split}"] = "cs.it math.it\n" * (count - 1) + "cs.lg\n"
    write(tmp_path / "aapd", files)
    dataset = prepare(tmp_path, "aapd")
    assert sizes(dataset) == [3, 1, 2]
    assert dataset.label_names == ["cs.it", "cs.lg", "math.it"]
    assert rows_of(dataset, "test") == {"test-0": ["cs.it", "math.it"], "test-1": ["cs.lg"]}
    write(tmp_path / "aapd", {"label_test": "cs.lg\n"})
    with pytest.raises(DataError, match="different numbers of lines"):
        prepare(tmp_path, "aapd")


def test_rcv1(tmp_path: Path) -> None:
    def documents(numbers: range) -> bytes:
        return "".join(
            f".I {number}\n.W\nrecov excit bring\nmexic {number}\n\n" for number in numbers
        ).encode()

    files: dict[str, str | bytes] = {
        "lyrl2004_tokens_train.dat.gz": gzip.compress(documents(range(2286, 2296)))
    }
    for part in range(4):
        files[f"lyrl2004_tokens_test_pt{part}.dat.gz"] = gzip.compress(
            documents(range(30000 + part, 30001 + part))
        )
    topics = [f"E11 {number} 1\nECAT {number} 1\n" for number in range(2286, 2296)] + [
        "M11 30000 1\nECAT 30002 1\n"
    ]
    write(tmp_path / "rcv1", {**files, "rcv1-v2.topics.qrels.gz": gzip.compress("".join(topics).encode())})
    dataset = prepare(tmp_path, "rcv1")
    assert sizes(dataset) == [9, 1, 4]
    assert dataset.label_names == ["ECAT", "E11", "M11"]
    assert rows_of(dataset, "test") == {"30000": ["M11"], "30001": [], "30002": ["ECAT"], "30003": []}
    assert dataset["test"].texts[1] == "recov excit bring mexic 30001"


@pytest.mark.parametrize("labels", [18, 69])
def test_uklex(tmp_path: Path, labels: int) -> None:
    rows = [
        {
            "id": f"uk{n}",
            "title": "Act",
            "body": f"body {n}",
            "labels": ["TAX", "ROAD"][: 1 + n % 2],
            "year": 2000 + n,
        }
        for n in range(4)
    ]
    lines = [
        json.dumps({**row, "data_type": kind})
        for row, kind in zip(rows, ("train", "train", "dev", "test"), strict=True)
    ]
    write(tmp_path / "uklex", {f"uk-lex{labels}.jsonl": "\n".join(lines)})
    dataset = prepare(tmp_path, "uklex", labels=labels)
    assert rows_of(dataset, "train") == {"uk0": ["TAX"], "uk1": ["ROAD", "TAX"]}
    assert list(dataset["test"].texts) == ["Act body 3"]
    assert str(labels) in dataset.card["title"]


def test_eurlex57k(tmp_path: Path) -> None:
    def law(number: int) -> str:
        return json.dumps(
            {
                "celex_id": f"3198{number}",
                "title": "t",
                "header": "Header",
                "recitals": ", recital",
                "main_body": ["One", "Two"],
                "eurovoc_concepts": ["192", "2356"][: 1 + number % 2],
            }
        )

    files = {"train.jsonl": f"{law(1)}\n{law(2)}\n", "dev.jsonl": law(3), "test.jsonl": law(4)}
    make_zip(tmp_path / "eurlex57k" / "dataset.zip", files)
    dataset = prepare(tmp_path, "eurlex57k")
    assert rows_of(dataset) == {
        "31981": ["192", "2356"],
        "31982": ["192"],
        "31983": ["192", "2356"],
        "31984": ["192"],
    }
    assert dataset["val"].texts[0] == "Header , recital One Two"
    make_zip(tmp_path / "eurlex57k" / "dataset.zip", {**files, "dev.jsonl": '{"celex_id": "1"}'})
    with pytest.raises(DataError, match=r"dev\.jsonl:1: not a law as documented \(KeyError: 'header'\)"):
        prepare(tmp_path, "eurlex57k")


def test_bgc(tmp_path: Path) -> None:
    def book(number: int) -> str:
        return (
            f'<book date="2018-08-18" xml:lang="en">\n<title>Title {number}</title>\n'
            f"<body>Blurb &amp; {number}</body>\n"
            "<copyright>(c) Penguin Random House</copyright>\n<metadata>\n<topics>\n"
            "<d0>Fiction</d0><d1>Mystery &amp; Suspense</d1>\n</topics>\n<author>A</author><isbn>978</isbn>\n"
            "</metadata>\n</book>\n"
        )

    files = {
        f"BlurbGenreCollection_EN_{name}.txt": "".join(map(book, range(count)))
        for name, count in (("train", 3), ("dev", 1), ("test", 2))
    }
    make_zip(tmp_path / "bgc" / "blurbgenrecollectionen.zip", files)
    dataset = prepare(tmp_path, "bgc")
    assert sizes(dataset) == [3, 1, 2]
    assert dataset.label_names == ["Fiction", "Mystery & Suspense"]
    assert dataset["test"].texts[1] == "Blurb & 1"


def test_mimic3(tmp_path: Path) -> None:
    notes = ['"ROW_ID","SUBJECT_ID","HADM_ID","CHARTDATE","CATEGORY","DESCRIPTION","TEXT"']
    summary = '2100-01-01,"Discharge summary","Report","Admitted 7\nwith ""pain"""'
    notes += [f"1,{admission},{admission},{summary}" for admission in range(100, 106)]
    notes.append('2,100,100,2100-01-02,"Discharge summary","Addendum","More 12 on 100"')
    notes.append('3,100,100,2100-01-02,"Nursing","Report","not used"')
    diagnoses = ['"ROW_ID","SUBJECT_ID","HADM_ID","SEQ_NUM","ICD9_CODE"']
    diagnoses += [f'1,{n},{n},1,"4019"' for n in range(100, 106)] + ['1,100,100,2,"E8497"', '1,101,101,2,""']
    procedures = [
        '"ROW_ID","SUBJECT_ID","HADM_ID","SEQ_NUM","ICD9_CODE"',
        '1,100,100,1,"3893"',
        '1,105,105,1,"3893"',
    ]
    files = {
        "NOTEEVENTS.csv.gz": gzip.compress("\n".join(notes).encode()),
        "DIAGNOSES_ICD.csv": "\n".join(diagnoses),
        "PROCEDURES_ICD.csv": "\n".join(procedures),
    }
    for kind in ("full", "50"):
        lists = {"train": "100\n101\n102\n", "dev": "103\n", "test": "104\n105\n"}
        files |= {f"{split}_{kind}_hadm_ids.csv": listed for split, listed in lists.items()}
    write(tmp_path / "mimic3", files)
    full = prepare(tmp_path, "mimic3")
    assert full.label_names == ["401.9", "38.93", "E849.7"]
    assert rows_of(full, "train")["100"] == ["38.93", "401.9", "E849.7"]
    assert full["train"].texts[0] == "admitted with pain more on"
    top = prepare(tmp_path, "mimic3", codes="50")
    assert top.card["title"] == "MIMIC-III-50"
    write(tmp_path / "mimic3", {"dev_full_hadm_ids.csv": "999\n"})
    with pytest.raises(DataError, match="no discharge summary of admission 999"):
        prepare(tmp_path, "mimic3")


def test_mimic4(tmp_path: Path) -> None:
    header = "subject_id,hadm_id,seq_num,icd_code,icd_version"
    diagnoses = (
        [header] + [f"{n // 2},{n},1,I10,10\n{n // 2},{n},2,E1165,10" for n in range(40)] + ["99,99,1,4019,9"]
    )
    procedures = ["subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version", "0,0,1,2100-01-01,02HV33Z,10"]
    notes = ["note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text"]
    notes += [f'{n},{n // 2},{n},DS,1,2100-01-01,2100-01-01,"Note of {n}\nend"' for n in range(40)]
    write(
        tmp_path / "mimic4",
        {
            "hosp/diagnoses_icd.csv.gz": gzip.compress("\n".join(diagnoses).encode()),
            "hosp/procedures_icd.csv.gz": gzip.compress("\n".join(procedures).encode()),
            "note/discharge.csv.gz": gzip.compress("\n".join(notes).encode()),
        },
    )
    dataset = prepare(tmp_path, "mimic4")
    assert dataset.label_names == ["E11.65", "I10"]
    assert sizes(dataset) == [32, 4, 4]
    patients = [{int(row_id) // 2 for row_id in dataset[split].ids} for split in ("train", "val", "test")]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    with pytest.raises(DataError, match="no ICD-9 code has 10 admissions"):
        prepare(tmp_path, "mimic4", icd=9)


def test_ucm_multilabel(tmp_path: Path) -> None:
    names = [f"{kind}{number:02d}" for kind in ("agricultural", "airplane") for number in range(10)]
    table = ["IMAGE\\LABEL\tairplane\tbare-soil\twater"] + [
        f"{name}\t{'air' in name:d}\t1\t0" for name in names
    ]
    write(tmp_path / "ucm_multilabel", {"LandUse_Multilabeled.txt": "\n".join(table) + "\n"})
    images = {f"UCMerced_LandUse/Images/{name[:-2]}/{name}.tif": picture(9, "TIFF") for name in names}
    make_zip(tmp_path / "ucm_multilabel" / "UCMerced_LandUse.zip", images)
    dataset = prepare(tmp_path, "ucm_multilabel", size=8)
    assert sizes(dataset) == [14, 2, 4]
    assert rows_of(dataset)["airplane03"] == ["airplane", "bare-soil"]
    assert rows_of(dataset)["agricultural03"] == ["bare-soil"]


@pytest.mark.parametrize("zipped", [False, True])
def test_ucm_multilabel_as_jpeg_with_labels_in_a_zip(tmp_path: Path, zipped: bool) -> None:
    """The form of the mirrors: the images as .jpg, some in capitals; the list of labels as multilabels.zip."""
    names = [f"{kind}{number:02d}" for kind in ("beach", "river") for number in range(10)]
    listed = "IMAGE\\LABEL\tsand\twater\r\n" + "".join(
        f"{name}\t{'beach' in name:d}\t1\r\n" for name in names
    )
    folder = tmp_path / "ucm_multilabel"
    images: dict[str, str | bytes] = {
        f"UCMerced_LandUse/Images/{name[:-2]}/{name}.{'JPG' if name.endswith('3') else 'jpg'}": picture(
            9 * number
        )
        for number, name in enumerate(names)
    }
    make_zip(folder / "UCMerced_LandUse.zip", {**images, "__MACOSX/._beach00.jpg": b"x", "readme.txt": "r"})
    if zipped:
        make_zip(
            folder / "multilabels.zip",
            {"multilabels/LandUse_Multilabeled.txt": listed, "multilabels/a.mat": b""},
        )
    else:
        write(folder, {"LandUse_Multilabeled.txt": listed})
    dataset = prepare(tmp_path, "ucm_multilabel", size=8)
    assert rows_of(dataset) == {name: ["sand", "water"] if "beach" in name else ["water"] for name in names}
    shades = {
        str(row_id): int(image.mean())
        for split in map(dataset.__getitem__, ("train", "val", "test"))
        for row_id, image in zip(split.ids, split.images, strict=True)
    }
    assert all(abs(shades[name] - 9 * number) <= 2 for number, name in enumerate(names))
    make_zip(folder / "UCMerced_LandUse.zip", dict(list(images.items())[1:]))
    with pytest.raises(DataError, match=r"UCMerced_LandUse\.zip: has no image beach00"):
        prepare(tmp_path, "ucm_multilabel", size=8)
    for name in ("multilabels.zip", "LandUse_Multilabeled.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"neither LandUse_Multilabeled\.txt nor multilabels\.zip is there"):
        prepare(tmp_path, "ucm_multilabel", size=8)
    make_zip(folder / "multilabels.zip", {"other.txt": listed})
    with pytest.raises(DataError, match=r"multilabels\.zip: .*LandUse_Multilabeled\.txt"):
        prepare(tmp_path, "ucm_multilabel", size=8)


def test_mirflickr25k(tmp_path: Path) -> None:
    folder = tmp_path / "mirflickr25k"
    make_zip(folder / "mirflickr25k.zip", {f"mirflickr/im{n}.jpg": picture(n) for n in range(1, 31)})
    sky = "\n".join(str(n) for n in range(1, 31) if n % 5)
    annotations = {"sky.txt": sky, "sky_r1.txt": "1\n2", "sea.txt": "1\n3\n", "README.txt": "words"}
    make_zip(folder / "mirflickr25k_annotations_v080.zip", annotations)
    dataset = prepare(tmp_path, "mirflickr25k", size=8)
    assert dataset.label_names == ["sea", "sky"]
    rows = rows_of(dataset)
    assert rows["im1"] == ["sea", "sky"]
    assert "im5" not in rows
    assert dataset.card["warnings"][0]["count"] == 6
    assert sizes(prepare(tmp_path, "mirflickr25k", size=8, without_labels="keep")) == [24, 3, 3]
    make_zip(folder / "mirflickr25k_annotations_v080.zip", {**annotations, "sea.txt": "77"})
    with pytest.raises(DataError, match="lists image 77"):
        prepare(tmp_path, "mirflickr25k", size=8)


def test_nuswide(tmp_path: Path) -> None:
    images = {part: [f"actor\\{number:04d}_{part}.jpg" for number in range(10)] for part in ("Train", "Test")}
    files: dict[str, str | bytes] = {"ConceptsList/Concepts81.txt": "airport\nlake\n"}
    for part, names in images.items():
        files[f"ImageList/{part}Imagelist.txt"] = "".join(f"{name}\r\n" for name in names)
        files[f"Groundtruth/TrainTestLabels/Labels_airport_{part}.txt"] = "1\n" * 9 + "0\n"
        files[f"Groundtruth/TrainTestLabels/Labels_lake_{part}.txt"] = "1\n0\n" * 4 + "-1130179\n0\n"
        files |= {f"Flickr/{name.replace(chr(92), '/')}": picture(7) for name in names}
    write(tmp_path / "nuswide", files)
    dataset = prepare(tmp_path, "nuswide", size=8)
    assert sizes(dataset) == [8, 1, 9]  # of each part one image has no label
    assert rows_of(dataset, "test")["actor/0000_Test.jpg"] == ["airport", "lake"]
    kinds = {warning["kind"]: warning["count"] for warning in dataset.card["warnings"]}
    assert kinds["a cell that is neither 0 nor 1, read as 0"] == 2
    assert kinds["images without labels are left out"] == 2
    write(tmp_path / "nuswide", {"Groundtruth/TrainTestLabels/Labels_lake_Test.txt": "1\n"})
    with pytest.raises(DataError, match="1 lines, the list of images has 10"):
        prepare(tmp_path, "nuswide", size=8)


def chest_files() -> tuple[dict[str, str | bytes], list[str]]:
    images = [f"{patient:08d}_{number:03d}.png" for patient in range(1, 13) for number in range(2)]
    table = [
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    ]
    table += [
        f"{name},{'No Finding' if name.endswith('0.png') else 'Mass|Hernia'},0,1,058,M,PA,2682,2749,0.143,0.143,"
        for name in images
    ]
    lists = {"train_val_list.txt": "\n".join(images[:20]), "test_list.txt": "\n".join(images[20:])}
    return {"Data_Entry_2017.csv": "\n".join(table), **lists}, images


@pytest.mark.parametrize("packed", [True, False])
def test_chestxray14(tmp_path: Path, packed: bool) -> None:
    files, images = chest_files()
    write(tmp_path / "chestxray14", files)
    if packed:
        for number, part in ((1, images[:11]), (12, images[11:])):
            content = {f"images/{name}": picture(5, "PNG") for name in part}
            make_tar(tmp_path / "chestxray14" / f"images_{number:03d}.tar.gz", content)
    else:
        write(tmp_path / "chestxray14" / "images", {name: picture(5, "PNG") for name in images})
    dataset = prepare(tmp_path, "chestxray14", size=8)
    assert sizes(dataset) == [18, 2, 4]
    assert dataset.num_labels == 14
    assert rows_of(dataset, "test")["00000011_001.png"] == ["Hernia", "Mass"]
    assert rows_of(dataset, "test")["00000011_000.png"] == []
    patients = [{row_id.split("_")[0] for row_id in dataset[split].ids} for split in ("train", "val")]
    assert not patients[0] & patients[1]


def test_chestxray14_says_what_is_missing(tmp_path: Path) -> None:
    files, images = chest_files()
    write(tmp_path / "chestxray14", files)
    with pytest.raises(DataError, match=r"neither images/ nor images_001\.tar\.gz"):
        prepare(tmp_path, "chestxray14", size=8)
    make_tar(tmp_path / "chestxray14" / "images_001.tar.gz", {f"images/{images[0]}": picture(5, "PNG")})
    with pytest.raises(DataError, match="23 listed images are missing, 00000001_001"):
        prepare(tmp_path, "chestxray14", size=8)


def test_adp(tmp_path: Path) -> None:
    folder = tmp_path / "adp" / "ADP V1.0 Release"
    patches = [f"001.png_crop_{number}.png" for number in range(6)]
    table = ["Patch Names,E,E.M,C,H,S,A,M,N,G,T"] + [
        f"{name},1,0,0,0,{n % 2},0,0,0,0,0" for n, name in enumerate(patches)
    ]
    write(folder, {"ADP_EncodedLabels_Release1_Flat.csv": "\n".join(table)})
    write(folder / "img_res_1um_bicubic", {name: picture(3, "PNG") for name in patches})
    (folder / "splits").mkdir()
    for name, numbers in (("train", [0, 1, 2]), ("valid", [3]), ("test", [5, 4])):
        np.save(folder / "splits" / f"{name}.npy", np.array(numbers))
    dataset = prepare(tmp_path, "adp", size=8)
    assert dataset.num_labels == 9
    assert rows_of(dataset, "test") == {patches[5]: ["E", "S"], patches[4]: ["E"]}
    np.save(folder / "splits" / "test.npy", np.array([6]))
    with pytest.raises(DataError, match="row 6, the table has 6"):
        prepare(tmp_path, "adp", size=8)


def test_any_mulan_set_by_name(tmp_path: Path) -> None:
    header = "@relation t\n@attribute x numeric\n@attribute y {0,1}\n@data\n"
    rows = "".join(f"{number},{number % 2}\n" for number in range(10))
    files = {"tiny.xml": '<labels><label name="y"></label></labels>', "tiny-train.arff": header + rows}
    write(tmp_path / "mulan" / "tiny", {**files, "tiny-test.arff": f"{header}{{0 5,1 1}}\n{{}}\n"})
    given = prepare(tmp_path, "mulan_tiny")
    assert sizes(given) == [8, 2, 2]
    assert given["test"].vectors.tolist() == [[5], [0]]
    assert rows_of(given, "test") == {"test-0": ["y"], "test-1": []}
    (tmp_path / "mulan" / "tiny" / "tiny-test.arff").unlink()
    with pytest.raises(DataError, match=r"neither tiny-train\.arff with tiny-test\.arff nor tiny\.arff"):
        prepare(tmp_path, "mulan_tiny")
    write(tmp_path / "mulan" / "tiny", {"tiny.arff": header + rows})
    assert sizes(prepare(tmp_path, "mulan_tiny")) == [6, 1, 3]
    with pytest.raises(DataError, match=r"raw files are missing: yeats\.xml; .*known sets are .*yeast"):
        prepare(tmp_path, "mulan_yeats")


@pytest.mark.parametrize("name", ["mimic3", "mimic4", "rcv1", "adp", "nuswide", "aapd", "semeval2018_ec"])
def test_restricted_data_is_never_fetched_and_the_message_says_what_to_do(
    tmp_path: Path, name: str, monkeypatch
) -> None:
    monkeypatch.setenv("MLCL_OFFLINE", "0")
    with pytest.raises(DataError) as error:
        data_prep.plan(name, {}, tmp_path, accept_local=False)
    message = str(error.value)
    assert f"looked for in {tmp_path / name}" in message
    assert "to get them: " in message
    assert "see http" in message
