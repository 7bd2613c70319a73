"""Raw files -> prepared datasets, shared by all studies that ask for the same thing."""


rule prepare:
    input:
        ancient(dataset_request),
    output:
        str(PREPARED / "{dataset}-{digest}" / "card.json"),
    log:
        str(PATHS.logs / "{dataset}" / "prepare-{digest}.log"),
    wildcard_constraints:
        digest="[0-9a-f]{12}",
    priority: BEFORE_CELLS
    conda:
        ENVIRONMENT
    shell:
        "python -m mlcl prepare {input} --log {log}"


rule dataset_cards:
    input:
        prepared_cards,
    log:
        str(PATHS.logs / "dataset_cards.log"),
    conda:
        ENVIRONMENT
    params:
        study=str(STUDY_FILE),
        data_root=DATA_ROOT_OPTION,
    shell:
        "python -m mlcl cards {params.study:q} {params.data_root} 2>&1 | tee {log}"
