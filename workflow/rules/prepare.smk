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
    conda:
        ENVIRONMENT
    shell:
        "python -m mlcl prepare {input} --log {log}"
