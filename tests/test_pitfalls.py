"""Mistakes of published evaluation code, one test each; the docstrings say what went wrong there.

Those that other tests guard already are not repeated: squared errors that wrap in uint8, VMAF frame by frame, LPIPS of
pictures in [0, 1], identical frames (`test_fidelity`, `test_perceptual`), widths and heights exchanged, a CRF called QP,
encoder and decoder in one process (`test_conventional`), a partial stream that is used again (`test_cache`), BD numbers of
curves that hardly overlap (`test_bd`).
"""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rd.metrics
from baselines import nal
from baselines.codec import REGIMES, SHORT_GOP, Regime, Tunable, VideoCodec
from baselines.conventional import X265, LibAom, SvtAv1, Vp9
from baselines.families import CONVENTIONAL
from baselines.stream import StreamHeader
from data.clip import Clip
from data.errors import HdacError
from data.io import read_clip, write_clip
from data.sequences import resolve
from hdac.systems import decode
from rd import sweep
from rd.bd import MEAN, bd_table, format_table
from rd.cache import Cache
from rd.jobs import CodeJob, MeasureJob
from rd.table import read_points
from tests.clips import moving_clip, psnr_y

PLUGIN = str(Path(__file__).parent / "rd" / "faulty.py")
FPS = Fraction(30000, 1001)
N_FRAMES = SHORT_GOP + 1
"""The last GOP is one frame long."""
SOURCES = {f"id10280_{take}": moving_clip(N_FRAMES, 64, 48, FPS, seed=seed) for seed, take in enumerate("ab")}
every_family = pytest.mark.parametrize("family", CONVENTIONAL)
every_regime = pytest.mark.parametrize("regime", REGIMES)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over two clips whose names begin alike, 33 frames at 30000/1001 fps, in both regimes."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, clip in SOURCES.items():
        write_clip(clip, folder / "clips" / f"{name}.y4m")
    arguments = ["--sequences", str(folder / "clips"), "--codecs", "quick", "--plugin", PLUGIN, "--metrics", "psnr_y"]
    assert sweep.main([*arguments, "--jobs", "2", "--no-report", "--out", str(folder / "out")]) == 0
    return folder / "out"


# -- what is scored ----------------------------------------------------------------------------------------------------


def test_no_lossy_step_lies_between_decoder_and_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded anchors were turned into .mp4 by ffmpeg's default libx264, CRF 23, before they were scored."""
    write_clip(moving_clip(4, 64, 48), tmp_path / "a.y4m")
    (sequence,) = resolve([str(tmp_path / "a.y4m")])
    codec, cache = X265(qp=20, preset="ultrafast"), Cache(tmp_path / "cache")
    entry = CodeJob(sequence, codec, "0" * 64, cache.root).run()
    scored: list[Clip] = []
    compute = rd.metrics.compute

    def watched(source: Clip, decoded: Clip, columns: list[str]) -> object:
        scored.extend((source, decoded))
        return compute(source, decoded, columns)

    monkeypatch.setattr(rd.metrics, "compute", watched)
    values = MeasureJob(sequence, codec, "0" * 64, ("psnr_y",), cache.root).run()["values"]
    source, decoded = scored
    assert source.equals(read_clip(tmp_path / "a.y4m"))
    assert decoded.equals(codec.decode(cache.load_stream("0" * 64)))
    assert decoded.sha256() == entry["decoded_sha256"]
    assert values["psnr_y"] == entry["psnr_y"]


def test_a_stored_stream_alone_gives_the_scored_frames_to_a_new_process(out: Path, tmp_path: Path) -> None:
    """Encoder and decoder shared a process, and what the decoder used did not all come from the bytes."""
    row = read_points(out).iloc[0]
    stream = Cache(out / "cache").stream_path(row["key"])
    clip = tmp_path / "decoded.y4m"
    subprocess.run([sys.executable, "-m", "hdac", "decode", str(stream), str(clip)], check=True, capture_output=True)
    source, decoded = SOURCES[row["sequence"]], read_clip(clip)
    frames = [psnr_y(source[t : t + 1], decoded[t : t + 1]) for t in range(N_FRAMES)]
    assert row["psnr_y"] == pytest.approx(np.mean(frames), abs=1e-9)


