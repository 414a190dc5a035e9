# `make help` lists what there is.
# PYTHON, where it is given, makes all environments; else each is made by the first that is there of those that it runs on.
first_of = $(firstword $(foreach v,$(1),$(if $(shell python$(v) --version 2>/dev/null),python$(v))))
GIVEN_PYTHON := $(PYTHON)
PYTHON ?= $(or $(call first_of,3.11 3.12 3.13 3.10),python3)
PYTHON_TF215 = $(or $(GIVEN_PYTHON),$(call first_of,3.11 3.10 3.9))
# Environments are filled by uv where there is one, which takes a fifth of pip's time; it looks for wheels where pip does. It
# leaves it to the first import to compile, which every process would do anew where PYTHONDONTWRITEBYTECODE is set.
UV := $(shell command -v uv)
INSTALL = $(if $(UV),$(UV) pip install --quiet --compile-bytecode --python $(1)/bin/python,$(1)/bin/python -m pip install -qq) --editable
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
VENV ?= .venv
VENV_TF215 ?= .venv-tf215
BIN := $(VENV)/bin
# What the demos run on: `current` TensorFlow, or `tf215`, TensorFlow 2.15 with TensorFlow Addons.
STACK ?= current
DEMO_VENV = $(or $(DEMO_VENV_$(STACK)),$(error STACK must be current or tf215. Received: STACK=$(STACK)))
# GPU=1 brings CUDA's libraries with TensorFlow, which is the default where `nvidia-smi` lists a card; GPU=0 leaves them out.
GPU ?= $(if $(shell nvidia-smi --list-gpus 2>/dev/null),1,0)
TRAIN := $(if $(filter 1,$(GPU)),train-gpu,train)
# Without a card TensorFlow calls its search for one an error.
QUIET := $(if $(filter 1,$(GPU)),,TF_CPP_MIN_LOG_LEVEL=3)
DEMO_VENV_current := $(VENV)
DEMO_VENV_tf215 := $(VENV_TF215)
# The release that the tests ran on; newer ones bring several GB of CUDA that a CPU does not need.
TESTED_torch := torch==2.13.0
# Most of a test's time is Python's, on one core; tests of one file share what takes long to make. Files go in the order of
# pyproject.toml's rooms: by their number of tests, those with few long ones would be left for the end.
TWO_AT_A_TIME := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# The layer package's tests, which run on every Keras.
LAYER_TESTS := $(addprefix tests/,package ops layers losses models callbacks)
# Of the trainers' tests those that guard most for their time on tf-keras.
TRAINER_TESTS := $(patsubst %,tests/training/%_test.py,checkpoints gan_trainer inpainting_trainer)
# What can differ between tf-keras and TensorFlow 2.15's Keras 2, on which the layer package passes all its tests.
TF_KERAS_DIFFERENCES := $(TRAINER_TESTS) $(patsubst %,tests/package/%_test.py,backend composition golden public_api)
# Layers differ between stacks; of the networks that are built of them, each is made and runs once.
LAYER_DIFFERENCES := $(filter-out tests/models,$(LAYER_TESTS)) $(patsubst %,tests/models/%_test.py,all_networks layouts folding)
JAX_DIFFERENCES := $(LAYER_DIFFERENCES) tests/benchmarks/layer_test.py::test_refuses_jax_without_jit
# What can differ between TensorFlow 2.15 and the other stacks: the layer package, TensorFlow Addons, TF-GAN as a package, files of
# the other Keras and its own, which are runs that go on, and one run of each trainer with its export.
TF215_DIFFERENCES := $(LAYER_DIFFERENCES) $(addprefix tests/,configs/other_keras_test.py evaluation/tfgan_test.py \
	training/optimizers_test.py \
	programs/train_gan_test.py::test_run_leaves_checkpoints_pictures_and_its_configuration \
	programs/train_gan_test.py::test_more_train_steps_go_on_from_the_checkpoint_also_on_other_devices \
	programs/train_inpainting_test.py::test_run_leaves_checkpoints_pictures_summaries_and_its_configuration \
	programs/train_inpainting_test.py::test_a_finished_run_is_left_alone_and_evaluated_again \
	programs/train_inpainting_test.py::test_export_serves_pictures_of_any_size \
	tools/export_saved_model_test.py::test_signature_names_types_and_free_batch)
