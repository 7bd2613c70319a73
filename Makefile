# The words that people type. Each is one command of CONTRIBUTING.md.
PYTHON ?= python3
RUN = $(PYTHON) bootstrap.py

.PHONY: help setup test lint docs wheels study
help:
	@echo "make setup   the environment in .venv, from requirements.lock"
	@echo "make test    the tests, in two processes (eight minutes on two cores)"
	@echo "make lint    format, lint, types, as CI checks them"
	@echo "make docs    the site, in build/site"
	@echo "make wheels  builds both distributions, and tests each from its wheel"
	@echo "make study   a small study from data to report (a minute)"

setup:
	$(RUN) python --version

test:
	$(RUN) pytest -n 2 --dist loadfile

lint:
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow

docs:
	test -d build/site-env || $(PYTHON) -m venv build/site-env
	build/site-env/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs/site/requirements.lock
	$(RUN) python docs/run_tutorials.py
	build/site-env/bin/mkdocs build --strict

wheels:
	$(RUN) python distributions/check.py $(if $(PYTHONS),--python $(PYTHONS))

study:
	$(RUN) snakemake --cores all --config study=config/studies/small.yaml
