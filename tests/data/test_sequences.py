"""Names stand for the clips that they say, under names of their own, and what is missing is explained."""

from __future__ import annotations

import csv
import hashlib
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import data.sequences
from data.clip import Clip, Colour
from data.crop import Box, crop
from data.errors import InputError
from data.files import file_sha256
from data.io import write_clip
from data.sample import SCENARIOS, make_sample
from data.sequences import COLUMNS, MANIFESTS, main, read_manifest, resolve, set_names


def make_clip(t: int = 3, h: int = 16, w: int = 24, seed: int = 0, fps: Fraction | int = 25) -> Clip:
    rng = np.random.default_rng(seed)
    shapes = ((t, h, w), (t, (h + 1) // 2, (w + 1) // 2), (t, (h + 1) // 2, (w + 1) // 2))
    y, u, v = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
    return Clip(y, u, v, Fraction(fps))


def write(path: Path, seed: int = 0, **options: int) -> Path:
    write_clip(make_clip(seed=seed, **options), path)
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDAC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HDAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


# -- files and folders ---------------------------------------------------------------------------------------------


def test_a_file_is_a_sequence_with_its_full_stem_as_name(tmp_path: Path) -> None:
    write(tmp_path / "id10283#a.long_name--with.dots.y4m")
    (sequence,) = resolve([str(tmp_path / "id10283#a.long_name--with.dots.y4m")])
    assert sequence.name == "id10283#a.long_name--with.dots"
    assert sequence.load().name == sequence.name
    assert sequence.load().equals(make_clip())


def test_same_stems_in_different_folders_get_different_names(tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "00001.y4m", seed) for seed, folder in enumerate(("a/x", "b/x", "c"))]
    paths.append(write(tmp_path / "c" / "00001.mkv", 3))
    sequences = resolve([str(p) for p in paths])
    names = [s.name for s in sequences]
    assert len(set(names)) == 4
    assert names[0].endswith("a-x-00001") and names[1].endswith("b-x-00001")
    assert names[2].endswith("c-00001.y4m") and names[3].endswith("c-00001.mkv")
    for seed, sequence in enumerate(sequences):
        assert sequence.load().equals(make_clip(seed=seed))


def test_a_folder_gives_all_clips_below_it_named_by_their_paths(tmp_path: Path) -> None:
    write(tmp_path / "id1" / "v1" / "00001.y4m")
    write(tmp_path / "id1" / "v2" / "00001.y4m", 1)
    write(tmp_path / "top.mkv")
    write(tmp_path / ".hidden" / "no.mkv")
    (tmp_path / "thumbnail.png").write_bytes(b"not read")
    write_clip(make_clip(), tmp_path / "pictures")
    names = [s.name for s in resolve([str(tmp_path)])]
    assert names == ["id1-v1-00001", "id1-v2-00001", "pictures", "top"]


def test_a_folder_of_pictures_is_one_sequence(tmp_path: Path) -> None:
    write_clip(make_clip(5), tmp_path / "take1")
    (sequence,) = resolve([str(tmp_path / "take1")], frames=2)
    assert (sequence.name, sequence.load().n_frames) == ("take1", 2)


def test_a_clip_that_is_named_twice_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.y4m")
    monkeypatch.chdir(tmp_path)
    assert [s.name for s in resolve(["a.y4m", str(tmp_path), "./a.y4m"])] == ["a"]


def test_sequences_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    write(tmp_path / "a.y4m")
    sequences = resolve([str(tmp_path), "sample"], frames=2)
    assert pickle.loads(pickle.dumps(sequences)) == sequences
    assert pickle.loads(pickle.dumps(sequences[0])).load().n_frames == 2


def test_frames_are_a_limit_not_a_demand(tmp_path: Path) -> None:
    write(tmp_path / "a.y4m", t=3)
    assert resolve([str(tmp_path)], frames=2)[0].load().equals(make_clip(3)[:2])
    assert resolve([str(tmp_path)], frames=9)[0].load().equals(make_clip(3))
    with pytest.raises(InputError, match="0 frames"):
        resolve([str(tmp_path)], frames=0)


def test_names_that_stand_for_nothing_are_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no-such: neither a set .*gfvc.* nor a file"):
        resolve(["no-such"])
    with pytest.raises(InputError, match="folder without clips"):
        resolve([str(tmp_path / "empty")])
    with pytest.raises(InputError, match="the sample has talk-still"):
        resolve(["sample/no-such"])


# -- manifests -----------------------------------------------------------------------------------------------------


def manifest(path: Path, *rows: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_manifest_cuts_and_scales_its_files(tmp_path: Path) -> None:
    write(tmp_path / "a.y4m", t=4, h=32, w=48)
    box = {"crop_x": 8, "crop_y": 4, "crop_w": 16, "crop_h": 16, "width": 8, "height": 8}
    path = manifest(tmp_path / "m.csv", {"name": "face", "file": "x.mp4 | a.*", "fps": 25, "frames": 3, **box})
    (sequence,) = resolve([str(path)])
    clip = sequence.load()
    assert sequence.name == "face"
    assert clip.equals(crop(make_clip(4, 32, 48)[:3], Box(8, 4, 16, 16), (8, 8)))
    assert (clip.n_frames, clip.width, clip.height) == (3, 8, 8)


@pytest.mark.parametrize(
    ("row", "message"),
    [({"frames": 4}, "holds 3 frames, the manifest says 4"), ({"width": 16, "height": 24}, "24x16.* says 16x24"),
     ({"crop_x": 10, "crop_y": 0, "crop_w": 16, "crop_h": 16}, "not inside of a picture of 24x16")],
)  # fmt: skip
def test_a_file_that_differs_from_its_manifest_is_refused(tmp_path: Path, row: dict[str, object], message: str) -> None:
    write(tmp_path / "a.y4m")
    path = manifest(tmp_path / "m.csv", {"name": "a", "file": "a.y4m", **row})
    with pytest.raises(InputError, match=message):
        resolve([str(path)])[0].load()


def test_a_file_is_checked_against_the_manifests_sha256_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = write(tmp_path / "right.y4m"), write(tmp_path / "wrong.y4m", seed=1)
    sha256 = hashlib.sha256(right.read_bytes()).hexdigest()
    rows = [{"name": path.stem, "file": path.name, "sha256": sha256.upper()} for path in (right, wrong)]
    good, bad = resolve([str(manifest(tmp_path / "m.csv", *rows))], frames=1)
    hashed = []
    monkeypatch.setattr(data.sequences, "file_sha256", lambda path: hashed.append(path) or file_sha256(path))
    for _ in range(3):
        assert good.load().equals(make_clip()[:1])
    assert hashed == [right]
    assert pickle.loads(pickle.dumps(bad)).sha256 == sha256.upper()
    said = rf"wrong\.y4m: has the SHA-256 {file_sha256(wrong)}, the manifest says {sha256.upper()}"
    with pytest.raises(InputError, match=said):
        bad.load()


def test_a_folder_of_pictures_has_no_sha256(tmp_path: Path) -> None:
    write_clip(make_clip(), tmp_path / "take1")
    path = manifest(tmp_path / "m.csv", {"name": "a", "file": "take1", "sha256": "0" * 64})
    with pytest.raises(InputError, match="take1: is not a file"):
        resolve([str(path)])[0].load()


def test_a_short_file_is_no_fault_where_fewer_frames_are_wanted(tmp_path: Path) -> None:
    write(tmp_path / "a.y4m", t=3)
    path = manifest(tmp_path / "m.csv", {"name": "a", "file": "a.y4m", "frames": 4})
    assert resolve([str(path)], frames=2)[0].load().n_frames == 2


def test_raw_files_take_rate_from_the_manifest(tmp_path: Path) -> None:
    write(tmp_path / "a_24x16_8bit_420.yuv")
    path = manifest(tmp_path / "m.csv", {"name": "a", "file": "*.yuv", "fps": "30000/1001"})
    assert resolve([str(path)])[0].load().fps == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("row", "message"),
    [({"name": "a"}, "line 2: name or file"), ({"name": "a", "file": "a", "fps": "fast"}, "line 2"),
     ({"name": "a", "file": "a", "crop_x": 1}, "line 2")],
)  # fmt: skip
def test_broken_manifests_are_refused_by_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve([str(manifest(tmp_path / "m.csv", row))])


def test_a_manifest_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    row = {"name": "a", "file": "a.y4m"}
    with pytest.raises(InputError, match="lists a twice"):
        read_manifest(manifest(tmp_path / "m.csv", row, row))


# -- the sets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in set_names() if n != "sample"])
def test_every_shipped_manifest_is_sound(name: str) -> None:
    for entry in read_manifest(MANIFESTS / f"{name}.csv"):
        assert entry.licence
        assert entry.url.startswith("https://") or entry.note
        assert entry.size or entry.name == "*"
        assert not entry.box or (entry.box.width == entry.box.height and entry.size == (256, 256))


def test_gfvc_is_the_thirty_sequences_of_the_jvet_conditions() -> None:
    entries = read_manifest(MANIFESTS / "gfvc.csv")
    assert [e.name for e in entries] == [f"{k}_{i:03d}" for k in ("VOXCELEB", "CFVQA") for i in range(1, 16)]
    assert {(e.name[:3], e.frames, e.fps, e.size) for e in entries} == {
        ("VOX", 250, 25, (256, 256)),
        ("CFV", 125, 25, (256, 256)),
    }


def test_local_files_of_a_set_are_found(root: Path) -> None:
    clip = make_clip(250, 256, 256)
    write_clip(clip, root / "gfvc" / "VOXCELEB_001_256x256_25_8bit_420.yuv")
    (sequence,) = resolve(["gfvc/VOXCELEB_001"], frames=3)
    assert sequence.name == "VOXCELEB_001"
    assert sequence.load().equals(clip[:3])
    with pytest.raises(InputError, match=r"29 of 30 sequences are not in .*VOXCELEB_002.*JVET"):
        resolve(["gfvc"])
    with pytest.raises(InputError, match="matches 'NOTHING'"):
        resolve(["gfvc/NOTHING"])


def test_open_sets_take_every_clip_of_their_folder(root: Path) -> None:
    with pytest.raises(InputError, match=r"no clip in .*How to get them: .*github"):
        resolve(["talkinghead-1kh"])
    write(root / "talkinghead-1kh" / "train" / "a_0001.mkv")
    write(root / "talkinghead-1kh" / "val" / "b_0001.mkv")
    assert [s.name for s in resolve(["talkinghead-1kh"])] == ["train-a_0001", "val-b_0001"]
    assert [s.name for s in resolve(["talkinghead-1kh/val-*"])] == ["val-b_0001"]


def test_missing_xiph_sequences_name_the_command_that_fetches_them(root: Path) -> None:
    with pytest.raises(InputError, match=r"16 of 16 .*data\.sequences fetch xiph-talking"):
        resolve(["xiph-talking"])


def test_fetch_downloads_every_file_with_its_checksum(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(data.sequences, "download", lambda url, path, sha256: asked.append((url, path, sha256)))
    assert main(["fetch", "xiph-talking"]) == 0
    assert len(asked) == 16
    base = "https://media.xiph.org/video/derf/y4m/"
    assert asked[0] == (f"{base}akiyo_cif.y4m", root / "xiph-talking" / "akiyo_cif.y4m", None)


def test_fetch_of_a_set_without_download_says_how(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "gfvc"]) == 1
    assert "no public download" in capsys.readouterr().err


def test_list_shows_what_is_here(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(make_clip(1), root / "gfvc" / "CFVQA_003.y4m")
    assert main(["list"]) == 0
    assert f"1 of 30 sequences in {root / 'gfvc'}" in capsys.readouterr().out
    assert main(["list", "gfvc"]) == 0
    states = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if "fps" in line}
    assert (states["CFVQA_002"], states["CFVQA_003"]) == ("missing", "here")


# -- the sample ----------------------------------------------------------------------------------------------------


def test_the_sample_is_all_of_its_scenarios() -> None:
    assert [s.name for s in resolve(["sample"])] == list(SCENARIOS)
    assert [s.name for s in resolve(["sample/talk-*"])] == ["talk-still", "talk-motion"]


def test_the_sample_is_made_once_and_then_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(SCENARIOS["noise-background"], name="short", n_frames=3)
    monkeypatch.setitem(SCENARIOS, "short", short)
    made = []
    monkeypatch.setattr(data.sequences, "make_sample", lambda name: made.append(name) or make_sample(name))
    (sequence,) = resolve(["sample/short"], frames=2)
    first = sequence.load()
    assert (first.name, first.n_frames, first.width, first.fps) == ("short", 2, 256, 25)
    assert sequence.load().equals(first)
    assert made == ["short"]
    (kept,) = (root.parent / "cache" / "sample").iterdir()
    kept.write_bytes(kept.read_bytes()[:5000])
    assert sequence.load().equals(first)
    assert made == ["short", "short"]


# -- crops ---------------------------------------------------------------------------------------------------------


def test_an_even_crop_of_the_same_size_moves_no_sample() -> None:
    clip = make_clip(2, 33, 47)
    cut = crop(clip, Box(4, 2, 43, 31))
    assert np.array_equal(cut.y, clip.y[:, 2:, 4:])
    assert np.array_equal(cut.u, clip.u[:, 1:, 2:])
    assert crop(clip, Box(0, 0, 47, 33)).equals(clip)


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
@pytest.mark.parametrize("size", [(32, 32), (96, 96)])
def test_scaled_crops_keep_colours_where_they_belong(siting: str, size: tuple[int, int]) -> None:
    """A horizontal ramp of chroma has, after the crop, the values that its new sites had in the source."""
    y = np.full((1, 96, 128), 90, np.uint8)
    dx = {"left": 0.0, "center": 0.5, "topleft": 0.0}[siting]
    ramp = 30 + 1.5 * (2 * np.arange(64) + dx)
    u = np.rint(np.broadcast_to(ramp, (1, 48, 64))).astype(np.uint8)
    cut = crop(Clip(y, u, u, Fraction(25), Colour(siting=siting)), Box(15, 7, 64, 64), size)
    at = (2 * np.arange(size[0] // 2) + dx + 0.5) * 64 / size[0] - 0.5 + 15  # luma positions in the source
    assert np.all(np.abs(cut.u[0].astype(float) - (30 + 1.5 * at))[:, 1:-1] <= 1.5)
    assert np.all(cut.y == 90)


def test_down_scaling_averages_areas() -> None:
    y = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) * 4
    chroma = np.full((1, 4, 4), 128, np.uint8)
    cut = crop(Clip(y, chroma, chroma, Fraction(25)), Box(0, 0, 8, 8), (4, 4))
    assert np.array_equal(cut.y[0], y[0].reshape(4, 2, 4, 2).mean(axis=(1, 3)))