# JAX compiles each operation for each shape, which is what its tests spend their time on: a cache for later runs.
CACHED_jax := JAX_COMPILATION_CACHE_DIR=$(VENV)-jax/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
# Debian's Bazel 4 without a server, on the Python of the environment; by default a few tests, of seconds.
BAZEL := PATH="$(abspath $(BIN)):$$PATH" bazel --batch
BAZEL_TESTS ?= --test_size_filters=small //...
BUILDIFIER := npx --yes @bazel/buildifier@8.2.1
# TensorFlow reports its CPU features at every start; errors still show.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help environments demo demo-inpainting examples test test-tf215 test-tf215-differences test-tf-keras test-tf-keras-differences test-jax test-jax-differences test-torch bazel bazel-installed lint format docs docs-serve package tensorboard clean

help: ## list the targets
	@awk -F ':.*## |^##@ ' '/^##@ / { printf "\n%s\n", $$2 } /^[a-z0-9-]+:.*## / { printf "  make %-25s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try it

# The summary comes last: only it goes to standard output.
define train_and_export
@mkdir -p runs
@$(QUIET) $(DEMO_VENV)/bin/python -m trainers.$(1) --experiment=$(2) --mode=train_and_eval --model_dir=runs/$(3) >runs/$(3).txt \
	|| { status=$$?; cat runs/$(3).txt; exit $$status; }
@$(QUIET) $(DEMO_VENV)/bin/python -m tools.export_saved_model --model_dir=runs/$(3) --output_dir=runs/$(3)/saved_model --use_ema
@cat runs/$(3).txt
endef

demo: $(DEMO_VENV)/.$(TRAIN) ## train the class-conditional GAN on real digits, evaluate it, export it (runs/demo); STACK=tf215: on TensorFlow 2.15
	$(call train_and_export,train_gan,gan_digits32,demo)

demo-inpainting: $(DEMO_VENV)/.$(TRAIN) ## train inpainting on real photographs, evaluate it, export it (runs/inpainting); STACK=tf215 as well
	$(call train_and_export,train_inpainting,inpainting_photos64,inpainting)

examples: $(VENV)/.train ## run the examples, each in less than a minute
	@for example in digits_classifier segmentation tfgan_losses; do $(BIN)/python -m examples.$$example || exit 1; done

tensorboard: $(VENV)/.train ## open TensorBoard on all runs
	@$(BIN)/python -m tensorboard.main --logdir runs

##@ Test

test: $(VENV)/.dev ## pass the tests on current TensorFlow and Keras 3
	@$(BIN)/python -m pytest $(TWO_AT_A_TIME)

test-tf215: $(VENV_TF215)/.dev ## pass the tests on TensorFlow 2.15 and Keras 2, with TensorFlow Addons
	@$(VENV_TF215)/bin/python -m pytest $(TWO_AT_A_TIME)

test-tf215-differences: $(VENV_TF215)/.dev ## of these what can differ from the other stacks, which is what CI runs
	@$(VENV_TF215)/bin/python -m pytest $(TWO_AT_A_TIME) $(TF215_DIFFERENCES)

test-tf-keras: $(VENV)/.dev ## the layer package and both trainers on tf-keras, as Model Garden's users run it
	@TF_USE_LEGACY_KERAS=1 $(BIN)/python -m pytest $(TWO_AT_A_TIME) -m 'not slow' $(TRAINER_TESTS) $(LAYER_TESTS)

test-tf-keras-differences: $(VENV)/.dev ## of these what can differ from TensorFlow 2.15, which is what CI runs
	@TF_USE_LEGACY_KERAS=1 $(BIN)/python -m pytest $(TWO_AT_A_TIME) -m 'not slow' $(TF_KERAS_DIFFERENCES)

test-jax: $(VENV)-jax/.test ## the layer package on Keras 3 with JAX, without TensorFlow
	@KERAS_BACKEND=jax $(CACHED_jax) $(VENV)-jax/bin/python -m pytest $(TWO_AT_A_TIME) $(LAYER_TESTS) tests/benchmarks/layer_test.py

test-jax-differences: $(VENV)-jax/.test ## of these what can differ from TensorFlow, which is what CI runs
	@KERAS_BACKEND=jax $(CACHED_jax) $(VENV)-jax/bin/python -m pytest $(TWO_AT_A_TIME) -m 'not slow' $(JAX_DIFFERENCES)

test-torch: $(VENV)-torch/.test ## the layer package on Keras 3 with PyTorch, without TensorFlow
	@KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(VENV)-torch/bin/python -m pytest $(TWO_AT_A_TIME) $(LAYER_TESTS) tests/benchmarks/pytorch_step_test.py

