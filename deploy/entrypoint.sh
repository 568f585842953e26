#!/bin/sh
# What the container runs: groundserve, and with GROUNDSERVE_MPS=1 the control daemon of CUDA's
# Multi-Process Service beside `groundserve serve` (docs/deploy.md). Here and not in a container of
# its own: daemon and clients need one user id, one set of pipes and one /dev/shm.
set -eu

fail() {
    echo "GROUNDSERVE_MPS=1: $1" >&2
    exit 1
}

start_mps() {
    command -v nvidia-cuda-mps-control > /dev/null \
        || fail "no nvidia-cuda-mps-control; NVIDIA_DRIVER_CAPABILITIES must have compute"
    # A new folder at each start: /tmp may hold the pipes of a run that was killed, and the runtime
    # mounts those of a daemon on the host at CUDA's default place.
    folder=$(mktemp -d "${TMPDIR:-/tmp}/mps.XXXXXX")
    export CUDA_MPS_PIPE_DIRECTORY="$folder" CUDA_MPS_LOG_DIRECTORY="$folder"
    # Each takes a fraction of a second; one that hangs must not hold the container up for good.
    timeout 30 nvidia-cuda-mps-control -d || fail "the control daemon did not start; see $folder"
    echo get_default_active_thread_percentage | timeout 30 nvidia-cuda-mps-control > /dev/null \
        || fail "the control daemon does not answer; see $folder"
}

case "${GROUNDSERVE_MPS:-0}" in
    0) ;;
    1) if [ "${1:-}" = serve ]; then start_mps; fi ;;
    *) echo "GROUNDSERVE_MPS must be 0 or 1, got $GROUNDSERVE_MPS" >&2 && exit 2 ;;
esac

exec groundserve "$@"
