import pytest

from groundserve.runtime.instructions import int8_instructions


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni avx512_vnni\n", "AVX-512 VNNI"),
        ("flags : avx512_vnni amx_int8\nflags : avx512_vnni amx_int8\n", "AMX-INT8"),
        ("flags\t\t: avx2 avx_vnni\n", "AVX-VNNI"),
        ("Features\t: fp asimd asimddp\n", "Arm's dot product"),
        # Whole words: these are other instructions.
        ("flags\t\t: avx2 avx512bw avx512_4vnniw\n", None),
        ("model name : avx512_vnni\nflags : sse2\n", None),
        ("", None),
    ],
)
def test_the_fastest_is_named(text, name, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert int8_instructions(tmp_path / "cpuinfo") == name


def test_where_nothing_is_known_there_are_none(tmp_path):
    assert int8_instructions(tmp_path / "missing") is None
