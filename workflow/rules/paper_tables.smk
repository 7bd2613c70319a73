"""Tables and figures from the records that exist. Depends on nothing, so it never prepares or trains."""


localrules:
    paper_tables,


rule paper_tables:
    log:
        str(PATHS.logs / "paper_tables.log"),
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    shell:
        "python -m mlcl report {params.study} --all --as-planned --log {log}"
