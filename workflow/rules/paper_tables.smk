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
        "python -m mlcl tables {params.study} --as-planned --partial --log {log} && "
        "python -m mlcl figures {params.study} --as-planned --log {log} && "
        "python -m mlcl report {params.study} --as-planned --log {log}"
