"""What teachers say of the faces in cached clips: labels that training needs, and nothing else does.

    poses.npy       float32 (n, 3)       yaw, pitch, roll in degrees: two FSA-Nets (Yang et al., "FSA-Net: learning fine-grained
                                         structure aggregation for head pose estimation from a single image", CVPR 2019),
                                         averaged. face-vid2vid learns them (Eq. 5, L_H)
    landmarks.npy   float32 (n, 68, 2)   landmarks in [-1, 1] of the picture, by PFLD. The landmark student learns them
                                         (`hdac.nets.landmarks`), and codecs driven by landmarks are trained with them

NaN where there is no face. The networks and YuNet are those of `data.pretrained`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from data import pretrained
from data.faces import Pfld, YuNet, onnx_session
from hdac.landmarks import COUNT
from hdac.nets.picture import pack, to_rgb
from hdac.training.cache import HEIGHT, WIDTH, CachedClip

CROP, SIDE = 1.2, 64  # side of the crop in those of the face box; of FSA-Net's picture


class Teacher(Protocol):
    """Says something of the best face in a picture."""

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of a picture (H, W, 3); NaN where there is no face."""


class Poses:
    """Head poses. Raises WeightsUnavailable where its networks are not here."""

    def __init__(self) -> None:
        self.detector = YuNet(pretrained.find("yunet"))
        self.sessions = [onnx_session(pretrained.find(name)) for name in ("fsanet_1x1", "fsanet_var")]

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Yaw, pitch, roll in degrees of the best face in a picture (H, W, 3); NaN where there is none."""
        faces = self.detector.faces(rgb)
        if not faces:
            return np.full(3, np.nan, np.float32)
        x, y, width, height = faces[0].box.astype(float)
        scale = SIDE / (CROP * max(width, height))
        centre = np.array([x + width / 2, y + height / 2])
        to_crop = np.column_stack((scale * np.eye(2), (SIDE - 1) / 2 - scale * centre))
        crop = cv2.warpAffine(rgb, to_crop, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        value = (crop[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 128.0
        found = [session.run(None, {session.get_inputs()[0].name: value})[0].ravel() for session in self.sessions]
        return np.mean(found, axis=0).astype(np.float32)


class Landmarks:
    """Raises WeightsUnavailable where its networks are not here."""

    def __init__(self) -> None:
        self.detector = YuNet(pretrained.find("yunet"))
        self.points = Pfld(pretrained.find("pfld_68"))

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(68, 2)."""
        faces = self.detector.faces(rgb)
        if not faces:
            return np.full((COUNT, 2), np.nan, np.float32)
        height, width, _ = rgb.shape
        found = self.points(rgb, self.points.where(faces[0]))
        return (found * 2 / np.array([width - 1, height - 1]) - 1).astype(np.float32)


TEACHERS: dict[str, type[Teacher]] = {"poses": Poses, "landmarks": Landmarks}
"""By the name of what they say."""


def add_labels(name: str, clips: list[CachedClip], folder: Path) -> None:
    """Writes NAME.npy for the clips of a cache that have none yet; shows progress. Raises WeightsUnavailable."""
    todo = [clip for clip in clips if not (folder / clip.name / f"{name}.npy").exists()]
    if not todo:
        return
    teacher = TEACHERS[name]()
    for clip in tqdm(todo, desc=name, unit="clip"):
        labels = np.stack([teacher(picture) for picture in _pictures(clip)])
        part = folder / clip.name / f".{name}.npy"
        np.save(part, labels)
        part.rename(folder / clip.name / f"{name}.npy")


def _pictures(clip: CachedClip) -> Iterator[NDArray[np.uint8]]:
    for frame in clip.source:
        rgb = to_rgb(pack(torch.from_numpy(np.array(frame))[None], HEIGHT, WIDTH))[0]
        yield (rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
