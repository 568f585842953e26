#!/bin/sh
# Print the image of a profile and its digest, as an environment file:
#   deploy/resolve_digests.sh gpu > deploy/digests.env
# Keep that file under version control: it says what was deployed.
set -eu

case ${1-} in
    gpu) tag=26.07-py3 ;;
    gpu-trtllm) tag=26.07-trtllm-python-py3 ;;
    *) echo "usage: $0 gpu|gpu-trtllm" >&2 && exit 2 ;;
esac
docker buildx version > /dev/null || {
    echo "this needs Docker with its plugin buildx, which has BuildKit too: install docker-buildx-plugin" >&2
    exit 1
}
digest=$(docker buildx imagetools inspect "nvcr.io/nvidia/tritonserver:$tag" --format '{{.Manifest.Digest}}')
case $digest in
    sha256:*) printf 'PROFILE=%s\nTRITON_TAG=%s\nTRITON_DIGEST=%s\n' "$1" "$tag" "$digest" ;;
    *) echo "no digest for $tag: $digest" >&2 && exit 1 ;;
esac
