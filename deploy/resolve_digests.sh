#!/bin/sh
# Print the digests of deploy/Dockerfile's images, as an environment file:
#   deploy/resolve_digests.sh > deploy/digests.env
# Keep that file under version control: it says what was deployed.
set -eu

dockerfile=$(dirname "$0")/Dockerfile
docker buildx version > /dev/null || {
    echo "this needs Docker with its plugin buildx, which has BuildKit too: install docker-buildx-plugin" >&2
    exit 1
}

resolve() { # VARIABLE
    image=$(sed -n "s/^FROM \(.*\)@\${$1:.*/\1/p" "$dockerfile")
    digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
    case $digest in
        sha256:*) echo "$1=$digest" ;;
        *) echo "no digest for $image: $digest" >&2 && exit 1 ;;
    esac
}

resolve TRITON_TRTLLM_DIGEST
resolve TRITON_PY3_DIGEST
