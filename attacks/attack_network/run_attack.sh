#!/bin/sh
# Usage: ./run_attack.sh INPUT_IMAGES OUTPUT_IMAGES MAX_EPSILON
exec python3 "$(dirname "$0")/run_attack.py" "$@"
