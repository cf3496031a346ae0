"""Motion that the decoder finds by itself: optical flow from the decoded base layer to the reference picture, zero bits.

Keypoints say where a head has gone; the base layer, coarse as it is, says it pixel by pixel. The flow (OpenCV's DIS: Kroeger
et al., "Fast optical flow using dense inverse search", ECCV 2016) is one more candidate of dense motion, beside those of the
keypoints, and the network decides where to trust it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.clip import Plane

SMOOTHING = 1.0  # chosen: sigma of a Gaussian over both pictures, against the block edges of the base layer
FINEST_SCALE = 1  # chosen: found at half size, which is the size of packed pictures
MIN_SIDE = 64  # of a picture that has a flow: smaller ones leave DIS no pyramid

_threads = threading.Lock()  # OpenCV's number of them belongs to the whole process


def optical_flow(base: Plane, reference: Plane) -> NDArray[np.float32]:
    """Where each 2x2 samples of the base layer lie in the reference.

    base, reference: luma, uint8 (H, W), H and W even.
    Returns (H/2, W/2, 2): offsets (x, y) in units of half the picture's width and height less one packed pixel, as
    sampling grids have it. Zero for pictures under MIN_SIDE.
    """
    height, width = base.shape
    flow = np.zeros((height // 2, width // 2, 2), np.float32)
    if min(height, width) < MIN_SIDE:
        return flow
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # its stubs know no calc without a first guess
    search.setFinestScale(FINEST_SCALE)
    search.setPatchStride(4)
    search.setGradientDescentIterations(16)
    search.setVariationalRefinementIterations(0)  # twice the time for a tenth of a decibel of the warped picture, or less
    smooth = [cv2.GaussianBlur(np.ascontiguousarray(plane), (0, 0), SMOOTHING) for plane in (base, reference)]
    with _one_thread():  # it divides its work among threads in a way that the result depends on
        found = search.calc(smooth[0], smooth[1], None)
    four = found.reshape(height // 2, 2, width // 2, 2, 2)  # of each packed pixel
    mean = (four[:, 0, :, 0] + four[:, 0, :, 1] + four[:, 1, :, 0] + four[:, 1, :, 1]) / 4
    halved = mean / 2  # in packed pixels
    flow[...] = halved * 2 / (width // 2 - 1, height // 2 - 1)
    return flow


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    if threads == 1:
        yield
        return
    with _threads:
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(threads)
