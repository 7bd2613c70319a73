"""mlcl: from datasets to tables and figures.

    snakemake --cores all                                            the default study, config/default.yaml
    snakemake --cores all --config study=config/studies/x.yaml       another one
    snakemake paper_tables --cores 1                                 tables and figures from the records that exist
    snakemake retry_failed --cores all                               the failed cells once more
    snakemake --report report.html                                   all of it in Snakemake's own report

What is made, where and why stands in docs/architecture.md; the settings of a run (quiet output, what triggers a
rerun) in profiles/default/profile.yaml.
"""

from snakemake.utils import min_version

min_version("9.19")


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


rule all:
    input:
        PATHS.complete,


include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/paper_tables.smk"
