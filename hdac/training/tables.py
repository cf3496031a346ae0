"""Tables of the paper's coder of face-vid2vid's motion, learnt from clips and put into the weights (Wang et al., CVPR 2021,
C.1)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from data.io import read_clip
from hdac.codecs import face_box
from hdac.codecs.face_animator import FaceAnimator
from hdac.nets.vid2vid import Vid2VidNet
from hdac.network import Network, load, of_kind, save
from hdac.parameters import ParameterSettings, learn_tables, steadied


def motions(network: Network[Vid2VidNet], path: Path, frames: int | None = None) -> NDArray[np.float32]:
    """What an encoder finds in the frames of a clip whose first one is the reference: (T, 2 + K, 3)."""
    clip = read_clip(path, frames=frames)
    animator = FaceAnimator(network, reference_qp=32, best_look=True, box=face_box.find(clip))
    animator.refer_to((clip.y[0], clip.u[0], clip.v[0]))
    return np.stack([animator.motion((clip.y[t], clip.u[t], clip.v[t])).table for t in range(clip.n_frames)])


def add_tables(weights: Path, clips: list[Path], frames: int | None = None) -> int:
    """Learns the tables from clips, nobody of which should be measured on, and writes them into the weights; returns the
    number of frames. Raises InputError for weights of other networks."""
    network = of_kind(load(weights), Vid2VidNet)
    found = [motions(network, path, frames) for path in tqdm(clips, desc="motion", unit="clip")]
    settings = ParameterSettings(network.net.settings.n_keypoints)
    coded = [steadied(sequence, settings).astype(np.float32) / settings.step for sequence in found]
    network.net.tables.copy_(torch.from_numpy(learn_tables(coded)))
    card = weights.with_suffix(".json")
    said = json.loads(card.read_text()) if card.exists() else {}
    n_frames = sum(map(len, found))
    save(network.net, weights, {**said, "tables": f"{n_frames} frames of {len(clips)} clips"})
    return n_frames
