# The front door: everything a person does with Adapath from a source tree starts here. CMake does the building.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BUILD ?= build
BUILD_TYPE ?= RelWithDebInfo
# LibTorch's and LLVM's headers want about 1.5 GB a compiler: no more compilers than memory has room for.
MEMORY_JOBS := $(shell awk '/MemAvailable/ { n = int($$2 / 1572864); print n < 1 ? 1 : n }' /proc/meminfo)
CORES := $(shell nproc)
BUILD_JOBS ?= $(shell echo $$(( $(CORES) < $(MEMORY_JOBS) ? $(CORES) : $(MEMORY_JOBS) )))
JOBS ?= 2

# make install
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
# The server's vision network, where 'make deps' has fetched it
DETECTOR := $(or $(ADAPATH_CACHE),out/cache)/detector

# make demo; the kernel module runs in a VM whose processor is emulated: less of everything
BACKEND ?= bpf
ifeq ($(BACKEND),kmod)
DURATION ?= 120
CAMERAS ?= 4
MEAN_RATE ?= 1
endif
DURATION ?= 60
TRACE ?=
CLIP ?=
CAMERAS ?= 4
SEED ?=
MEAN_RATE ?=
OUT ?= out/demo

# make bench-cc; recorded traces that lie beside the tree are taken, and generated ones in any case
TRACES ?= $(wildcard ../shared/data/traces/*)
GENERATE ?= 2 8 20
SECONDS ?= 60
SEEDS ?= 1
POLICIES ?=
TRAFFIC ?=
ARENA_OPTIONS ?=
VIDEO_OPTIONS ?=

# make check
CHECKS ?=

# make vmtest, make demo BACKEND=kmod
KERNEL ?=

# make models
MODEL_MINUTES ?= 25
MODEL_SEED ?= 1

# make bench-scale
FLOWS ?= 1,10,100,1000

.PHONY: help deps all demo test vmtest vmtest-debug bench bench-cc bench-scale bench-select bench-video models check install clean

help: ## this list
	@echo "Adapath: learning neural networks in the kernel's datapath."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done
	@echo
	@echo "Demo options:    DURATION=60 (s, at least 30)  CAMERAS=4  BACKEND=bpf|local|kmod  TRACE=mahimahi-file  CLIP=video-file"
	@echo "                 MEAN_RATE=Mbit/s  SEED=number  OUT=out/demo"
	@echo "Test options:    JOBS=2 (at a time)  FILTER=regular-expression"
	@echo "VM options:      KERNEL=6.1|6.12 (vmtest: both)  FILTER=regular-expression (subtests)"
	@echo "bench-cc:        TRACES='files or directories'  GENERATE='2 8 20' (Mbit/s)  SECONDS=60  SEEDS='1 2'"
	@echo "                 POLICIES='cubic bbr adapath adapath-online userspace'  TRAFFIC='bulk video fairness regimes crowd'  OUT=out/arena"
	@echo "                 ARENA_OPTIONS='--fresh ...' (adapath-arena --help)"
	@echo "bench-video:     TRACES, GENERATE, SECONDS, SEEDS as above  CLIP=video-file  VIDEO_OPTIONS='--cameras 4 ...'  OUT=out/video"
	@echo "Install options: PREFIX=/usr/local  SYSCONFDIR=/etc  DESTDIR="

deps: ## install what is missing (Debian 12 or newer; quiet when nothing is)
	@scripts/deps.sh </dev/null

# On a terminal ninja keeps to one line by itself; elsewhere every tenth of the way is enough.
define build
	@mkdir -p out
	@[ -f $(BUILD)/build.ninja ] || { echo "build: configuring $(BUILD)/"; \
		cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) >out/configure.log 2>&1 || \
		{ cat out/configure.log; exit 1; }; }
	@if [ -t 1 ]; then NINJA_STATUS='build: %f of %t, %es ' ninja -C $(BUILD) -j $(BUILD_JOBS) --quiet $(1); \
	else NINJA_STATUS='@@ %f %t ' ninja -C $(BUILD) -j $(BUILD_JOBS) $(1) </dev/null 2>&1 | \
		awk '$$1 == "@@" { step = int($$2 * 10 / $$3); if (step != last) { print "build: " $$2 " of " $$3; fflush(); last = step } next } \
		     /^ninja: (Entering|no work)/ { next } { print; fflush() }'; fi
endef

all: deps ## build everything into build/
	$(call build,all)

demo: deps ## the main job: live video over a moving uplink whose congestion control learns and switches (60 s)
	$(call build,adapath-demo-all)
	@$(if $(filter kmod,$(BACKEND)),scripts/demo-vm.sh --kernel '$(or $(KERNEL),6.12)' --build '$(BUILD)' --out '$(OUT)' --,\
		$(BUILD)/bin/adapath-demo --out '$(OUT)') --duration '$(DURATION)' --cameras '$(CAMERAS)' --backend '$(BACKEND)' \
		--bin '$(BUILD)/bin' --checkpoint models/cc \
		$(if $(TRACE),--trace '$(TRACE)') $(if $(CLIP),--clip '$(CLIP)') $(if $(SEED),--seed '$(SEED)') \
		$(if $(MEAN_RATE),--mean-rate '$(MEAN_RATE)')

test: deps ## build and run every test; the last line counts them
	$(call build,all)
	@JOBS='$(JOBS)' FILTER='$(FILTER)' tests/run.sh $(BUILD)

vmtest: deps ## the kernel-side tests alone, in Debian's 6.1 and 6.12 kernels under QEMU (a part of make test)
	$(call build,all)
	@failed=; for kernel in $(or $(KERNEL),6.1 6.12); do \
		tests/vm/run.sh --kernel "$$kernel" --build '$(BUILD)' --filter '$(FILTER)' || [ $$? = 4 ] || failed="$$failed $$kernel"; done; \
		[ -z "$$failed" ] || { echo "vmtest: failed on$$failed" >&2; exit 1; }; echo "vmtest: ok"

vmtest-debug: deps ## the same in a kernel with KASAN, lockdep, kmemleak and more; builds it first (some 20 minutes, once)
	$(call build,all)
	@tests/vm/run.sh --quick --kernel debug --build '$(BUILD)' --filter '$(FILTER)' && echo "vmtest-debug: ok"

bench: deps ## build and run the benchmarks; JSON under out/bench/
	$(call build,all)
	@mkdir -p out/bench; found=0; for b in $(BUILD)/bin/bench_*; do [ -x "$$b" ] || continue; found=1; name=$${b##*/}; \
		echo "bench: $$name"; "$$b" --benchmark_out=out/bench/$$name.json --benchmark_out_format=json; done; \
		[ $$found = 1 ] || { echo "bench: no benchmark was built under $(BUILD)/bin" >&2; exit 1; }

