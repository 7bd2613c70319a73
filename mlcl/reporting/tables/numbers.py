r"""The study's numbers for running text, as LaTeX macros: `\mlcl{digit_scenes/cnn/reg/macro_f1}` gives 85.2."""

from __future__ import annotations

from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.results import Results

HEAD = r"""% Made by mlcl from {source}; changes here are lost. In the preamble: \input{{numbers.tex}}
% \mlcl{{dataset/encoder/loss/metric}} prints a mean over seeds, with /sd its standard deviation, with /n the seeds;
% a variant stands after the loss: dataset/encoder/loss/variant/metric. An unknown name is an error.
\providecommand{{\mlcl}}[1]{{\ifcsname mlcl:#1\endcsname\csname mlcl:#1\endcsname\else
  \errmessage{{mlcl: there is no number #1}}\fi}}
"""


def render(results: Results) -> str:
    """All rows of the grid that have a value, for the metrics of the table, on the table's split."""
    outline, lines = results.outline, []
    for dataset, encoder, loss, variant in results.rows:
        for name in outline.metrics:
            summary = results.mean_sd_n((dataset, encoder, loss, variant), outline.split, name)
            if summary is None:
                continue
            mean, sd, n = summary
            info = metric_info(name)
            key = "/".join([dataset, encoder, loss, *([] if variant == "base" else [variant]), name])
            lines.append(_define(key, f"{mean * info.scale:.{info.decimals}f}"))
            if n > 1:
                lines.append(_define(f"{key}/sd", f"{sd * info.scale:.{info.decimals}f}"))
            lines.append(_define(f"{key}/n", str(n)))
    return "\n".join([HEAD.format(source=results.paths.metrics_csv), *lines, ""])


def _define(key: str, text: str) -> str:
    return rf"\expandafter\def\csname mlcl:{key}\endcsname{{{text}}}"
