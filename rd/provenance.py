"""Where a result comes from: code, tools, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from baselines.conventional import tool_versions


def commit() -> str:
    """Commit of the code, with "+changes" where the working tree differs; the package version outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"hdac {_version('hdac')}"
    return head + ("+changes" if changed.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python, of the libraries that shape results, and of every encoder."""
    libraries = ("hdac", "av", "imageio-ffmpeg", "numpy", "torch", "compressai", "onnxruntime", "opencv-python-headless")
    return {"python": platform.python_version(), **{name: _version(name) for name in libraries}, **tool_versions()}


def machine() -> dict[str, str | int]:
    """What a timing depends on: processor, cores, memory, system. No host name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
