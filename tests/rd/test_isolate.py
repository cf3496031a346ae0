"""Child processes: results, errors, crashes, hangs, and what dies with whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.errors import InputError
from rd.isolate import Isolated, JobCrashed, JobTimeout


@pytest.fixture
def child() -> Iterator[Isolated]:
    isolated = Isolated()
    yield isolated
    isolated.close()


def add(a: int, b: int) -> int:
    print("noise on stdout must not reach the reply")
    return a + b


def fail(message: str) -> None:
    raise InputError(message)


def fail_locally() -> None:
    class Local(Exception):
        pass

    raise Local("cannot be pickled")


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang_with_a_grandchild(pid_file: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(pid_file).write_text(str(process.pid))
    time.sleep(600)


def pid() -> int:
    return os.getpid()


def big(n: int) -> bytes:
    return b"x" * n


def alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds: float = 20) -> bool:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_results_come_back_and_the_child_lives_on(child: Isolated) -> None:
    assert child.call(add, 2, 3) == 5
    assert child.call(pid) == child.call(pid) != os.getpid()


def test_results_larger_than_a_pipe_come_back_whole(child: Isolated) -> None:
    assert len(child.call(big, 5_000_000, timeout_s=60)) == 5_000_000


def test_exceptions_cross_the_border(child: Isolated) -> None:
    with pytest.raises(InputError, match="what and why"):
        child.call(fail, "what and why")
    with pytest.raises(RuntimeError, match="Local: cannot be pickled"):
        child.call(fail_locally)
    assert child.call(add, 1, 1) == 2


def test_a_crash_is_named_and_the_next_job_gets_a_new_child(child: Isolated) -> None:
    first = child.call(pid)
    with pytest.raises(JobCrashed, match="SIGSEGV"):
        child.call(segfault)
    assert child.call(pid) != first


def test_a_hanging_job_is_killed_with_all_that_it_started(child: Isolated, tmp_path: Path) -> None:
    with pytest.raises(JobTimeout, match="time limit of 2 s"):
        child.call(hang_with_a_grandchild, str(tmp_path / "pid"), timeout_s=2)
    grandchild = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: not alive(grandchild))
    assert child.call(add, 1, 2) == 3


def test_a_child_ends_when_its_parent_is_killed_in_the_middle_of_a_job(tmp_path: Path) -> None:
    script = (
        "import sys; from rd.isolate import Isolated; from tests.rd.test_isolate import hang_with_a_grandchild\n"
        "Isolated().call(hang_with_a_grandchild, sys.argv[1])"
    )
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", script, str(pid_file)])
    assert wait_until(lambda: pid_file.exists() and pid_file.read_text())
    grandchild = int(pid_file.read_text())
    assert alive(grandchild)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive(grandchild))
