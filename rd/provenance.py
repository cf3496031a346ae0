"""Where a result comes from: code, tools, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import av

from baselines.conventional import tool_versions


def commit() -> str:
    """Commit of the code, with "+changes" where the working tree differs but in its results, which runs themselves write; the
    package version outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"hdac {_version('hdac')}"
    return head + ("+changes" if changed.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python, of the libraries that shape results, and of every encoder."""
    libraries = ("hdac", "av", "imageio-ffmpeg", "numpy", "torch", "compressai", "onnxruntime", "opencv-python-headless")
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
        **tool_versions(),
        "libraries in PyAV": _pyav_libraries(),
    }


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


def _pyav_libraries() -> str:
    """The codec libraries that PyAV's wheel carries, by file name: "libSvtAv1Enc.so.4.1.0, libvpx.so.12.0.0, ..".

    Their encoders do not tell their versions in the stream.
    """
    wanted = ("libSvtAv1Enc", "libvpx", "libx264", "libx265", "libdav1d", "libaom")
    files = Path(av.__file__).parent.parent.glob("av.libs/*")
    names = sorted(f"{file.name.split('-')[0]}.{file.name.partition('.')[2]}" for file in files if file.name.startswith(wanted))
    return ", ".join(names) or "not told"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
