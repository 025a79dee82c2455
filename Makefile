# Every target first makes .venv; it does nothing when the lock has not changed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  "$$p" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
STAMP := .venv/.stamp

.PHONY: setup demo test check soak bench accuracy lock peers-lock schemas clean

setup: $(STAMP)

$(STAMP): requirements-dev.lock requirements-data.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "nightline needs Python 3.11, 3.12 or 3.13; none is on PATH" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-data.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m nightline.kernels
	@touch $@

demo: setup
	$(BIN)/nightline demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_schema_compat.py

# On every core, but for what starts brokers and workers of its own and measures their time.
test: check
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/integration
	$(BIN)/python -m pytest tests/integration

# Long proofs (docs/RELIABILITY.md) and everything against a real Kafka: some 40 minutes. Ends with a table of what was
# injected and what was lost.
soak: setup
	$(BIN)/python -m pytest -m "soak or kafka" -v

bench: setup
	$(BIN)/nightline bench

# What is found on the development data sets: some 5 minutes, to out/accuracy/accuracy.md
accuracy: setup
	$(BIN)/python -m benchmarks.accuracy

schemas: setup
	$(BIN)/python -m tests.schemas

# Hashes without addresses: the lock names no registry.
lock:
	uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url -o requirements-dev.lock
	uv pip compile pyproject.toml --extra training --universal --generate-hashes --no-emit-index-url -o requirements.lock

# One environment for each group of peers that cannot share ours (benchmarks/peers/environment.py).
peers-lock:
	for peers in benchmarks/peers/*.in; do \
	  uv pip compile $$peers --universal --python-version 3.11 --generate-hashes --no-emit-index-url -o $${peers%.in}.lock; \
	done

clean:
	rm -rf .venv out
