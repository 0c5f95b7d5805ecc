# Every target sets up .venv by itself and re-installs when pyproject.toml changes.
# PY chooses the interpreter that makes the environment: make test PY=python3.12
PY ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
CROSSCHECK := .venv-crosscheck

.PHONY: install demo test lint bench faults fuzz leaderboard crosscheck clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PY) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/xbench run suite=chestxray

test: $(STAMP)
	$(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy xbench plugins

# Ratios against bare passes, in one run: a table and bench.json. An idle machine is needed; about half an hour on 2 cores.
bench: $(STAMP)
	$(BIN)/python tests/benchmarks/bench.py

# Kill, stop, fill and damage a run at random moments, and hold its table against an undisturbed one: the tests do 8 rounds.
# Nobody may edit the checkout meanwhile; SEED=N draws the same faults again.
faults: $(STAMP)
	$(BIN)/python tests/faults/campaign.py --rounds 50 $(if $(SEED),--seed $(SEED))

# Hostile files and arguments for every reader and every verb: the tests do 2,000. What fails is kept in fuzz-failures/.
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz.py --inputs 20000 $(if $(SEED),--seed $(SEED))

# Run the quick protocol of every suite and accept its records. The code is installed from the last commit, not edited in place:
# every record names it.
SUITES := chestxray mnist learning food anole
CLEAN := PYTHONPATH=$(CURDIR)/.leaderboard/site $(BIN)/python .leaderboard/site/bin/xbench
leaderboard: $(STAMP)
	rm -rf .leaderboard
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target .leaderboard/site .
	for suite in $(SUITES); do $(CLEAN) run suite=$$suite out=.leaderboard/$$suite || exit 1; done
	for suite in $(SUITES); do $(CLEAN) submit .leaderboard/$$suite --to leaderboard || exit 1; done
	$(CLEAN) leaderboard leaderboard --write

$(CROSSCHECK)/.installed: pyproject.toml tests/crosscheck/requirements.txt
	test -x $(CROSSCHECK)/bin/python || $(PY) -m venv $(CROSSCHECK)
	$(CROSSCHECK)/bin/python -m pip install -q --disable-pip-version-check -e . -r tests/crosscheck/requirements.txt
	touch $@

# Compare the metrics with independent implementations, in an environment of their own: tests/crosscheck/README.md.
crosscheck: $(CROSSCHECK)/.installed
	$(CROSSCHECK)/bin/python -m pytest -q tests/crosscheck

clean:
	rm -rf .venv $(CROSSCHECK) .leaderboard runs bench.json fuzz-failures
