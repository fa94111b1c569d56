"""Judges a dictionary of concepts on clips: what its concepts are, how much of the logits they explain, and whether
removing a concept, from the layer or from the sound, lowers the logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from audiointerp.contracts import frozen
from audiointerp.datasets import ClipDataset
from audiointerp.evaluation.items import item_id_of, naming
from audiointerp.interpreters.concepts import Concepts, Representation, concept_masks
from audiointerp.metrics.concepts import label_auc, overlap, purity, share_interval
from audiointerp.results.paths import inside
from audiointerp.runs.concepts.settings import ConceptSettings
from audiointerp.sound import files as audio

TOGETHER = 64  # clips whose cells are encoded at once
PURE = 0.8  # purity from which a concept counts as one of its label

__all__ = ["Clips", "Grounding", "Judged", "ground", "hear", "judge"]


@dataclass(frozen=True)
class Clips:
    """Clips as the classifier hears them.

    Attributes:
        data: the dataset.
        numbers: of the clips in the dataset.
        maps: feature map of each, (channel, freq, time).
        logits: (clips, classes).
        mean: the mean vector of the training cells, (channel,).
    """

    data: ClipDataset
    numbers: list[int]
    maps: list[Tensor]
    logits: Tensor
    mean: Tensor

    def waveform(self, row: int) -> Tensor:
        """One clip, (1, samples), at peak 1."""
        waveform = self.data.batch([self.numbers[row]]).waveform.to(self.mean.device)
        return audio.normalize_peak(waveform)[0]

    def labels(self, row: int) -> tuple[str, ...]:
        """The true labels of a clip."""
        return self.data.clips[self.numbers[row]].labels


class Grounding(NamedTuple):
    """Where each concept is strong.

    Attributes:
        activations: of each clip, (concept, freq, time).
        strengths: the highest mean activation of the concept in any window of the clip, (clips, concept).
        starts: first STFT frame of that window, (clips, concept).
        frames: length of the window in frames.
        strongest: rows of each concept's strongest clips, strongest first; clips in which it is not active are left
            out, so that a concept may have none.
    """

    activations: list[Tensor]
    strengths: Tensor
    starts: Tensor
    frames: int
    strongest: list[list[int]]


class Judged(NamedTuple):
    """Rows of the tables of one dictionary: dictionaries.csv, concepts.csv, clips.csv and strengths.csv."""

    summary: dict[str, Any]
    concepts: list[dict[str, Any]]
    clips: list[dict[str, Any]]
    strengths: list[dict[str, Any]]


def hear(representation: Representation, data: ClipDataset, numbers: Sequence[int], mean: Tensor) -> Clips:
    """Feature maps and logits of some clips of a dataset."""
    classifier, maps, logits = representation.classifier, [], []
    for number in tqdm(numbers, desc="test clips", unit="clip", disable=None):
        waveform = audio.normalize_peak(data.batch([number]).waveform.to(classifier.device))[0]
        with frozen(classifier), torch.no_grad(), naming(data.clips[number].name):
            heard = classifier(waveform)
        maps.append(heard.feature_maps[representation.layer][0])
        logits.append(heard.logits[0])
    return Clips(data, list(numbers), maps, torch.stack(logits), mean)


def ground(model: Concepts, clips: Clips, window: float, strongest: int) -> Grounding:
    """The window of each clip in which each concept is strongest, and each concept's strongest clips."""
    spectrogram, samples = model.classifier.spectrogram, clips.data.samples
    total = 1 + samples // spectrogram.hop_length
    frames = min(total, max(1, round(window * clips.data.sample_rate / spectrogram.hop_length)))
    # All clips have one length. The dictionary encodes many cells in nearly the time of one.
    parts = [torch.stack(clips.maps[first : first + TOGETHER]) for first in range(0, len(clips.maps), TOGETHER)]
    activations = [each for part in parts for each in model.dictionary.activations(part)]
    strengths, starts = [], []
    for each in activations:
        profile = model.representation.over_time(each, samples)
        mean = functional.avg_pool1d(profile[None], frames, 1)[0]
        best = mean.max(1)
        strengths.append(best.values)
        starts.append(best.indices)
    found = torch.stack(strengths)
    order = found.argsort(dim=0, descending=True, stable=True)[:strongest]
    chosen = [[row for row in order[:, k].tolist() if found[row, k] > 0] for k in range(found.shape[1])]
    return Grounding(activations, found, torch.stack(starts), frames, chosen)


