"""`hdac train` (or `python -m hdac.training`, as torchrun wants it): prepare clips, train, look at it, export weights.

    hdac train prepare clips/ --out cache
    hdac train run cache --out runs/mine --minutes 60            run it again: it goes on where it was
    hdac train poses cache                                       for face-vid2vid: head poses by a teacher; likewise landmarks
    hdac train plot runs/mine                                    runs/mine/curves.svg
    hdac train export runs/mine --out weights/mine.safetensors   HDAC_WEIGHTS=weights hdac encode --network mine ..
    torchrun --nproc-per-node 4 -m hdac.training run cache --out runs/full --recipe paper
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import MISSING, asdict, fields
from pathlib import Path

from data.cli import run as run_command
from data.errors import InputError
from hdac.training import cache

# torch and the networks are imported where they are needed: --help answers at once


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return run_command(lambda: args.command(args))


def _prepare(args: argparse.Namespace) -> None:
    paths = [clip for folder in args.clips for clip in cache.find_clips(folder)]
    cache.prepare(paths, args.out, args.jobs)
    clips = cache.load(args.out)
    print(f"{args.out}: {len(clips)} clips of {len({clip.identity for clip in clips})} people")


def _run(args: argparse.Namespace) -> None:
    import torch

    from hdac.training.settings import RECIPES, TrainSettings
    from hdac.training.train import run

    given = {field.name: getattr(args, field.name) for field in fields(TrainSettings) if getattr(args, field.name) is not None}
    if args.recipe:
        given = {**asdict(RECIPES[args.recipe]), **given}
    settings = TrainSettings.from_dict({**asdict(RECIPES["lite"]), **given})
    saved = args.out / "settings.json"
    if saved.exists():
        earlier = TrainSettings.from_dict({**asdict(RECIPES["lite"]), **json.loads(saved.read_text())})
        changed = [name for name in given if getattr(earlier, name) != getattr(settings, name)]
        if changed:
            raise InputError(f"{args.out} holds a run with another {', '.join(changed)}; choose another --out")
        settings = earlier
    if args.threads:
        torch.set_num_threads(args.threads)
    run(args.cache, args.out, settings, args.minutes, args.every, args.save_minutes, args.start_from)


def _plot(args: argparse.Namespace) -> None:
    from hdac.training.plot import curves, read_log

    out = args.out or args.run / "curves.svg"
    curves(read_log(args.run)).savefig(out)
    print(out)


def _export(args: argparse.Namespace) -> None:
    from hdac.training.export import export

    if args.out.exists() and not args.force:
        raise InputError(f"{args.out} exists; -f overwrites it")
    card = export(args.run, args.out, args.data, args.machine)
    print(f"{args.out}: step {card['steps']}, {args.out.stat().st_size / 1e6:.1f} MB, id {card['id']}")


def _labels(args: argparse.Namespace) -> None:
    from hdac.training.teachers import add_labels

    clips = cache.load(args.cache)
    add_labels(args.name, clips, args.cache)
    print(f"{args.cache}: {args.name} of {len(clips)} clips")


def _quantise(args: argparse.Namespace) -> None:
    from hdac import weights
    from hdac.int8 import SUFFIX
    from hdac.network import load
    from hdac.training.quantise import quantise, spread

    path = weights.find(args.network)
    out = args.out or path.with_suffix(SUFFIX)
    if out.exists() and not args.force:
        raise InputError(f"{out} exists; -f overwrites it")
    paths = [clip for folder in args.clips for clip in cache.find_clips(folder)]
    n_frames = quantise(load(path), spread(paths, args.most), out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, calibrated on {n_frames} frames")


def _tables(args: argparse.Namespace) -> None:
    from hdac.training.tables import add_tables

    paths = [clip for folder in args.clips for clip in cache.find_clips(folder)]
    n_frames = add_tables(args.weights, paths, args.frames)
    print(f"{args.weights}: tables from {n_frames} frames of {len(paths)} clips")


def _family(args: argparse.Namespace) -> None:
    from hdac.training.family import train_family

    tables = [clip for folder in args.tables for clip in cache.find_clips(folder)]
    left = train_family(
        args.cache, args.out, args.weights, tables, args.processes, args.minutes, args.only, (args.data, args.machine)
    )
    print(f"{args.weights}: still to be trained: {', '.join(left)}" if left else f"{args.weights}: all are trained")


def _turned(args: argparse.Namespace) -> None:
    clips = cache.load(args.cache)
    cache.add_turned(clips, args.cache)
    print(f"{args.cache}: further references of {len(clips)} clips")


def parser() -> argparse.ArgumentParser:
    """Of `hdac train`."""
    from hdac.training.settings import RECIPES, TrainSettings

    parser = argparse.ArgumentParser(prog="hdac train", description="Train the networks of the layered codecs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    preparing = commands.add_parser("prepare", help="code the training clips once, as the codec does")
    preparing.add_argument("clips", type=Path, nargs="+", help="clips of 256x256, or folders of them (python -m data.prepare)")
    preparing.add_argument("--out", type=Path, required=True, help="the cache")
    preparing.add_argument("--jobs", type=int, default=1, help="processes")
    preparing.set_defaults(command=_prepare)

    running = commands.add_parser("run", help="train, or go on with a run that was stopped")
    running.add_argument("cache", type=Path, help="what `prepare` made")
    running.add_argument("--out", type=Path, required=True, help="folder of the run")
    running.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    running.add_argument("--every", type=int, default=1000, help="steps between two validations")
    running.add_argument("--save-minutes", type=float, default=5, help="minutes between two checkpoints")
    running.add_argument("--start-from", type=Path, help="weights to begin with: last.pt of a run, or .safetensors")
    running.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    running.add_argument("--recipe", choices=list(RECIPES), help="settings to begin with, which the options below change")
    for field in fields(TrainSettings):
        default = None if field.default is MISSING else field.default
        option = "--" + field.name.replace("_", "-")
        if isinstance(default, tuple):
            running.add_argument(option, type=float, nargs=len(default), help=f"default {default}")
        elif isinstance(default, bool):
            running.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=f"default {default!r}")
        else:
            running.add_argument(option, type=type(default), help=f"default {default!r}")
    running.set_defaults(command=_run)

    family = commands.add_parser("family", help="all networks of the mobile family, one from another; again: goes on")
    family.add_argument("cache", type=Path, help="what `prepare` made, with landmarks, labels, poses and turned")
    family.add_argument("--out", type=Path, required=True, help="folder of the runs")
    family.add_argument("--weights", type=Path, required=True, help="folder of the weights; what it holds is kept")
    family.add_argument("--tables", type=Path, nargs="+", default=[], metavar="CLIPS", help="of the published motion coders")
    family.add_argument("--only", nargs="+", default=[], metavar="NETWORK", help="these alone")
    family.add_argument("--processes", type=int, default=2, help="of torchrun")
    family.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    family.add_argument("--data", default="", help="for the model cards: what they are trained on")
    family.add_argument("--machine", default="", help="for the model cards: on what")
    family.set_defaults(command=_family)

    for name, use in (
        ("poses", "head poses, for face-vid2vid"),
        ("landmarks", "landmarks, for their student"),
        ("labels", "label maps, for their student"),
    ):
        labelling = commands.add_parser(name, help=f"{use}: of a cache, by a teacher ($HDAC_METRIC_WEIGHTS)")
        labelling.add_argument("cache", type=Path, help="what `prepare` made")
        labelling.set_defaults(command=_labels, name=name)
    turning = commands.add_parser("turned", help="further references, for Frontalizer: of a cache that has poses")
    turning.add_argument("cache", type=Path, help="what `prepare` made")
    turning.set_defaults(command=_turned)

    quantising = commands.add_parser("quantise", help="a network of the mobile family, or a student, in 8-bit integers")
    quantising.add_argument("network", help="its weights")
    quantising.add_argument("clips", type=Path, nargs="+", help="clips to calibrate on, or folders of them")
    quantising.add_argument("--most", type=int, default=16, metavar="N", help="only N of the clips, from all over the list")
    quantising.add_argument("--out", type=Path, help="default: beside the weights, NAME.int8")
    quantising.add_argument("-f", "--force", action="store_true", help="overwrite")
    quantising.set_defaults(command=_quantise)

    tabling = commands.add_parser("tables", help="statistics of the published motion coders, into exported weights")
    tabling.add_argument("weights", type=Path, help="NAME.safetensors, which is written anew")
    tabling.add_argument("clips", type=Path, nargs="+", help="clips to learn from, or folders of them")
    tabling.add_argument("--frames", type=int, metavar="N", help="only the first N of each")
    tabling.set_defaults(command=_tables)

    plotting = commands.add_parser("plot", help="curves of a run")
    plotting.add_argument("run", type=Path, help="folder of the run")
    plotting.add_argument("--out", type=Path, help="svg, png or pdf; default: curves.svg in the run")
    plotting.set_defaults(command=_plot)

    exporting = commands.add_parser("export", help="averaged weights of a run as fp16 safetensors, with a model card")
    exporting.add_argument("run", type=Path, help="folder of the run")
    exporting.add_argument("--out", type=Path, required=True, help="NAME.safetensors")
    exporting.add_argument("--data", default="", help="for the model card: what it was trained on")
    exporting.add_argument("--machine", default="", help="for the model card: on what")
    exporting.add_argument("-f", "--force", action="store_true", help="overwrite")
    exporting.set_defaults(command=_export)
    return parser


if __name__ == "__main__":
    sys.exit(main())
