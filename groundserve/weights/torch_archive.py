"""Read the tensors of files that PyTorch pickled, mapped into memory; no code in them is run."""

from __future__ import annotations

import mmap
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundserve.errors import InvalidRequestError

_ZIP_START = b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30  # of which the last four are the lengths of what follows
_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


def read_torch_file(path: Path, *, inside: str | None = None) -> dict[str, Tensor]:
    """Read what `torch.save` wrote of a state dict, or `torch.jit.save` of a module.

    Args:
        path: The file. One of PyTorch before 1.6 is read into memory; all others are mapped.
        inside: Name under which a training run's file has the state dict, where it is more than
            that. Dictionaries in it are read, too, with a dot between their names.

    Returns:
        By name, on the CPU, as dtyped there; of a module each parameter and buffer by its path.
    """
    if not path.is_file():
        raise InvalidRequestError(f"{_name(path)} is missing; download it again")
    try:
        if inside is None and is_script_archive(path):
            return dict(_checked(_read_module(path)))
        loaded = _load(path)
        return dict(
            _checked(loaded.items() if inside is None else _nested(loaded.get(inside, loaded)))
        )
    except Exception as error:  # unpickling damaged bytes raises errors of any kind
        # The first sentence: PyTorch's own go on with how to run the code in the file.
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].partition(". ")[0]
        raise InvalidRequestError(
            f"{_name(path)} is damaged or holds something else than tensors by name ({reason})"
        ) from error


def is_script_archive(path: Path) -> bool:
    """Tell whether a file is a module that `torch.jit.save` wrote, with code beside its tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _folder(archive, "constants.pkl") is not None
    # NotImplementedError: of a later version of the format.
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _load(path: Path) -> Mapping[object, object]:
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}")
    return loaded


def _nested(root: object) -> Iterator[tuple[str, object]]:
    """Yield what dictionaries hold, by names with a dot where one is in another."""
    seen: set[int] = set()
    values = [("", root)]
    while values:
        name, value = values.pop()
        if not isinstance(value, Mapping):
            yield name, value
            continue
        if id(value) in seen:  # a ring, or a tree of which each branch is the same
            raise ValueError(f"{name[:60]!r} is there twice")
        seen.add(id(value))
        values += [(f"{name}.{key}" if name else str(key), one) for key, one in value.items()]


def _read_module(path: Path) -> Iterable[tuple[object, object]]:
    with zipfile.ZipFile(path) as archive:
        module = _ModuleUnpickler(archive, path).load()
    if not isinstance(module, _Module):
        raise ValueError(f"it holds a {type(module).__name__}")
    return _tensors(module)


def _checked(found: Iterable[tuple[object, object]]) -> Iterator[tuple[str, Tensor]]:
    for name, value in found:
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{str(name)[:60]} is a {type(value).__name__}")
        tensor = value.detach()
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        # Of complex numbers weights would be the real parts, with no more than a warning.
        if not is_plain or tensor.is_quantized or tensor.is_complex():
            raise ValueError(f"{name} is a tensor of another kind")
        # One that repeats a few bytes is of any size, and would be once it is copied.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} has more elements than are stored")
        yield name, tensor


class _Module:
    """A module of an archive: its attributes, and none of its code."""

    attributes: Mapping[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise pickle.UnpicklingError("a module's attributes have names")
        self.attributes = state


class _ModuleUnpickler(pickle._Unpickler):
    """Makes modules without code, tensors and plain values; nothing else is known by name.

    Of the two in the standard library the one in Python, which keeps what is to be had again by
    number in a dictionary: the other sets memory aside up to any number that a file names.
    """

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        folder = _folder(archive, "data.pkl")
        if folder is None:
            raise ValueError("it has no data.pkl")
        self._archive, self._folder = archive, folder
        with path.open("rb") as file:
            # Copied where it is written to: the file stays as it is.
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if f"{folder}byteorder" in archive.namelist():
            order = bytes(self._stored("byteorder"))
            if order != b"little":
                raise ValueError(f"its bytes are in the order {order!r}")
        super().__init__(BytesIO(self._stored("data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        # What such an archive writes a typed list as; the list itself is its argument.
        if module == "torch.jit._pickle" and name.startswith("build_") and name.endswith("list"):
            return list
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not called")

    def persistent_load(self, pid: Any) -> Tensor:
        """Return a storage as a tensor of one dimension."""
        _, dtype, key, _, num_elements = pid
        stored = self._stored(f"data/{key}")
        if num_elements < 0:  # which would be all there are
            raise ValueError(f"data/{key} has {num_elements} elements")
        if num_elements == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(stored, dtype=dtype, count=num_elements)

    def _rebuild(
        self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        # Which checks that all of it lies inside.
        return storage.as_strided(size, stride, offset)

    def _stored(self, name: str) -> memoryview:
        entry = self._archive.getinfo(f"{self._folder}{name}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        start = entry.header_offset + _LOCAL_HEADER_BYTES
        start += sum(struct.unpack_from("<2H", self._bytes, start - 4))
        stored = memoryview(self._bytes)[start : start + entry.file_size]
        if len(stored) != entry.file_size:
            raise ValueError(f"{name} is cut off")
        return stored


def _tensors(module: _Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what a module and those in it hold, by path."""
    seen: set[int] = set()
    modules = [("", module)]
    while modules:
        path, one = modules.pop()
        if id(one) in seen:  # a ring, or a tree of which each branch is the same
            raise ValueError(f"the module {path[:60]!r} is there twice")
        seen.add(id(one))
        for name, value in one.attributes.items():
            if isinstance(value, Tensor):
                yield path + name, value
            elif isinstance(value, _Module):
                modules.append((f"{path}{name}.", value))


def _folder(archive: zipfile.ZipFile, name: str) -> str | None:
    """Return the one folder of an archive that has a file, with its slash."""
    for entry in archive.namelist():
        folder, slash, rest = entry.partition("/")
        if rest == name:
            return folder + slash
    return None


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
