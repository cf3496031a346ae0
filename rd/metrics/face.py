"""Face metrics: identity, landmarks, head pose and expression.

    column    network                        score of a frame
    csim      MobileFaceNet, 128-d           cosine of the two identity embeddings
    akd       PFLD, 68 points (300W order)   mean distance of the points, in pixels
    nme       the same points                that distance over the source's outer eye corners' (points 36 and 45)
    nme_mesh  face mesh, 468 points          likewise (points 33 and 263)
    pose_deg  two FSA-Nets, averaged         mean absolute error of yaw, pitch and roll, in degrees
    expr      face mesh, iris, blendshapes   mean absolute error of 52 ARKit expression coefficients

Two of the judges were teachers: the landmark student of the mobile family learned from PFLD, whose points also say where mouth
and eyes are in its loss, and face-vid2vid's head pose from FSA-Net. MobileFaceNet and the mesh taught nobody: where landmarks
decide between such codecs, `nme_mesh` is the one to believe.

Every `FACE_STRIDE`-th frame is scored, from frame 0 on; the others are NaN, and so are frames in which the source
shows no face. Where the source shows several, the largest counts. Both pictures are cut at the *source's* face box
(and mesh region), so that the detector's jitter does not count and equal pictures score exactly 0. Identity is
different: the decoded face is aligned by its own five points, or by the source's where the detector finds no face near
them any more.

What was measured on the source is kept for the last few clips, because every codec is compared with the same source; and CSIM
of the last decoded clip, of which `rd.metrics.animation` makes AED.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from data import pretrained
from data.clip import Clip
from data.errors import WeightsUnavailable
from data.faces import Face, Pfld, Region, YuNet, around, onnx_session, run_onnx
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

Picture = NDArray[np.uint8]
Array = NDArray[np.float32]

COLUMNS = ("csim", "nme", "nme_mesh", "akd", "pose_deg", "expr")
FACE_STRIDE = 5  # chosen: 40 frames of a 200-frame clip; shares no factor with the usual GOP structures
REMEMBERED_CLIPS = 4

# The five points of an aligned 112x112 face, in the detector's order (InsightFace).
ALIGNED_POINTS = np.array(
    [(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)], dtype=np.float32
)
OUTER_EYE_CORNERS = (36, 45)  # of the 68 points
MESH_EYE_CORNERS = ((33, 133), (362, 263))  # of the 468 points: the eye on the picture's left, then the other
MESH_LEVEL = (33, 263)  # its outer eye corners: the line that is turned level

# Of the 478 = 468 mesh + 5 iris + 5 iris points, those that MediaPipe's blendshape graph picks.
BLENDSHAPE_POINTS = np.array(
    """0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103
    105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173
    176 178 181 185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300
    308 310 311 312 314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382
    384 385 386 387 388 389 390 397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477""".split(),
    dtype=np.int64,
)


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """The face columns asked for; one whose weights are missing comes back as its MetricUnavailable, and so do all of
    them for a clip in which no face is found."""
    check_same_shape(source, decoded)
    results: dict[str, Score | MetricUnavailable] = {}
    networks: dict[str, Network] = {}
    for column in [column for column in COLUMNS if column in columns]:
        try:
            networks[column] = _build(column)
        except WeightsUnavailable as reason:
            results[column] = MetricUnavailable(str(reason))
    pair = (networks.get("csim"), source.sha256(), decoded.sha256())
    if pair in _last_csim:
        results["csim"] = _last_csim[pair]
        del networks["csim"]
    if not networks:
        return results
    detector = _detector(pretrained.find("yunet"))
    seen = _remembered(source.sha256(), detector)
    frames = {column: np.full(source.n_frames, np.nan) for column in networks}
    for i in range(0, source.n_frames, FACE_STRIDE):
        _see(source, i, detector, set(networks.values()), seen)
        if seen.faces[i] is None:
            continue
        rgb = decoded.rgb(slice(i, i + 1))[0]
        values = {}
        for network in set(networks.values()):
            where, _ = seen.features[network, i]
            values[network] = network(rgb, network.follow(rgb, where))
        for column, network in networks.items():
            frames[column][i] = _score(column, seen.features[network, i][1], values[network])
    for column, scores in frames.items():
        if np.all(np.isnan(scores)):
            results[column] = MetricUnavailable(f"no face found in {len(scores[::FACE_STRIDE])} frames of the source")
        else:
            results[column] = Score.mean(scores)
    if "csim" in networks:
        _last_csim.clear()
        _last_csim[pair] = results["csim"]
    return results


def _score(column: str, source: Array, decoded: Array) -> float:
    """The score of one frame, from what the column's network says of the two pictures."""
    if column == "csim":
        return min(float(source @ decoded), 1.0)  # rounding may take it past 1
    if column in ("akd", "nme", "nme_mesh"):
        distance_px = float(np.linalg.norm(source - decoded, axis=1).mean())
        left, right = MESH_LEVEL if column == "nme_mesh" else OUTER_EYE_CORNERS
        return distance_px if column == "akd" else distance_px / float(np.linalg.norm(source[left] - source[right]))
    return float(np.abs(source - decoded).mean())


