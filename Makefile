# Everything here sets up what it needs: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# mamba-ssm's definitions in PyTorch, which tests and benchmarks compare with: its Python part only, and outside the
# environment, since transformers' Mamba-2 would try its kernels
REFERENCE := .reference
REFERENCE_READY := $(REFERENCE)/.ready
REFERENCES := mamba-ssm==2.3.2.post1 causal-conv1d==1.6.2.post1 einops==0.8.2
# Triton's interpreter, which runs mamba-ssm's kernels on a CPU in the tests, and the NumPy that it needs. There are
# builds of Triton for Linux only
TRITON := .triton
TRITON_READY := $(TRITON)/.ready
INTERPRETER := "triton==3.6.0; sys_platform == 'linux'" numpy==2.3.5

TABLE ?= table2
FIGURE ?= figure2
SCALE ?= smoke
SWEEP ?= table2
LAUNCHER ?= local
# a grid may have scales of its own, which a word would replace: only where SCALE is given
OF_SCALE = $(if $(filter file,$(origin SCALE)),,scale=$(SCALE))
# further settings for all runs, e.g. ARGS="data=pysrc8 seed=1,2,3"
ARGS ?=

.DEFAULT_GOAL := help

# What is given on the command line is checked before anything is done: a misspelt variable would be ignored silently.
reproduce-table_takes := TABLE SCALE LAUNCHER ARGS
reproduce-figure_takes := FIGURE SCALE LAUNCHER ARGS
reproduce-sweep_takes := SWEEP SCALE LAUNCHER ARGS
reproduce-all_takes := SCALE LAUNCHER ARGS
report_takes := TABLE FIGURE SWEEP SCALE ARGS
sweep_takes := SWEEP SCALE LAUNCHER ARGS
dashboard_takes := SCALE ARGS
wandb-sweep_takes := SWEEP SCALE ARGS
audit_takes := ARGS
bench_takes := ARGS
gpu-check_takes := ARGS
TARGETS := help setup test lint format reproduce-table reproduce-figure reproduce-sweep reproduce-all audit report dashboard \
	sweep wandb-sweep bench gpu-check clean
VARIABLES := $(sort TABLE FIGURE SCALE SWEEP LAUNCHER ARGS)
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
TAKEN := $(foreach target,$(MAKECMDGOALS),$($(target)_takes))
# the one of the words in 2 that is most like 1
nearest = $(shell $(PYTHON) -c "import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2].upper().split(), 1, 0.3))" '$(1)' '$(2)')
define check_variable
$(if $(filter $(1),$(VARIABLES) PYTHON VENV),,$(error there is no $(1)=; did you mean $(or $(call nearest,$(1),$(VARIABLES)),ARGS="$(1)=...")$(if $(call nearest,$(1),$(VARIABLES)),=)? There are $(VARIABLES)))
$(if $(filter $(1),$(TAKEN) PYTHON VENV),,$(error make $(MAKECMDGOALS) does not take $(1)=$(if $(TAKEN),; it takes $(TAKEN))))
endef
define check_target
$(if $(or $(filter $(1),$(TARGETS)),$(findstring /,$(1)),$(findstring .,$(1))),,$(error there is no target $(1); see make help))
endef
$(foreach target,$(MAKECMDGOALS),$(call check_target,$(target)))
$(foreach name,$(filter-out MAKECMDGOALS,$(GIVEN)),$(call check_variable,$(name)))

.PHONY: $(TARGETS)

help:  ## Show this help
	@echo "make TARGET [TABLE=$(TABLE)] [FIGURE=$(FIGURE)] [SCALE=smoke|small|paper] [SWEEP=$(SWEEP)] [LAUNCHER=local|slurm|slurm_local] [ARGS=\"setting=value ...\"]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) $(REFERENCE_READY) $(TRITON_READY)  ## Install the package and its tools into .venv, and compile the CPU operators
	@$(BIN)/python -m diffmamba.ops.cpu || true  # without them PyTorch's run

# pip would compile file by file on one core; left uncompiled, each process would compile all that it imports
$(READY): pyproject.toml constraints.txt
	@echo "installing into $(VENV), which takes about two minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib > /dev/null 2>&1 || true  # some are no Python of this version
	@touch $@

