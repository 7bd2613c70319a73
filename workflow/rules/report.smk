"""Records -> long CSV -> tables, figures, report; and at the very end the verdict."""


localrules:
    aggregate,
    tables,
    figures,
    report,
    complete,


rule aggregate:
    input:
        str(PATHS.outline),
        [str(PATHS.record(planned.cell.id)) for planned in PLAN.cells],
    output:
        str(PATHS.metrics_csv),
        str(PATHS.costs_csv),
        str(PATHS.cells_csv),
    log:
        str(PATHS.logs / "aggregate.log"),
    shell:
        "{PYTHON} -m mlcl aggregate {STUDY} --log {log}"


rule tables:
    input:
        rules.aggregate.output,
    output:
        expand(str(PATHS.tables / "main.{kind}"), kind=["tex", "md", "csv"]),
    log:
        str(PATHS.logs / "tables.log"),
    shell:
        "{PYTHON} -m mlcl tables {STUDY} --log {log}"


rule figures:
    input:
        rules.aggregate.output,
    output:
        touch(str(PATHS.figures / ".drawn")),
    log:
        str(PATHS.logs / "figures.log"),
    shell:
        "{PYTHON} -m mlcl figures {STUDY} --log {log}"


rule report:
    input:
        rules.aggregate.output,
        rules.tables.output,
        rules.figures.output,
    output:
        str(PATHS.report),
    log:
        str(PATHS.logs / "report.log"),
    shell:
        "{PYTHON} -m mlcl report {STUDY} --log {log}"


rule complete:
    input:
        rules.report.output,
    output:
        str(PATHS.complete),
    log:
        str(PATHS.logs / "complete.log"),
    shell:
        "{PYTHON} -m mlcl status {STUDY} --complete {output} --log {log}"


rule retry_failed:
    input:
        complete_after_retry,
