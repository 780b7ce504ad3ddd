# `make demo` and `make test` do all set-up on a bare clone, in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check test-smollm2 controls docs docs-full bench bench-checks bench-studio lint-faults clean

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/ready
	$(BIN)/charactery train captain

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/test_docs.py

test-smollm2: .venv/ready
	$(BIN)/python -m pytest -m smollm2

# every eval's scripted subjects: planted against recovered, and 2,000 drawn data sets of each
controls: .venv/ready
	$(BIN)/charactery eval all --controls --sets 2000

check: .venv/ready
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m charactery.cli.reference --check docs/cli.md
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/test_docs.py
	$(BIN)/mkdocs build --strict

docs: .venv/ready
	$(BIN)/python -m charactery.cli.reference docs/cli.md
	$(BIN)/mkdocs build --strict

docs-full: .venv/ready
	$(BIN)/python -m pytest tests/test_docs.py -m smollm2

# DATA=DIR holds political_typology.jsonl.gz; ROW=name runs one row; FULL=1 runs the full sizes
bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/help_time.py
	$(BIN)/python -m benchmarks.speed $(if $(DATA),--data "$(DATA)") $(if $(ROW),--row "$(ROW)") $(if $(FULL),--full)

# what the fast paths keep of the plain ones, and how cost grows: some fifteen minutes
bench-checks: .venv/ready
	$(BIN)/python -m benchmarks.speed.checks

# the studio in Chromium; ROW=name measures one row
bench-studio: .venv/ready
	$(BIN)/python benchmarks/studio.py $(if $(ROW),--row "$(ROW)")

# precision and recall of the lint rules; DATA=DIR holds OpenCharacterTraining's constitutions
lint-faults: .venv/ready
	$(BIN)/python benchmarks/lint_faults.py --data "$(DATA)"

clean:
	rm -rf .venv site dist build
