"""A pytest plugin: one JSON line for each test, as soon as it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import results


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--append", type=Path, help="Append a JSON line for each test to this file.")


class Log:
    def __init__(self, file: Path) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            message = str(report.longrepr).strip().splitlines()[-1:] if report.failed else []
            if report.skipped and isinstance(report.longrepr, tuple):
                message = [str(report.longrepr[2])]
            results.add(
                self.file,
                "tests",
                test=report.nodeid,
                outcome=report.outcome,
                seconds=round(report.duration, 3),
                message="".join(message)[:300],
            )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--append")
    if file is not None and not hasattr(
        config, "workerinput"
    ):  # with xdist, the controller hears of all tests
        config.pluginmanager.register(Log(file), "campaign-log")
