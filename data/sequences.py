"""Sequence sets: the clips of an experiment by name, found without being loaded.

    sample            made here, needs nothing (`data.sample`)
    xiph-talking      16 talking people of the Xiph.org collection; `fetch` downloads them
    gfvc              VOXCELEB_001-015 and CFVQA_001-015, the JVET face-coding test sequences
    voxceleb2-test    clips cut from the VoxCeleb2 test videos
    talkinghead-1kh   clips of TalkingHead-1KH

All but `sample` lie in `$HDAC_DATA` (default ~/.cache/hdac/data), one folder a set. A manifest of `data/manifests`
lists each: name, file, size (after the crop), fps, frames, crop box in pixels of the file, sha256 of the file (checked
before it is read), licence, URL, note. `file` may hold several patterns, apart by "|", the first that exists counts; a
line named "*" stands for every clip of the folder.

The H-DAC paper crops 16 Xiph.org sequences and does not say which nor where; `xiph-talking` is our choice. Boxes are
given where the picture was seen; the others keep the whole picture.

    python -m data.sequences list [SET]
    python -m data.sequences fetch SET
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import hashlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

from data import cli
from data.clip import Clip
from data.crop import Box, crop
from data.download import download
from data.errors import InputError
from data.files import file_sha256
from data.io import CLIP_SUFFIXES, RAW_SUFFIXES, read_clip, write_clip
from data.sample import SCENARIOS, make_sample
from data.video import is_picture

log = logging.getLogger(__name__)

SAMPLE = "sample"
MANIFESTS = Path(__file__).parent / "manifests"
COLUMNS = (
    "name", "file", "width", "height", "fps", "frames", "crop_x", "crop_y", "crop_w", "crop_h",
    "sha256", "licence", "url", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Sequence:
    """A clip that can be loaded, here or in another process."""

    name: str
    """Unique among the sequences that were resolved together."""
    source: str
    """Where it comes from: the path, or "sample/NAME"."""
    path: Path | None = None
    """None for a scenario of the sample."""
    frames: int | None = None
    """At most so many, from the first on; None: all."""
    expected_frames: int | None = None
    """What a manifest says; fewer in the file are an error."""
    fps: Fraction | None = None
    """What a manifest says; the file's own rate counts where it has one."""
    size: tuple[int, int] | None = None
    """(width, height) after the crop, where a manifest says it."""
    box: Box | None = None
    sha256: str | None = None
    """Of the file, what a manifest says; another file is an error."""

    def load(self) -> Clip:
        """Reads (or makes) the clip; raises InputError where the file is not what the manifest says."""
        count = min((n for n in (self.frames, self.expected_frames) if n is not None), default=None)
        if self.path is None:
            return _sample(self.source.partition("/")[2])[:count].renamed(self.name)
        if self.sha256:
            _check_sha256(self.path, self.sha256)
        raw = self.path.suffix.lower() in RAW_SUFFIXES
        clip = read_clip(self.path, fps=self.fps if raw else None, frames=count, name=self.name)
        if self.fps and clip.fps != self.fps:
            log.warning("%s: runs at %s fps; the manifest says %s", self.path, clip.fps, self.fps)
        if self.expected_frames is not None and count is not None and clip.n_frames < count:
            raise InputError(f"{self.path}: holds {clip.n_frames} frames, the manifest says {self.expected_frames}")
        if self.box:
            clip = crop(clip, self.box, self.size)
        if self.size and (clip.width, clip.height) != self.size:
            width, height = self.size
            raise InputError(f"{self.path}: is {clip.width}x{clip.height}, the manifest says {width}x{height}")
        return clip


@cache
def _check_sha256(path: Path, expected: str) -> None:
    """Raises InputError where a file is not the one of the manifest; hashes it once in a process."""
    if not path.is_file():
        raise InputError(f"{path}: is not a file; the manifest gives the SHA-256 of one")
    found = file_sha256(path)
    if found != expected.lower():
        raise InputError(f"{path}: has the SHA-256 {found}, the manifest says {expected}")


