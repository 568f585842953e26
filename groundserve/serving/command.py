"""The command line of the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from groundserve.limits import MIB, Limits
from groundserve.serving.memory import MemoryNeeds

LOOPBACK = "127.0.0.1"
"""The server has no authentication: nobody else should reach it."""

EXIT_TIMEOUT_SECONDS = 5
"""How long the server waits for requests in flight when it is told to stop."""

ADMIN_HEADER = "groundserve-admin"
"""Header with the secret; on gRPC it has the prefix `triton-grpc-protocol-`."""

# Configurations can be read: clients ask for them, and ours hold shapes and numbers.
_RESTRICTED_APIS = "model-repository,shared-memory,trace,logging"


def server_command(
    executable: Path,
    *,
    model_repository: Path,
    host: str,
    ports: Mapping[str, int],
    backend_dir: Path | None,
    shm_prefix: str,
    memory: MemoryNeeds,
    has_pools: bool,
    admin_secret: str,
    limits_http: bool,
) -> list[str]:
    """Return the arguments to start tritonserver with all models of a repository.

    `ports` are `grpc`, `metrics`, and `http` where it is to be opened; `has_pools` says that there
    is a GPU, `limits_http` that the server refuses HTTP bodies above 64 MiB unless told a size, as
    later ones than 2.51 do. Its own backends are used where `backend_dir` is None.
    """
    # Both protocols know the same APIs; a request without the header's secret is refused.
    restricted = f"{_RESTRICTED_APIS}:{ADMIN_HEADER}={admin_secret}"
    command = [
        str(executable),
        f"--model-repository={model_repository}",
        # The configurations are complete: nothing is left for the server to guess.
        "--disable-auto-complete-config",
        # Explicit: a model whose process died can be loaded again.
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--grpc-address={host}",
        f"--grpc-port={ports['grpc']}",
        f"--grpc-restricted-protocol={restricted}",
        f"--metrics-address={LOOPBACK}",
        f"--metrics-port={ports['metrics']}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--backend-config=python,shm-default-byte-size={memory.region_bytes}",
        f"--backend-config=python,shm-growth-byte-size={memory.region_growth_bytes}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
    ]
    if "http" not in ports:
        command.append("--allow-http=false")
    else:
        command += [f"--http-address={host}", f"--http-port={ports['http']}"]
        command.append(f"--http-restricted-api={restricted}")
        if limits_http:
            most = largest_http_body(Limits.from_environment())
            command.append(f"--http-max-input-size={most}")
    if backend_dir is not None:
        command.append(f"--backend-directory={backend_dir}")
    if has_pools:
        # 0: the one GPU that a server uses.
        command.append(f"--cuda-memory-pool-byte-size=0:{memory.cuda_pool_bytes}")
        command.append(f"--pinned-memory-pool-byte-size={memory.pinned_pool_bytes}")
    return command


def largest_http_body(limits: Limits) -> int:
    """Return the bytes of the largest request within the limits: a video, questions, options."""
    questions = min(limits.max_queries * limits.max_query_bytes, limits.max_text_bytes)
    texts = questions + limits.max_options_bytes
    return limits.max_upload_bytes + texts + MIB  # and the JSON around them
