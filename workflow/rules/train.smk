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
    conda:
        ENVIRONMENT
    threads: cell_threads
    resources:
        gpu=cell_gpus,
    shell:
        "python -m mlcl train {input.request} --log {log}"
