"""Curves of a training run: `hdac train plot RUN` draws its log.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from data.errors import InputError

PANEL_INCHES = (4.5, 3.2)


def read_log(run: Path) -> pd.DataFrame:
    """The table of a run, a row a validation. Raises InputError where there is none."""
    path = run / "log.csv"
    if not path.exists():
        raise InputError(f"{run} holds no log.csv: a run writes it with its first validation")
    return pd.read_csv(path)


def curves(log: pd.DataFrame) -> Figure:
    """Against the step: PSNR-Y of people held out, their perceptual distance where one was measured, and every term of the
    loss, means since the row before, as they are before they are weighted."""
    psnr = [name for name in log.columns if name.endswith("_psnr_y")]
    distances = [f"{name.removesuffix('_psnr_y')}_" for name in psnr]
    perceptual = [n for n in log.columns if n not in psnr and "_gain_" not in n and n.startswith(tuple(distances))]
    terms = [name for name in log.columns if name.startswith("train_")]
    panels = [("PSNR-Y, people held out (dB)", psnr), ("Perceptual distance, people held out", perceptual)]
    panels = [(label, names) for label, names in [*panels, ("Terms of the loss", terms)] if names]
    figure = Figure(figsize=(PANEL_INCHES[0] * len(panels), PANEL_INCHES[1]), layout="constrained")
    for axis, (label, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            there = log[name].notna()
            axis.plot(log["step"][there], log[name][there], marker=".", label=name)
        axis.set_xlabel("Step")
        axis.set_ylabel(label)
        axis.legend(fontsize="x-small")
        axis.grid(alpha=0.3)
        if names is terms:  # from -50 (PSNR in dB, negative) to small fractions
            axis.set_yscale("symlog", linthresh=0.1)
    return figure
