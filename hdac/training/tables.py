"""Statistics of published motion coders, learnt from clips and put into the weights: the tables of face-vid2vid (Wang et al.,
CVPR 2021, C.1), the Huffman code and the prior of the mobile family (Oquab et al., 2021 and 2022)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from data.errors import InputError
from data.io import read_clip
from hdac.codecs import face_box
from hdac.codecs.face_animator import FaceAnimator
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.point_animator import animator_of
from hdac.nets.animation import AnimationNet, PointNet
from hdac.nets.synthesis import SynthesisNet
from hdac.nets.vid2vid import Vid2VidNet
from hdac.network import Network, load, of_kind, save
from hdac.parameters import ParameterSettings, learn_tables, steadied
from hdac.points import PointSettings, Values
from hdac.published_coders import learn_lengths, learn_prior

REFERENCE_QP = 32
"""Chosen: what networks are told of pictures that were not coded."""


def motions(network: Network[Vid2VidNet], path: Path, frames: int | None = None) -> NDArray[np.float32]:
    """What an encoder finds in the frames of a clip whose first one is the reference: (T, 2 + K, 3)."""
    clip = read_clip(path, frames=frames)
    animator = FaceAnimator(network, reference_qp=REFERENCE_QP, best_look=True, box=face_box.find(clip))
    animator.refer_to((clip.y[0], clip.u[0], clip.v[0]))
    return np.stack([animator.motion((clip.y[t], clip.u[t], clip.v[t])).table for t in range(clip.n_frames)])


def values(network: Network[PointNet], path: Path, frames: int | None = None) -> list[Values]:
    """Likewise of the mobile family."""
    clip = read_clip(path, frames=frames)
    animator = animator_of(network, clip, REFERENCE_QP)
    at_rest = animator.refer_to((clip.y[0], clip.u[0], clip.v[0]))
    animator.rest_at(at_rest)
    return [at_rest, *(animator.values((clip.y[t], clip.u[t], clip.v[t])) for t in range(1, clip.n_frames))]


def add_tables(weights: Path, clips: list[Path], frames: int | None = None) -> int:
    """Learns them from clips, nobody of which should be measured on, and writes them into the weights; returns the number of
    frames. Raises InputError for weights of networks that have none."""
    network = load(weights)
    net: Vid2VidNet | AnimationNet | SynthesisNet
    if isinstance(network.net, Vid2VidNet):
        net = network.net
        n_frames = _learn_parameters(of_kind(network, Vid2VidNet), clips, frames)
    elif isinstance(network.net, (AnimationNet, SynthesisNet)) and not network.net.settings.map_side:
        net = network.net
        n_frames = _learn_points(of_kind(network, PointNet), clips, frames)
    else:
        raise InputError(f"the weights {network.name} are of a {type(network.net).__name__}, which has no statistics of coders")
    card = weights.with_suffix(".json")
    said = json.loads(card.read_text()) if card.exists() else {}
    save(net, weights, {**said, "tables": f"{n_frames} frames of {len(clips)} clips"})
    return n_frames


def _learn_parameters(network: Network[Vid2VidNet], clips: list[Path], frames: int | None) -> int:
    found = [motions(network, path, frames) for path in tqdm(clips, desc="motion", unit="clip")]
    settings = ParameterSettings(network.net.settings.n_keypoints, FaceVid2Vid.step)
    coded = [steadied(sequence, settings).astype(np.float32) / settings.step for sequence in found]
    network.net.tables.copy_(torch.from_numpy(learn_tables(coded)))
    return sum(map(len, found))


def _learn_points(network: Network[PointNet], clips: list[Path], frames: int | None) -> int:
    s = network.net.settings
    settings = PointSettings(s.n_learned, len(s.landmarks_sent), s.jacobians, s.n_expression)
    found = [values(network, path, frames) for path in tqdm(clips, desc="points", unit="clip")]
    if not s.jacobians:  # which the Huffman coder does not know
        network.net.huffman.copy_(torch.from_numpy(learn_lengths(displacements(one, settings) for one in found)))
    kinds = settings.published.kinds
    symbols = (np.stack([settings.published.quantise(*one.as_published) for one in clip]) for clip in found)
    network.net.prior.copy_(torch.from_numpy(learn_prior(symbols, kinds)))
    return sum(map(len, found))


def displacements(clip: list[Values], settings: PointSettings) -> NDArray[np.int32]:
    """Of all coordinates, from frame to frame, as either coder of tables is given them: (T - 1, K, 2)."""
    last = settings.quantise(clip[0])
    rows = [np.concatenate(last)]
    for one in clip[1:]:
        last = settings.steady(one, last)
        rows.append(np.concatenate(last))
    return np.diff(np.stack(rows), axis=0)