def test_every_frame_that_costs_bits_is_scored_and_the_first_is_paid_once(out: Path) -> None:
    """Intra frames were left out of the quality but counted as rate, and coded twice, by BPG and again by HEVC."""
    frames = pd.read_parquet(out / "frames.parquet")
    for (_, regime, _), rows in frames.groupby(["sequence", "regime", "point"]):
        assert rows["frame"].tolist() == list(range(N_FRAMES))
        assert rows["psnr_y"].notna().all() and (rows["bytes"] > 0).all()
        assert np.flatnonzero(rows["bytes_intra"]).tolist() == ([0] if regime == "one-intra" else [0, SHORT_GOP])


# -- rate --------------------------------------------------------------------------------------------------------------


def test_rate_is_the_whole_file_over_the_true_duration(out: Path) -> None:
    """The frames of a last, shorter GOP were free, headers were not counted, and fps differed from the clip's."""
    cache = Cache(out / "cache")
    for row in read_points(out).to_dict("records"):
        stream = cache.load_stream(row["key"])
        header, elementary = StreamHeader.unpack(stream)
        assert header.n_frames == decode(stream).n_frames == row["n_frames"] == N_FRAMES
        assert Fraction(row["fps"]) == header.fps == FPS
        assert row["bytes"] == len(stream) and row["bytes_header"] == elementary > 0
        assert row["bytes_parameter_sets"] > 0
        seconds = Fraction(N_FRAMES * 1001, 30000)
        assert row["kbps"] == pytest.approx(float(8 * len(stream) / seconds / 1000), rel=1e-12)
        assert row["bpp"] == pytest.approx(8 * len(stream) / (N_FRAMES * 64 * 48), rel=1e-12)


def test_an_encoder_that_fails_leaves_nothing_to_be_used_later(tmp_path: Path) -> None:
    """The exit status of encoders was not checked, and what they had written by then was the next run's result."""

    class GivesUp(X265):
        def encode(self, clip: Clip) -> bytes:
            super().encode(clip[:1])
            raise HdacError("gave up after one frame")

    write_clip(moving_clip(3), tmp_path / "a.y4m")
    (sequence,) = resolve([str(tmp_path / "a.y4m")])
    with pytest.raises(HdacError, match="gave up"):
        CodeJob(sequence, GivesUp(qp=30, preset="ultrafast"), "0" * 64, tmp_path / "cache").run()
    assert Cache(tmp_path / "cache").load_entry("0" * 64) is None
    assert not (tmp_path / "cache").exists()


# -- settings ----------------------------------------------------------------------------------------------------------


@every_family
@every_regime
def test_every_setting_of_a_label_reaches_the_encoder(family: str, regime: Regime) -> None:
    """A sweep over base_layer_qp coded everything at QP 50, since the code read another key, and named files after it."""
    clip = moving_clip(2, 80, 72)
    codecs = CONVENTIONAL[family].candidates(regime, 6)
    commands = [codec.command(clip) for codec in codecs]
    assert len(set(commands)) == len({codec.label for codec in codecs}) == len(codecs)
    for codec, command in zip(codecs, commands, strict=True):
        assert isinstance(codec, Tunable)
        assert codec.label.endswith(f"{'q' if isinstance(codec, SvtAv1 | LibAom | Vp9) else 'QP'} {codec.quantiser}")
        name = "crf" if isinstance(codec, LibAom | Vp9) else "qp"  # constant quality: crf is the quantiser (b=0)
        assert re.search(rf"\b{name}[= ]{codec.quantiser}\b", command), command
        assert "80x72" in command


@every_family
@every_regime
def test_all_codecs_of_a_regime_have_its_intra_period(family: str, regime: Regime) -> None:
    """The anchor had an intra picture every 32 frames, the codec compared with it one in all."""
    wanted = 0 if regime == "one-intra" else SHORT_GOP
    assert {getattr(codec, "intra_period", None) for codec in CONVENTIONAL[family].candidates(regime, 2)} == {wanted}


