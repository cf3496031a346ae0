"""Runs functions in a child process that may crash or hang without taking the sweep along.

Encoders are C code: a fault there kills a process, and an endless loop cannot be interrupted from Python. Every worker of a
sweep (a thread of the local pool, or of a Dask worker) therefore owns one child process, which lives from job to job, is
killed with everything it started when a job runs over its time limit, and is replaced when it died.

    worker thread                                child: `python -c "from rd.isolate import serve; serve()"`
    call(f, x, timeout_s=60) -- pickle (f, x) -->   f(x)
                             <-- pickle (ok, result) --
"""

from __future__ import annotations

import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import IO, Any

import cv2

_LENGTH = struct.Struct("<Q")


class JobCrashed(Exception):
    """The child process died during a job."""


class JobTimeout(Exception):
    """A job ran over its time limit and was killed."""


class Isolated:
    """One child process, started at the first call.

    threads: number of threads that numeric libraries may use in the child.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *args: Any, timeout_s: float | None = None) -> Any:
        """`function(*args)`, computed in the child; its exception is raised here.

        Raises JobTimeout after `timeout_s` seconds and JobCrashed where the child dies; the next call gets a new child.
        """
        process = self._process = self._process or self._start()
        assert process.stdin and process.stdout
        try:
            _send(process.stdin, (function, args))
            ok, result = _receive(process.stdout, timeout_s)
        except TimeoutError:
            self.close()
            raise JobTimeout(f"stopped at its time limit of {timeout_s:.0f} s") from None
        except (EOFError, BrokenPipeError):
            code = process.wait()
            self.close()
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise JobCrashed(f"the process of the job died ({reason})") from None
        except BaseException:
            self.close()
            raise
        if ok:
            return result
        raise result

    def close(self) -> None:
        """Kills the child and everything that it started; another thread may do the same at the same time."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it is gone already
            process.poll()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:  # half a job was still in the buffer
                    continue

    def _start(self) -> subprocess.Popen[bytes]:
        threads = str(self.threads)
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        return subprocess.Popen(
            [sys.executable, "-c", "from rd.isolate import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # its own process group: killed together with the encoders that it runs
        )


_local = threading.local()
_children: weakref.WeakSet[Isolated] = weakref.WeakSet()


def run_isolated(function: Callable[..., Any], *args: Any, timeout_s: float | None = None) -> Any:
    """`function(*args)` in the child process of the calling thread: the one entry of the local pool and of Dask."""
    if not hasattr(_local, "child"):
        _local.child = Isolated()
        _children.add(_local.child)
    return _local.child.call(function, *args, timeout_s=timeout_s)


def close_children() -> None:
    """Ends the children of all threads of this process."""
    for child in list(_children):
        child.close()


def _send(pipe: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes], timeout_s: float | None) -> Any:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    (size,) = _LENGTH.unpack(_read(pipe, _LENGTH.size, deadline))
    return pickle.loads(_read(pipe, size, deadline))


def _read(pipe: IO[bytes], size: int, deadline: float | None) -> bytes:
    data = b""
    while len(data) < size:
        if deadline is not None:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
        # unbuffered: `select` knows nothing of bytes that a Python buffer holds
        part = os.read(pipe.fileno(), min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data


# -- the child ------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Main loop of the child: jobs in on stdin, results out on the stdout it was born with."""
    replies = os.fdopen(os.dup(1), "wb")
    cv2.setNumThreads(int(os.environ["OMP_NUM_THREADS"]))  # OpenCV does not read the variable
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    jobs: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | Exception] = queue.SimpleQueue()
    threading.Thread(target=_feed, args=(jobs,), daemon=True).start()
    while True:
        job = jobs.get()
        try:
            if isinstance(job, Exception):
                raise job
            function, args = job
            reply = (True, function(*args))
            pickle.dumps(reply[1])
        except Exception as error:
            reply = (False, _portable(error))
        _send(replies, reply)


def _feed(jobs: queue.SimpleQueue[Any]) -> None:
    """Reads jobs; ends the process when the parent is gone, even in the middle of a job."""
    while True:
        try:
            jobs.put(_receive(sys.stdin.buffer, None))
        except EOFError:
            os.killpg(os.getpgid(0), signal.SIGKILL)  # with the encoders that this process runs
        except Exception as error:  # a job that cannot be unpickled here is that job's failure
            jobs.put(error)


def _portable(error: Exception) -> Exception:
    """The exception, or where it cannot cross the process border a plain one with its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