@dataclass(frozen=True)
class Entry:
    """A line of a manifest."""

    name: str
    files: tuple[str, ...]
    """File names below the set's folder, best first; may hold wildcards."""
    size: tuple[int, int] | None
    fps: Fraction | None
    frames: int | None
    box: Box | None
    sha256: str | None
    licence: str
    url: str
    note: str


def resolve(names: SequenceOf[str], frames: int | None = None) -> list[Sequence]:
    """The sequences that names stand for, in their order, each once.

    names:  a set ("sample"), some of a set ("sample/talk-still", "gfvc/VOXCELEB_*"), a manifest (.csv), a file, or a
            folder: of pictures (one sequence), or of clips, also in folders below it.
    frames: at most so many of each.

    Raises InputError where a name stands for nothing, or files of a set are not here (the message says how to get
    them). Two files of the same name get different ones: their folders are put in front.
    """
    if frames is not None and frames < 1:
        raise InputError(f"cannot take {frames} frames of a sequence")
    found: dict[tuple[object, ...], Sequence] = {}
    for sequence in (s for name in names for s in _resolve_one(name)):
        found.setdefault((sequence.path or sequence.source, sequence.box, sequence.expected_frames), sequence)
    return [replace(s, frames=frames) for s in _with_unique_names(found.values())]


def data_root() -> Path:
    """The folder that holds the local sets."""
    root = os.environ.get("HDAC_DATA")
    return Path(root) if root else Path.home() / ".cache" / "hdac" / "data"


def set_names() -> list[str]:
    return [SAMPLE, *sorted(p.stem for p in MANIFESTS.glob("*.csv"))]


def read_manifest(path: Path) -> list[Entry]:
    """The lines of a manifest; raises InputError, naming the line, for one that makes no sense."""
    entries = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                entries.append(_entry({key: (row.get(key) or "").strip() for key in COLUMNS}))
            except (ValueError, ZeroDivisionError) as error:
                raise InputError(f"{path}: line {number}: {error}") from error
    repeated = [name for name, n in Counter(e.name for e in entries).items() if n > 1]
    if repeated or not entries:
        raise InputError(f"{path}: {'lists no sequence' if not entries else f'lists {repeated[0]} twice'}")
    return entries


def _entry(row: dict[str, str]) -> Entry:
    if not row["name"] or not row["file"]:
        raise ValueError("name or file is missing")
    box = [row[key] for key in ("crop_x", "crop_y", "crop_w", "crop_h")]
    return Entry(
        name=row["name"],
        files=tuple(part.strip() for part in row["file"].split("|")),
        size=(int(row["width"]), int(row["height"])) if row["width"] else None,
        fps=Fraction(row["fps"]) if row["fps"] else None,
        frames=int(row["frames"]) if row["frames"] else None,
        box=Box(*map(int, box)) if any(box) else None,
        sha256=row["sha256"] or None,
        licence=row["licence"],
        url=row["url"],
        note=row["note"],
    )


# -- from names to sequences ---------------------------------------------------------------------------------------


def _resolve_one(name: str) -> list[Sequence]:
    head, _, pattern = name.partition("/")
    if head == SAMPLE:
        chosen = [s for s in SCENARIOS if fnmatch.fnmatchcase(s, pattern or "*")]
        if not chosen:
            raise InputError(f"{name}: the sample has {', '.join(SCENARIOS)}")
        return [Sequence(scenario, f"{SAMPLE}/{scenario}") for scenario in chosen]
    if head in set_names():
        return _of_manifest(MANIFESTS / f"{head}.csv", data_root() / head, pattern or "*", name)
    path = Path(name)
    if not path.exists():
        raise InputError(f"{name}: neither a set ({', '.join(set_names())}) nor a file or folder")
    if path.suffix.lower() == ".csv":
        return _of_manifest(path, path.parent, "*", name)
    if path.is_file() or _holds_a_clip_of_pictures(path.iterdir()):
        return [_of_file(path)]
    clips = _clips_below(path)
    if not clips:
        raise InputError(f"{name}: folder without clips ({' '.join(CLIP_SUFFIXES)}) or pictures")
    return [_of_file(clip, below=path) for clip in clips]


