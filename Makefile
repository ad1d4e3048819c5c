# Needs only Python >= 3.11, make and the package registries. Everything lives in .venv.
PYTHON ?= python3
PORT ?= 8360
DATA ?= portal-data
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo trainer test check check-js compose-check bench battery screenshots format lock vendor wheel clean

demo: $(VENV)/.serve
	$(BIN)/portal demo --data "$(DATA)" --port $(PORT)

# What a worker on this machine trains with: torch and transformers, in an environment of their own.
trainer: $(VENV)/trainer/built

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadgroup $(TEST_OPTIONS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/djlint templates --lint --quiet
	$(BIN)/djlint templates --check --quiet
	$(BIN)/python -m pytest -q tests/test_migrations.py

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench

# Bad inputs, injected faults and broken runs, with their figures; LONG=1 for all of it.
battery: $(VENV)/.dev
	$(BIN)/python -m tests.battery $(if $(LONG),--long) $(BATTERY_OPTIONS)

# Every page at two widths in light and dark, to tests/browser/screenshots; OF names the data folder of a portal to picture.
screenshots: $(VENV)/.dev
	$(BIN)/python -m tests.browser.screenshots $(OF)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	-$(BIN)/djlint templates --reformat --quiet

# Hashes and versions only: the files name no registry.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile -q --universal --generate-hashes pyproject.toml -o requirements/prod.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --group dev pyproject.toml -o requirements/dev.txt
	for set in new old; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	  requirements/clients-$$set.in -o requirements/clients-$$set.txt || exit 1; done
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes requirements/trainer.in -o requirements/trainer.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes requirements/ray.in -o requirements/ray.txt

# Needs node and npm.
check-js:
	cd .ci/js && npm ci --silent
	.ci/js/node_modules/.bin/eslint --config .ci/js/eslint.config.js --max-warnings 0 static/js

# Needs Docker, and says so where there is none. Takes minutes (images, demo, three jobs), so .ci/run leaves it to whoever has an engine.
# WHAT=bridges looks at .compose/bridges.yaml.
compose-check: $(VENV)/.dev
	$(BIN)/python -m tests.compose $(WHAT)

# Needs node and npm, and only after a version in static/vendor/package.json changed: the results are committed.
vendor:
	node static/vendor/vendor.mjs

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf dist build .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt

# What serving needs.
$(VENV)/.serve: $(BIN)/python requirements/prod.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/prod.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

# Torch apart from the locked rest: one version of it has many builds, each with its own hash.
$(VENV)/trainer/built: requirements/trainer.txt | $(BIN)/python
	rm -rf $(VENV)/trainer
	$(BIN)/uv venv --quiet --seed --python $(BIN)/python $(VENV)/trainer
	$(BIN)/uv pip install --quiet --python $(VENV)/trainer/bin/python --require-hashes -r requirements/trainer.txt
	$(VENV)/trainer/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	touch $@

# What tests and checks need besides.
$(VENV)/.dev: $(BIN)/python requirements/dev.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.serve
