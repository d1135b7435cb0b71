PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo serve test test-slow test-extras test-arm64 test-container test-deploy check format types lint imports proto docs clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[exporter,service,sign,tracing,client,dev]'
	touch $@

demo: setup
	$(BIN)/clearweight demo

serve: setup build/demo/models
	$(BIN)/clearweight serve build/demo/models

build/demo/models:
	$(MAKE) demo

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Peers that `make setup` leaves out: zennit, without the torchvision whose classes it only names, and Ray.
test-extras: setup $(VENV)/.extras
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	    tests/exporter/explain/test_rectifier.py tests/exporter/explain/test_relevance.py tests/exporter/test_ray_trials.py

$(VENV)/.extras: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps zennit
	touch $@

# Root rights, debootstrap and qemu-user-static; prepares the root once.
test-arm64: setup
	tests/arm64/prepare.sh build/arm64/root $(BIN)/python
	$(BIN)/python -m pytest -m arm64 tests/arm64

# Root rights, debootstrap, buildah, podman and runc; prepares a stand-in base image once.
test-container: setup
	tests/deploy/base_image.sh build/container
	$(BIN)/python -m pytest -m container tests/deploy

# Debian's prometheus and prometheus-alertmanager.
test-deploy: setup
	$(BIN)/python -m pytest -m deploy tests/deploy

check: setup format lint types imports

format:
	$(BIN)/ruff format --check .

lint:
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

# The path mapping makes the generated modules import each other by their package.
proto: setup
	$(BIN)/python -m grpc_tools.protoc --proto_path=clearweight/service/rpc/generated=proto \
	    --python_out=service --pyi_out=service --grpc_python_out=service \
	    proto/open_inference.proto proto/explain.proto

# The table of operators, from the rules and the test cases behind them.
docs: setup
	$(BIN)/python -m tests.exporter.autodiff.operator_table

# What the chart holds of this checkout: dashboards, and the settings in its schema; and the settings' page.
chart: setup
	$(BIN)/python deploy/dashboards.py
	$(BIN)/python deploy/settings_schema.py
	$(BIN)/python deploy/settings_page.py

clean:
	rm -rf build dist $(VENV)
