"""deploy/rayjob.yaml has what KubeRay's CRD requires, and runs a command that exists.

rayjob_crd.json holds of each object of the CRD that the manifest has: the keys, their types, and
which are required.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import typer
import yaml

from groundserve._version import __version__
from groundserve.cli import batch
from tests.support.reference import REPOSITORY

CRD = json.loads(Path(__file__).with_name("rayjob_crd.json").read_text("utf-8"))
TEXT = (REPOSITORY / "deploy" / "rayjob.yaml").read_text("utf-8")
MANIFEST = yaml.safe_load(TEXT)
DEPLOY_DOCS = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
TYPES = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}


def problems(value, path=""):
    """What the API server would say of an object and all below it."""
    if isinstance(value, list):
        return [text for one in value for text in problems(one, f"{path}[]")]
    if not isinstance(value, dict) or path not in CRD["objects"]:
        return []
    schema = CRD["objects"][path]
    found = [f"{path} lacks {key}" for key in schema["required"] if key not in value]
    for key, below in value.items():
        kind = schema["keys"].get(key)
        if kind is None:
            found.append(f"{path} has no key {key}")
        elif kind != "any" and not isinstance(below, TYPES[kind]):
            found.append(f"{path}.{key} is no {kind}")
        found += problems(below, f"{path}.{key}".lstrip("."))
    return found


def test_manifest_fits_the_crd():
    assert MANIFEST["kind"] == CRD["kind"]
    assert MANIFEST["apiVersion"] == f"{CRD['group']}/{CRD['source']['version']}"
    assert problems(MANIFEST) == []
    # All objects down to the containers are looked at.
    pods = [path for path in CRD["objects"] if path.endswith("template.spec.containers[]")]
    assert len(pods) == 2


def test_the_command_has_the_options_that_it_is_given():
    program, command, *words = shlex.split(MANIFEST["spec"]["entrypoint"])
    assert (program, command) == ("groundserve", "batch")
    run = typer.main.get_command(batch.app).commands["run"]
    known = {name for parameter in run.params for name in parameter.opts}
    given = {word for word in words if word.startswith("--")}
    assert given
    assert given <= known


def test_volumes_are_mounted_and_the_paths_of_the_command_lie_in_them():
    spec = MANIFEST["spec"]["rayClusterSpec"]
    (group,) = spec["workerGroupSpecs"]
    paths = [word for word in shlex.split(MANIFEST["spec"]["entrypoint"]) if word.startswith("/")]
    assert len(paths) == 3
    for pod in (spec["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        for path in paths:
            assert any(path.startswith(f"{mount}/") for mount in mounts.values())
        assert container["image"].endswith(f":{__version__}")


def test_workers_and_what_they_reserve_fit_the_nodes():
    (group,) = MANIFEST["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    options = dict(re.findall(r"--([\w-]+) ([\d.]+)", MANIFEST["spec"]["entrypoint"]))
    assert int(options["workers"]) == group["replicas"] == group["minReplicas"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == options["gpus-per-worker"]
    # Ray's own tasks need cores beside the worker's.
    assert float(options["cpus-per-worker"]) < float(container["resources"]["limits"]["cpu"])


def test_ray_is_the_pinned_one():
    pins = (REPOSITORY / "constraints.txt").read_text("utf-8")
    (version,) = re.findall(r"^ray==([\d.]+)", pins, re.MULTILINE)
    assert MANIFEST["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"ray[default]=={version}" in DEPLOY_DOCS
