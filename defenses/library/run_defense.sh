#!/bin/sh
# Usage: ./run_defense.sh INPUT_IMAGES RESULT_CSV
exec python3 "$(dirname "$0")/run_defense.py" "$@"
