#!/usr/bin/env bash
# Install the carried wheels into an environment of their own, without a network, and run check.py with its arguments.
set -euo pipefail
cd "$(dirname "$0")"
if [ -d wheels ] && ! [ -e venv/complete ]; then
  "${PYTHON:-python3}" -m venv venv
  venv/bin/pip install -q --no-index --find-links wheels "edgekit-llm" "onnxruntime>=1.24.4" onnxruntime-ep-webgpu
  touch venv/complete
fi
python=${PYTHON:-python3}
if [ -e venv/complete ]; then python=venv/bin/python; fi
exec "$python" check.py "$@"