def judge(name: str, model: Concepts, clips: Clips, wanted: ConceptSettings, folder: Path | None, seed: int) -> Judged:
    """All rows of one dictionary.

    Args:
        name: of the dictionary.
        model: with the fitted dictionary.
        clips: clips that it was not learnt from.
        wanted: settings.
        folder: where to write each concept's sounds; None: none are written.
        seed: of the control directions and cells.
    """
    found = ground(model, clips, wanted.window, wanted.strongest)
    logits, falls = _rebuilt_and_removed(model, clips, found, seed)
    concepts, rows = [], []
    labels = model.classifier.labels
    for k, chosen in enumerate(found.strongest):
        of_classes = torch.stack([falls[k, row][0] for row in chosen]).mean(0) if chosen else torch.zeros(len(labels))
        classes = of_classes.argsort(descending=True)[: wanted.named].tolist() if chosen else []
        pure = purity([clips.labels(row) for row in chosen])
        predicted = {row: int(clips.logits[row].argmax()) for row in chosen}
        concept = {
            "dictionary": name,
            "concept": k,
            "label": pure.label,
            "purity": pure.share,
            "clips": len(chosen),
            "active": float(
                (found.strengths[:, k] > 0.1 * found.strengths[:, k].max().clamp(min=1e-12)).float().mean()
            ),
            "classes": ";".join(labels[each] for each in classes),
            "falls": ";".join(f"{float(of_classes[each]):.4g}" for each in classes),
            "direction": _mean([float(falls[k, row][0][predicted[row]]) for row in chosen]),
            "direction_control": _mean([float(falls[k, row][1][predicted[row]]) for row in chosen]),
        }
        heard = [
            _remove_sound(model, clips, found.activations[row][k], k, row, seed) for row in chosen[: wanted.removed]
        ]
        concept |= {key: _mean([each[key] for each in heard]) for key in SOUND_COLUMNS}
        concepts.append(concept)
        rows += [_clip_row(name, k, rank, row, clips, found, model) for rank, row in enumerate(chosen)]
        if folder is not None:
            _write_sounds(folder, model, clips, found, k)
    summary = _summary(model, clips, found, logits, concepts)
    return Judged(summary, concepts, rows, _strength_rows(name, clips, found))


SOUND_COLUMNS = ("sound", "sound_control", "sound_energy", "control_energy", "left", "alone")


def _rebuilt_and_removed(
    model: Concepts, clips: Clips, found: Grounding, seed: int
) -> tuple[Tensor, dict[tuple[int, int], tuple[Tensor, Tensor]]]:
    """Logits (clips, 2, classes) of the mean vector and of the rebuilt map; falls of all logits without a concept.

    The falls are of (concept, clip): without the concept's part, and without a part of equal size and activation in a
    direction drawn at random.
    """
    dictionary = model.dictionary
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(dictionary.directions.shape, generator=generator).to(dictionary.directions)
    length = dictionary.directions.norm(dim=1, keepdim=True)
    others = functional.normalize(drawn, dim=1) * length
    logits, falls = [], {}
    for row, maps in enumerate(clips.maps):
        found_here = found.activations[row]
        wanted = [k for k, chosen in enumerate(found.strongest) if row in chosen]
        parts = dictionary.parts(found_here)
        controls = dictionary.scale * others[:, :, None, None] * found_here[:, None]
        changes = [clips.mean[:, None, None] - maps, dictionary.rebuilt(found_here) - maps]
        changes += [-each[k] for each in (parts, controls) for k in wanted]
        after = model.representation.logits_after(clips.waveform(row), torch.stack(changes))
        logits.append(after[:2])
        without = clips.logits[row] - after[2:]
        for place, k in enumerate(wanted):
            falls[k, row] = without[place], without[len(wanted) + place]
    return torch.stack(logits), falls


def _remove_sound(model: Concepts, clips: Clips, activation: Tensor, k: int, row: int, seed: int) -> dict[str, float]:
    """What happens when the concept's sound is removed from one clip, and when it is the only sound.

    "sound": fall of the predicted class's logit; "sound_control": the same for the concept's cells in a random order,
    which removes as large an area; "..._energy": share of the clip's energy that is removed; "left", "alone": mean
    activation of the concept on the rest and on its sound, as a share of that on the clip.
    """
    classifier, dictionary = model.classifier, model.dictionary
    waveform = clips.waveform(row)
    values = activation.clamp(min=0)
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(seed + k)).to(values.device)
    both = torch.stack([values, values.flatten()[order].view_as(values)])
    stft = classifier.spectrogram(waveform)
    mask, other = concept_masks(model.representation.placed(both, waveform.shape[1]))
    energy = stft.abs().square()[0]
    kept = torch.cat([stft * (1 - mask), stft * (1 - other), stft * mask])
    with frozen(classifier), torch.no_grad():
        heard = [classifier.classify_stft(each[None], waveform.shape[1]) for each in kept]
    target = int(clips.logits[row].argmax())
    full = float(clips.logits[row, target])
    again = [dictionary.activations(each.feature_maps[model.layer])[0, k].clamp(min=0).mean() for each in heard]
    before = values.mean().clamp(min=1e-12)
    shares = [float((each.square() * energy).sum() / energy.sum().clamp(min=1e-12)) for each in (mask, other)]
    falls = [full - float(each.logits[0, target]) for each in heard[:2]]
    return dict(zip(SOUND_COLUMNS, (*falls, *shares, float(again[0] / before), float(again[2] / before))))


