"""A cell's request -> its record. What fails inside a cell is a record too, so that the others go on.

The record itself is no output: Snakemake deletes outputs before a job and after one that it did not see finish. It
asks for a mark instead, which the plan sets for each cell whose record is current (mlcl/study/plan.py).
"""


rule train:
    input:
        request=request,
        card=prepared_card,
    output:
        touch(str(PATHS.bookkeeping / STUDY / CELL / "done")),
    log:
        str(PATHS.logs / f"{CELL}.log"),
    priority: cell_priority
    conda:
        ENVIRONMENT
    threads: cell_cpus
    resources:
        gpu=cell_gpus,
        gres=cell_gres,
        mem_mb=on_cluster("memory_mb", 0),
        runtime=on_cluster("minutes", 0),
        slurm_extra=on_cluster("after", None),
        cells=1,
    params:
        request=request_file,
    shell:
        # `exec`, so that a SIGTERM from the scheduler ends no shell that others wait for, but reaches the training.
        "exec python -m mlcl train {params.request} --log {log}"


rule choose:
    """Settings are chosen among the trials of a row; then its cells are requested."""
    input:
        trials,
    output:
        touch(str(PATHS.bookkeeping / STUDY / ROW / "searched")),
    log:
        str(PATHS.logs / ROW / "choose.log"),
    priority: BEFORE_CELLS
    conda:
        ENVIRONMENT
    params:
        study=str(STUDY_FILE),
        data_root=DATA_ROOT_OPTION,
    shell:
        "python -m mlcl choose {params.study:q} {wildcards.dataset}/{wildcards.encoder}/{wildcards.loss} "
        "{params.data_root} --log {log}"