def test_the_hevc_anchor_has_all_block_sizes() -> None:
    """A configuration that was starved to save time, with small blocks only, served as the HEVC anchor too."""
    for codec in CONVENTIONAL["hevc"].candidates("one-intra", 1):
        stream = codec.encode(moving_clip(1, 128, 128))
        units = nal.split(stream[StreamHeader.unpack(stream)[1] :])
        (sps,) = (unit for unit in units if nal.nal_type(unit, "hevc") == nal.Hevc.SPS)
        tools = nal.parse_hevc_sps(sps).tools
        smallest_cb, smallest_tb = 3 + tools.log2_min_cb_minus3, 2 + tools.log2_min_tb_minus2
        assert (smallest_cb, smallest_cb + tools.log2_diff_max_min_cb) == (3, 6)  # 8x8 to 64x64
        assert (smallest_tb, smallest_tb + tools.log2_diff_max_min_tb) == (2, 5)  # 4x4 to 32x32


@pytest.mark.parametrize(
    "codec",
    [family.candidates("one-intra", 1)[0] for family in CONVENTIONAL.values()],
    ids=lambda codec: codec.name,
)
def test_what_made_a_point_is_all_in_its_repr(codec: VideoCodec) -> None:
    """Results said neither preset nor version; cached points of other settings were taken for the wanted ones."""
    import baselines.conventional as module

    assert eval(repr(codec), vars(module)) == codec


# -- tables ------------------------------------------------------------------------------------------------------------


def test_rows_are_keyed_by_full_names(out: Path) -> None:
    """Results were stored under the first character of the clip's name: the last clip's overwrote all others."""
    points = read_points(out)
    assert set(points["sequence"]) == set(SOURCES)
    assert points.groupby(["sequence", "regime"]).size().tolist() == [2, 2, 2, 2]
    for row in points.to_dict("records"):
        decoded = decode(Cache(out / "cache").load_stream(row["key"]))
        nearest = max(SOURCES, key=lambda name: psnr_y(SOURCES[name], decoded))
        assert nearest == row["sequence"]


def rd_points(**factors: tuple[float, float]) -> pd.DataFrame:
    """A codec per keyword at so many times the rate of a common curve, per sequence "a" and "b" as given."""
    psnr, rate = np.array([28.0, 31.0, 33.0, 35.0, 37.0]), np.array([4.0, 7.0, 12.0, 22.0, 45.0])
    tables = [
        pd.DataFrame({"kbps": rate * factor, "bpp": rate * factor / 1638.4, "psnr_y": psnr, "point": range(5)}).assign(
            sequence=sequence, codec=codec, regime="one-intra", status="ok"
        )
        for codec, pair in factors.items()
        for sequence, factor in zip("ab", pair, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def test_the_mean_is_over_the_sequences_deltas_each_of_them_shown() -> None:
    """BD-rates of curves averaged over sequences hid that the sign differs from clip to clip."""
    table = bd_table(rd_points(hevc=(1, 1), new=(0.7, 1.5)), "hevc", ["psnr_y"])
    deltas = table[table["codec"] == "new"].set_index("sequence")["bd_rate"]
    assert (deltas["a"], deltas["b"]) == pytest.approx((-30, 50))
    assert deltas[MEAN] == pytest.approx((-30 + 50) / 2)
    shown = format_table(table, "text", per_sequence=True)
    assert "-30.0" in shown and "+50.0" in shown


def test_rates_and_qualities_are_paired_by_row_and_not_by_position() -> None:
    """Rates were read from one list and qualities from another, and paired by position."""
    points = rd_points(hevc=(1, 1), new=(0.8, 0.9))
    shuffled = points.sample(frac=1, random_state=3).reset_index(drop=True)
    columns = ["codec", "sequence", "bd_rate", "overlap"]
    tables = [bd_table(p, "hevc", ["psnr_y"])[columns].sort_values(columns[:2], ignore_index=True) for p in (points, shuffled)]
    pd.testing.assert_frame_equal(*tables)


def test_curves_that_do_not_meet_have_no_number_in_the_table() -> None:
    """PSNR gains were quoted between curves of 21 to 23.4 dB and of 26 to 35 dB."""
    points = rd_points(hevc=(1, 1), animation=(0.5, 0.5))
    points.loc[points["codec"] == "animation", "psnr_y"] = np.tile([21.0, 21.8, 22.4, 23.0, 23.4], 2)
    table = bd_table(points, "hevc", ["psnr_y"])
    assert table["bd_rate"].isna().all() and (table["overlap"] == 0).all()
    shown = format_table(table)
    assert "N/A" in shown and not re.search(r"[-+]\d+\.\d ?%", shown)
