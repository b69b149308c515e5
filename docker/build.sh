#!/usr/bin/env bash
# Build advcomp's container images: docker/build.sh [options] [IMAGE ...]; IMAGE is one of
#
#   base      Debian 12 with Python: the ground of the others
#   referee   advcomp without torch: the referee's own programs, and small submissions
#   runtime   advcomp with players: what sample submissions run in          (default: these three)
#   onnx      the referee image with onnxruntime: what a starter for ONNX models names
#   train     the runtime image with MPI, for training
#
#   --engine docker|podman   what builds [default: podman where it is installed, else docker]
#   --device cpu|cuda        which PyTorch [default: cpu]
#   --offline                reach no registry of images: the base is made by debootstrap (as root)
#                            and wheels are downloaded here, before the build, which has no network
#   --pypi                   wheels from the package index alone, whose PyTorch is the CUDA build:
#                            for places that cannot reach download.pytorch.org
#   --keep-base DAYS         take a base that is younger as it is, and what was built on it from the
#                            engine's layers where packages and sources are the same
#   --also docker|podman     hand the images on to this engine, under the same IDs
#
# The images are called advcomp/base, advcomp/referee and so on.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "docker/build.sh: $*" >&2; exit 2; }

engine='' also='' device=cpu offline='' pypi='' keep_days=0 images=()
while (($#)); do
  case $1 in
    --engine) engine=${2:?} && shift ;;
    --keep-base) keep_days=${2:?} && shift ;;
    --also) also=${2:?} && shift ;;
    --device) device=${2:?} && shift ;;
    --offline) offline=1 ;;
    --pypi) pypi=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
    base | referee | runtime | onnx | train) images+=("$1") ;;
    *) fail "expected an option or one of base, referee, runtime, onnx, train; got $1 (see --help)" ;;
  esac
  shift
