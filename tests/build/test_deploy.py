"""The files of deploy/ and their pages name what exists, and hold what they promise."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from engine_build.triton.__main__ import REFERENCE_MODEL
from groundserve._version import __version__
from groundserve.cli.app import load_command
from groundserve.families.videoitg import FAMILY
from groundserve.limits import MIB, Limits
from groundserve.runtime.gpu import MPI_ENVIRONMENT
from groundserve.serving.command import EXIT_TIMEOUT_SECONDS
from groundserve.serving.memory import memory_needs, read_configs
from scripts.monitoring import QUEUE_SECONDS
from tests.support.reference import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DOCS = (REPOSITORY / "docs" / "gpu.md").read_text("utf-8")
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))
TAGS = {"gpu": "26.07-py3", "gpu-trtllm": "26.07-trtllm-python-py3"}
ARGUMENTS = {"PROFILE", "TRITON_TAG", "TRITON_DIGEST"}
GPU_REPOSITORY = REPOSITORY / "triton_models" / "gpu"
NEEDS = memory_needs(FAMILY, REFERENCE_MODEL, read_configs(GPU_REPOSITORY), Limits())


def parse_dockerfile() -> list[tuple[str, str]]:
    """Return (instruction, arguments), continued lines joined."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    pairs = [line.split(None, 1) for line in joined if line.strip()]
    return [(name, arguments) for name, arguments in pairs]


DOCKERFILE = parse_dockerfile()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COMPOSE_CPU = yaml.safe_load((DEPLOY / "compose-cpu.yaml").read_text())
EVERY_SERVICE = {
    **{f"gpu {name}": one for name, one in SERVICES.items()},
    **{f"cpu {name}": one for name, one in COMPOSE_CPU["services"].items()},
}
COMPOSE_FILES = ("compose.yaml", "compose-cpu.yaml", "monitoring/compose.yaml")


def arguments_of(instruction: str) -> list[str]:
    return [arguments for name, arguments in DOCKERFILE if name == instruction]


def options_of(command: str) -> set[str]:
    return {name for option in load_command(command).params for name in option.opts}


