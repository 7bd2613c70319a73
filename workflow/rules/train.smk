"""A cell's request -> its record. What fails inside a cell is a record too, so that the others go on."""


rule train:
    input:
        request=request,
        card=prepared_card,
    output:
        str(PATHS.results / CELL / "metrics.json"),
    log:
        str(PATHS.logs / f"{CELL}.log"),
    conda:
        ENVIRONMENT
    threads: cell_threads
    resources:
        gpu=cell_gpus,
    shell:
        "python -m mlcl train {input.request} --log {log}"
