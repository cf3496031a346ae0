"""The papers' tables: what was published stands beside what was measured of the finest point of every curve."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from hdac.systems import FAMILIES
from tests.bench import paper_tables
from tests.bench.catalogue import measured as catalogued
from tests.bench.paper_tables import NAMES, PUBLISHED, measured, tables

NETWORK = "motion-net-20l"
ROW = {"regime": "one-intra", "bpp": 0.1, "status": "ok", "n_frames": 50, "nme": 0.5, "akd": 2.0, "aed": 0.1, "l1": 0.01}


_FOMM = ((2.0, 0.4, 48), (6.0, 0.1, 24))
_LIGHT = ((4.0, 0.35, 48), (2.5, 0.3, 36), (3.0, 0.2, 24))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A sweep of a few points a curve, one of them in another regime, of clips that not all rows have, and what the benchmarks
    wrote."""

    def point(sequence: str, kbps: float, lpips: float, qp: int, codec: str = NETWORK, **other: object) -> dict[str, object]:
        row = {**ROW, "sequence": sequence, "codec": codec, "point": 99 - qp, "kbps": kbps, "lpips": lpips}
        return {**row, "settings": f"Mobile(qp={qp}, reference_qp=1)", "encode_s": 5.0, "decode_s": 2.0, **other}

    rows = [
        *(point("a", 1.0, 0.4, 48), point("a", 3.0, 0.25, 24), point("b", 5.0, 0.15, 24)),
        point("b", 0.5, 0.7, 48, status="failed"),
        point("b", 99.0, 0.9, 24, regime="short-gop"),
        *(point(sequence, kbps, lpips, qp, "fomm") for sequence in "ab" for kbps, lpips, qp in _FOMM),
        # of a QP that is finer takes fewer bits, as may be with several references
        *(point(sequence, kbps, lpips, qp, "ultralight", akd=2.1) for sequence in "ab" for kbps, lpips, qp in _LIGHT),
        *(point("c", 9.0, 0.01, 24, codec) for codec in (NETWORK, "fomm")),  # nothing of ultralight: it does not count
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "points.csv", index=False)
    size = {"network": NETWORK, "params_m": 0.7, "params_encoder_m": 0.5, "macs_encoder_m": 20.0, "macs_decoder_m": 300.0}
    size |= {"params_published_m": 0.25, "macs_published_m": 310.0, "macs_generator_384_m": 900.0}
    (tmp_path / "networks.json").write_text(json.dumps({"rows": [size, {**size, "network": "fomm"}]}))
    coders = {"ours": (1.0, 40.0), "huffman": (1.5, 60.0), "prior": (1.6, 64.0), "raw": (32.0, 1280), "raw_8": (16.0, 640)}
    motion = {coder: {"kbps": kbps, "bits_per_frame": bits} for coder, (kbps, bits) in coders.items()}
    maps = {"ours": {"kbps": 7.5, "bits_per_frame": 300}, "raw": {"kbps": 230.4, "bits_per_frame": 9216}}
    maps["raw_8"] = maps["raw"]
    (tmp_path / "points.json").write_text(json.dumps({"networks": {NETWORK: motion, "segface-48": maps}}))
    (tmp_path / "faces.json").write_text(json.dumps({"clips": {"a": {"yaw_range_deg": 5.0}, "b": {"yaw_range_deg": 50.0}}}))
    student = {"network": "landmarks", "kind": "student", "int8_mb": 0.5, "nme_exact": 0.05, "nme_int8": 0.06}
    student |= {"fps_exact": 700.0, "fps_int8_1": 900.0}
    shown = {"network": NETWORK, "int8_mb": 0.8, "fps_int8": 55.5, "fps_int8_1": 33.3}
    shown |= {"lpips_exact": 0.11, "lpips_int8": 0.12, "lpips_found": 0.13, "nme_exact": 0.21, "nme_int8": 0.22}
    shown |= {"bytes_found": 1.01}
    found = {"decoder": "ultralight", "aed": 0.3, "l1": 0.02, "lpips": 0.1, "nme_mesh": 0.05}
    detectors = [{**found, "detector": "fomm", "akd": 2.0}, {**found, "detector": "ultralight", "akd": 2.5}]
    (tmp_path / "detectors.json").write_text(json.dumps({"teacher": "fomm", "rows": detectors}))
    (tmp_path / "int8.json").write_text(json.dumps({"rows": [student, shown]}))
    return tmp_path


def test_ours_are_means_of_the_finest_points(results: Path) -> None:
    ours = measured(results)[NETWORK]
    assert ours["lpips"] == pytest.approx(0.2) and ours["kbps"] == pytest.approx(4)
    light = measured(results)["ultralight"]
    assert light["lpips"] == pytest.approx(0.2) and light["kbps"] == pytest.approx(3)
    assert "landmarks" not in measured(results)
    assert ours["macs_published_m"] == 310 and ours["params_decoder_m"] == pytest.approx(0.2) and ours["fps_int8"] == 55.5
    assert (ours["motion_kbps"], ours["huffman_kbps"], ours["raw_8_kbps"]) == (1.0, 1.5, 16.0)


