#!/bin/sh
# Fail where a shared library would not load: one that it needs is missing, or a function of Triton's.
#   LD_LIBRARY_PATH=... deploy/check_libraries.sh LIBRARY ...
# LD_LIBRARY_PATH must lead to all that the process which loads it has loaded by then.
set -eu

[ $# -gt 0 ] || { echo "usage: $0 LIBRARY ..." >&2 && exit 2; }

# The driver's libraries come with the container runtime, when a container with a GPU starts:
# NVIDIA/libnvidia-container 1d44a93, src/nvc_info.c (utility_libs, compute_libs, video_libs).
driver='^[[:space:]]*lib(cuda|nvcuvid|nvidia-[a-z]+)\.so[.0-9]* => not found'

status=0
for library in "$@"; do
    # -r also looks for every symbol; of those only Triton's are judged: the driver's are missing.
    if ! found=$(LC_ALL=C ldd -r "$library" 2>&1); then
        echo "$library: $found" >&2
        status=1
        continue
    fi
    wrong=$(echo "$found" | grep -E 'not found|undefined symbol: TRITON' | grep -Ev "$driver" || true)
    if [ -n "$wrong" ]; then
        printf '%s would not load:\n%s\n' "$library" "$wrong" >&2
        status=1
    fi
done
exit $status
