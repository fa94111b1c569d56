"""CLAP as a classifier whose classes are the user's own words (extra `hf`).

Wu et al. (2023), "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation", https://arxiv.org/abs/2211.06687. The logit of a text is its cosine similarity with the sound times the
learnt scale, transformers' `logits_per_audio`; the texts are embedded once. Features are computed in torch, so that
gradients reach the waveform.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.external import External
from audiointerp.classifiers.front_ends import DecibelMel
from audiointerp.classifiers.hub import from_hub
from audiointerp.sound.mel import hertz_bank

TRAINED = ("audio_projection.", "text_projection.", "logit_scale_a")  # weights that a checkpoint must hold
PADDINGS = ("repeatpad", "repeat", "pad")
TRUNCATIONS = ("fusion", "rand_trunc")

__all__ = ["CLAP", "ClapFeatures"]


class ClapFeatures(nn.Module):
    """The mel picture of transformers' ClapFeatureExtractor for sounds of at most `max_samples`; differentiable.

    A shorter sound is repeated and padded with zeros ("repeatpad": whole repetitions, "repeat": until it is full,
    "pad": no repetition). Power in mel bands in dB. With "fusion", a model takes four equal pictures of a short sound.

    Args:
        sample_rate: in Hz.
        bands: number of mel bands.
        n_fft, hop_length: in samples.
        low, high: ends of the bands in Hz.
        max_samples: length to which a sound is filled, and at which it is cut.
        truncation: "fusion" (filters of torchaudio) or "rand_trunc" (filters of librosa).
        padding: see above.
    Shape:
        waveform (batch, samples) -> (batch, 1 or 4, time, band): time before frequency, as the model expects.
    Raises:
        ValueError: for another truncation or padding.

    >>> ClapFeatures(max_samples=48000)(torch.randn(2, 20000)).shape
    torch.Size([2, 4, 101, 64])
    """

    def __init__(
        self,
        sample_rate: int = 48000,
        bands: int = 64,
        n_fft: int = 1024,
        hop_length: int = 480,
        low: float = 0.0,
        high: float = 14000.0,
        max_samples: int = 480_000,
        truncation: str = "fusion",
        padding: str = "repeatpad",
    ):
        super().__init__()
        if truncation not in TRUNCATIONS or padding not in PADDINGS:
            raise ValueError(f"CLAP's features know no truncation {truncation!r} with padding {padding!r}")
        self.max_samples, self.padding, self.fusion = max_samples, padding, truncation == "fusion"
        bank = hertz_bank(sample_rate, n_fft, bands, low, high, htk=self.fusion, area=not self.fusion)
        self.picture = DecibelMel(n_fft, hop_length, bank)

    def forward(self, waveform: Tensor) -> Tensor:
        """Mel pictures in dB."""
        waveform = waveform[:, : self.max_samples]
        times = self.max_samples // waveform.shape[1]
        if self.padding != "pad":
            waveform = waveform.repeat(1, times + (self.padding == "repeat"))[:, : self.max_samples]
        waveform = functional.pad(waveform, (0, self.max_samples - waveform.shape[1]))
        picture = self.picture(waveform).transpose(2, 3)
        return picture.expand(-1, 4, -1, -1) if self.fusion else picture


class CLAP(External):
    """Zero-shot: `CLAP.from_pretrained("laion/clap-htsat-unfused", labels=["a dog barks", "a gearbox whines"])`.

    Each label is a text that the model reads as it stands; write sentences like those of captions. The probabilities
    are the softmax over these texts only. Sounds longer than 10 s are classified in equal pieces whose logits are
    averaged, where transformers' ClapFeatureExtractor draws a piece, or three, at random.

    Args:
        model: transformers' ClapModel.
        extractor: its ClapFeatureExtractor.
        tokenizer: its tokenizer.
        labels: at least two texts.
    Raises:
        ValueError: for fewer than two texts, a text given twice, or another kind of model.
    """

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, labels: Sequence[str]):
        labels = _checked(labels)
        kind = getattr(getattr(model, "config", None), "model_type", None)
        if kind != "clap" or type(extractor).__name__ != "ClapFeatureExtractor":
            raise ValueError(f"CLAP wraps transformers' ClapModel with its ClapFeatureExtractor, not a {kind} model")
        features = ClapFeatures(
            extractor.sampling_rate,
            extractor.feature_size,
            extractor.fft_window_size,
            extractor.hop_length,
            extractor.frequency_min,
            extractor.frequency_max,
            int(extractor.nb_max_samples),
            extractor.truncation,
            extractor.padding,
        )
        module = _Similarity(features, model, _embedded(model, tokenizer, labels))
        super().__init__(module, labels, int(extractor.sampling_rate), max_samples=features.max_samples)
        self.to(next(model.parameters()).device)

    @classmethod
    def from_pretrained(cls, name: str | Path, labels: Sequence[str] | None = None) -> CLAP:
        """The classifier of a checkpoint, in float32, in evaluation mode.

        Args:
            name: on the Hugging Face hub, or a folder.
            labels: at least two texts.

        Raises:
            ValueError: for fewer than two texts or a text given twice; without transformers; if there is no such model.
        """
        labels = _checked(labels or ())
        what = "a CLAP model"
        model, info = from_hub("ClapModel", name, what, dtype=torch.float32, output_loading_info=True)
        if lost := sorted(key for key in info["missing_keys"] if key.startswith(TRAINED)):
            raise ValueError(f"{name}: holds no CLAP model, its weights lack {lost[0]}")
        extractor, tokenizer = (from_hub(each, name, what) for each in ("AutoFeatureExtractor", "AutoTokenizer"))
        return cls(model.eval(), extractor, tokenizer, labels)


class _Similarity(nn.Module):
    """Waveform -> features -> audio network -> cosine similarity with each text, times the learnt scale."""

    texts: Tensor
    scale: Tensor

    def __init__(self, features: ClapFeatures, model: Any, texts: Tensor):
        super().__init__()
        self.features, self.audio_model, self.audio_projection = features, model.audio_model, model.audio_projection
        self.register_buffer("texts", texts, persistent=False)
        self.register_buffer("scale", model.logit_scale_a.detach().exp(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits."""
        values = self.features(waveform).to(self.texts.dtype)
        # As ClapFeatureExtractor for a single short sound: with fusion, it counts as longer than the window.
        longer = torch.full((len(values), 1), self.features.fusion, device=values.device)
        pooled = self.audio_model(input_features=values, is_longer=longer).pooler_output
        embedded = functional.normalize(self.audio_projection(pooled), dim=-1)
        return (embedded @ self.texts.T * self.scale).float()


@torch.no_grad()
def _embedded(model: Any, tokenizer: Any, labels: Sequence[str]) -> Tensor:
    """Unit vectors of the texts, (labels, channel)."""
    tokens = tokenizer(list(labels), padding=True, return_tensors="pt").to(next(model.parameters()).device)
    pooled = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1)


def _checked(labels: Sequence[str]) -> tuple[str, ...]:
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    if len(labels) < 2:
        raise ValueError('CLAP compares texts: give at least two, as in --labels "a dog barks" "a gearbox whines"')
    if twice := [each for number, each in enumerate(labels) if each in labels[:number]]:
        raise ValueError(f"labels: {twice[0]!r} is given twice; each class needs a text of its own")
    return labels
