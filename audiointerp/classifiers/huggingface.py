"""Audio classifiers of Hugging Face's transformers (extra `hf`): wav2vec2, HuBERT, WavLM, Whisper and others.

Features are computed in torch where the feature extractor's arithmetic is known (`FRONT_ENDS`), so that gradients reach
the waveform; otherwise by the feature extractor itself, and `no_gradient` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.audio_spectrogram_transformer import AST
from audiointerp.classifiers.external import External
from audiointerp.classifiers.front_ends import UnitVariance, WhisperFeatures
from audiointerp.classifiers.hub import audio_classifier, class_names, several_labels

__all__ = ["HuggingFace"]


def _unit_variance(extractor: Any, config: Any) -> UnitVariance:
    kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    shortest = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides)):
        shortest = (shortest - 1) * stride + kernel  # samples of which the convolutions make one frame
    return UnitVariance(extractor.do_normalize, shortest)


def _whisper(extractor: Any, config: Any) -> WhisperFeatures:
    return WhisperFeatures(
        extractor.sampling_rate, extractor.feature_size, extractor.n_fft, extractor.hop_length, extractor.n_samples
    )


#: class of the feature extractor -> the same features in torch
FRONT_ENDS: dict[str, Callable[[Any, Any], nn.Module]] = {
    "Wav2Vec2FeatureExtractor": _unit_variance,
    "WhisperFeatureExtractor": _whisper,
}


class HuggingFace(External):
    """Any AutoModelForAudioClassification, with its feature extractor: `HuggingFace.from_pretrained(name)`.

    The feature map of models with a convolutional encoder of the waveform (wav2vec2, HuBERT, WavLM, ...) is the
    encoder's output, that of Whisper the output of its encoder without the padding; both have one row, as they have no
    frequency axis: Grad-CAM shows times only. Sounds longer than Whisper's 30 s are classified in equal pieces whose
    logits are averaged; sounds shorter than one frame are padded with zeros.

    Args:
        model: transformers' model.
        extractor: its feature extractor.
        labels: class names; None: the model's own, `config.id2label`.
        multilabel: sigmoid instead of softmax. None: as `config.problem_type` states; if it is missing, True for
            AudioSet's 527 labels.
    Raises:
        ValueError: for another number of labels than the model has logits.
    """

    module: _Heard

    def __init__(
        self, model: nn.Module, extractor: Any, labels: Sequence[str] | None = None, multilabel: bool | None = None
    ):
        config: Any = model.config
        name = type(extractor).__name__
        make = FRONT_ENDS.get(name)
        rate = int(extractor.sampling_rate)
        features = _ByExtractor(extractor, rate) if make is None else make(extractor, config)
        layers = _layers(model)
        super().__init__(
            _Heard(features, model, extractor.model_input_names[0]),
            class_names(config, labels),
            rate,
            several_labels(config) if multilabel is None else multilabel,
            layers,
            max_samples=getattr(features, "max_samples", None),
        )
        self.reshape = self.module.map if layers else None
        if make is None:
            self.no_gradient = f"transformers' {name} computes the features in numpy"
        self.to(next(model.parameters()).device)

    @classmethod
    def from_pretrained(cls, name: str | Path, labels: Sequence[str] | None = None) -> External:
        """The classifier of a checkpoint, in float32; an `AST` for an audio spectrogram transformer.

        Args:
            name: on the Hugging Face hub, or a folder.
            labels: class names; None: the model's own.

        Raises:
            ValueError: without transformers; if there is no such audio classifier; for another number of labels.
        """
        model, extractor = audio_classifier(name)
        if getattr(model.config, "model_type", None) == "audio-spectrogram-transformer":
            return AST.with_extractor(model, extractor, labels=labels)
        return cls(model, extractor, labels)


class _Heard(nn.Module):
    """Waveform -> features -> model -> logits."""

    def __init__(self, features: nn.Module, model: nn.Module, argument: str):
        super().__init__()
        self.features, self.model, self.argument = features, model, argument
        self.share = 1.0  # of the feature map's columns that the latest sound filled

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits."""
        self.share = min(1.0, waveform.shape[1] / getattr(self.features, "max_samples", waveform.shape[1]))
        values = self.features(waveform)
        inputs = {self.argument: values} if isinstance(values, Tensor) else values
        dtype = next(self.model.parameters()).dtype
        inputs = {name: each.to(dtype) if each.is_floating_point() else each for name, each in inputs.items()}
        return self.model(**inputs).logits.float()

    def map(self, output: Tensor) -> Tensor:
        """(batch, channel, time), or Whisper's (batch, time, channel), -> (batch, channel, 1, time) of the sound."""
        maps = output.transpose(1, 2) if isinstance(self.features, WhisperFeatures) else output
        return maps[:, :, None, : max(1, round(self.share * maps.shape[2]))]


class _ByExtractor(nn.Module):
    """The feature extractor itself, a clip at a time; a clip of less than 0.1 s is followed by zeros."""

    def __init__(self, extractor: Any, sample_rate: int):
        super().__init__()
        self.extractor, self.sample_rate = extractor, sample_rate

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Every input of the model that the extractor gives, each (batch, ...)."""
        waveform = functional.pad(waveform, (0, max(0, self.sample_rate // 10 - waveform.shape[1])))
        rows = [
            self.extractor(row, sampling_rate=self.sample_rate, return_tensors="pt")
            for row in waveform.detach().cpu().numpy()
        ]
        return {name: torch.cat([each[name] for each in rows]).to(waveform.device) for name in rows[0]}


def _layers(model: nn.Module) -> tuple[str, ...]:
    """The layer whose output is the feature map, under its name in `_Heard`."""
    prefix = getattr(model, "base_model_prefix", "")
    encoder = f"{prefix}.feature_extractor"
    known = dict(model.named_modules())
    if encoder in known:
        return (f"model.{encoder}",)
    if getattr(model.config, "model_type", None) == "whisper":
        return ("model.encoder.layer_norm",)
    return ()
