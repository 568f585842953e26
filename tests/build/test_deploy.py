"""The files of deploy/ and their pages name what exists, and hold what they promise."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

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
from tests.support.reference import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DOCS = (REPOSITORY / "docs" / "gpu.md").read_text("utf-8")
KUBERNETES = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
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


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_no_rights_and_one_gpu(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["image"] == f"groundserve:{__version__}"
    assert "privileged" not in service
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], len(device["device_ids"])) == ("nvidia", 1)
    assert "gpu" in device["capabilities"]
    assert set(service["build"]["args"]) == ARGUMENTS
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_service_gives_options_that_exist(name):
    words = SERVICES[name]["command"]
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert words[0] == {"build": "build", "server": "serve"}[name]
    assert options
    assert options <= options_of(words[0])


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


def test_docs_pod_is_like_the_compose_server():
    (text,) = code_blocks("yaml", KUBERNETES)
    pod = yaml.safe_load(text)["spec"]
    (container,) = pod["containers"]
    assert container["args"][0] == "serve"
    options = {word.partition("=")[0] for word in container["args"][1:]}
    assert options <= options_of("serve")
    (first,) = pod["initContainers"]
    owner = pod["securityContext"]["runAsUser"]
    assert first["command"][2] == f"chmod 700 /cache && chown {owner}:{owner} /cache"
    assert first["securityContext"]["runAsUser"] == 0
    assert "--cache-dir=/cache" in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= sleep + 2 * EXIT_TIMEOUT_SECONDS
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
