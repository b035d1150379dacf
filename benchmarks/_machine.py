"""What a reader of figures must know of the machine."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """Return the name of the CPU."""
    cpu = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return cpu
