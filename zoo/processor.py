"""What this machine's processor can do."""

from __future__ import annotations

import functools
import re
from pathlib import Path

INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instructions that add products of bytes in 32 bits; without any, OpenVINO adds them in 16, where they overflow."""


@functools.cache
def features() -> frozenset[str]:
    """The flags of /proc/cpuinfo; none where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset((re.search(r"flags\s*:\s*(.+)", text) or [""] * 2)[1].split())