def _summary(
    model: Concepts, clips: Clips, found: Grounding, logits: Tensor, concepts: list[dict[str, Any]]
) -> dict[str, Any]:
    predicted = clips.logits.argmax(1)
    rows = torch.arange(len(predicted), device=predicted.device)
    full, baseline, rebuilt = (
        each[rows, predicted].double().cpu().numpy() for each in (clips.logits, logits[:, 0], logits[:, 1])
    )
    recordings = [clips.data.clips[number].source for number in clips.numbers]
    share = share_interval(full, rebuilt, baseline, recordings)
    labels = sorted({label for row in range(len(rows)) for label in clips.labels(row)})
    has = {label: [label in clips.labels(row) for row in range(len(rows))] for label in labels}
    strengths = found.strengths.cpu().numpy()
    best = [max(label_auc(strengths[:, k], has[label]) for k in range(strengths.shape[1])) for label in labels]
    alive = [each for each in concepts if each["clips"]]
    pure = {each["label"] for each in alive if each["purity"] >= PURE}
    means = {key: _mean([each[key] for each in alive]) for key in ("purity", "direction", "direction_control")}
    means |= {key: _mean([each[key] for each in alive]) for key in SOUND_COLUMNS}
    return {
        "n_concepts": len(concepts),
        "alive": len(alive),
        "n_clips": len(rows),
        "representation": _rebuilt_share(model, clips, found),
        "logit": share.estimate,
        "logit_low": share.low,
        "logit_high": share.high,
        "decision": float((logits[:, 1].argmax(1) == predicted).float().mean()),
        "n_labels": len(labels),
        "labels_found": len(pure),
        "label_auc": _mean(best),
        "overlap_clips": overlap(found.strongest),
        "overlap_classes": overlap([each["classes"].split(";") for each in alive]),
        **means,
    }


def _rebuilt_share(model: Concepts, clips: Clips, found: Grounding) -> float:
    """1 - squared error / squared distance from the mean training vector, over all cells of all clips."""
    error = change = 0.0
    for maps, activations in zip(clips.maps, found.activations):
        error += float((maps - model.dictionary.rebuilt(activations)).double().square().sum())
        change += float((maps - clips.mean[:, None, None]).double().square().sum())
    return 1 - error / change if change else float("nan")


def _clip_row(
    name: str, k: int, rank: int, row: int, clips: Clips, found: Grounding, model: Concepts
) -> dict[str, Any]:
    clip = clips.data.clips[clips.numbers[row]]
    first, last = _window(clips, found, k, row, model)
    return {
        "dictionary": name,
        "concept": k,
        "rank": rank + 1,
        "item_id": item_id_of(clip.name, clip.start),
        "source": clip.name,
        "recording": clip.source,
        "label": ";".join(clip.labels),
        "predicted": model.classifier.labels[int(clips.logits[row].argmax())],
        "strength": float(found.strengths[row, k]),
        "start_s": first / clips.data.sample_rate,
        "stop_s": last / clips.data.sample_rate,
    }


def _strength_rows(name: str, clips: Clips, found: Grounding) -> list[dict[str, Any]]:
    """Mean strength of each concept over the clips of each label."""
    labels = [";".join(clips.labels(row)) for row in range(len(clips.maps))]
    rows = []
    for label in sorted(set(labels)):
        chosen = torch.tensor([each == label for each in labels], device=found.strengths.device)
        means = found.strengths[chosen].mean(0).tolist()
        rows += [{"dictionary": name, "label": label, "concept": k, "strength": each} for k, each in enumerate(means)]
    return rows


def _window(clips: Clips, found: Grounding, k: int, row: int, model: Concepts) -> tuple[int, int]:
    """First sample of the concept's window in a clip, and the sample after its last."""
    hop = model.classifier.spectrogram.hop_length
    first = int(found.starts[row, k]) * hop
    return first, min(clips.data.samples, first + found.frames * hop)


def _write_sounds(folder: Path, model: Concepts, clips: Clips, found: Grounding, k: int) -> None:
    """The window of each of the concept's strongest clips, and the same masked by the concept; each at peak 1."""
    spectrogram = model.classifier.spectrogram
    for rank, row in enumerate(found.strongest[k]):
        waveform = clips.waveform(row)
        values = found.activations[row][k][None].clamp(min=0)
        mask = concept_masks(model.representation.placed(values, waveform.shape[1]))
        masked = spectrogram.inverse(spectrogram(waveform) * mask, waveform.shape[1])
        first, last = _window(clips, found, k, row, model)
        for what, sound in (("window", waveform), ("concept", masked)):
            path = inside(folder, "audio", f"concept_{k:02d}", f"{rank + 1}_{what}.wav")
            audio.write(path, audio.normalize_peak(sound[:, first:last].cpu())[0][0], clips.data.sample_rate)


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; NaN of none."""
    known = [each for each in values if np.isfinite(each)]
    return float(np.mean(known)) if known else float("nan")
