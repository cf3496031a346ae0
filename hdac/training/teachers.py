"""What teachers say of the faces in cached clips: labels that training needs, and nothing else does.

    poses.npy       float32 (n, 3)       yaw, pitch, roll in degrees: two FSA-Nets (Yang et al., "FSA-Net: learning fine-grained
                                         structure aggregation for head pose estimation from a single image", CVPR 2019),
                                         averaged. face-vid2vid learns them (Eq. 5, L_H)
    landmarks.npy   float32 (n, 68, 2)   landmarks in [-1, 1] of the picture, by PFLD. The landmark student learns them
                                         (`hdac.nets.landmarks`), and codecs driven by landmarks are trained with them

    labels.npy      uint8 (n, 64, 64)    label maps of `hdac.label_maps.CLASSES`, by a small U-Net trained for face parsing (19
                                         classes of its own, five of them seldom seen): weak, as teachers go

NaN where there is no face, but for label maps. The networks and YuNet are those of `data.pretrained`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from data import pretrained
from data.faces import Pfld, YuNet, onnx_session
from hdac.label_maps import N_LABELS
from hdac.landmarks import COUNT
from hdac.nets.picture import pack, to_rgb
from hdac.nets.segmentation import SIDE as SEGMENTATION_SIDE
from hdac.training.cache import HEIGHT, WIDTH, CachedClip

CROP, SIDE = 1.2, 64  # side of the crop in those of the face box; of FSA-Net's picture


class Teacher(Protocol):
    """Says something of the best face in a picture."""

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
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


class Labels:
    """Raises WeightsUnavailable where its network is not here."""

    SIDE = 256
    CLASSES = (0, 5, 9, 1, 12, 10, 4, 14, 13, 14, 7, 8, 14, 2, 6, 14, 3, 11, 14)
    """Ours (`hdac.label_maps.CLASSES`) of each of its own."""

    def __init__(self) -> None:
        self.net = _FaceParser()
        self.net.load_state_dict(pretrained.load(pretrained.find("face_parse19")))
        self.net.eval().requires_grad_(False)
        self.table = torch.tensor(self.CLASSES)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 (64, 64): the class that most of the samples there have."""
        picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
        picture = F.interpolate(picture, size=(self.SIDE, self.SIDE), mode="bilinear", antialias=True, align_corners=False)
        found = F.one_hot(self.table[self.net(picture).argmax(1)], N_LABELS).permute(0, 3, 1, 2).float()
        return F.adaptive_avg_pool2d(found, SEGMENTATION_SIDE)[0].argmax(0).numpy().astype(np.uint8)


class _FaceParser(nn.Module):
    """The U-Net of `face_parse19`."""

    def __init__(self) -> None:
        super().__init__()

        def block(n_in: int, n_out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.Conv2d(n_out, n_out, 3, padding=1), nn.ReLU()
            )

        self.enc1, self.enc2, self.bottleneck = block(3, 32), block(32, 64), block(64, 128)
        self.up1, self.dec1 = nn.ConvTranspose2d(128, 64, 2, 2), block(128, 64)
        self.up2, self.dec2 = nn.ConvTranspose2d(64, 32, 2, 2), block(64, 32)
        self.out = nn.Conv2d(32, 19, 1)

    def forward(self, picture: Tensor) -> Tensor:
        first = self.enc1(picture)
        second = self.enc2(F.max_pool2d(first, 2))
        x = self.bottleneck(F.max_pool2d(second, 2))
        x = self.dec1(torch.cat((self.up1(x), second), dim=1))
        scores: Tensor = self.out(self.dec2(torch.cat((self.up2(x), first), dim=1)))
        return scores


TEACHERS: dict[str, type[Teacher]] = {"poses": Poses, "landmarks": Landmarks, "labels": Labels}
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
