# `make demo` and `make test` set up everything they need in .venv.
PYTHON ?= python3
PY := .venv/bin/python
RUN := runs/digits

.PHONY: demo test dist android android-test clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 13) else "Python 3.10, 3.11 or 3.12 is needed (TensorFlow 2.16): make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --constraint constraints.txt --editable '.[train,firmware,wyoming,wasm,wasm-build,test]'
	# Not an extra: only its firmware image is used, and its dependencies need numpy 2.
	$(PY) -m pip install --no-deps mlia-ethos-u==0.1.0
	touch $@

# From nothing to a bundle: corpus, training, quantization, conversion, proofs, report.
demo: .venv/installed
	$(PY) -m tf_speech_transformer.train --config=tf_speech_transformer/configs/digits.py --workdir=$(RUN)
	$(PY) -m tflite_convert.convert --workdir=$(RUN) --ptq --float32
	$(PY) -m tf_speech_transformer.synthesise --digits=1000 --out=$(RUN)/test
	$(PY) -m tflite_convert.ladder --workdir=$(RUN) --manifest=$(RUN)/test/manifest.tsv --limit=300
	$(PY) -m firmware_sim.evaluate --bundle=$(RUN)/bundle --manifest=$(RUN)/test/manifest.tsv --runtime=litert --json=$(RUN)/litert.json
	$(PY) -m tflite_convert.report --workdir=$(RUN)
	$(PY) -m firmware_sim.transcribe --bundle=$(RUN)/bundle $(RUN)/test/audio/00000.flac
	@echo "bundle: $(RUN)/bundle  report: $(RUN)/report.html"

test: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy firmware_sim tf_speech_transformer tflite_convert benchmarks android_demo/building
	$(PY) -m pytest --numprocesses=auto --dist=loadfile

# The wheel and the sdist, with the shipped bundles in them.
dist: .venv/installed
	$(PY) -m build

# The Android demo as signed APKs, and the library as an AAR; android_demo/README.md says what it needs.
android: .venv/installed
	$(PY) -m android_demo.building.apk

# The Kotlin library and the demo on this machine, against what Python makes of the same recordings.
GOLDEN := android_demo/build/golden
android-test: android
	$(PY) -m android_demo.building.golden --bundle=digits --out=$(GOLDEN)/digits
	$(PY) -m android_demo.building.golden --bundle=barista --out=$(GOLDEN)/barista
	$(PY) -m tests.android_demo.general $(GOLDEN)
	mvn --batch-mode --quiet --offline --file=android_demo/pom.xml --projects=speech,app verify
	$(PY) -m android_demo.building.arm64 $(addprefix $(GOLDEN)/,digits barista general-slots)
	$(PY) -m pytest tests/android_demo/test_apk.py

clean:
	rm -rf .venv build dist runs android_demo/build android_demo/*/target
