"""Components of a dictionary as sounds, each from the clip of a dataset in which it has the most energy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.datasets import ClipDataset
from audiointerp.sound import files as audio
from audiointerp.sound.components import component_waveforms
from audiointerp.sound.spectrogram import STFT

Activations = Callable[[Tensor], Tensor]

__all__ = ["write_components"]


@torch.no_grad()
def write_components(
    dictionary: Tensor, activations: Activations, clips: ClipDataset, stft: STFT, folder: Path, wanted: Iterable[int]
) -> dict[int, Path]:
    """Writes component_<k>.wav, at peak 1, from the clip in which component k has the most energy.

    Args:
        dictionary: (freq, components).
        activations: waveform (1, samples) -> (components, time).
        clips: the clips to search.
        stft: the STFT with which the dictionary was learnt.
        folder: the folder to write to.
        wanted: numbers of the components.

    Returns:
        Component -> its file; components that are active in no clip are left out.
    """
    device, wanted = dictionary.device, set(wanted)

    def waveform(i: int) -> Tensor:
        return clips.batch([i]).waveform.to(device)

    strength = torch.stack([activations(waveform(i)).square().sum(1).cpu() for i in range(len(clips))])
    files = {}
    for i in sorted({int(strength[:, k].argmax()) for k in wanted if strength[:, k].any()}):
        spectrum = stft(waveform(i))[0]
        sounds = component_waveforms(dictionary, activations(waveform(i)), spectrum, stft, clips.samples)
        for k in sorted(k for k in wanted if strength[:, k].any() and int(strength[:, k].argmax()) == i):
            files[k] = folder / f"component_{k:03d}.wav"
            audio.write(files[k], audio.normalize_peak(sounds[k].cpu())[0], clips.sample_rate)
    return files
