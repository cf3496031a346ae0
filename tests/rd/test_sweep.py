"""The sweep, end to end: honest rows, resume, faults, one code path for pool and cluster."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from baselines.conventional import X265
from data.errors import HdacError
from data.io import read_clip, write_clip
from data.sequences import resolve
from hdac.systems import decode
from rd import jobs, sweep
from rd.cache import Cache
from rd.jobs import CodeJob, MeasureJob
from rd.table import read_points
from tests.clips import moving_clip, psnr_y
from tests.rd.test_report import CHROMIUM, browse, table_rows

PLUGIN = str(Path(__file__).with_name("faulty.py"))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for name, seed in (("a", 1), ("b", 2)):
        write_clip(moving_clip(5, 48, 40, seed=seed), folder / f"{name}.y4m")
    return folder


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "encodes.log"
    monkeypatch.setenv("HDAC_TEST_LOG", str(path))
    path.touch()
    return path


def run(clips: Path, out: Path, *arguments: str, codecs: str = "quick,other") -> int:
    return sweep.main(
        ["--sequences", str(clips), "--codecs", codecs, "--plugin", PLUGIN, "--metrics", "psnr", "--jobs", "2"]
        + ["--no-report", "--out", str(out), *arguments]
    )


def without_timings(points: pd.DataFrame) -> pd.DataFrame:
    return points.drop(columns=["encode_s", "decode_s"])


def encodes(log: Path) -> list[str]:
    return log.read_text().splitlines()


def test_every_row_is_the_length_of_bytes_that_decode_to_what_was_measured(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(clips, out) == 0
    points = read_points(out)
    assert len(points) == 2 * 2 * 2 * 2 and set(points["status"]) == {"ok"}
    cache = Cache(out / "cache")
    sources = {"a": moving_clip(5, 48, 40, seed=1), "b": moving_clip(5, 48, 40, seed=2)}
    layers = [column for column in points if column.startswith("bytes_")]
    frames = pd.read_parquet(out / "frames.parquet")
    for row in points.to_dict("records"):
        stream = cache.load_stream(row["key"])
        source, decoded = sources[row["sequence"]], decode(stream)
        assert row["bytes"] == len(stream) == sum(row[layer] for layer in layers)
        assert row["kbps"] == pytest.approx(len(stream) * 8 / (5 / 25) / 1000)
        assert row["bpp"] == pytest.approx(len(stream) * 8 / (5 * 48 * 40))
        per_frame = np.mean([psnr_y(source[i : i + 1], decoded[i : i + 1]) for i in range(5)])
        assert row["psnr_y"] == pytest.approx(per_frame, abs=1e-6)
        own = frames.merge(pd.DataFrame([row])[["sequence", "codec", "regime", "point"]])
        assert own["frame"].tolist() == list(range(5))
        assert own["bytes"].sum() + row["bytes_header"] == len(stream)
        assert own["psnr_y"].mean() == pytest.approx(row["psnr_y"])
    assert {"bd.csv", "run.json", "candidates.csv"} <= {p.name for p in out.iterdir()}


def test_the_main_job_leaves_tables_plots_dumps_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(moving_clip(40, 64, 48), tmp_path / "clips" / "a.y4m")
    out = tmp_path / "out"
    arguments = ["--sequences", str(tmp_path / "clips"), "--codecs", "quick", "other", "--plugin", PLUGIN]
    assert sweep.main([*arguments, "--metrics", "psnr", "--jobs", "2", "--anchor", "other", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "against other" in printed and str(out / "report.html") in printed
    for name in ("plots/mean/psnr_y.svg", "plots/mean/psnr_y.png", "plots/sequences/a/psnr_y.svg"):
        assert (out / name).stat().st_size > 1000
    index = json.loads((out / "dumps" / "index.json").read_text())
    assert [entry["regime"] for entry in index] == ["one-intra", "short-gop"]
    for entry in index:
        assert (out / "dumps" / entry["strip"]).is_file() and (out / "dumps" / entry["video"]).is_file()
    assert "quick" in (out / "report.html").read_text()
    if CHROMIUM:
        assert table_rows(browse(out / "report.html"), "speed") == 4  # two codecs in two regimes, and no script error


def test_provenance_holds_commands_versions_hashes_and_what_was_not_computed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(tmp_path / "nothing"))
    monkeypatch.setenv("HDAC_CACHE", str(tmp_path / "nothing"))
    out = tmp_path / "out"
    assert run(clips, out, "--metrics", "psnr_y", "csim", "--regime", "one-intra", codecs="quick") == 0
    facts = json.loads((out / "run.json").read_text())
    assert facts["command"].startswith("rd-sweep --sequences")
    commands = facts["codecs"]["quick"]["commands"]
    assert len(commands) == 2 and all("libx265" in command for command in commands.values())
    assert "x265" in facts["versions"] and facts["machine"]["cores"] >= 1
    assert {s["name"]: s["sha256"] for s in facts["sequences"]}["a"] == moving_clip(5, 48, 40, seed=1).sha256()
    assert facts["metrics"]["computed"] == ["psnr_y"]
    assert list(facts["metrics"]["not_computed"]) == ["csim"]
    assert "csim" not in read_points(out)  # never zero


def test_a_second_run_codes_nothing_and_changes_no_number(clips: Path, tmp_path: Path, log: Path) -> None:
    out = tmp_path / "out"
    assert run(clips, out) == 0
    first, n = (out / "points.csv").read_bytes(), len(encodes(log))
    assert run(clips, out) == 0
    assert len(encodes(log)) == n == 16
    assert (out / "points.csv").read_bytes() == first
    scores = {path: path.stat().st_mtime_ns for path in (out / "cache" / "scores").rglob("*.json")}
    assert run(clips, out, "--force") == 0
    assert len(encodes(log)) == 2 * n
    assert all(path.stat().st_mtime_ns > before for path, before in scores.items())


def test_a_sweep_killed_in_the_middle_goes_on_where_it_was(clips: Path, tmp_path: Path, log: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rd.sweep", "--sequences", str(clips), "--codecs", "slow", "--plugin", PLUGIN]
    command += ["--metrics", "psnr", "--regime", "one-intra", "--jobs", "2", "--no-report", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(encodes(log)) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)
    finished = list((out / "cache" / "streams").rglob("*.json"))
    assert 2 <= len(finished) < 16
    assert not (out / "points.csv").exists()
    before = len(encodes(log))
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert len(encodes(log)) - before == 16 - len([p for p in finished if p.with_suffix(".bin").exists()])
    assert len(read_points(out)) == 16


def test_a_damaged_cache_entry_is_coded_again(clips: Path, tmp_path: Path, log: Path) -> None:
    out = tmp_path / "out"
    assert run(clips, out) == 0
    points, n = read_points(out), len(encodes(log))
    path = Cache(out / "cache").stream_path(points["key"].iloc[3])
    path.write_bytes(path.read_bytes()[:-3])
    assert run(clips, out) == 0
    assert len(encodes(log)) == n + 1
    pd.testing.assert_frame_equal(without_timings(read_points(out)), without_timings(points))


def test_failures_become_rows_with_their_reason_and_a_bad_exit(
    clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    codecs = "quick,crashes,hangs,raises,loses-a-frame"
    assert run(clips, out, "--regime", "one-intra", "--timeout", "12", codecs=codecs) == 1
    points = read_points(out)
    errors = points[points["status"] == "failed"].groupby("codec")["error"].agg(lambda e: e.iloc[0])
    assert "SIGSEGV" in errors["crashes"]
    assert "time limit of 12 s" in errors["hangs"]
    assert "cannot code 48x40" in errors["raises"]
    assert "5 frames of 48x40 at 25 fps went in, 4 of 48x40" in errors["loses-a-frame"]
    good = points[points["codec"] == "quick"]
    assert set(good["status"]) == {"ok"} and len(good) == 4
    assert (points["status"] == "failed").sum() == 2 * (2 + 1 + 2 + 2)
    stderr = capfd.readouterr().err
    assert "14 jobs failed" in stderr and "Traceback" not in stderr


def test_a_sweep_in_which_everything_failed_still_tells(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(clips, out, "--regime", "one-intra", codecs="raises") == 1
    assert set(read_points(out)["status"]) == {"failed"}


def test_two_sweeps_on_one_folder_are_refused(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with open(out / ".lock", "a") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run(clips, out) == 1
    assert "another sweep (process 4711)" in capsys.readouterr().err
    assert run(clips, out, "--regime", "one-intra", codecs="quick") == 0


@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_an_output_folder_that_cannot_be_written_is_one_line_of_error(
    clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "below a file":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "out"
    else:
        out = tmp_path / "read-only"
        out.mkdir()
        read_only = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(out)]
        if subprocess.run(read_only, capture_output=True, check=False).returncode:
            pytest.skip("a read-only folder that root cannot write needs the right to mount")
    try:
        assert run(clips, out, codecs="quick") == 1
    finally:
        if kind == "read-only":
            subprocess.run(["umount", str(out)], check=True)
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: ")


def test_a_full_disk_stops_the_sweep_with_a_clear_error(
    clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "full"
    out.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(out)]
    if subprocess.run(small, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs the right to mount a small one")
    try:
        assert run(clips, out, codecs="quick") == 1
        left = [p.name for p in out.rglob(".*") if p.is_file() and p.name != ".lock"]
    finally:
        subprocess.run(["umount", str(out)], check=True)
    assert "No space left on device" in capfd.readouterr().err
    assert left == []


def test_errors_that_no_later_job_escapes_end_the_sweep(clips: Path, tmp_path: Path) -> None:
    sequences = sweep.resolve([str(clips)])
    settings = sweep.Settings(out=tmp_path, cache=tmp_path / "cache", columns=("psnr_y",), regimes=("one-intra",))
    families, _ = sweep.choose_families(["h264"], sweep.FAMILIES)
    runner = sweep.Runner(sweep.plan(sweep.inspect(sequences), families, settings), settings)
    runner._queue_coding()
    future: Future[dict[str, object]] = Future()
    future.set_exception(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(HdacError, match="cannot go on: .*No space left"):
        runner._finish(runner.to_code[0], future)


def test_clips_of_the_same_name_keep_their_own_rows(clips: Path, tmp_path: Path) -> None:
    write_clip(moving_clip(5, 48, 40, seed=3), tmp_path / "more" / "a.y4m")
    out = tmp_path / "out"
    both = ["--sequences", str(clips), str(tmp_path / "more")]
    assert run(clips, out, "--regime", "one-intra", *both, codecs="quick") == 0
    facts = json.loads((out / "run.json").read_text())
    assert len({s["name"] for s in facts["sequences"]}) == len({s["sha256"] for s in facts["sequences"]}) == 3
    assert len(read_points(out)) == 6


@pytest.mark.parametrize(("width", "height", "n_frames"), [(16, 16, 1), (33, 47, 2)])
def test_single_frames_and_odd_sizes_are_swept(tmp_path: Path, width: int, height: int, n_frames: int) -> None:
    write_clip(moving_clip(n_frames, width, height, Fraction(30000, 1001)), tmp_path / "clips" / "odd.y4m")
    out = tmp_path / "out"
    metrics = ("--metrics", "psnr", "ssim", "vmaf", "temporal", "xpsnr")
    assert run(tmp_path / "clips", out, *metrics, "--regime", "one-intra", codecs="quick") == 0
    points = read_points(out)
    assert set(points["fps"]) == {"30000/1001"} and points["psnr_y"].notna().all()
    assert json.loads((out / "run.json").read_text())["metrics"]["not_computed"]["ms_ssim_y"]


def test_a_setting_is_not_taken_far_above_the_rate_limit(clips: Path, tmp_path: Path) -> None:
    everything, limited = tmp_path / "all", tmp_path / "limited"
    assert run(clips, everything, "--regime", "one-intra", codecs="ladder") == 0
    coded = pd.read_csv(everything / "candidates.csv")
    limit = float(coded.query("sequence == 'a'")["kbps"].sort_values().iloc[2]) + 0.01
    assert run(clips, limited, "--regime", "one-intra", "--max-kbps", str(limit), codecs="ladder") == 0
    for sequence, curve in pd.read_csv(limited / "candidates.csv").groupby("sequence"):
        whole = coded[coded["sequence"] == sequence]["kbps"].sort_values()
        expected = whole[: int((whole <= limit).sum()) + 1]  # the first one above is kept
        assert sorted(curve["kbps"]) == expected.tolist()


OWN_FORMAT = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from baselines.codec import Family
from baselines.stream import Ledger, StreamHeader
from data.clip import Clip

@dataclass(frozen=True)
class Raw:
    step: int = {step}
    name: ClassVar[str] = "raw"
    version: ClassVar[str] = "1"
    label = property(lambda self: f"raw {{self.step}}")

    def encode(self, clip):
        header = StreamHeader.of(clip, "hevc").pack()
        return b"RAW" + header + Clip(clip.y // self.step * self.step, clip.u, clip.v, clip.fps).yuv_bytes()

    def decode(self, bitstream):
        header, start = StreamHeader.unpack(bitstream[3:])
        return Clip.from_yuv_bytes(bitstream[3 + start:], header.width, header.height, header.fps, header.colour)

    def ledger(self, bitstream):
        header, start = StreamHeader.unpack(bitstream[3:])
        each = (len(bitstream) - 3 - start) // header.n_frames
        return Ledger({{"samples": np.full(header.n_frames, each)}}, header=3 + start)

    def command(self, clip):
        return "none"

FAMILIES = {{"raw": Family("raw", "Raw", "uncompressed", lambda regime, points: [Raw()], hull=False)}}
"""


