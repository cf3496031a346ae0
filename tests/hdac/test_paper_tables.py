"""The papers' tables: what was published stands beside what was measured of the finest point of every curve."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from hdac.systems import FAMILIES
from tests.bench.catalogue import measured as catalogued
from tests.bench.paper_tables import NAMES, PUBLISHED, measured, tables

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
    size = {"network": NETWORK, "params_m": 0.7, "params_encoder_m": 0.5, "macs_encoder_m": 20.0, "macs_decoder_m": 300.0}
    size |= {"params_published_m": 0.25, "macs_published_m": 310.0, "macs_generator_384_m": 900.0}
    (tmp_path / "networks.json").write_text(json.dumps({"rows": [size]}))
    coders = {"ours": (1.0, 40.0), "huffman": (1.5, 60.0), "prior": (1.6, 64.0), "raw": (32.0, 1280), "raw_8": (16.0, 640)}
    motion = {coder: {"kbps": kbps, "bits_per_frame": bits} for coder, (kbps, bits) in coders.items()}
    (tmp_path / "points.json").write_text(json.dumps({"networks": {NETWORK: motion}}))
    (tmp_path / "faces.json").write_text(json.dumps({"clips": {"a": {"yaw_range_deg": 5.0}, "b": {"yaw_range_deg": 50.0}}}))
    (tmp_path / "int8.json").write_text(json.dumps({"rows": [{"network": NETWORK, "int8_mb": 0.8, "fps_int8": 55.5}]}))
    return tmp_path


def test_ours_are_means_of_the_finest_points(results: Path) -> None:
    ours = measured(results)[NETWORK]
    assert ours["lpips"] == pytest.approx(0.2) and ours["kbps"] == pytest.approx(4)
    assert ours["macs_published_m"] == 310 and ours["params_decoder_m"] == pytest.approx(0.2) and ours["fps_int8"] == 55.5
    assert (ours["motion_kbps"], ours["huffman_kbps"], ours["raw_8_kbps"]) == (1.0, 1.5, 16.0)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_published_number_is_in_its_column_and_ours_beside_it(results: Path) -> None:
    text = tables(results)
    published = list(csv.DictReader(PUBLISHED.read_text().splitlines()))
    assert len(published) > 100
    for row in published:
        table = text.split(f"## {row['table']} ({row['data']})")[1].split("##")[0].strip().splitlines()
        column = cells(table[0]).index(f"{NAMES[row['metric']]}: theirs")
        of_system = [cells(line) for line in table[2:] if cells(line)[0] == row["system"]]
        assert [one[column] for one in of_system] == [row["value"]], row
    first = text.split("## oquab2021 Table 1")[1].split("##")[0].strip().splitlines()[1:]
    (mine,) = (cells(line) for line in first if line.startswith("| Motion Net 20 L |"))
    assert mine[2:13:2] == ["55.5", "0.250", "310", "0.800", "16.0", "1.500"]
    (other,) = (cells(line) for line in first if line.startswith("| Motion Net 10 U |"))
    assert not any(other[2:13:2])


def test_all_of_ours_have_their_columns_and_turned_heads_a_table(results: Path) -> None:
    text = tables(results)
    rates = text.split("## All of ours: rates, kbit/s")[1].split("##")[0]
    assert f"| `{NETWORK}` | 4.000 | 1.000 | 1.500 | 1.600 |" in rates
    turned = text.split("clips in which heads turn most")[1]
    assert turned.index("b (50 degrees)") < turned.index("a (5 degrees)") and "| 4.000 | 0.200 | 0.500 |" in turned


def test_the_list_of_codecs_takes_rates_and_speeds_from_a_sweep(results: Path) -> None:
    (found,) = catalogued(results).values()
    assert (found.kbps_low, found.kbps_high) == (3.0, 4.0)  # a: 1 to 3, b: 5
    assert found.encode_fps == 10 and found.decode_fps == 25
    assert set(row["row"] for row in csv.DictReader(PUBLISHED.read_text().splitlines())) & set(FAMILIES)