_last_csim: dict[tuple[Network | None, str, str], Score | MetricUnavailable] = {}
"""Of the pair of clips that was measured last, by network and their hashes."""


# -- the source, seen once -------------------------------------------------------------------------------------------


@dataclass
class _Seen:
    """What the networks said of a source clip, by frame."""

    faces: dict[int, Face | None] = field(default_factory=dict)
    """None where the frame shows no face."""
    features: dict[tuple[Network, int], tuple[Any, Array]] = field(default_factory=dict)
    """By network and frame: where it looked, and what it said."""


@lru_cache(maxsize=REMEMBERED_CLIPS)
def _remembered(sha256: str, detector: YuNet) -> _Seen:
    return _Seen()  # filled by `_see`


def _see(source: Clip, frame: int, detector: YuNet, networks: set[Network], seen: _Seen) -> None:
    """Fills in what `seen` lacks about one frame of the source."""
    known = frame in seen.faces
    if known and (seen.faces[frame] is None or all((network, frame) in seen.features for network in networks)):
        return
    rgb = source.rgb(slice(frame, frame + 1))[0]
    if not known:
        faces = detector.faces(rgb)
        seen.faces[frame] = max(faces, key=lambda face: face.box[2] * face.box[3]) if faces else None
    face = seen.faces[frame]
    if face is None:
        return
    for network in networks:
        if (network, frame) not in seen.features:
            where = network.where(rgb, face)
            seen.features[network, frame] = where, network(rgb, where)


# -- networks --------------------------------------------------------------------------------------------------------


Where = TypeVar("Where")


class Network(ABC, Generic[Where]):
    """Says something of the face in a picture: network(rgb, where) -> float32 array."""

    @abstractmethod
    def where(self, rgb: Picture, face: Face) -> Where:
        """Which part of the source to look at."""

    def follow(self, rgb: Picture, where: Where) -> Where:
        """Which part of the decoded picture to look at: the same, unless a network knows better."""
        return where

    @abstractmethod
    def __call__(self, rgb: Picture, where: Where) -> Array:
        """What it says of that part."""


class Identity(Network[Array]):
    """MobileFaceNet: embedding of unit length, (128,), of a face aligned by five points (5, 2)."""

    def __init__(self, path: Path, detector: YuNet) -> None:
        self.session, self.detector = onnx_session(path), detector

    def where(self, rgb: Picture, face: Face) -> Array:
        return face.points

    def follow(self, rgb: Picture, where: Array) -> Array:
        """The five points of the decoded picture's face; the source's where there is none near them any more."""
        eyes_px = float(np.linalg.norm(where[0] - where[1]))
        found = [face.points for face in self.detector.faces(rgb)]
        near = [points for points in found if np.linalg.norm(points - where, axis=1).mean() < eyes_px]
        return min(near, key=lambda points: float(np.linalg.norm(points - where)), default=where)

    def __call__(self, rgb: Picture, where: Array) -> Array:
        aligned = cv2.warpAffine(rgb, similarity(where, ALIGNED_POINTS), (112, 112), borderMode=cv2.BORDER_REPLICATE)
        embedding = run_onnx(self.session, aligned.transpose(2, 0, 1)[None].astype(np.float32))[0].ravel()
        return embedding / np.linalg.norm(embedding)


class Landmarks(Network[Region]):
    """PFLD: 68 points (68, 2) in picture pixels."""

    def __init__(self, path: Path) -> None:
        self.points = Pfld(path)

    def where(self, rgb: Picture, face: Face) -> Region:
        return self.points.where(face)

    def __call__(self, rgb: Picture, where: Region) -> Array:
        return self.points(rgb, where)


class HeadPose(Network[Region]):
    """Two FSA-Nets, averaged: yaw, pitch, roll in degrees, (3,)."""

    def __init__(self, first: Path, second: Path) -> None:
        self.sessions = (onnx_session(first), onnx_session(second))

    def where(self, rgb: Picture, face: Face) -> Region:
        return around(face, 1.2)

    def __call__(self, rgb: Picture, where: Region) -> Array:
        bgr = where.cut(rgb, 64)[:, :, ::-1].transpose(2, 0, 1)[None]
        crop = (bgr.astype(np.float32) - 127.5) / 128.0
        return np.mean([run_onnx(session, crop)[0].ravel() for session in self.sessions], axis=0)


class Mesh(Network[Region]):
    """MediaPipe's face mesh: 468 points (468, 2) in picture pixels."""

    def __init__(self, path: Path) -> None:
        self.mesh_session = onnx_session(path)

    def where(self, rgb: Picture, face: Face) -> Region:
        """The mesh's own square around the face: cut once by the detector's box, and twice by the mesh's extent."""
        (x0, y0), (x1, y1) = face.points[:2]
        box = around(face, 1.5)
        region = Region(box.centre, box.side, float(np.arctan2(y1 - y0, x1 - x0)))
        for _ in range(2):
            region = _extent(self.mesh(rgb, region))
        return region

    def __call__(self, rgb: Picture, where: Region) -> Array:
        return self.mesh(rgb, where)

    def mesh(self, rgb: Picture, region: Region) -> Array:
        """468 points (468, 2) in picture pixels."""
        crop = region.cut(rgb, 192)[None].astype(np.float32) / 255.0
        points = next(out for out in run_onnx(self.mesh_session, crop) if out.size == 468 * 3)
        return region.to_picture(points.reshape(468, 3)[:, :2], 192)


