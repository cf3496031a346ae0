"""Finding faces in pictures: YuNet through onnxruntime, or the Haar cascade that comes with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from data.clip import Plane

MIN_SCORE = 0.6  # of YuNet's detections, and the overlap above which two are one: OpenCV's FaceDetectorYN examples
MAX_OVERLAP = 0.3


Points = NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of its picture."""

    box: NDArray[np.float32]
    """(4,): x, y of the top left corner, width, height."""
    points: NDArray[np.float32]
    """(5, 2): both eyes from the picture's left, nose, both mouth corners from the picture's left."""


def onnx_session(weights: Path | bytes) -> onnxruntime.InferenceSession:
    """A network from its ONNX file, or that file's bytes, on one thread of the CPU: processes are the parallelism here. Errors
    only are logged."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        weights if isinstance(weights, bytes) else str(weights), options, providers=["CPUExecutionProvider"]
    )


@dataclass(frozen=True)
class Region:
    """A square of a picture, turned by `angle`."""

    centre: tuple[float, float]
    """x, y in pixels."""
    side: float
    """Pixels."""
    angle: float = 0.0
    """Radians, from the x axis towards y (clockwise as displayed): the slope that becomes level."""

    def to_crop(self, size: int) -> Points:
        """Affine map (2, 3) from picture to crop pixels; the crop is size x size."""
        scale = size / self.side
        c, s = scale * np.cos(self.angle), scale * np.sin(self.angle)
        x, y = self.centre
        return np.array([(c, s, size / 2 - c * x - s * y), (-s, c, size / 2 + s * x - c * y)], dtype=np.float32)

    def cut(self, rgb: Plane, size: int) -> Plane:
        """The region as uint8 (size, size, 3), its border continued where it leaves the picture."""
        crop = cv2.warpAffine(rgb, self.to_crop(size), (size, size), borderMode=cv2.BORDER_REPLICATE)
        return crop.astype(np.uint8, copy=False)  # uint8 already: cv2's annotations do not say so

    def to_picture(self, points: Points, size: int) -> Points:
        """Points (N, 2) in crop pixels, back in picture pixels."""
        m = self.to_crop(size)
        return ((points - m[:, 2]) @ np.linalg.inv(m[:, :2]).T).astype(np.float32)


def around(face: Face, factor: float) -> Region:
    """The upright square around a face's box, `factor` times its longer side."""
    x, y, width, height = (float(value) for value in face.box)
    return Region((x + width / 2, y + height / 2), factor * max(width, height))


def run_onnx(session: onnxruntime.InferenceSession, value: Points) -> list[Points]:
    """All outputs for a network's one input. Denormal numbers count as zero meanwhile: four tenths of PFLD's weights are
    denormal, which made it 25 times as slow and its points not a bit different."""
    import torch  # takes a second, and who only wants `Region` needs none

    torch.set_flush_denormal(True)  # the session's own option for this does nothing for the thread that calls it
    try:
        return session.run(None, {session.get_inputs()[0].name: value})
    finally:
        torch.set_flush_denormal(False)


class FaceFinder(Protocol):
    name: str

    def boxes(self, rgb: Plane) -> NDArray[np.float32]:
        """The faces of a picture uint8 (H, W, 3), R'G'B': x, y, width, height in pixels, (N, 4)."""


class YuNet:
    """YuNet (Wu et al. 2023), decoded as OpenCV's FaceDetectorYN does; that class cannot read the dynamic-size file."""

    name = "yunet"
    STRIDES = (8, 16, 32)

    def __init__(self, weights: Path) -> None:
        self.session = onnx_session(weights)

    def boxes(self, rgb: Plane) -> NDArray[np.float32]:
        return np.array([face.box for face in self.faces(rgb)], np.float32).reshape(-1, 4)

    def faces(self, rgb: Plane) -> list[Face]:
        """The faces of a picture uint8 (H, W, 3), R'G'B', best first."""
        height, width, _ = rgb.shape
        padded = np.pad(rgb, ((0, -height % 32), (0, -width % 32), (0, 0)))
        bgr = padded[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
        wanted = [f"{kind}_{stride}" for stride in self.STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        outputs = self.session.run(wanted, {self.session.get_inputs()[0].name: bgr[None]})
        scores, boxes, points = [], [], []
        for k, stride in enumerate(self.STRIDES):
            classified, objectness, box, keypoints = (out[0] for out in outputs[4 * k : 4 * k + 4])
            columns = bgr.shape[2] // stride
            cells = np.stack((np.arange(len(box)) % columns, np.arange(len(box)) // columns), 1)
            size = np.exp(box[:, 2:]) * stride
            scores.append(np.sqrt(np.clip(classified, 0, 1) * np.clip(objectness, 0, 1)).ravel())
            boxes.append(np.concatenate(((cells + box[:, :2]) * stride - size / 2, size), 1))
            points.append((keypoints.reshape(-1, 5, 2) + cells[:, None]) * stride)
        score, box, five = np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)
        kept = cv2.dnn.NMSBoxes(box.tolist(), score.tolist(), MIN_SCORE, MAX_OVERLAP)
        return [Face(box[i].astype(np.float32), five[i].astype(np.float32)) for i in kept]


class HaarCascade:
    """The Viola-Jones detector of OpenCV; frontal faces only, needs no weights."""

    name = "haar"
    MIN_SHARE = 0.08  # smallest face looked for, as a part of the picture's smaller side

    def __init__(self) -> None:
        opencv: Any = cv2  # its stubs leave the data package out
        file = Path(opencv.data.haarcascades, "haarcascade_frontalface_default.xml")
        self.cascade = cv2.CascadeClassifier(str(file))

    def boxes(self, rgb: Plane) -> NDArray[np.float32]:
        gray = cv2.equalizeHist(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        least = max(24, int(self.MIN_SHARE * min(gray.shape)))
        boxes = self.cascade.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=5, minSize=(least, least))
        return np.array(boxes, np.float32).reshape(-1, 4)


class Pfld:
    """PFLD (Guo et al., "PFLD: a practical facial landmark detector", 2019): 68 points in the order of 300W."""

    def __init__(self, weights: Path) -> None:
        self.session = onnx_session(weights)

    def where(self, face: Face) -> Region:
        """What it wants to see of a picture with this face."""
        return around(face, 1.1)

    def __call__(self, rgb: Plane, where: Region) -> Points:
        """(68, 2), (x, y) in pixels of the picture uint8 (H, W, 3), R'G'B'."""
        crop = where.cut(rgb, 112).transpose(2, 0, 1)[None].astype(np.float32) / 255.0
        return where.to_picture(run_onnx(self.session, crop)[0].reshape(68, 2) * 112, 112)
