.PHONY: setup format lint type test test-all test-nightly torture audit check
PYTHON ?= python

setup:            ## install everything that users and developers need
	bash install.sh
	$(PYTHON) -m pip install -r requirements-dev.txt
format:           ## rewrite the code in the project's format
	ruff format . && ruff check --fix .
lint:             ## complain about style and likely mistakes
	ruff check . && ruff format --check .
type:             ## check types
	mypy
test:             ## the fast tests
	$(PYTHON) -m pytest -n 2 -m "not slow and not gpu"
test-all:         ## every test that this machine can run
	$(PYTHON) -m pytest -n 2
test-nightly:     ## twenty thousand damaged files, layouts, environments and command lines
	HYPOTHESIS_PROFILE=nightly $(PYTHON) -m pytest tests/test_fuzz.py
torture:          ## kill runs in every way and compare; 12 minutes
	$(PYTHON) tests/torture.py --out doc/reliability.md
audit:            ## ask PyPI's advisories about what is pinned; an answer that cannot be had is a failure
	$(PYTHON) -m pip install --quiet pip-audit==2.10.1
	$(PYTHON) -m pip_audit --strict --disable-pip --no-deps -r requirements.txt -r requirements-dev.txt
check: lint type test