def variables_in(text: str) -> dict[str, str | None]:
    """Variable that compose replaces -> its default, None where it must be set."""
    found = re.findall(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", text)
    return {name: default or None for name, default in found}


def test_the_image_is_pinned_by_a_digest_that_must_be_given():
    (image,) = arguments_of("FROM")
    assert re.fullmatch(
        r"nvcr\.io/nvidia/tritonserver:\$\{TRITON_TAG:\?[^}]+\}@\$\{TRITON_DIGEST:\?[^}]+\}", image
    )
    # Declared without a value, so that the build ends with the message.
    assert set(arguments_of("ARG")) == ARGUMENTS


def test_image_runs_as_an_ordinary_user():
    (user,) = arguments_of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [name for name, _ in DOCKERFILE]
    assert "RUN" not in names[names.index("USER") :]


def test_image_copies_what_exists_and_is_not_ignored():
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    for arguments in arguments_of("COPY"):
        for source in arguments.split()[:-1]:
            if source == "deploy/${PROFILE}.lock":
                assert "deploy/*.lock" in kept
                assert all((DEPLOY / f"{profile}.lock").is_file() for profile in TAGS)
            else:
                assert (REPOSITORY / source).exists(), source
                assert source in kept, source


def test_the_image_of_vllm_stands_on_the_other():
    text = (DEPLOY / "vllm.Dockerfile").read_text()
    assert f"\nFROM {SERVICES['server']['image']}\n" in text
    (copied,) = re.findall(r"^COPY (\S+) ", text, re.MULTILINE)
    assert (DEPLOY / copied).is_file()


def test_image_installs_every_package_of_the_wheel():
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = {source for arguments in arguments_of("COPY") for source in arguments.split()[:-1]}
    assert set(packages) <= copied


def test_compose_files_fit_the_schema():
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [program, "--builtin-schema", "vendor.compose-spec"]
    files = [DEPLOY / name for name in COMPOSE_FILES]
    run = subprocess.run([*command, *files], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", EVERY_SERVICE)
def test_service_has_no_rights_and_options_that_exist(name):
    service = EVERY_SERVICE[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert "privileged" not in service
    words = [*service.get("entrypoint", ["groundserve"])[1:], *service["command"]]
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert words[0] in ("build", "gateway", "gateway-key", "serve")
    assert options
    assert options <= options_of(words[0])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    volumes = (COMPOSE if name.startswith("gpu") else COMPOSE_CPU)["volumes"]
    named = {mount.partition(":")[0] for mount in service["volumes"] if mount[0] != "$"}
    assert named <= volumes.keys()
    profile = "groundserve" if name in ("gpu build", "gpu server") else "groundserve-cpu"
    assert service["image"] == f"{profile}:{__version__}"
    if build := service.get("build"):
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", ["build", "server"])
def test_what_computes_has_one_gpu(name):
    service = SERVICES[name]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], len(device["device_ids"])) == ("nvidia", 1)
    assert "gpu" in device["capabilities"]
    assert set(service["build"]["args"]) == ARGUMENTS


def test_what_watches_reads_files_that_exist():
    folder = DEPLOY / "monitoring"
    for service in yaml.safe_load((folder / "compose.yaml").read_text())["services"].values():
        sources = [mount.partition(":")[0] for mount in service["volumes"]]
        assert all((folder / one).exists() for one in sources if one.startswith("."))
    jobs = yaml.safe_load((folder / "prometheus.yaml").read_text())["scrape_configs"]
    hosts = {one["static_configs"][0]["targets"][0].partition(":")[0] for one in jobs}
    assert hosts <= SERVICES.keys()
    cpu = COMPOSE_CPU["services"]
    assert hosts <= {*cpu, *cpu["gateway"]["networks"]["default"]["aliases"]}


def test_server_is_read_only_and_on_loopback():
    server = SERVICES["server"]
    assert server["read_only"] is True
    assert any(mount.startswith("/tmp:") for mount in server["tmpfs"])
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    writable = [mount for mount in server["volumes"] if not mount.endswith(":ro")]
    assert writable == ["cache:/cache", "scratch:/scratch"]
    assert server["environment"]["TMPDIR"] == "/scratch"  # /tmp is in memory
    # A new volume gets its owner from the folder in the image.
    assert any(re.search(r"--owner=1000 .* /scratch", line) for line in arguments_of("RUN"))
    assert server["healthcheck"]["test"][0] == "CMD"
    assert int(server["stop_grace_period"].removesuffix("s")) >= 2 * EXIT_TIMEOUT_SECONDS


def test_server_has_room_in_shared_memory():
    size = variables_in(SERVICES["server"]["shm_size"])["SHM_SIZE"]
    assert size is not None
    assert int(size.removesuffix("gb")) * 1024 * MIB >= NEEDS.all_regions_bytes


FAKE_DOCKER = """#!/bin/sh
echo "$@" >> "$0.log"
echo "{answer}"
exit {status}
"""


def run_resolve_digests(
    folder: Path, answer: str, *, profile: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    docker = folder / "docker"
    docker.write_text(FAKE_DOCKER.format(answer=answer, status=status))
    docker.chmod(0o755)
    return subprocess.run(
        [DEPLOY / "resolve_digests.sh", profile],
        env={**os.environ, "PATH": os.pathsep.join([str(folder), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("profile", TAGS)
def test_resolve_digests_asks_for_the_image_of_a_profile(tmp_path, profile):
    run = run_resolve_digests(tmp_path, "sha256:12ab", profile=profile)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        f"PROFILE={profile}",
        f"TRITON_TAG={TAGS[profile]}",
        "TRITON_DIGEST=sha256:12ab",
    ]
    calls = map(shlex.split, (tmp_path / "docker.log").read_text().splitlines())
    asked = [call[3] for call in calls if call[:3] == ["buildx", "imagetools", "inspect"]]
    assert asked == [f"nvcr.io/nvidia/tritonserver:{TAGS[profile]}"]


def code_blocks(language: str, page: str = DOCS) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_docs_name_every_variable_of_compose():
    variables = variables_in((DEPLOY / "compose.yaml").read_text())
    rows = [line for line in DOCS.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row.split("|")[1])}
    assert set(variables) | set(MPI_ENVIRONMENT) == documented
    for name, default in variables.items():
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        if default is not None:
            assert default in row.replace(",", ""), name
    for name, value in MPI_ENVIRONMENT.items():
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert row.split("|")[2].strip() == value


def test_docs_do_the_sums_of_the_code():
    pool = NEEDS.cuda_pool_bytes
    assert f"{pool // MIB:,} MiB     --cuda-memory-pool-byte-size=0:{pool}\n" in DOCS
    assert NEEDS.pinned_pool_bytes == pool
    assert f"{NEEDS.all_regions_bytes // MIB:,} MiB\n" in DOCS
    assert f"shm-default-byte-size={NEEDS.region_bytes}`" in DOCS
    assert f"shm-growth-byte-size={NEEDS.region_growth_bytes}`" in DOCS


def test_docs_give_commands_that_exist():
    text = "\n".join(code_blocks("bash")).replace("\\\n", " ")
    assert "deploy/resolve_digests.sh gpu > deploy/digests.env" in text
    for line in text.splitlines():
        if "docker compose" in line:
            assert "--env-file deploy/digests.env --file deploy/compose.yaml" in line
            assert SERVICES.keys() & line.partition("#")[0].split()
        if line.startswith("groundserve "):
            words = shlex.split(line)
            options = {word for word in words if word.startswith("--")}
            assert options <= options_of(words[1])
    set_in_docs = set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", text))
    assert set_in_docs <= set(variables_in((DEPLOY / "compose.yaml").read_text()))


def containers():
    for manifest in KUBERNETES:
        if "template" in manifest["spec"]:
            pod = manifest["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", []), *pod["containers"]):
                yield pod, container


@pytest.mark.parametrize("manifest", KUBERNETES, ids=lambda one: one["kind"])
def test_manifest_fits_the_schema_of_kubernetes(manifest):
    kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_pods_have_no_rights_and_what_they_mount():
    for pod, container in containers():
        context = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        assert container["resources"].keys() == {"requests", "limits"}
        names = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= names
        if arguments := container.get("args"):
            options = {word.partition("=")[0] for word in arguments[1:]}
            assert options <= options_of(arguments[0])
            probes = {"startupProbe", "readinessProbe", "livenessProbe"}
            assert probes <= container.keys()
    (server,) = [pod for pod, one in containers() if one["name"] == "server"]
    volumes = {volume["name"]: volume for volume in server["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    (container,) = server["containers"]
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert server["terminationGracePeriodSeconds"] >= sleep + 2 * EXIT_TIMEOUT_SECONDS


def test_the_gateway_knows_every_server_that_the_autoscaler_may_start():
    (scaler,) = [one["spec"] for one in KUBERNETES if one["kind"] == "HorizontalPodAutoscaler"]
    (gateway,) = [one for _, one in containers() if one["name"] == "gateway"]
    servers = scaler["scaleTargetRef"]["name"]
    assert [word for word in gateway["args"] if word.startswith("--upstream")] == [
        f"--upstream=grpc://{servers}-{number}.{servers}:8001"
        for number in range(scaler["maxReplicas"])
    ]
    (metric,) = scaler["metrics"]
    assert metric["external"]["metric"]["name"] == QUEUE_SECONDS
