"""The Audio Spectrogram Transformer of Hugging Face's transformers (extra `hf`) as a classifier to explain.

Gong et al. (2021), https://arxiv.org/abs/2104.01778. transformers computes the model's features in numpy, through
which no gradient reaches the waveform; here they are computed in torch, with the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.external import External, mel_axis
from audiointerp.classifiers.hub import audio_classifier, class_names, several_labels
from audiointerp.sound.mel import kaldi_bank, mel
from audiointerp.sound.spectrogram import STFT

MEAN, STD = -4.2677393, 4.5689974  # of AudioSet's features; other checkpoints have their own
LOWEST = 20.0  # Hz, where Kaldi's filter bank begins
PREFIX = 2  # tokens in front of the patches: class and distillation

__all__ = ["AST", "KaldiFeatures"]


class KaldiFeatures(nn.Module):
    """(log-mel energies - mean) / (2 std) of a sound, as transformers' ASTFeatureExtractor makes them; differentiable.

    Kaldi's filter bank: 25 ms frames every 10 ms from the first sample on, each with its mean removed, pre-emphasised
    by 0.97, under a symmetric Hann window; power spectrum; triangles evenly spaced in mel from 20 Hz to half the rate;
    natural logarithm, of at least float32's epsilon (below it the gradient is 0). No dither. Missing frames are
    zeros *before* normalisation, which the model reads as a steady loud sound, not as silence.

    Args:
        sample_rate: in Hz.
        bands: number of filters.
        max_length: number of frames returned, whatever the sound's length.
        mean, std: of the features that the model was trained with.
    Shape:
        waveform (batch, samples) -> (batch, time, freq): time before frequency, as the model expects.

    >>> KaldiFeatures()(torch.randn(2, 16000)).shape
    torch.Size([2, 1024, 128])
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        bands: int = 128,
        max_length: int = 1024,
        mean: float = MEAN,
        std: float = STD,
    ):
        super().__init__()
        self.win_length, self.hop_length = int(0.025 * sample_rate), int(0.010 * sample_rate)
        self.n_fft = 1 << (self.win_length - 1).bit_length()
        self.max_length, self.mean, self.std = max_length, mean, std
        self.register_buffer("window", torch.hann_window(self.win_length, periodic=False), persistent=False)
        self.register_buffer(
            "bank", kaldi_bank(sample_rate, self.n_fft, bands, LOWEST, sample_rate / 2), persistent=False
        )

    @property
    def max_samples(self) -> int:
        """Length in samples of the longest sound of which no frame is cut off."""
        return self.win_length + self.hop_length * self.max_length - 1

    def frames(self, samples: int) -> int:
        """Number of frames of a sound of `samples` samples, at least 1, at most `max_length`."""
        return min(self.max_length, 1 + max(0, samples - self.win_length) // self.hop_length)

    def forward(self, waveform: Tensor) -> Tensor:
        """Features; a sound shorter than a frame is followed by silence, a longer one than `max_length` is cut."""
        samples = waveform.shape[1]
        # Kaldi returns no frame for a sound shorter than one frame.
        waveform = functional.pad(waveform, (0, max(0, self.win_length - samples)))
        frames = waveform.unfold(1, self.win_length, self.hop_length)[:, : self.max_length]
        frames = frames - frames.mean(2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, self.n_fft)
        energies = (spectrum.real.square() + spectrum.imag.square()) @ self.bank
        logs = energies.clamp(min=torch.finfo(torch.float32).eps).log()
        padded = functional.pad(logs, (0, 0, 0, self.max_length - logs.shape[1]))
        return (padded - self.mean) / (2 * self.std)


class AST(External):
    """An `ASTForAudioClassification` for waveforms of any length: `AST.from_pretrained(name)` or `AST(model)`.

    Sounds longer than the model's 10.24 s are classified in pieces of equal length, and the pieces' logits averaged. A
    feature map is the normalised input of a transformer block at each patch of the mel spectrogram, laid out as (batch,
    channel, freq, time). (Of the last block's output, only the two tokens in front of the patches reach the logits.)
    The usual patches are 12 x 101; those in the padding of a shorter sound are left out.

    Args:
        model: transformers' model.
        labels: class names; None: the model's own, `config.id2label`.
        sample_rate: that the model expects, in Hz.
        multilabel: sigmoid instead of softmax. None: as `config.problem_type` states; if it is missing, True for
            AudioSet's 527 labels.
        mean, std: of the features the model was trained with; AudioSet's by default.
        blocks: transformer blocks whose inputs are the feature maps, earliest first.
        spectrogram: STFT that masks live on; None: as in `External`.
    Raises:
        ValueError: for another kind of model, a block that does not exist, or labels that do not fit the logits.
    """

    module: _Listener

    def __init__(
        self,
        model: nn.Module,
        labels: Sequence[str] | None = None,
        sample_rate: int = 16000,
        multilabel: bool | None = None,
        mean: float = MEAN,
        std: float = STD,
        blocks: Sequence[int] = (-1,),
        spectrogram: STFT | None = None,
    ):
        config = _checked_config(model)
        if multilabel is None:
            multilabel = several_labels(config)
        features = KaldiFeatures(sample_rate, config.num_mel_bins, config.max_length, mean, std)
        listener = _Listener(features, model, config)
        super().__init__(
            listener,
            class_names(config, labels),
            sample_rate,
            multilabel,
            _layers(listener, blocks),
            listener.patches,
            features.max_samples,
            spectrogram,
            listener.frequency_axis(sample_rate),
        )
        self.to(next(model.parameters()).device)

    @classmethod
    def from_pretrained(cls, name: str | Path, **settings: Any) -> AST:
        """The classifier of a checkpoint, with the feature statistics that it was trained with.

        Args:
            name: on the Hugging Face hub, or a folder.
            settings: arguments of `AST` that differ.

        Raises:
            ValueError: without transformers; if there is no such checkpoint, or it is not an AST.
        """
        return cls.with_extractor(*audio_classifier(name), **settings)

    @classmethod
    def with_extractor(cls, model: nn.Module, extractor: Any, **settings: Any) -> AST:
        """The classifier of a model, with the rate and the feature statistics of its feature extractor.

        Args:
            model: transformers' model.
            extractor: its feature extractor.
            settings: arguments of `AST` that differ.

        Raises:
            ValueError: for another kind of model.
        """
        _checked_config(model)
        scaled = {"mean": extractor.mean, "std": extractor.std} if extractor.do_normalize else {"mean": 0.0, "std": 0.5}
        return cls(model, **{"sample_rate": extractor.sampling_rate, **scaled, **settings})

    def place(self, values: Tensor, samples: int) -> Tensor:
        """As `External.place`, with each patch at its own time: a patch's width does not vary with the clip's."""
        pieces = -(-samples // self.module.features.max_samples)
        lengths = [len(each) for each in torch.empty(samples).tensor_split(pieces)]
        starts = torch.tensor([0, *lengths]).cumsum(0)[:-1]
        at = torch.arange(0, samples + 1, self.spectrogram.hop_length)
        piece = torch.bucketize(at, starts, right=True) - 1
        columns = values.shape[2] // pieces
        inside = self.module.column(at - starts[piece]).clamp(0, columns - 1)
        return self._interpolate(values, (piece * columns + inside).to(values.device))


class _Listener(nn.Module):
    """Waveform -> features -> model -> logits, and the layout of the model's tokens."""

    def __init__(self, features: KaldiFeatures, model: nn.Module, config: Any):
        super().__init__()
        self.features, self.model = features, model
        self.patch, self.strides = config.patch_size, (config.frequency_stride, config.time_stride)
        sizes = config.num_mel_bins, config.max_length
        self.grid = tuple((size - self.patch) // stride + 1 for size, stride in zip(sizes, self.strides))
        self.heard = self.grid[1]  # columns of the grid that the latest sound filled

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits."""
        self.heard = self._columns(waveform.shape[1])
        values = self.features(waveform).to(next(self.model.parameters()).dtype)
        return self.model(values).logits.float()

    def patches(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, channel) -> (batch, channel, freq, time), without the padding of the latest sound.

        The model flattens its patches with frequency as the outer axis: successive tokens are neighbours in time.
        """
        return tokens[:, PREFIX:].transpose(1, 2).unflatten(2, self.grid)[..., : self.heard]

    def column(self, sample: Tensor) -> Tensor:
        """Column of the grid at a sample of the sound; fractional between the centres of patches."""
        half_frame, half_patch = self.features.win_length / 2, (self.patch - 1) / 2
        return ((sample - half_frame) / self.features.hop_length - half_patch) / self.strides[1]

    def frequency_axis(self, sample_rate: int):
        """Hz -> share of the grid's height: centres of bands, and so of patches, are evenly spaced in mel."""
        low, high = mel(torch.tensor([LOWEST, sample_rate / 2], dtype=torch.float64)).tolist()
        band = (high - low) / (len(self.features.bank[0]) + 1)
        first = low + band * (1 + (self.patch - 1) / 2)  # centre of the lowest patch
        step = band * self.strides[0]
        return mel_axis(_hertz(first - step / 2), _hertz(first + step * (self.grid[0] - 0.5)))

    def _columns(self, samples: int) -> int:
        """Number of columns of patches whose centres are in the sound."""
        frames = self.features.frames(samples)
        return max(1, min(self.grid[1], -(-(2 * frames - self.patch) // (2 * self.strides[1]))))


def _hertz(mels: float) -> float:
    return 700 * (float(torch.tensor(mels / 1127, dtype=torch.float64).exp()) - 1)


def _checked_config(model: nn.Module) -> Any:
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    if kind != "audio-spectrogram-transformer" or not hasattr(model, "classifier"):
        known = f"{type(model).__name__} ({kind})" if kind else type(model).__name__
        raise ValueError(f"AST wraps transformers' ASTForAudioClassification, not a {known}; for others take External")
    return config


def _layers(listener: _Listener, blocks: Sequence[int]) -> list[str]:
    """Names of the layers that normalise the blocks' inputs, found by class: the names vary between versions."""
    found = [name for name, each in listener.named_modules() if type(each).__name__ == "ASTLayer"]
    wrong = [block for block in blocks if not -len(found) <= block < len(found)]
    if wrong:
        raise ValueError(f"blocks {wrong} do not exist; this AST has {len(found)}, from 0 on, or -1 for the last")
    return [f"{found[block]}.layernorm_before" for block in blocks]
