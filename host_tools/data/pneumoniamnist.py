"""PneumoniaMNIST: chest X-rays of children, 28 x 28, normal or pneumonia, in the three parts that were published.

Source: Yang et al., "MedMNIST v2", Scientific Data 10:41, 2023; Kermany et al., Cell 172:1122-1131, 2018.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Float32Array

FOLDER, FILE = "pneumoniamnist", "pneumoniamnist_rebuilt.npz"
SIDE = 28
PARTS = ("train", "val", "test")

Part = tuple[Float32Array, np.ndarray, np.ndarray]


def read_parts(root: Path | None) -> dict[str, Part]:
    """By part: images float32 (n, 1, 28, 28) in [0, 1], labels int64 (n,), and a name per distinct image (n,).

    Images that also lie in an earlier part are left out of the later one, so that none is learnt and tested.
    Raises SettingsError without a data root, SourceError naming a file that is missing or damaged.
    """
    if root is None:
        raise SettingsError(f"no data root; VITALEDGE_DATA must name the folder that holds {FOLDER}/")
    path = root / FOLDER / FILE
    found: dict[str, Part] = {}
    seen: set[str] = set()
    try:
        with np.load(path, allow_pickle=False) as stored:
            for part in PARTS:
                images, labels = stored[f"{part}_images"], stored[f"{part}_labels"].reshape(-1).astype(np.int64)
                if images.shape != (len(labels), SIDE, SIDE) or images.dtype != np.uint8:
                    raise SourceError(
                        f"{path}: {part}_images is {images.dtype} {images.shape}; uint8 (n, 28, 28) wanted"
                    )
                names = np.array([hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in images])
                fresh = np.array([name not in seen for name in names])
                seen |= set(names)
                x = (images[fresh].astype(np.float32) / np.float32(255.0))[:, None]
                found[part] = (x, labels[fresh], names[fresh])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: cannot be read ({error}); {', '.join(PARTS)} images and labels wanted") from error
    return found
