# `make demo` and `make test` do all of their set-up: a virtual environment in .venv, the package in it, then the work.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Any torch of 2.2 or newer serves; a machine without a GPU is best served by a CPU build: make TORCH=/path/to/wheel demo
TORCH ?= torch==2.13.0
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test check results results-layered results-face results-mobile install bench clean

# every codec but the second and third uses of H-DAC's networks
DEMO := h264 hevc hevc-paper hevc-kvazaar vvc av1 vp9 hevc-stripped dac hdac
demo: $(VENV)/.installed
	$(BIN)/rd-sweep --sequences sample/occluder --codecs $(DEMO) --frames 34 --points 3 --max-kbps 60 --jobs $(JOBS) --out runs/demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n $(JOBS)

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench.bench_metrics --out results/bench/metrics.json
	$(BIN)/python -m tests.bench.bench_sweep --out results/bench/sweep.json
	$(BIN)/python -m tests.bench.bench_codecs --out results/bench/codecs.json

# The reference results, from a folder of clips: hours on two cores; resumes. Weights of network metrics: $HDAC_METRIC_WEIGHTS
CLIPS ?= ../shared/data/talkingheads/test
CONVENTIONAL := h264 hevc hevc-paper hevc-kvazaar vvc av1 vp9
PICTURES ?= xiph_akiyo xiph_deadline xiph_foreman xiph_mother_daughter xiph_silent
results: $(VENV)/.installed
	$(BIN)/rd-sweep --sequences $(CLIPS) --codecs $(CONVENTIONAL) --frames 125 --points 6 --max-kbps 80 \
		--metrics psnr ssim xpsnr vmaf lpips temporal face --jobs $(JOBS) --cache runs/cache --no-report --out results/conventional
	$(BIN)/rd-plot results/conventional --format svg
	$(BIN)/rd-dump results/conventional --cache runs/cache --sequences $(PICTURES) --regime one-intra --codecs hevc vvc av1 h264
	$(BIN)/rd-report results/conventional

# The layered codecs on the same clips, beside the points of `make results`; then the other uses of H-DAC's networks
SWEEP := --frames 125 --jobs $(JOBS) --cache runs/cache --no-report
LAYERED := $(SWEEP) --metrics psnr ssim xpsnr vmaf lpips temporal face
results-layered: $(VENV)/.installed
	$(BIN)/rd-sweep --sequences $(CLIPS) --codecs hevc-stripped hdac --points 4 $(LAYERED) \
		--anchors results/conventional --out results/hdac
	$(BIN)/rd-plot results/hdac --format svg
	$(BIN)/rd-dump results/hdac --cache runs/cache --sequences $(PICTURES) --regime one-intra --codecs hevc vvc hevc-stripped hdac
	$(BIN)/rd-report results/hdac
	$(BIN)/rd-sweep --sequences $(CLIPS) --codecs hdac-look dac hdac-paper --points 3 $(LAYERED) \
		--anchors results/hdac --out results/hdac-variants
	$(BIN)/rd-plot results/hdac-variants --format svg
	$(BIN)/rd-dump results/hdac-variants --cache runs/cache --sequences $(PICTURES) --regime one-intra --codecs hevc vvc hdac-look dac
	$(BIN)/rd-report results/hdac-variants

# face-vid2vid, and binary residuals, beside the points of both
FULLRES ?= $(CLIPS)_fullres
TRAINING ?= $(CLIPS:test=train)
FACE := face-vid2vid face-vid2vid+residual dac+residual hdac+residual
FACE_ABLATIONS := face-never face-rd face-32 face-switch face-rd-look dac-residual dac-as-sent paper-never paper-rd face-all face-pose \
	face-paper face-paper-all
results-face: $(VENV)/.installed-test
	$(BIN)/rd-sweep --sequences $(CLIPS) --codecs h264-paper $(FACE) \
		--points 3 $(LAYERED) --anchors results/hdac-variants --out results/face_vid2vid
	for anchor in h264-paper h264 vvc dac hdac hdac-look; do $(BIN)/rd-bd results/face_vid2vid --anchor $$anchor \
		--codecs $(FACE) --metrics psnr_y ms_ssim_y lpips csim nme --format csv --out results/face_vid2vid/bd-$$anchor.csv || exit 1; done
	$(BIN)/rd-plot results/face_vid2vid --format svg
	$(BIN)/rd-dump results/face_vid2vid --cache runs/cache --sequences $(PICTURES) --regime one-intra \
		--codecs $(FACE)
	$(BIN)/rd-report results/face_vid2vid
	$(BIN)/rd-sweep --sequences $(PICTURES:%=$(CLIPS)/%.mp4) --plugin tests/bench/ablations.py --codecs $(FACE_ABLATIONS) --frames 75 \
		--points 3 --regime one-intra --metrics psnr lpips temporal --jobs $(JOBS) --cache runs/cache --no-report \
		--out results/face_vid2vid/ablations
	$(BIN)/python -m tests.bench.bench_parameters $(CLIPS) --learn-from $(TRAINING) --out results/face_vid2vid/parameters.json
	$(BIN)/python -m tests.bench.bench_view $(CLIPS) --out results/face_vid2vid/view.json
	$(BIN)/python -m tests.bench.bench_vid2vid --out results/face_vid2vid/networks.json
	$(BIN)/python -m data.prepare $(FULLRES) --size 512 --frames 125 --out runs/clips-512 --force
	$(BIN)/python -m tests.bench.bench_residual $(CLIPS) runs/clips-512 --out results/face_vid2vid/residual.json