def test_of_some_clips_the_means_are_of_these_alone(results: Path) -> None:
    of_one, of_all = (measured(results, clips)[NETWORK] for clips in (["b"], []))
    assert of_one["lpips"] == pytest.approx(0.15) and of_one["kbps"] == pytest.approx(5)
    assert of_one["params_published_m"] == of_all["params_published_m"] and of_one["lpips"] != of_all["lpips"]


def test_beside_rotations_ours_are_of_the_most_turned_clips(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_tables, "TURNED", 1)
    points = pd.read_csv(results / "points.csv")
    merged = points[points.codec == NETWORK].assign(codec="frontalizer-sup")
    pd.concat([points, merged]).to_csv(results / "points.csv", index=False)
    text = tables(results)
    for data, lpips in (("VoxCeleb", "0.184 | 0.200"), ("DFDC-rotations", "0.172 | 0.150")):
        (line,) = (
            line
            for line in text.split(f"## oquab2022 Table 3 ({data}")[1].split("##")[0].splitlines()
            if line.startswith("| Frontalizer sup |")
        )
        assert lpips in line


def test_what_tracks_by_optical_flow_has_no_products(results: Path) -> None:
    networks = json.loads((results / "networks.json").read_text())
    networks["rows"][1]["macs_encoder_m"] = 0.0
    (results / "networks.json").write_text(json.dumps(networks))
    sizes = tables(results).split("## All of ours: size")[1].split("##")[0]
    assert "| `fomm` | 0.700 | optical flow | 300 |" in sizes and f"| `{NETWORK}` | 0.700 | 20.0 | 300 |" in sizes


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
    assert mine[2:13:2] == ["55.5", "0.250", "310", "1.300", "16.0", "1.500"]
    (other,) = (cells(line) for line in first if line.startswith("| Motion Net 10 U |"))
    assert not any(other[2:13:2])
    encoder, decoder = text.split("## lu2023 Table 1 (encoder")[1], text.split("## lu2023 Table 1 (decoder")[1]
    assert "| 55.54 | 2.000 |" in encoder.split("##")[0] and "| 299.10 | 0.800 |" in decoder.split("##")[0]
    fourth = text.split("## oquab2021 Table 4")[1].split("##")[0].strip().splitlines()[1:]
    (maps,) = (cells(line) for line in fourth if line.startswith("| SegFace 48x48 |"))
    assert "7.500 *" in maps


def test_all_of_ours_have_their_columns_and_turned_heads_a_table(results: Path) -> None:
    text = tables(results)
    rates = text.split("## All of ours: rates, kbit/s")[1].split("##")[0]
    assert f"| `{NETWORK}` | 4.000 | 1.000 | 1.500 | 1.600 |" in rates
    speeds = text.split("## All of ours: decoder, frames/s")[1].split("##")[0]
    assert f"| `{NETWORK}` | 33.3 | 55.5 |" in speeds and "landmarks" not in speeds
    small = text.split("## All of ours: in 8-bit integers")[1].split("##")[0]
    assert f"| `{NETWORK}` | 0.110 | 0.120 | 0.130 | 0.210 | 0.220 | 1.010 |" in small
    assert "| `landmarks` | 0.500 | 0.050 | 0.060 | 700 | 900 |" in text.split("## Students")[1]
    assert "| `ultralight` | 2.100 | 0.100 | 0.010 | 0.200 | 0.500 | 1.050 |" in text.split("## From `fomm`")[1]
    alone = text.split("## The same decoder")[1].split("##")[0]
    assert "| `ultralight` | `ultralight` | 2.500 | 0.300 | 0.020 | 0.100 | 0.050 | 1.250 |" in alone
    equal = text.split("## LPIPS at equal rate")[1].split("##")[0]
    (light,) = (cells(line) for line in equal.splitlines() if line.startswith("| `ultralight` |"))
    assert light[1].startswith("-") and light[1].endswith("(2 clips)")
    turned = text.split("## The 2 clips in which heads turn most")[1]
    assert turned.index("b (50 degrees)") < turned.index("a (5 degrees)") and "| 4.000 | 0.200 | 0.500 |" in turned


def test_the_list_of_codecs_takes_rates_and_speeds_from_a_sweep(results: Path) -> None:
    found = catalogued(results)[NETWORK]
    assert (found.kbps_low, found.kbps_high) == (5.0, pytest.approx(17 / 3))  # a: 1 to 3, b: 5, c: 9
    assert found.encode_fps == 10 and found.decode_fps == 25
    assert {row["row"] for row in csv.DictReader(PUBLISHED.read_text().splitlines())} - {""} <= set(FAMILIES)
