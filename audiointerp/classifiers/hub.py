"""Models of Hugging Face's transformers (extra `hf`), from the hub or a folder, without running code of theirs.

transformers is imported when a model is loaded. Weights are read from safetensors or, where there are none, by torch
with `weights_only`; code in a repository is never run.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from audiointerp.contracts import label_names

AUDIOSET = 527  # number of AudioSet's labels, several of which may apply to a clip
HEAD = ("classifier", "projector")  # first names of the weights of a classifier's head
UNLOADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError,
    pickle.UnpicklingError,
)  # fmt: skip

__all__ = ["audio_classifier", "class_names", "from_hub", "several_labels"]


def from_hub(kind: str, name: str | Path, what: str, **options: Any) -> Any:
    """`transformers.<kind>.from_pretrained(name)`, code in the repository refused.

    Args:
        kind: class of transformers, such as "AutoFeatureExtractor".
        name: on the Hugging Face hub, or a folder.
        what: the model that is loaded, for messages.
        options: further arguments.

    Raises:
        ValueError: without transformers, without such a model, or with a torchaudio that is for another torch.
    """
    if find_spec("transformers") is None:
        raise ValueError(f"{what} needs transformers; install it with: pip install '.[hf]' in a clone of audiointerp")
    import transformers

    try:
        with _quiet():
            return getattr(transformers, kind).from_pretrained(name, trust_remote_code=False, **options)
    except UNLOADABLE as error:
        if unfit := _unfit_torchaudio():
            raise ValueError(f"{name}: cannot be loaded as {what}; {unfit}") from None
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        known = "name a model on the hub, or a folder with its files"
        raise ValueError(f"{name}: cannot be loaded as {what} ({reason}); {known}") from None


def _unfit_torchaudio() -> str | None:
    """What to do about a torchaudio that was built for another torch, which transformers imports if it is there."""
    if find_spec("torchaudio") is None:
        return None
    try:
        import_module("torchaudio")
    except Exception as error:  # an OSError of the linker, or any error of a module that half works
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        return (
            f"the installed torchaudio does not work with torch {torch.__version__} ({reason}); install the torchaudio "
            "of this torch, or uninstall it: audiointerp does not need it"
        )
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings while a model is loaded: what matters is checked afterwards and reported in one line."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            yield
    finally:
        for each, level in zip(loggers, levels):
            each.setLevel(level)


def audio_classifier(name: str | Path) -> tuple[nn.Module, Any]:
    """An AutoModelForAudioClassification in float32, in evaluation mode, and its feature extractor.

    Raises:
        ValueError: if there is no such model, or its weights lack the classifier's head, which would then be random.
    """
    what = "an audio classifier"
    model, info = from_hub("AutoModelForAudioClassification", name, what, dtype=torch.float32, output_loading_info=True)
    if lost := sorted(key for key in info["missing_keys"] if key.partition(".")[0] in HEAD):
        raise ValueError(f"{name}: holds no classifier, its weights lack {lost[0]}; name a fine-tuned model")
    return model.eval(), from_hub("AutoFeatureExtractor", name, what)


def class_names(config: Any, labels: Sequence[str] | None) -> tuple[str, ...]:
    """The given labels, or the model's own.

    Raises:
        ValueError: for another number of labels than the model has logits.
    """
    if labels is None:
        labels = [config.id2label[index] for index in range(config.num_labels)]
    labels = label_names(labels)
    if len(labels) != config.num_labels:
        raise ValueError(f"{len(labels)} labels do not fit the model's {config.num_labels} logits")
    return labels


def several_labels(config: Any) -> bool:
    """Whether several labels may apply to a clip: `config.problem_type`; if it is missing, for AudioSet's 527 labels.

    The AudioSet checkpoints were trained with one sigmoid per label, but their config does not state it.
    """
    if config.problem_type is None:
        return config.num_labels == AUDIOSET
    return config.problem_type == "multi_label_classification"
