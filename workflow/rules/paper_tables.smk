"""Tables and figures from the records that exist. Depends on nothing, so it never prepares or trains."""


localrules:
    paper_tables,


rule paper_tables:
    log:
        str(PATHS.logs / "paper_tables.log"),
    shell:
        "{PYTHON} -m mlcl tables {STUDY} --partial --log {log} && "
        "{PYTHON} -m mlcl figures {STUDY} --log {log} && "
        "{PYTHON} -m mlcl report {STUDY} --log {log}"