def _of_manifest(manifest: Path, folder: Path, pattern: str, name: str) -> list[Sequence]:
    """The entries whose name matches, from the files below `folder`."""
    found: list[Sequence] = []
    missing: list[Entry] = []
    for entry in read_manifest(manifest):
        if entry.name == "*":
            every = [_of_file(path, below=folder) for path in _clips_below(folder)]
            every = [s for s in every if fnmatch.fnmatchcase(s.name, pattern)]
            found += [replace(s, size=entry.size, fps=entry.fps) for s in every]
            missing += [] if every else [entry]
        elif fnmatch.fnmatchcase(entry.name, pattern):
            path = _find(folder, entry)
            if path is None:
                missing.append(entry)
                continue
            found.append(
                Sequence(entry.name, str(path), path, None, entry.frames, entry.fps, entry.size, entry.box, entry.sha256),
            )
    if missing:
        raise InputError(_how_to_get(missing, len(found) + len(missing), folder, name))
    if not found:
        raise InputError(f"{name}: no sequence of {manifest.stem} matches {pattern!r}")
    return found


def _how_to_get(missing: list[Entry], count: int, folder: Path, name: str) -> str:
    first = missing[0]
    if first.name == "*":
        return f"{name}: no clip in {folder}. How to get them: {first.note}"
    which = ", ".join(e.name for e in missing[:3]) + (", ..." if len(missing) > 3 else "")
    how = f"`python -m data.sequences fetch {folder.name}` downloads them" if first.url else first.note
    return f"{name}: {len(missing)} of {count} sequences are not in {folder} ({which}). How to get them: {how}"


def _find(folder: Path, entry: Entry) -> Path | None:
    for pattern in entry.files:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir() or path.suffix.lower() in CLIP_SUFFIXES:
                return path
    return None


def _clips_below(folder: Path) -> list[Path]:
    """Clip files and folders of pictures, in the order of their paths; hidden ones are passed over."""
    clips = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        here = [Path(parent, f) for f in files if not f.startswith(".")]
        if _holds_a_clip_of_pictures(here):
            clips.append(Path(parent))
        clips += [p for p in here if p.suffix.lower() in CLIP_SUFFIXES]
    return sorted(clips)


def _holds_a_clip_of_pictures(files: Iterable[Path]) -> bool:
    """Pictures beside clip files are their thumbnails, not frames."""
    files = list(files)
    return any(is_picture(p) for p in files) and not any(p.suffix.lower() in CLIP_SUFFIXES for p in files)


def _of_file(path: Path, below: Path | None = None) -> Sequence:
    """A file or folder of pictures; a file of a folder is named by its path in there."""
    absolute = path.resolve()
    parts = path.relative_to(below).parts[:-1] if below else ()
    return Sequence("-".join((*parts, absolute.stem)), str(path), absolute)


def _with_unique_names(sequences: Iterable[Sequence]) -> list[Sequence]:
    """Lengthens the names that are not unique: by one more folder at a time, at last by the suffix of the file."""
    named = list(sequences)
    longer = [_names_of(s) for s in named]
    for step in range(1, max((len(names) for names in longer), default=0) + 1):
        count = Counter(s.name for s in named)
        if max(count.values()) == 1:
            break
        named = [
            replace(s, name=names[min(step, len(names)) - 1]) if count[s.name] > 1 else s
            for s, names in zip(named, longer, strict=True)
        ]
    repeated = [name for name, n in Counter(s.name for s in named).items() if n > 1]
    if repeated:
        raise InputError(f"cannot tell sequences apart: {', '.join(repeated)}")
    return named


