#!/usr/bin/env bash
# Installs the built wheel in an empty environment and asks it the first questions a user asks.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(ls "$PWD"/dist/*.whl)
constraints=$PWD/constraints.txt
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-.venv/bin/python}" -m venv "$place/venv"
"$place/venv/bin/pip" install -q "$wheel"
cd "$place" # away from the source tree: only what the wheel holds counts
for question in "list" "show internlm-20b" "evals" "registry validate"; do
    # shellcheck disable=SC2086
    ./venv/bin/internlm-zoo $question >answer.txt
    printf '%-20s %s lines\n' "$question" "$(wc -l <answer.txt)"
done

# With [torch] the wheel alone runs the demo: the models are inside it.
"$place/venv/bin/pip" install -q -c "$constraints" "$wheel[torch]"
./venv/bin/internlm-zoo demo --json >demo.json
printf '%-20s %s\n' "demo" "$(./venv/bin/python -c 'import json; print(len(json.load(open("demo.json"))["proofs"]), "steps proved")')"
