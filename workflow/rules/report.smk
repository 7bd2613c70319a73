"""Records -> long CSV -> tables, figures, report; and at the very end the verdict."""


localrules:
    complete,


rule aggregate:
    input:
        str(PATHS.outline),
        marks,
    output:
        str(PATHS.metrics_csv),
        str(PATHS.costs_csv),
        str(PATHS.cells_csv),
        str(PATHS.curves_csv),
        str(PATHS.collected),
        update(str(PATHS.pair_weights)),
    log:
        str(PATHS.logs / "aggregate.log"),
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    shell:
        "python -m mlcl aggregate {params.study} --as-planned --log {log}"


rule tables:
    input:
        rules.aggregate.output,
    output:
        expand(str(PATHS.tables / "main.{kind}"), kind=["tex", "md", "csv"]),
        report(
            update(directory(str(PATHS.tables))),
            patterns=["{table}.{form,csv|pdf}"],
            caption="../report/table.rst",
            category="Tables",
            labels={"Table": "{table}", "Form": "{form}"},
        ),
    log:
        str(PATHS.logs / "tables.log"),
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
        captions=TableCaptions(PATHS.tables),
    shell:
        "python -m mlcl tables {params.study} --as-planned --keep-going --log {log}"


rule figures:
    input:
        rules.aggregate.output,
    output:
        report(
            update(directory(str(PATHS.figures))),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="Figures",
            labels=figure_labels,
        ),
    log:
        str(PATHS.logs / "figures.log"),
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
        captions=FigureCaptions(PATHS.figures),
    shell:
        "python -m mlcl figures {params.study} --as-planned --keep-going --log {log}"


rule report:
    input:
        rules.aggregate.output,
        rules.tables.output,
        rules.figures.output,
    output:
        report(
            str(PATHS.report),
            caption="../report/study.rst",
            category="Report",
            labels={"Page": "report"},
        ),
    log:
        str(PATHS.logs / "report.log"),
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    shell:
        "python -m mlcl report {params.study} --as-planned --keep-going --log {log}"


rule complete:
    input:
        rules.report.output,
    output:
        str(PATHS.complete),
    log:
        str(PATHS.logs / "complete.log"),
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    shell:
        "python -m mlcl status {params.study} --as-planned --complete {output} --log {log}"


rule retry_failed:
    input:
        complete_after_retry,