done
((${#images[@]})) || images=(base referee runtime)
[[ $device == cpu || $device == cuda ]] || fail "--device must be cpu or cuda; got $device"
for name in "$engine" "$also"; do
  [[ -z $name || $name == docker || $name == podman ]] ||
    fail "an engine must be docker or podman; got $name"
done
[[ $keep_days =~ ^[0-9]+$ ]] || fail "--keep-base must be a number of days; got $keep_days"
[[ -n $engine ]] || { command -v podman >/dev/null && engine=podman || engine=docker; }
command -v "$engine" >/dev/null || fail "$engine is not installed"

# Wheels for the images' Python 3.11 are downloaded by any that has pip.
python=${PYTHON:-python3}
[[ -n ${PYTHON:-} || ! -x .venv/bin/python ]] || python=.venv/bin/python

wants() { [[ " ${images[*]} " == *" $1 "* ]]; }

client() {
  case $1 in
    # Debian's default runtime, crun, refuses machines with cgroups v1 beside v2.
    podman) podman ${PODMAN_RUNTIME:+--runtime "$PODMAN_RUNTIME"} "${@:2}" ;;
    docker) DOCKER_BUILDKIT=1 docker "${@:2}" ;;
  esac
}
if command -v runc >/dev/null; then PODMAN_RUNTIME=${PODMAN_RUNTIME:-runc}; fi

build() { # image, Dockerfile, further arguments
  local arguments=(-t "advcomp/$1" -f "docker/$2.Dockerfile" "${@:3}")
  # The format keeps the image's ID when it is handed on to Docker.
  [[ $engine == docker ]] || arguments+=(--format docker --pull=never)
  [[ -z $offline ]] || arguments+=(--network none)
  client "$engine" build "${arguments[@]}" .
}

about() { # image, what: nothing where there is no such image
  client "$engine" image inspect --format "$2" "advcomp/$1" 2>/dev/null || true
}

is_young() { # image
  local made
  made=$(about "$1" '{{json .Created}}')
  [[ -n $made ]] && (($(date +%s) - $(date -d "${made//\"/}" +%s) < keep_days * 86400))
}

make_base() {
  ! is_young base || return 0
  if [[ -z $offline ]]; then
    client "$engine" pull docker.io/library/python:3.11-slim-bookworm
    client "$engine" tag docker.io/library/python:3.11-slim-bookworm advcomp/base
    return
  fi
  command -v debootstrap >/dev/null || fail "--offline needs debootstrap: apt-get install debootstrap"
  [[ $(id -u) == 0 ]] || fail "--offline needs root, for debootstrap"
  # Not in the project's folder: debootstrap mounts /proc in it, and who installs the package
  # meanwhile would walk through that for ever.
  scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/advcomp-base-XXXXXX")
  local root=$scratch/root
  debootstrap --variant=minbase --include=python3,python3-venv \
    bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
  ln -sf python3 "$root/usr/bin/python"
  tar -C "$root" -c --numeric-owner --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' --exclude='./dev/*' . |
    client "$engine" import \
      -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - advcomp/base
}

download_wheels() {
  local extras='' platforms=(--platform "linux_$(uname -m)") minor
  ! wants onnx || extras=onnx
  ! wants runtime || extras=players
  ! wants train || extras=train
  for minor in {5..28}; do platforms+=(--platform "manylinux_2_${minor}_$(uname -m)"); done
  platforms+=(--platform "manylinux2014_$(uname -m)" --platform "manylinux2010_$(uname -m)")
  local index=()
  [[ $device == cuda || -n $pypi ]] ||
    index=(--extra-index-url https://download.pytorch.org/whl/cpu)
  rm -rf build/wheels
  # advcomp itself is built in the image, from the sources; its requirements are what is fetched.
  "$python" - "$extras" >build/requirements.txt <<'PYTHON'
import re, sys, tomllib
from pathlib import Path
project = tomllib.loads(Path("pyproject.toml").read_text())
own, groups = project["project"]["name"], project["project"]["optional-dependencies"]
wanted = {*project["project"]["dependencies"], *project["build-system"]["requires"]}
extras = [*filter(None, sys.argv[1].split(","))]
for extra in extras:  # grows by the extras that an extra asks for
    for each in groups[extra]:
        more = re.fullmatch(rf"{own}\[(.*)\]", each)
        extras += more[1].split(",") if more else []
        wanted |= set() if more else {each}
print("\n".join(sorted(wanted)))
PYTHON
  "$python" -m pip download -q -d build/wheels -c constraints.txt "${index[@]}" \
    --only-binary :all: --implementation cp --python-version 3.11 "${platforms[@]}" \
    -r build/requirements.txt
}

mkdir -p build
scratch=''
clean() {
  if [[ -n $scratch ]]; then
    umount -q "$scratch/root/proc" "$scratch/root/sys" || true
    rm -rf --one-file-system "$scratch"
  fi
  rm -rf build/wheels build/requirements.txt
}
trap clean EXIT
! wants base || make_base
digest() { find "$@" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c-64; }
packages=$(digest pyproject.toml constraints.txt docker)-$device-$(about base '{{.Id}}')
common=(--build-arg BASE=advcomp/base --build-arg DEVICE="$device")
common+=(--build-arg PACKAGES_DIGEST="$packages")
common+=(--build-arg SOURCES_DIGEST="$(digest advcomp pyproject.toml)")

build_all() {
  { ! wants referee || build referee runtime "${common[@]}" --build-arg EXTRAS=; } &&
    { ! wants runtime || build runtime runtime "${common[@]}"; } &&
    { ! wants onnx || build onnx runtime "${common[@]}" --build-arg EXTRAS=[onnx]; } &&
    { ! wants train || build train train --no-cache --build-arg BASE=advcomp/runtime; }
}

has_layers() { # of every wanted image; what trains is always built anew
  local image
  ! wants train || return 1
  for image in "${images[@]}"; do
    [[ $image == base || $(about "$image" '{{index .Config.Labels "advcomp.packages"}}') == "$packages" ]] ||
      return 1
  done
}

if [[ ${images[*]} == base ]]; then
  :
elif [[ -z $offline ]]; then
  build_all
elif ! has_layers || ! build_all; then
  download_wheels
  build_all
fi
if [[ -n $also && $also != "$engine" ]]; then
  for image in "${images[@]}"; do
    client "$engine" save "advcomp/$image" | client "$also" load
    # Podman calls what it built itself localhost/NAME; Docker would take that for a registry.
    [[ $also == docker ]] || continue
    client docker tag "localhost/advcomp/$image" "advcomp/$image"
    client docker rmi "localhost/advcomp/$image"
  done
fi
