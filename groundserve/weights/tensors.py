"""Reading tensors, running no code, and filling modules by name: shared by all checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from groundserve.engines.profiles import Precision
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.strict_json import shown
from groundserve.weights.hashes import files_sha256
from groundserve.weights.torch_archive import read_torch_file

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Files whose content changes what is computed; others (cards, logs) do not enter the hash.
_HASHED_SUFFIXES = {".json", ".safetensors", ".txt"}
# Several times those of any model there is.
_MAX_LAYERS = 1000


def torch_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype that a precision names."""
    return _DTYPES[precision]


def weight_files(directory: Path, *, or_pickled: bool = False) -> list[Path]:
    """Return the safetensors files of a directory in transformers' layout, in name order.

    Where there are none, and `or_pickled`, those that PyTorch pickled.
    """
    index_name, pattern = "model.safetensors.index.json", "*.safetensors"
    is_pickled = any(directory.glob("pytorch_model*.bin*")) and not any(directory.glob(pattern))
    if or_pickled and is_pickled:
        index_name, pattern = "pytorch_model.bin.index.json", "pytorch_model*.bin"
    index = directory / index_name
    if index.is_file():
        weight_map = read_json(index).get("weight_map", {})
        if not isinstance(weight_map, dict) or not all(
            isinstance(name, str) for name in weight_map.values()
        ):
            raise InvalidRequestError(
                f"checkpoint {directory.name}: weight_map in {index.name} must name the file of "
                "each tensor; download it again"
            )
        names = sorted(set(weight_map.values()))
        # A name in the index is a file beside it, never a path to somewhere else.
        files = [directory / Path(name).name for name in names]
    else:
        files = sorted(directory.glob(pattern))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        what = f"{missing[0]} is missing" if missing else "there are no .safetensors files"
        raise InvalidRequestError(f"checkpoint {directory.name}: {what}; download it completely")
    return files


def read_tensors(
    directory: Path, wanted: Callable[[str], bool], *, or_pickled: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Read the tensors of `weight_files` with wanted names, one by one, mapped into memory."""
    for file in weight_files(directory, or_pickled=or_pickled):
        if or_pickled and file.suffix != ".safetensors":
            yield from ((name, one) for name, one in read_torch_file(file).items() if wanted(name))
            continue
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dict
                    if wanted(name):
                        yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise InvalidRequestError(
                f"checkpoint {directory.name}: {file.name} is damaged; download it again"
            ) from error


def check_num_layers(num_layers: object, *, where: str) -> None:
    """Refuse a number of layers that no model has, before a module is made of each.

    Even a module without memory takes a moment and a few kilobytes; other sizes, however large,
    cost nothing until they are compared with the files'. What is no whole number passes.
    """
    if isinstance(num_layers, int) and num_layers > _MAX_LAYERS:
        raise UnsupportedError(
            f"{where}: num_hidden_layers must be at most {_MAX_LAYERS}, got {shown(num_layers)}"
        )


def fill_module(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a module on the meta device its weights, which are not copied, and buffers.

    Raises:
        InvalidRequestError: As `check_tensors`, or tensors hold NaN or infinity.
    """
    # Before loading, whose own error names no checkpoint and lists every tensor.
    check_tensors(model, tensors)
    for name, tensor in tensors.items():
        _check_finite(name, tensor)
    # assign: parameters on meta have no memory to copy to, and the tensors become the parameters.
    model.load_state_dict(tensors, assign=True)
    _materialise_buffers(model)


def filled_module(model: _ModuleT, tensors: dict[str, Tensor], device: str) -> _ModuleT:
    """Fill a module as `fill_module` does, for inference on a device."""
    fill_module(model, tensors)
    return model.to(device).eval().requires_grad_(False)


def check_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors are a module's, without reading them.

    Raises:
        InvalidRequestError: Tensors are missing, unknown, or of another shape, or hold integers
            where weights are numbers.
    """
    expected = model.state_dict()
    for what, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unknown", tensors.keys() - expected.keys()),
    ):
        if names:
            some = ", ".join(sorted(names)[:5])
            raise InvalidRequestError(
                f"the checkpoint {what} {len(names)} tensor(s) of {type(model).__name__}: {some}"
            )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise InvalidRequestError(
                f"tensor {name} has shape {tuple(tensor.shape)}, "
                f"config.json asks for {tuple(expected[name].shape)}"
            )
        # Quantized weights are nothing without their scales, and would be read as they are.
        if expected[name].is_floating_point() and not tensor.is_floating_point():
            raise InvalidRequestError(
                f"tensor {name} must hold floats, got {tensor.dtype}; give the weights as they "
                "were before they were quantized"
            )


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or not tensor.numel():
        return
    # One pass that sets no memory aside; of NaN both are NaN.
    extremes = torch.stack(torch.aminmax(tensor.detach()))
    if not extremes.isfinite().all():
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise InvalidRequestError(
            f"tensor {name} of the checkpoint holds NaN or infinity in {dtype}; download it again"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a checkpoint's JSON file, which must hold an object."""
    try:
        if not path.is_file():  # of a pipe or a device there is no end
            raise FileNotFoundError(path)
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequestError(
            f"checkpoint {path.parent.name}: {path.name} is missing or not JSON"
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"checkpoint {path.parent.name}: {path.name} is not an object")
    return value


def directory_sha256(directory: Path) -> str:
    """Return the SHA-256 over the files of a checkpoint that change what is computed."""
    # Folders are left out: a tower inside the checkpoint has a hash of its own.
    paths = [path for path in sorted(directory.iterdir()) if path.is_file()]
    return files_sha256((p.name, p) for p in paths if p.suffix in _HASHED_SUFFIXES)


def _materialise_buffers(model: nn.Module) -> None:
    """Compute the buffers that no checkpoint stores: rotary frequencies, position ids."""
    for module in model.modules():
        if "inv_freq" in module._buffers:
            # The module's own constructor computes them, so the formula stays transformers'.
            fresh = type(module)(module.config)
            module._buffers.update(fresh._buffers)
            module.original_inv_freq = fresh.original_inv_freq
        positions = module._buffers.get("position_ids")
        if positions is not None:
            module._buffers["position_ids"] = torch.arange(positions.shape[-1]).expand(1, -1)
