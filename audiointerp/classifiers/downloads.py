"""Released weights: downloaded once into the cache, checked by their hash, and read without running code."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

logger = logging.getLogger(__name__)

# Checkpoints that a training loop wrote may hold numpy arrays beside the weights, whose names torch refuses. Here each
# name stands for an object that ignores what it is given, so that no code of numpy is called.
IGNORED = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
)

__all__ = ["fetch", "read_weights"]


def fetch(name: str, released: Mapping[str, tuple[str, str | None]], address: str) -> Path:
    """The file of a released model, downloaded if the cache does not have it.

    Args:
        name: of the model.
        released: name -> (file, its SHA-256 or None if it is not known).
        address: URL of the folder of the files.

    Raises:
        ValueError: for an unknown name, a file that cannot be downloaded, or a file with another SHA-256.
    """
    if name not in released:
        from audiointerp.recipe.signatures import nearest

        known = f"known are {', '.join(released)}, or give a file (.pt, .safetensors)"
        raise ValueError(f"{name!r} is no released model{nearest(name, released)}; {known}")
    file, digest = released[name]
    path = _folder() / file
    if not path.is_file():
        _download(f"{address}/{file}", path, digest)
    found, noted = _sha256(path), path.with_name(f"{path.name}.sha256")
    if digest is None and not noted.is_file():
        # The hash of the first download is stored, so that later changes of the file are detected.
        logger.info("%s: SHA-256 %s, stored next to the file; compare it with the source's", path, found)
        noted.write_text(found + "\n")
    expected = digest or noted.read_text().strip()
    if found != expected:
        raise ValueError(
            f"{path}: SHA-256 is {found}, expected {expected}; delete the file, it is not the released one"
        )
    return path


def _folder() -> Path:
    root = os.environ.get("AUDIOINTERP_CACHE") or Path.home() / ".cache" / "audiointerp"
    return Path(root) / "models"


def _download(url: str, path: Path, digest: str | None) -> None:
    import pooch

    try:
        pooch.retrieve(url, known_hash=digest, fname=path.name, path=path.parent)
    except Exception as error:  # requests, urllib3 and pooch raise their own classes of errors
        reason = " ".join(str(error).split())
        reason = reason if len(reason) < 100 else f"{reason[:97]}..."
        raise ValueError(
            f"{url} cannot be downloaded ({reason}); without a network, fetch it elsewhere and put it at {path}, or "
            "name a file in place of the released name, such as efficientat:FILE"
        ) from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Ignored:
    """Stands for a numpy object of a file that is read for its weights."""

    def __init__(self, *values: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a .pt or .safetensors file; no code in the file is executed, and numpy objects are left out.

    Raises:
        ValueError: if there is no such file, or it does not hold a state dict.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the weights' file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        allowed: list = [(_Ignored, name) for name in IGNORED]
        with warnings.catch_warnings(), torch.serialization.safe_globals([_Ignored, *allowed]):
            warnings.simplefilter("ignore")  # torch warns of pickle protocols; the file is checked below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise ValueError(f"{path}: holds no weights that can be read without running code ({reason})") from None
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ValueError(f"{path}: holds no state dict, names with tensors")
    return found
