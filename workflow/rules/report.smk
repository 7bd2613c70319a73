"""Records -> long CSV files, tables, figures and the report, in one process; and at the very end the verdict.

Loading the libraries takes longer than each of these parts, so they are not rules of their own.
"""


localrules:
    complete,


rule report:
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
        expand(str(PATHS.tables / "main.{kind}"), kind=["tex", "md", "csv"]),
        report(
            update(directory(str(PATHS.tables))),
            patterns=["{table}.{form,csv|pdf}"],
            caption="../report/table.rst",
            category="Tables",
            labels={"Table": "{table}", "Form": "{form}"},
        ),
        report(
            update(directory(str(PATHS.figures))),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="Figures",
            labels=figure_labels,
        ),
        page=report(
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
        table_captions=TableCaptions(PATHS.tables),
        figure_captions=FigureCaptions(PATHS.figures),
    shell:
        "python -m mlcl report {params.study} --all --as-planned --keep-going --log {log}"


rule complete:
    input:
        rules.report.output.page,
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