def _names_of(sequence: Sequence) -> list[str]:
    """Names of a sequence that say more and more of where it is: b-clip, a-b-clip, a-b-clip.mp4."""
    if sequence.path is None:
        return [sequence.source.replace("/", "-")]
    folders = sequence.path.parent.parts[1:]  # without the root
    names = ["-".join((*folders[len(folders) - n :], sequence.path.stem)) for n in range(1, len(folders) + 1)]
    return [*names, "-".join((*folders, sequence.path.name))]


# -- the sample on disk --------------------------------------------------------------------------------------------


def _sample(scenario: str) -> Clip:
    """A scenario's clip, kept losslessly in the cache: rendering takes seconds, and every process wants it."""
    root = os.environ.get("HDAC_CACHE")
    folder = (Path(root) if root else Path.home() / ".cache" / "hdac") / "sample"
    path = folder / f"{scenario}-{_sample_version()}.mkv"
    try:
        if path.exists():
            return read_clip(path, name=scenario)
    except InputError as error:
        log.warning("%s; made again", error)
    clip = make_sample(scenario).clip
    try:
        write_clip(clip, path, force=True)
    except OSError as error:
        log.warning("the sample cannot be kept: %s", error)
    return clip


@cache
def _sample_version() -> str:
    """Changes whenever the generator does."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "sample").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# -- command -------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """`python -m data.sequences`."""
    return cli.run(lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data.sequences", description="Lists and downloads sequence sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the sets, or the sequences of one")
    listing.add_argument("set", nargs="?", choices=set_names())
    fetching = commands.add_parser("fetch", help="download the files of a set into $HDAC_DATA")
    fetching.add_argument("set", choices=set_names())
    args = parser.parse_args(argv)
    if args.command == "fetch":
        return _fetch(args.set)
    if args.set:
        _list(args.set)
    else:
        for name in set_names():
            print(f"{name:16} {_state(name)}")
    return 0


def _state(name: str) -> str:
    if name == SAMPLE:
        return f"{len(SCENARIOS)} sequences, made here"
    folder = data_root() / name
    entries = read_manifest(MANIFESTS / f"{name}.csv")
    if entries[0].name == "*":
        return f"{len(_clips_below(folder))} sequences in {folder}"
    here = sum(_find(folder, entry) is not None for entry in entries)
    return f"{here} of {len(entries)} sequences in {folder}" + (", can be fetched" if entries[0].url else "")


def _list(name: str) -> None:
    if name == SAMPLE:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:24} {scenario.n_frames:4} frames  {scenario.about}")
        return
    folder = data_root() / name
    for entry in read_manifest(MANIFESTS / f"{name}.csv"):
        size = f"{entry.size[0]}x{entry.size[1]}" if entry.size else "any size"
        count = f"{entry.frames} frames" if entry.frames else "any length"
        if entry.name == "*":
            state = f"{len(_clips_below(folder))} here"
        else:
            state = "here" if _find(folder, entry) else "missing"
        print(f"{entry.name:24} {size:9} {count:10} {entry.fps or 'own'} fps  {state}")
        for text in (entry.note, entry.url, entry.licence):
            if text:
                print(f"{'':24} {text}")


def _fetch(name: str) -> int:
    if name == SAMPLE:
        print("the sample is made here when it is used; there is nothing to fetch")
        return 0
    entries = read_manifest(MANIFESTS / f"{name}.csv")
    folder = data_root() / name
    if not any(entry.url for entry in entries):
        raise InputError(f"{name} has no public download. How to get it into {folder}: {entries[0].note}")
    for number, entry in enumerate(entries, 1):
        print(f"[{number}/{len(entries)}] {entry.name}", file=sys.stderr)
        download(entry.url, folder / entry.files[0], entry.sha256)
    return 0


if __name__ == "__main__":
    sys.exit(main())