$(REFERENCE_READY): $(READY)
	MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --upgrade --target $(REFERENCE) $(REFERENCES)
	@touch $@

$(TRITON_READY): $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --only-binary :all: --upgrade --target $(TRITON) $(INTERPRETER)
	@touch $@

reproduce-table: $(READY)  ## Train what a published table still lacks and show it beside the published numbers
	$(BIN)/python -m diffmamba.reproduce table=$(TABLE) scale=$(SCALE) launcher=$(LAUNCHER) $(ARGS)

reproduce-figure: $(READY)  ## Train what a published figure still lacks and draw it
	$(BIN)/python -m diffmamba.reproduce figure=$(FIGURE) scale=$(SCALE) launcher=$(LAUNCHER) $(ARGS)

reproduce-sweep: $(READY)  ## Train what any other sweep still lacks and show it as a table, with a page
	$(BIN)/python -m diffmamba.reproduce sweep=$(SWEEP) $(OF_SCALE) launcher=$(LAUNCHER) $(ARGS)

reproduce-all: $(READY)  ## Train and show every table and figure there is
	$(BIN)/python -m diffmamba.reproduce all=true scale=$(SCALE) launcher=$(LAUNCHER) $(ARGS)

audit: $(READY)  ## Without training: counts, steps, rates, costs of tables 1 and 2 beside the published ones, and contradictions
	$(BIN)/python -m diffmamba.audit $(ARGS)

report: $(READY)  ## Write one site of all runs, without training; with TABLE=, FIGURE= or SWEEP= that table, figure or sweep alone
	$(BIN)/python -m diffmamba.report $(if $(filter TABLE,$(GIVEN)),table=$(TABLE)) $(if $(filter FIGURE,$(GIVEN)),figure=$(FIGURE)) $(if $(filter SWEEP,$(GIVEN)),sweep=$(SWEEP)) $(if $(filter TABLE FIGURE SWEEP SCALE,$(GIVEN)),$(OF_SCALE)) $(ARGS)

sweep: $(READY)  ## Train every run of a grid of sweeps/
	$(BIN)/python -m diffmamba.sweep sweep=$(SWEEP) $(OF_SCALE) launcher=$(LAUNCHER) $(ARGS)

dashboard: $(READY)  ## Make or update W&B's workspace and reports; offline, say how to look now; ARGS="what=table2"
	$(BIN)/python -m diffmamba.dashboard scale=$(SCALE) $(ARGS)

wandb-sweep: $(READY)  ## Write a grid or search of sweeps/ as a sweep of W&B, for `wandb agent`
	$(BIN)/python -m diffmamba.wandb_sweep sweep=$(SWEEP) $(OF_SCALE) $(ARGS)

# in the order of their names: by default the files with the fewest tests come last, and among them are the slowest
test: $(READY) $(REFERENCE_READY) $(TRITON_READY)  ## Run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=25

bench: $(READY) $(REFERENCE_READY)  ## Measure against peers, variants and floors, seven minutes; ARGS="--quick" to try it
	$(BIN)/python -m benchmarks $(ARGS)

# with whatever python3 holds PyTorch for CUDA, no environment of ours; docs/benchmarks.md lists the packages it needs.
# Where mamba-ssm is not installed, its Triton kernels are taken from .reference, if that is there
gpu-check:  ## On a CUDA machine: parity of operators and mixers with float64, then the benchmark, section by section
	@installed=$$($(PYTHON) -c "from importlib.util import find_spec; print(find_spec('mamba_ssm') and 'yes')"); \
	export PYTHONPATH=src:.:$$PYTHONPATH; [ "$$installed" = yes ] || PYTHONPATH=$$PYTHONPATH:$(REFERENCE); \
	status=0; $(PYTHON) -m pytest -m gpu -p no:cacheprovider tests/gpu || status=1; \
	$(PYTHON) -m benchmarks --device cuda --limit 240 $(ARGS) || status=1; exit $$status

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches; runs and reports stay
	rm -rf $(VENV) $(REFERENCE) $(TRITON) .mypy_cache .pytest_cache .ruff_cache .hypothesis