bazel: bazel-installed $(VENV)/.dev ## build all Bazel targets, pass the small tests (BAZEL_TESTS=//... passes all)
	@if $(BUILDIFIER) --version >/dev/null 2>&1; then \
		$(BUILDIFIER) -mode=check -lint=warn -v -r BUILD MODULE.bazel WORKSPACE examples keras_an keras_an_tensorboard tests third_party tools trainers; \
	else echo "The form of the BUILD files is not checked: npx cannot run buildifier"; fi
	@$(BAZEL) build //...
	@$(BAZEL) test $(BAZEL_TESTS)

bazel-installed:
	@command -v bazel >/dev/null || { echo "There is no bazel: apt-get install bazel-bootstrap, or install Bazel 8"; exit 1; }

##@ Write

lint: $(VENV)/.dev ## check format, style, types and the direction of imports
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/hadolint Dockerfile

format: $(VENV)/.dev ## format the sources
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## build the site of guides and API (build/site); a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: $(VENV)/.dev ## show the site while you write it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

package: $(VENV)/.dev ## build wheel and source distribution and check them (dist)
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation .
	@$(BIN)/python -m twine check --strict dist/*

##@ Environments

environments: $(VENV)/.dev $(VENV_TF215)/.dev $(VENV)-jax/.test $(VENV)-torch/.test ## make all environments (--jobs=2: two at a time)

clean: ## remove the environments and caches; runs are kept
	rm -rf $(VENV) $(VENV)-jax $(VENV)-torch $(VENV_TF215) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	if command -v bazel >/dev/null; then bazel --batch clean --expunge; fi

$(VENV)/bin/python:
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(if $(UV),:,$@ -m pip install -qq --upgrade pip)

$(VENV)/.train: setup.py | $(VENV)/bin/python
	@echo "Installing keras_an with TensorFlow and what training needs into $(VENV) (about 2 GB, some minutes)"
	@$(call INSTALL,$(VENV)) '.[train]'
	@touch $@

$(VENV)/.train-gpu: setup.py | $(VENV)/bin/python
	@echo "Installing keras_an with TensorFlow, CUDA's libraries and what training needs into $(VENV) (about 5 GB, some minutes)"
	@$(call INSTALL,$(VENV)) '.[train,gpu]'
	@touch $(VENV)/.train $@

$(VENV)/.dev: setup.py | $(VENV)/bin/python
	@echo "Installing keras_an with what training, tests and lint need into $(VENV) (about 2 GB, some minutes)"
	@$(call INSTALL,$(VENV)) '.[train,dev]'
	@touch $(VENV)/.train $@

$(VENV_TF215)/bin/python:
	@$(or $(PYTHON_TF215),false) -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 12))' 2>/dev/null || { echo \
		"TensorFlow 2.15 needs Python 3.9 to 3.11: PYTHON=python3.11. Received: $(or $(PYTHON_TF215),none is there)" >&2; exit 1; }
	@echo "Making $(VENV_TF215) with $$($(PYTHON_TF215) --version)"
	@$(PYTHON_TF215) -m venv $(VENV_TF215)
	@$(if $(UV),:,$@ -m pip install -qq --upgrade pip)

$(VENV_TF215)/.train: setup.py | $(VENV_TF215)/bin/python
	@echo "Installing keras_an with TensorFlow 2.15, TensorFlow Addons and what training needs into $(VENV_TF215) (some minutes)"
	@$(call INSTALL,$(VENV_TF215)) '.[train,addons]'
	@touch $@

$(VENV_TF215)/.train-gpu: setup.py | $(VENV_TF215)/bin/python
	@echo "Installing keras_an with TensorFlow 2.15, CUDA's libraries, TensorFlow Addons and what training needs into $(VENV_TF215)"
	@$(call INSTALL,$(VENV_TF215)) '.[train,addons,gpu]'
	@touch $(VENV_TF215)/.train $@

$(VENV_TF215)/.dev: setup.py | $(VENV_TF215)/bin/python
	@echo "Installing keras_an with TensorFlow 2.15, TensorFlow Addons and what tests need into $(VENV_TF215) (some minutes)"
	@$(call INSTALL,$(VENV_TF215)) '.[train,addons,dev]'
	@touch $(VENV_TF215)/.train $@

$(VENV)-%/.test: setup.py
	@echo "Installing keras_an with $* into $(VENV)-$* (a minute or more)"
	@$(PYTHON) -m venv $(VENV)-$*
	@$(if $(UV),:,$(VENV)-$*/bin/python -m pip install -qq --upgrade pip)
	@$(call INSTALL,$(VENV)-$*) '.[$*,test]' $(TESTED_$*)
	@touch $@
