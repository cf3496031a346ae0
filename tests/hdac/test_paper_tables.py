"""The papers' tables: what was published stands beside what was measured of the finest point of every curve."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from hdac.systems import FAMILIES
from tests.bench.catalogue import measured as catalogued
from tests.bench.paper_tables import PUBLISHED, measured, tables

NETWORK = "motion-net-20l"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A sweep of two points a curve, one of them in another regime, and what the benchmarks wrote."""
    row = {"codec": NETWORK, "regime": "one-intra", "bpp": 0.1, "status": "ok", "n_frames": 50, "nme": 0.5}
    rows = [
        {**row, "sequence": "a", "point": 0, "kbps": 1.0, "lpips": 0.4, "encode_s": 5.0, "decode_s": 2.0},
        {**row, "sequence": "a", "point": 1, "kbps": 3.0, "lpips": 0.25, "encode_s": 5.0, "decode_s": 2.0},
        {**row, "sequence": "b", "point": 0, "kbps": 5.0, "lpips": 0.15, "encode_s": 5.0, "decode_s": 2.0},
        {**row, "sequence": "b", "point": 1, "kbps": 0.5, "lpips": 0.7, "status": "failed"},
        {**row, "sequence": "b", "point": 2, "kbps": 99.0, "lpips": 0.9, "regime": "short-gop"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "points.csv", index=False)
    speed = {"network": NETWORK, "params_m": 0.7, "params_encoder_m": 0.5, "macs_encoder_m": 20.0, "macs_decoder_m": 300.0}
    (tmp_path / "networks.json").write_text(json.dumps({"rows": [speed]}))
    (tmp_path / "int8.json").write_text(json.dumps({"rows": [{"network": NETWORK, "int8_mb": 0.8, "fps_int8": 55.5}]}))
    return tmp_path


def test_ours_are_means_of_the_finest_points(results: Path) -> None:
    ours = measured(results)[NETWORK]
    assert ours["lpips"] == pytest.approx(0.2) and ours["kbps"] == pytest.approx(4)
    assert ours["macs_m"] == 320 and ours["params_decoder_m"] == pytest.approx(0.2) and ours["fps"] == 55.5


def test_every_published_number_is_in_the_tables_and_ours_beside_it(results: Path) -> None:
    lines = tables(results).splitlines()
    published = list(csv.DictReader(PUBLISHED.read_text().splitlines()))
    assert len(published) > 100
    for row in published:
        of_system = [line for line in lines if line.startswith(f"| {row['system']} |")]
        assert any(f" {row['value']} |" in line for line in of_system), row
    speeds = next(line for line in lines if line.startswith("| Motion Net 20 L |"))
    assert " 19 | 55.5 |" in speeds and " 0.700 |" in speeds  # frames/s of theirs, then ours; our parameters
    other = next(line for line in lines if line.startswith("| Motion Net 10 U |"))
    assert "55.5" not in other


def test_the_list_of_codecs_takes_rates_and_speeds_from_a_sweep(results: Path) -> None:
    (found,) = catalogued(results).values()
    assert (found.kbps_low, found.kbps_high) == (3.0, 4.0)  # a: 1 to 3, b: 5
    assert found.encode_fps == 10 and found.decode_fps == 25
    assert set(row["row"] for row in csv.DictReader(PUBLISHED.read_text().splitlines())) & set(FAMILIES)
