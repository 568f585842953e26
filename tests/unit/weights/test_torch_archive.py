"""Files that PyTorch pickled: their tensors, and what hostile ones may not do."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from groundserve.errors import InvalidRequestError
from groundserve.weights.torch_archive import is_script_archive, read_torch_file
from tests.support.reference import VTIMELLM

ARCHIVE = VTIMELLM / "checkpoints" / "clip" / "ViT-tiny.pt"
STATE_DICT = ARCHIVE.with_name("ViT-tiny-state_dict.pt")

FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(*values: int) -> bytes:
    """A tuple of integers, as a pickle."""
    return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"


def tensor(
    *, size=(2, 2), stride=(2, 1), offset=0, count=4, key="0", storage="FloatStorage"
) -> bytes:
    """A tensor as TorchScript pickles it."""
    stored = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu")
    stored += b"I%d\ntQ" % count
    arguments = b"(" + stored + b"I%d\n" % offset + whole(*size) + whole(*stride) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"ccollections\nOrderedDict\n)RtR"


def module(attributes: dict[str, bytes]) -> bytes:
    """A module as TorchScript pickles it."""
    items = b"".join(text(name) + value for name, value in attributes.items())
    return b"c__torch__.M\nM\n)\x81}(" + items + b"ub"


def write_archive(
    path: Path, root: bytes, *, compression: int = zipfile.ZIP_STORED, byteorder: str | None = None
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + root + b".")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
        archive.writestr("m/data/0", FLOATS)
        if byteorder:
            archive.writestr("m/byteorder", byteorder)
    return path


def test_an_archive_and_a_state_dict_hold_the_same_tensors():
    archive, state_dict = read_torch_file(ARCHIVE), read_torch_file(STATE_DICT)
    assert (is_script_archive(ARCHIVE), is_script_archive(STATE_DICT)) == (True, False)
    # What OpenAI's file has beside the weights.
    extra = {"input_resolution": 224, "context_length": 8, "vocab_size": 64}
    assert archive.keys() - state_dict.keys() == extra.keys()
    assert state_dict.keys() <= archive.keys()
    for name, value in state_dict.items():
        assert torch.equal(value, archive[name])
        assert value.dtype == archive[name].dtype
    expected = torch.load(STATE_DICT, weights_only=True)
    assert all(torch.equal(state_dict[name], value) for name, value in expected.items())


def test_the_format_before_1_6_is_read(tmp_path):
    path = tmp_path / "old.bin"
    value = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    torch.save({"a": value}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_torch_file(path)["a"], value)


def test_dictionaries_that_hold_each_other_are_refused(tmp_path):
    path = tmp_path / "run.pth"
    for depth in (0, 40):  # a ring, and a tree of 2 to the power of 40 branches
        model: dict[str, object] = {}
        model["itself"] = model
        for _ in range(depth):
            model = {"left": model, "right": model}
        torch.save({"model": model}, path)
        with pytest.raises(InvalidRequestError, match="is there twice"):
            read_torch_file(path, inside="model")


@pytest.mark.parametrize("is_script", [False, True])
def test_tensors_that_are_written_to_leave_the_file_as_it_is(tmp_path, is_script):
    path = tmp_path / "weights.bin"
    if is_script:
        write_archive(path, module({"a": tensor()}))
    else:
        torch.save({"a": torch.tensor([[1.0, 2], [3, 4]])}, path)
    before = path.read_bytes()
    (found,) = read_torch_file(path).values()
    assert found.tolist() == [[1, 2], [3, 4]]
    found.zero_()
    assert path.read_bytes() == before
    assert read_torch_file(path)["a"].tolist() == [[1, 2], [3, 4]]


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("form", ["archive", "state dict", "before 1.6"])
def test_no_code_is_run(tmp_path, form):
    path, folder = tmp_path / "weights.pt", tmp_path / "made"
    if form == "archive":
        write_archive(path, b"cposix\nmkdir\n(" + text(str(folder)) + b"tR")
    else:
        state = {"a": torch.zeros(1), "b": Runs(folder)}
        torch.save(state, path, _use_new_zipfile_serialization=form == "state dict")
    with pytest.raises(InvalidRequestError, match=r"weights\.pt is damaged or holds something"):
        read_torch_file(path)
    assert not folder.exists()


RING = b"c__torch__.M\nM\n)\x81q\x01}(" + text("again") + b"h\x01ub"


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (module({"a": tensor(size=(3, 2))}), "out of bounds"),
        (module({"a": tensor(offset=-1)}), "storage_offset|storage offset"),
        (module({"a": tensor(size=(2**20, 2**20), stride=(0, 0))}), "more elements than are"),
        (module({"a": tensor(count=-1, size=(4,), stride=(1,))}), "-1 elements"),
        (module({"a": tensor(key="../data.pkl")}), "no item named"),
        (module({"a": tensor(storage="QInt8Storage")}), "which is not called"),
        (b"]" + module({"a": tensor()}) + b"a", "it holds a list"),
        (RING, "is there twice"),
        (b"c__torch__.M\nM\n)\x81K\x01b", "attributes have names"),
        (b"cbuiltins\ngetattr\n", "which is not called"),
        (module({"a": tensor()})[:-9], ""),
    ],
    ids=[
        *("too large", "before it", "repeated", "negative", "another entry", "quantized"),
        *("list", "ring", "number", "builtin", "cut"),
    ],
)
def test_a_hostile_archive_is_one_error(tmp_path, root, message):
    path = write_archive(tmp_path / "weights.pt", root)
    with pytest.raises(InvalidRequestError, match=rf"weights\.pt is damaged .*(?:{message})"):
        read_torch_file(path)


def test_a_number_in_an_archive_sets_no_memory_aside(tmp_path):
    # "Keep this as number 2**22": 64 MiB of a table in the standard library's unpickler in C, and
    # 32 GiB with the highest number.
    root = module({"a": tensor()}) + b"r" + struct.pack("<I", 2**22)
    path = write_archive(tmp_path / "weights.pt", root)
    tracemalloc.start()
    try:
        assert read_torch_file(path)["a"].tolist() == [[1, 2], [3, 4]]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "data.pkl is compressed"),
        ({"byteorder": "big"}, "in the order b'big'"),
    ],
)
def test_an_archive_that_cannot_be_mapped_is_refused(tmp_path, change, message):
    path = write_archive(tmp_path / "weights.pt", module({"a": tensor()}), **change)
    with pytest.raises(InvalidRequestError, match=message):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([torch.zeros(2)], "it holds a list"),
        ({"model": {"a": torch.zeros(2)}}, "model is a dict"),
        ({"a": torch.zeros(2, device="meta")}, "a is a tensor of another kind"),
        ({"a": torch.zeros(1).expand(2**40)}, "a has more elements than are stored"),
    ],
    ids=["list", "nested", "meta", "repeated"],
)
def test_a_state_dict_of_something_else_is_refused(tmp_path, state, message):
    path = tmp_path / "weights.bin"
    torch.save(state, path)
    with pytest.raises(InvalidRequestError, match=f"holds something else .*{message}"):
        read_torch_file(path)


@pytest.mark.parametrize("source", [ARCHIVE, STATE_DICT], ids=["archive", "state dict"])
@pytest.mark.parametrize("kept", [0, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path, source, kept):
    content = source.read_bytes()
    path = tmp_path / "weights.pt"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InvalidRequestError, match=r"weights\.pt is damaged"):
        read_torch_file(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(InvalidRequestError, match="is missing"):
            read_torch_file(path)
        assert not is_script_archive(path)
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InvalidRequestError, match="is damaged or holds something else"):
        read_torch_file(tmp_path / "plain.bin")