# OUT is the demo's unless it was given.
bench-cc: deps ## congestion control policies side by side over links; out/arena/report.html; goes on where it was stopped
	$(call build,adapath-arena-all)
	@$(BUILD)/bin/adapath-arena --out '$(if $(filter out/demo,$(OUT)),out/arena,$(OUT))' --bin '$(BUILD)/bin' --checkpoint models/cc \
		--seconds '$(SECONDS)' $(foreach t,$(TRACES),--trace '$(t)') $(foreach r,$(GENERATE),--generate '$(r)') \
		$(foreach s,$(SEEDS),--seed '$(s)') $(foreach p,$(POLICIES),--policy '$(p)') $(foreach t,$(TRAFFIC),--traffic '$(t)') \
		$(ARENA_OPTIONS)

bench-scale: deps ## what each flow more costs: 1 to 1,000 TCP flows, against CUBIC in BPF (4 minutes; FLOWS=1,10,100,1000)
	$(call build,adapath-scale)
	@$(BUILD)/bin/adapath-scale --flows '$(FLOWS)' --out out/bench/scale

bench-select: deps ## what a packet and a decision of the app select cost in the kernel (half a minute)
	$(call build,adapath-select-cost)
	@$(BUILD)/bin/adapath-select-cost

# The two experiments' figures are apart: OUT/qp.jsonl and OUT/results.jsonl with OUT/report.html.
bench-video: deps ## qp and select on live video against their rivals: hours; out/video/report.html; goes on where it was stopped
	$(call build,adapath-video-bench-all)
	@out='$(if $(filter out/demo,$(OUT)),out/video,$(OUT))'; mkdir -p "$$out"; \
		$(BUILD)/bin/adapath-video-bench --out "$$out" --bin '$(BUILD)/bin' --seconds '$(SECONDS)' \
		$(foreach t,$(TRACES),--trace '$(t)') $(foreach r,$(GENERATE),--generate '$(r)') $(foreach s,$(SEEDS),--seed '$(s)') \
		$(if $(CLIP),--clip '$(CLIP)') $(VIDEO_OPTIONS); select=$$?; \
		[ $$select -eq 2 ] || [ $$select -eq 130 ] || \
		$(BUILD)/bin/adapath-qp-bench --out "$$out/qp.jsonl" $(if $(CLIP),--clip '$(CLIP)') && exit $$select

