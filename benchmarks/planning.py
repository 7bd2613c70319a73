"""What planning and a dry run of a large grid cost: 10 losses x 6 encoders x 10 datasets x N seeds; nothing is trained.

    python -m benchmarks.planning                3,000 cells (half a minute)
    python -m benchmarks.planning --seeds 50     30,000 cells (minutes)

Seconds are CPU time of Snakemake and all that it starts; `megabytes` is the largest of these processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
LOSSES = (
    "bce", "asl", "zlpr", "focal", "supcon_any", "supcon_all", "jaccard", "mulsupcon", "simdissim", "prototype",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    study = {
        "title": "A large grid",
        "seeds": list(range(options.seeds)),
        "datasets": {f"scenes{k}": {"source": "digit_scenes", "seed": k} for k in range(10)},
        "encoders": {"image": {f"cnn{k}": {"name": "cnn", "width": 8 + 4 * k} for k in range(6)}},
        "losses": dict.fromkeys(LOSSES),
        "baselines": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Snakefile", "workflow", "profiles"):
            (Path(folder) / name).symlink_to(ROOT / name)
        file = Path(folder) / "large_grid.yaml"
        file.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-n",
            "--quiet",
            "all",
            "--config",
            f"study={file.name}",
        ]
        subprocess.run(command, check=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = options.seeds * 10 * 6 * len(LOSSES)
    print(
        f"{cells} cells: {used.ru_utime + used.ru_stime:.1f} CPU seconds, {used.ru_maxrss / 1024:.0f} megabytes"
    )


if __name__ == "__main__":
    main()
