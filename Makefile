# make          lists the targets
# make figures  regenerates every figure; sets up .venv first when needed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv/bin/python
PY ?= $(VENV)
# Another interpreter (PY=python) brings its own packages: then nothing is set up.
READY := $(if $(filter $(VENV),$(PY)),.venv/ready,packages)
# Variables that people type (AGENT=pong-strong) reach it through the environment.
RUN := $(PY) -m compendium

# Two notebooks at a time (JOBS=4, or make -j4), one thread each: the same numbers on any machine.
JOBS ?= $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),2)
test: export OMP_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: export NUMBA_NUM_THREADS := 1
# Notebooks run on the kernel of this environment, whatever kernels the user has.
export JUPYTER_PREFER_ENV_PATH := 1

# make ignores a misspelt variable without a word. The verbs of compendium name theirs; here are
# those of the targets that start programs of others.
TYPED := $(foreach word,$(subst \ ,_,$(MAKEOVERRIDES)),$(firstword $(subst =, ,$(word))))
UNKNOWN := $(filter-out LAB APP AGENT GAME ZOO TESTS JOBS PY PYTHON VENV,$(TYPED))
ifneq ($(and $(UNKNOWN),$(filter lab app test,$(MAKECMDGOALS))),)
$(error make $(MAKECMDGOALS) has no variable $(UNKNOWN); expected one of LAB (lab), APP AGENT GAME ZOO (app), \
	TESTS JOBS (test), PY, PYTHON)
endif

.PHONY: help figures test lab app html site movie evaluate explain audit train imitate zoo ship states verify faithfulness gaze-data noise bench doctor clean \
	packages

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

figures: $(READY)  ## regenerate every figure, movie and number (ONLY="01 09" draws some)
	@JOBS=$(JOBS) $(RUN) figures

test: $(READY)  ## lint and test; the notebooks run small
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest -n $(JOBS) --dist loadscope $(TESTS)

lab: $(READY)  ## open the notebooks in JupyterLab (LAB= takes its options)
	JUPYTER_CONFIG_PATH=$(CURDIR)/notebooks/.jupyter $(PY) -m jupyterlab --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
		--LabApp.default_url=/lab/tree/README.md $(LAB)

app: $(READY)  ## open the explorer as a web page on 127.0.0.1: [AGENT=] [GAME=], or the zoo's browser: ZOO=1 (APP= takes Voila's options)
	@if [ -e "$$AGENT" ]; then AGENT=$$(realpath "$$AGENT"); fi; \
		ATARILENS_AGENT="$$AGENT" ATARILENS_GAME="$$GAME" \
		JUPYTER_PATH=$(CURDIR)/lib/atarilens/apps/explorer$${JUPYTER_PATH:+:$$JUPYTER_PATH} \
		$(PY) -m voila --Voila.ip=127.0.0.1 --template=atarilens --theme=dark $(APP) \
		notebooks/$(if $(ZOO),57_browse_the_zoo,10_explore_an_agent).ipynb

html: figures  ## the executed notebooks as pages to read, in build/html
	$(PY) -m nbconvert --to html --embed-images --output-dir build/html build/*.ipynb

site: figures  ## notebooks, glossary, lesson, library, explorer as static pages in build/site
	@$(RUN) site

movie: $(READY)  ## a saliency movie: AGENT=pong-strong, or AGENT=path/to/checkpoint GAME=pong [START=] [STEPS=]
	@$(RUN) movie

evaluate: $(READY)  ## scores with their interval: AGENT= [GAME=] [EPISODES=30] [SEED=] [GREEDY=] [EPSILON=] [STICKY=]
	@$(RUN) evaluate

explain: $(READY)  ## the standard figures of one agent: AGENT= [GAME=] [SEED=]
	@$(RUN) explain

audit: export OMP_NUM_THREADS := 1
audit: $(READY)  ## one page about any agent: AGENT= [GAME=] scores, attention, answers, shortcuts, maps [JOBS=2]
	@JOBS=$(JOBS) $(RUN) audit

# Memory that an update frees is kept for the next one; giving it back costs a third of the time.
train imitate zoo states: export MALLOC_MMAP_THRESHOLD_ := 33554432
train imitate zoo states: export MALLOC_TRIM_THRESHOLD_ := 1073741824
train: $(READY)  ## train, or go on: GAME=pong [FROM=agent] [STEPS=] [SEED=] [SET="name=value ..."] [TENSORBOARD=1] [DEVICE=cuda]
	@$(RUN) train

imitate: $(READY)  ## train a student, or go on: AGENT=pong-strong HINT=expert|random [STEPS=] [SEED=] [SET="name=value ..."]
	@$(RUN) imitate

zoo: export OMP_NUM_THREADS := 1
zoo: $(READY)  ## train what is missing of the pocket zoo, or go on: [ONLY=ppo-pong] [TABLE=1] [SHIP=1] [TAG=6min] [JOBS=2]
	@$(RUN) zoo

ship: $(READY)  ## measure a checkpoint into data/agents: CHECKPOINT=file|run NAME= [LIKE=agent] [COMMAND=]
	@$(RUN) ship

states: $(READY)  ## train the state model of an agent, or go on: AGENT=breakout-strong [GAME=] [SEED=] [SET=] [GOGGLES=1] [VARIANTS=1]
	@$(RUN) states

verify: $(READY)  ## regenerate into build/verify, compare every number with figures/: [ONLY=] [ROWS=20] [SEED=]
	@JOBS=$(JOBS) $(RUN) verify

faithfulness: export OMP_NUM_THREADS := 1
faithfulness: $(READY)  ## how far each kind of map can be trusted, into data/tables, or go on: [JOBS=2]
	@$(RUN) faithfulness

gaze-data: $(READY)  ## fetch where people looked while they played (Atari-HEAD): GAME=breakout
	@$(RUN) gaze-data

noise: export OMP_NUM_THREADS := 1
noise: $(READY)  ## how the zoo's agents play under noise, into data/tables, or go on: [ONLY=ga-freeway] [EPISODES=3]
	@$(RUN) noise

bench: $(READY)  ## measure this machine into data/benchmarks
	@$(RUN) bench

# Needs no package, so that it can say that they are missing.
doctor:  ## say in words what this machine lacks
	@PYTHONPATH=lib $$(command -v $(PY) || echo $(PYTHON)) -m compendium.doctor

clean:  ## remove build/ (figures, data and .venv stay)
	rm -rf build

.venv/ready: requirements.txt pyproject.toml
	@PYTHONPATH=lib $(PYTHON) -m compendium.doctor set-up
	@echo "setting up .venv (a few minutes, about 2 GB) ..."
	@$(PYTHON) -m venv .venv
	@$(VENV) -m pip install --disable-pip-version-check --progress-bar off -r requirements.txt
	@$(VENV) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

# An interpreter that knows another checkout's library would draw the figures of that checkout.
packages:
	@$(PY) -c 'from importlib.util import find_spec; [find_spec(n).name for n in \
		("atarilens", "torch", "ale_py", "papermill")]' 2>/dev/null || { echo "$(PY) lacks packages:" \
		"$(PY) -m pip install -r requirements.txt && $(PY) -m pip install --no-deps -e ."; exit 1; }
	@$(PY) -c 'from atarilens.paths import ROOT; exit(not ROOT.samefile("."))' || { echo "$(PY) has" \
		"the library of another checkout: $(PY) -m pip install --no-deps -e ."; exit 1; }