def test_a_codec_with_a_format_of_its_own_is_measured_and_dumped(clips: Path, tmp_path: Path) -> None:
    plugin, out = tmp_path / "raw_codec.py", tmp_path / "out"
    plugin.write_text(OWN_FORMAT.format(step=4))
    arguments = ["--sequences", str(clips), "--codecs", "raw", "--plugin", str(plugin), "--metrics", "psnr"]
    assert sweep.main([*arguments, "--regime", "one-intra", "--jobs", "1", "--out", str(out)]) == 0
    points = read_points(out)
    assert points["psnr_y"].between(40, 60).all() and (points["bytes_samples"] == 5 * 48 * 40 * 3 // 2).all()
    assert (out / "dumps" / "a.one-intra.png").is_file()


def test_a_plug_in_that_was_edited_is_coded_again(clips: Path, tmp_path: Path) -> None:
    """Its author does not raise a version number; settings and name can stay the same."""
    plugin, out = tmp_path / "raw_edited.py", tmp_path / "out"
    scores = []
    for step in (4, 32):
        plugin.write_text(OWN_FORMAT.format(step=4).replace("// self.step * self.step", f"// {step} * {step}"))
        command = [sys.executable, "-m", "rd.sweep", "--sequences", str(clips), "--codecs", "raw", "--plugin", str(plugin)]
        command += ["--metrics", "psnr", "--regime", "one-intra", "--no-report", "--out", str(out)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        scores.append(read_points(out)["psnr_y"].mean())
    assert scores[1] < scores[0] - 10


def test_dry_run_prints_the_matrix_and_does_nothing(
    clips: Path, tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clips, tmp_path / "out", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "a  5 frames 48x40 25 fps  quick  short-gop: 2 candidates, 2 to code" in text
    assert "8 curves, 16 streams (16 to code)" in text
    assert not (tmp_path / "out").exists() and not encodes(log)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--codecs", "no-such"], "'no-such'"),
        (["--metrics", "no-such"], "'no-such'"),
        (["--sequences", "no-such.mp4"], "no-such.mp4"),
        (["--plugin", "no_such_module"], "no_such_module"),
        (["--codecs", "vtm"], "vtm cannot run here"),
        (["--scheduler", "tcp://127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_bad_arguments_are_named_in_one_line(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sweep, "SCHEDULER_TIMEOUT_S", 2)
    assert run(clips, tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and named in error and "Traceback" not in error


def test_a_dask_cluster_gives_the_same_rows_as_the_local_pool(clips: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    local, remote = tmp_path / "local", tmp_path / "remote"
    assert run(clips, local, "--regime", "one-intra") == 0
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        assert run(clips, remote, "--regime", "one-intra", "--scheduler", cluster.scheduler_address) == 0
    pd.testing.assert_frame_equal(without_timings(read_points(local)), without_timings(read_points(remote)))


def test_frames_of_a_slow_decoder_are_kept_and_damaged_ones_are_decoded_anew(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, codec, cache = read_clip(clips / "a.y4m"), X265(qp=40), Cache(tmp_path / "cache")
    sequence = resolve([str(clips / "a.y4m")])[0]
    monkeypatch.setattr(jobs, "SLOW_DECODE_S", 0.0)
    entry = CodeJob(sequence, codec, "key", cache.root).run()
    decoded = codec.decode(cache.load_stream("key"))
    kept = cache.load_frames("key", clip, entry["decoded_sha256"])
    assert kept is not None and np.array_equal(kept.y, decoded.y) and kept.fps == decoded.fps

    measure = MeasureJob(sequence, codec, "key", ("psnr_y",), cache.root, force=True)
    calls: list[bytes] = []
    monkeypatch.setattr(X265, "decode", lambda self, stream: calls.append(stream) or decoded)
    expected = measure.run()["values"]
    assert not calls
    path = cache.frames_path("key")
    path.write_bytes(path.read_bytes()[:-3])
    assert measure.run()["values"] == expected and len(calls) == 1


def test_a_stream_that_decodes_to_other_frames_than_before_is_reported(clips: Path, tmp_path: Path) -> None:
    """The scores are taken from a second decode; a decoder that is not deterministic must not go unnoticed."""
    out = tmp_path / "out"
    assert run(clips, out, "--regime", "one-intra", codecs="quick") == 0
    path = next((out / "cache" / "streams").rglob("*.json"))
    cache = Cache(out / "cache")
    entry = cache.load_entry(path.stem)
    assert entry is not None
    ledger = X265(qp=30).ledger(stream := cache.load_stream(path.stem))
    cache.store_stream(path.stem, stream, ledger, entry | {"decoded_sha256": hashlib.sha256(b"other").hexdigest()})
    for scores in (out / "cache" / "scores").rglob("*.json"):
        scores.unlink()
    assert run(clips, out, "--regime", "one-intra", codecs="quick") == 1
    failed = read_points(out).query("status == 'failed'")
    assert len(failed) == 1 and "decodes to other frames" in failed["error"].iloc[0]
    assert len(read_points(out)) == 4  # a point that could not be measured stays where it is, as failed


def test_jobs_are_small_messages(clips: Path) -> None:
    """What travels to a worker is names and settings, never samples."""
    import pickle

    (sequence, *_) = sweep.resolve([str(clips)])
    family = sweep.FAMILIES["hevc"]
    job = CodeJob(sequence, family.candidates("one-intra", 2)[0], "0" * 64, Path("cache"))
    assert len(pickle.dumps(job)) < 2000
    assert os.path.getsize(clips / "a.y4m") > 10_000