# The mobile family, beside the points of all of them
THERE := from hdac.families import LAYERED, MOBILE; there = [name for name in MOBILE if not LAYERED[name].missing()]
MOBILE = $(shell $(BIN)/python -c "$(THERE); print(*there)")
NETWORKS = $(shell $(BIN)/python -c "$(THERE); print(*dict.fromkeys(LAYERED[name].networks[0] for name in there))")
STUDENTS = $(shell $(BIN)/python -c "$(THERE); print(*dict.fromkeys(n for name in there for n in LAYERED[name].networks[1:]))")
# clips in which heads turn most (results/mobile/faces.json)
TURNED ?= xiph_foreman voxceleb_012 voxceleb_002 xiph_mother_daughter voxceleb_011 hdtf_wda_katiehill
MOBILE_ABLATIONS = $(shell $(BIN)/python -c "from tests.bench.mobile_ablations import there; print(*there())")
FITTED := nth bilayer motion-net-10u+20l motion-spade-10u+20l
# one of every kind, side by side
SHOWN := fomm motion-net-20l motion-spade-10u+20l frontalizer-sup+unsup ultralight bilayer nth segface-48
SWEEPS := conventional hdac hdac-variants face_vid2vid mobile
results-mobile: $(VENV)/.installed-test
	$(BIN)/rd-sweep --sequences $(CLIPS) --codecs $(MOBILE) --points 3 --regime one-intra $(SWEEP) --anchors results/face_vid2vid \
		--metrics psnr ssim xpsnr vmaf lpips msvgg_distilled temporal face animation --out results/mobile
	$(BIN)/rd-plot results/mobile --format svg --regime one-intra --codecs $(MOBILE) dac hdac hdac-look face-vid2vid hevc vvc \
		--metrics psnr_y lpips nme csim
	$(BIN)/rd-dump results/mobile --cache runs/cache --sequences $(PICTURES) --regime one-intra --codecs $(SHOWN)
	$(BIN)/rd-report results/mobile
	$(BIN)/rd-sweep --sequences $(TURNED:%=$(CLIPS)/%.mp4) --plugin tests/bench/mobile_ablations.py --codecs $(MOBILE_ABLATIONS) \
		--points 3 --regime one-intra $(SWEEP) --frames 75 --metrics psnr lpips temporal face --out results/mobile/ablations
	for anchor in fomm-never nth-1 frontal-1 mn-adaptive; do $(BIN)/rd-bd results/mobile/ablations --anchor $$anchor \
		--codecs $$(echo $(MOBILE_ABLATIONS) | tr ' ' '\n' | grep "^$${anchor%%-*}-") --metrics psnr_y lpips nme csim \
		--format csv --out results/mobile/ablations/bd-$$anchor.csv || exit 1; done
	$(BIN)/python -m tests.bench.bench_networks --out results/mobile/networks.json
	$(BIN)/python -m tests.bench.bench_faces $(CLIPS) --out results/mobile/faces.json
	$(BIN)/python -m tests.bench.bench_points $(CLIPS) --networks $(NETWORKS) --out results/mobile/points.json
	$(BIN)/python -m tests.bench.bench_int8 $(CLIPS) --calibrate $(TRAINING) --spread 4 --most 8 --frames 25 \
		--networks $(STUDENTS) $(NETWORKS) --out results/mobile/int8.json
	$(BIN)/python -m tests.bench.bench_fine_tuning $(CLIPS) --spread 4 --networks $(filter $(FITTED),$(NETWORKS)) --out results/mobile/fine_tuning.json
	$(BIN)/python -m tests.bench.bench_backends --calibrate $(TRAINING) --out results/mobile/backends.json
	$(BIN)/python -m tests.bench.bench_detectors $(CLIPS) --out results/mobile/detectors.json
	$(BIN)/python -m tests.bench.bench_filter $(CLIPS) --networks fomm motion-net-10u+20l --out results/mobile
	$(BIN)/python -m tests.bench.bench_composition $(FULLRES)/*.mp4 --out results/mobile/composition.json
	$(BIN)/python -m tests.bench.dump_conference $(CLIPS)/xiph_deadline.mp4 results/mobile/dumps/conference.png
	$(BIN)/python -m tests.bench.paper_tables results/mobile --out results/mobile/tables.md
	$(BIN)/python -m tests.bench.bench_codecs --codecs $(MOBILE) --out results/mobile/codecs.json
	$(BIN)/python -m tests.bench.catalogue $(SWEEPS:%=results/%) --speeds results/bench/codecs.json results/mobile/codecs.json \
		--out hdac/catalogue.csv

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first: nothing that comes later then draws in another build of it
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