class Expression(Mesh):
    """MediaPipe's face mesh, iris and blendshape networks: 52 expression coefficients in [0, 1], (52,)."""

    def __init__(self, mesh: Path, iris: Path, blendshapes: Path) -> None:
        super().__init__(mesh)
        self.iris_session, self.blendshapes_session = onnx_session(iris), onnx_session(blendshapes)

    def __call__(self, rgb: Picture, where: Region) -> Array:
        mesh = self.mesh(rgb, where)
        irises = [self.iris(rgb, mesh[list(corners)], mirrored=k == 1) for k, corners in enumerate(MESH_EYE_CORNERS)]
        points = np.concatenate((mesh, *irises))[BLENDSHAPE_POINTS]
        return run_onnx(self.blendshapes_session, points[None])[0].ravel()

    def iris(self, rgb: Picture, corners: Array, mirrored: bool) -> Array:
        """Five points (5, 2) in picture pixels; corners: (2, 2), the eye's, from the picture's left.

        The network knows one side only: the other eye is mirrored.
        """
        dx, dy = corners[1] - corners[0]
        middle = corners.mean(0)
        region = Region((float(middle[0]), float(middle[1])), 2.3 * float(np.hypot(dx, dy)), float(np.arctan2(dy, dx)))
        crop = region.cut(rgb, 64)
        crop = crop[:, ::-1] if mirrored else crop
        out = next(out for out in run_onnx(self.iris_session, crop[None].astype(np.float32) / 255.0) if out.size == 5 * 3)
        points = out.reshape(5, 3)[:, :2]
        if mirrored:
            points = np.stack((64 - points[:, 0], points[:, 1]), 1)
        return region.to_picture(points, 64)


# -- geometry --------------------------------------------------------------------------------------------------------


def similarity(points: Array, onto: Array) -> Array:
    """The rotation, scale and shift (2, 3) that takes points (N, 2) onto others with the least squared error."""
    # As complex numbers z -> a z + b: ordinary linear least squares, no reflection possible.
    z = points[:, 0].astype(np.float64) + 1j * points[:, 1]
    w = onto[:, 0].astype(np.float64) + 1j * onto[:, 1]
    a = np.vdot(z - z.mean(), w - w.mean()) / np.vdot(z - z.mean(), z - z.mean())
    b = w.mean() - a * z.mean()
    return np.array([(a.real, -a.imag, b.real), (a.imag, a.real, b.imag)], dtype=np.float32)


def _extent(mesh: Array) -> Region:
    """The square around a mesh, 1.5 times its longer side, turned so that the eyes are level."""
    low, high = mesh.min(0), mesh.max(0)
    dx, dy = mesh[MESH_LEVEL[1]] - mesh[MESH_LEVEL[0]]
    x, y = (low + high) / 2
    return Region((float(x), float(y)), 1.5 * float((high - low).max()), float(np.arctan2(dy, dx)))


# -- loading ---------------------------------------------------------------------------------------------------------


def _build(column: str) -> Network:
    """The network of a column; raises WeightsUnavailable where its weights, or the detector's, are missing."""
    detector = pretrained.find("yunet")
    if column == "csim":
        return _identity(pretrained.find("mobilefacenet"), detector)
    if column in ("akd", "nme"):
        return _landmarks(pretrained.find("pfld_68"))
    if column == "pose_deg":
        return _head_pose(pretrained.find("fsanet_1x1"), pretrained.find("fsanet_var"))
    if column == "nme_mesh":
        return _mesh(pretrained.find("face_mesh"))
    return _expression(pretrained.find("face_mesh"), pretrained.find("iris"), pretrained.find("blendshapes"))


# Cached by path, not by name: another folder of weights is another network.


@lru_cache(maxsize=1)
def _detector(path: Path) -> YuNet:
    return YuNet(path)


@lru_cache(maxsize=1)
def _identity(path: Path, detector: Path) -> Identity:
    return Identity(path, _detector(detector))


@lru_cache(maxsize=1)
def _landmarks(path: Path) -> Landmarks:
    return Landmarks(path)


@lru_cache(maxsize=1)
def _head_pose(first: Path, second: Path) -> HeadPose:
    return HeadPose(first, second)


@lru_cache(maxsize=1)
def _mesh(path: Path) -> Mesh:
    return Mesh(path)


@lru_cache(maxsize=1)
def _expression(mesh: Path, iris: Path, blendshapes: Path) -> Expression:
    return Expression(mesh, iris, blendshapes)