models: deps ## train the checkpoints again from nothing: cc in the simulator (MODEL_MINUTES=25, MODEL_SEED=1), select and qp on measured video (25 minutes); goes on where it was stopped
	$(call build,adapath-train-cc adapath-train-select adapath-train-qp)
	@$(BUILD)/bin/adapath-train-cc --out models/cc --minutes '$(MODEL_MINUTES)' --seed '$(MODEL_SEED)'
	@$(BUILD)/bin/adapath-train-select --out models/select --seed '$(MODEL_SEED)'
	@$(BUILD)/bin/adapath-train-qp --out models/qp --seed '$(MODEL_SEED)' --steps 1500 --threads 1

check: deps ## checks that run nothing: scripts, headers, formatting, modules (W=1, sparse, clang), clang-tidy (CHECKS=names)
	$(call build,all)
	@BUILD='$(BUILD)' scripts/check.sh $(CHECKS)

install: ## install programs, units, configuration, checkpoints and what the server sees with (PREFIX, SYSCONFDIR, UNITDIR, DESTDIR); build first
	@[ -x $(BUILD)/bin/adapathd ] || { echo "install: $(BUILD)/bin/adapathd is not there: run 'make all' first" >&2; exit 1; }
	@install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/adapath/cc $(DESTDIR)$(PREFIX)/share/adapath/select \
		$(DESTDIR)$(PREFIX)/share/adapath/qp $(DESTDIR)$(PREFIX)/share/adapath/detector \
		$(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/adapath
	@install -m 755 $(BUILD)/bin/adapathd $(DESTDIR)$(PREFIX)/sbin/
	@for t in adapathctl adapath-trainer adapath-codegen adapath-linkem adapath-video-send adapath-video-recv \
		adapath-camera adapath-relay adapath-server adapath-detect adapath-qp-snapshot; do \
		install -m 755 $(BUILD)/bin/$$t $(DESTDIR)$(PREFIX)/bin/; done
	@install -m 755 scripts/certificates.sh $(DESTDIR)$(PREFIX)/share/adapath/
	@install -m 644 models/cc/*.model models/cc/CARD.md $(DESTDIR)$(PREFIX)/share/adapath/cc/
	@install -m 644 models/select/policy.model models/select/CARD.md $(DESTDIR)$(PREFIX)/share/adapath/select/
	@install -m 644 models/qp/selector.json models/qp/CARD.md $(DESTDIR)$(PREFIX)/share/adapath/qp/
	@[ ! -f '$(DETECTOR)/centernet.json' ] || \
		install -m 644 '$(DETECTOR)/centernet.json' '$(DETECTOR)/centernet.bin' $(DESTDIR)$(PREFIX)/share/adapath/detector/
	@for u in userspace/*/systemd/*.service; do \
		sed -e 's|/usr/sbin/|$(PREFIX)/sbin/|g; s|/usr/bin/|$(PREFIX)/bin/|g; s|/usr/share/|$(PREFIX)/share/|g; s|/etc/adapath/|$(SYSCONFDIR)/adapath/|g' \
			"$$u" >$(DESTDIR)$(UNITDIR)/$${u##*/}; \
		chmod 644 $(DESTDIR)$(UNITDIR)/$${u##*/}; done
	@for c in adapathd adapathd-select adapathd-qp; do [ -e $(DESTDIR)$(SYSCONFDIR)/adapath/$$c.conf ] || \
		install -m 644 userspace/adapathd/$$c.conf $(DESTDIR)$(SYSCONFDIR)/adapath/; done
	@for e in userspace/*/systemd/*.env; do [ -e $(DESTDIR)$(SYSCONFDIR)/adapath/$${e##*/} ] || \
		install -m 644 $$e $(DESTDIR)$(SYSCONFDIR)/adapath/; done
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ] && ! getent group adapath >/dev/null; then groupadd --system adapath; fi
	@echo "install: done under $(DESTDIR)$(PREFIX); start with: systemctl daemon-reload && systemctl enable --now adapathd adapath-trainer"

clean: ## remove build/ and the results under out/ (the downloaded clip stays)
	@rm -rf $(BUILD) out/demo out/arena out/bench out/test out/configure.log
