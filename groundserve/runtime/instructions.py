"""Which instructions for products of 8-bit integers this machine's processor has."""

from __future__ import annotations

from pathlib import Path

# Flag of the kernel -> what people call it; the fastest first.
_INT8_FLAGS = {
    "amx_int8": "AMX-INT8",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "i8mm": "I8MM",
    "asimddp": "Arm's dot product",
}


def int8_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return the name of those that add products of 8 bits up in 32, exactly; None without any.

    Args:
        cpuinfo: The kernel's description of the processor; where it cannot be read nothing is
            known, which counts as none.
    """
    try:
        lines = cpuinfo.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return None
    # "flags : fpu vme ..." on x86, "Features : fp asimd ..." on Arm; the same for every core.
    found = {
        flag
        for line in lines
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }
    return next((name for flag, name in _INT8_FLAGS.items() if flag in found), None)
