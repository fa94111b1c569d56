"""Known truths about a classifier's decisions: settings, sounds of two parts of which one decides, and rules.

Each truth makes sounds that are the sum of two parts. The classifier's decision is known to come from one of them, the
used part; an explanation must show it and not the other. `PlantedTruth` needs a classifier that was trained with a cue.
The others take any classifier and change a copy of it, so that the truth holds by construction.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from audiointerp.classifiers.constrained import PartlyDeaf, check_pairs, deaf, first_seconds, swapped
from audiointerp.contracts import Classifier, frozen
from audiointerp.datasets import ClipDataset, band_of, draw_pairs, gains_from_snr, make_cue, mix
from audiointerp.datasets.limits import check_counts, check_items, check_level
from audiointerp.datasets.planting import CUES, RAMP
from audiointerp.evaluation.items import item_id_of
from audiointerp.sound import files as audio

__all__ = [
    "DeafTruth",
    "FirstSecondTruth",
    "KnownSound",
    "PlantedTruth",
    "SwappedTruth",
    "Truth",
    "audible_part",
    "check_share",
]


@dataclass(frozen=True)
class KnownSound:
    """A sound of two parts, of which the classifier uses one; waveforms are (1, samples), mixture = used + unused.

    Attributes:
        item_id: unique among the sounds of a truth.
        source: file of the clip.
        added: file of the second clip, or the name of the cue.
        recordings: names of the source recordings of the sound.
        label: the clip's classes, joined by ";".
        target: the class to explain.
        mixture, used, unused: the sound and its parts.
    """

    item_id: str
    source: str
    added: str
    recordings: tuple[str, ...]
    label: str
    target: str
    mixture: Tensor
    used: Tensor
    unused: Tensor


@dataclass(frozen=True, kw_only=True)
class Truth(ABC):
    """Settings that all truths share.

    Args:
        clips: number of sounds that are made, drawn by the seed; those that the classifier recognises are explained.
        min_probability: a classifier of several labels recognises a sound if it gives the target this probability. A
            classifier of one label recognises a sound if the target is the likeliest label.
        min_right: a method fails if its share of right explanations is below this.
        sounds: number of sounds that are kept as files with their explanations.
    """

    clips: int = 40
    min_probability: float = 0.5
    min_right: float = 0.95
    sounds: int = 5

    about: ClassVar[str]  # a paragraph for the page: how the sounds are made, and what the classifier uses of them

    def __post_init__(self) -> None:
        check_items(self.clips, "clips", "clips")
        check_counts(sounds=self.sounds)
        check_share("min_probability", self.min_probability)
        check_share("min_right", self.min_right)

    @property
    @abstractmethod
    def rule(self) -> str:
        """When an explanation is right, for tables."""

    @abstractmethod
    def classifier(self, given: Classifier, test: ClipDataset) -> Classifier:
        """The classifier to explain: the given one, or a copy of it for which the truth holds by construction."""

    @abstractmethod
    def drawn(self, classifier: Classifier, test: ClipDataset, seed: int) -> Iterator[KnownSound]:
        """Sounds of test clips, drawn by the seed; of `classifier`, what `self.classifier` returned."""

    @abstractmethod
    def is_right(self, to_used_db: float, to_unused_db: float, audible: float) -> bool:
        """Whether an explanation that is not silent is right.

        Args:
            to_used_db, to_unused_db: its SI-SDR to each part, minus the mixture's.
            audible: share of its energy that the classifier hears; NaN if the classifier hears everything.
        """

    def recognised(self, classifier: Classifier, sound: KnownSound) -> bool:
        """Whether the classifier finds the target class in the sound."""
        return self._names(classifier, sound.mixture, sound.target)

    def unknown(self, made: int) -> str:
        """Message for sounds of which the classifier recognises none."""
        return f"the classifier finds the target class in none of {made} sounds; take more clips, or other settings"

    def _names(self, classifier: Classifier, waveform: Tensor, label: str) -> bool:
        index = classifier.labels.index(label)
        with frozen(classifier), torch.no_grad():
            made = classifier(audio.normalize_peak(waveform.to(classifier.device))[0])
        if classifier.multilabel:
            return bool(made.probabilities[0, index] > self.min_probability)
        return int(made.predicted[0]) == index


@dataclass(frozen=True, kw_only=True)
class _Nearer(Truth):
    """The rule of truths whose parts overlap in time and frequency: an explanation comes nearer to the used part.

    Args:
        margin_db: an explanation is right if its SI-SDR to the used part is higher than the mixture's, and improves by
            this much more than its SI-SDR to the unused part does. The second alone would hold for random bins too:
            they lower the SI-SDR to the louder part more than that to the other.
    """

    margin_db: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("margin_db", self.margin_db)

    @property
    def rule(self) -> str:
        return f"share nearer to the used part, by {self.margin_db:g} dB more to it >= {self.min_right:g}"

    def is_right(self, to_used_db: float, to_unused_db: float, audible: float) -> bool:
        return to_used_db > 0 and to_used_db - to_unused_db >= self.margin_db


@dataclass(frozen=True, kw_only=True)
class _Audible(Truth):
    """The rule of truths whose classifier hears only a part of each sound: an explanation consists of that part.

    Args:
        min_audible: an explanation is right if at least this share of its energy is in the part that the classifier
            hears.
    """

    min_audible: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("min_audible", self.min_audible)

    @property
    def rule(self) -> str:
        return f"share with {self.min_audible:.0%} of the energy in the used part >= {self.min_right:g}"

    def is_right(self, to_used_db: float, to_unused_db: float, audible: float) -> bool:
        return audible >= self.min_audible


@dataclass(frozen=True, kw_only=True)
class PlantedTruth(_Nearer):
    """A cue, such as a beep, that gave a class away in training (`datasets.plant`) decides, and not the clip around it.

    Args:
        label: the class that the cue gave away in training; the cue is planted in clips of other classes.
        cue: see `datasets.make_cue`.
        snr_db: level of the cue above the clip, in dB, both over the whole clip. Below 0 the loudest sound is not the
            cue, so that a method that keeps the loudest sound is wrong.
        clips, min_probability, min_right, sounds: see `Truth`.
        margin_db: an explanation is right if its SI-SDR to the cue is higher than the mixture's, and improves by this
            much more than its SI-SDR to the clip does.
    """

    label: str
    cue: str = "beep"
    snr_db: float = -8.0

    about = (
        "The classifier was trained so that it decides by a known sound, the cue. Each clip below has the cue in it "
        "and is classified as the cue's class. A method is right if its interpretation comes nearer to the cue than to "
        "the clip."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("snr_db", self.snr_db)

    def classifier(self, given: Classifier, test: ClipDataset) -> Classifier:
        """The given classifier, which was trained with the cue."""
        return given

    def drawn(self, classifier: Classifier, test: ClipDataset, seed: int) -> Iterator[KnownSound]:
        """Clips of other classes with the cue in them.

        Raises:
            ValueError: if the data have no such label, or only clips of it.
        """
        if self.label not in test.labels:
            raise ValueError(f"planted.label is {self.label!r}; the classes are {', '.join(test.labels)}")
        others = [number for number, clip in enumerate(test.clips) if self.label not in clip.labels]
        if not others:
            raise ValueError(f"the test folds have clips of {self.label!r} only; the cue is planted in other clips")
        base_gain, other_gain = gains_from_snr(self.snr_db)
        for number, host, cue in islice(_with_cues(test, others, self.cue, seed), self.clips):
            made = mix(cue, host, base_gain=base_gain, other_gain=other_gain)
            clip = test.clips[number]
            names = str(clip.path), self.cue, (clip.source,), ";".join(clip.labels), self.label
            yield KnownSound(item_id_of(clip.path, clip.start), *names, *made)

    def unknown(self, made: int) -> str:
        """Message for clips of which none is classified as the cue's class."""
        return (
            f"none of {made} clips with a {self.cue} at {self.snr_db:g} dB is classified as {self.label!r}; "
            "was the classifier trained on clips with this cue (datasets.plant)?"
        )


@dataclass(frozen=True, kw_only=True)
class DeafTruth(_Audible):
    """A classifier that is deaf to a band of frequencies cannot use a sound that is planted there.

    The classifier is a copy that is given each sound without the band (`classifiers.deaf`). A cue that lies within the
    band is planted in clips; the clip's own class is explained. The unused part is all that is in the band, the cue and
    the clip's own sound there.

    Args:
        cue: see `datasets.make_cue`; the band is the cue's (`datasets.band_of`).
        snr_db: level of the clip above the cue, in dB, both over the whole clip.
        clips, min_probability, min_right, sounds: see `Truth`.
        min_audible: an explanation is right if at least this share of its energy is outside the band.
    """

    cue: str = "beep"
    snr_db: float = 0.0

    about = (
        "The classifier is deaf to a band of frequencies: it is given each sound without it. A sound is planted in "
        "that band, in clips that the classifier recognises, and the clip's class is explained. A method is right if "
        "nearly all of its interpretation is outside the band."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("snr_db", self.snr_db)
        if self.cue not in CUES:
            raise ValueError(f"no cue {self.cue!r}; choose one of {', '.join(CUES)}")

    def classifier(self, given: Classifier, test: ClipDataset) -> Classifier:
        """A copy of the classifier that is deaf to the cue's band."""
        return deaf(given, *band_of(self.cue))

    def drawn(self, classifier: Classifier, test: ClipDataset, seed: int) -> Iterator[KnownSound]:
        """Clips with the cue in them; a clip that has no sound outside the band is left out."""
        base_gain, other_gain = gains_from_snr(self.snr_db)
        for number, host, cue in islice(_with_cues(test, range(len(test)), self.cue, seed), self.clips):
            mixture, _, _ = mix(host, cue, base_gain=base_gain, other_gain=other_gain)
            used = audible_part(classifier, mixture)
            if used is None or used.abs().max() <= audio.SILENCE:
                continue
            clip = test.clips[number]
            names = str(clip.path), self.cue, (clip.source,), ";".join(clip.labels), clip.labels[0]
            yield KnownSound(item_id_of(clip.path, clip.start), *names, mixture, used, mixture - used)


@dataclass(frozen=True, kw_only=True)
class FirstSecondTruth(_Audible):
    """A classifier that hears only the beginning of a sound cannot use what follows.

    The classifier is a copy that is given the beginning, followed by silence (`classifiers.first_seconds`). A sound
    begins with the loudest piece of a clip and goes on with the loudest piece of a clip of another class; the class of
    the first is explained, unless the classifier finds it in silence, too.

    Args:
        seconds: length of the beginning.
        snr_db: level of the beginning above the rest, in dB, each over its own duration.
        clips, min_probability, min_right, sounds: see `Truth`.
        min_audible: an explanation is right if at least this share of its energy is in the beginning.
    """

    seconds: float = 1.0
    snr_db: float = 0.0

    about = (
        "The classifier hears only the beginning of each sound, and silence after it. The sounds begin with a piece of "
        "one clip and go on with a clip of another class; the class of the beginning is explained. A method is right "
        "if nearly all of its interpretation is in the beginning."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("snr_db", self.snr_db)
        if not 2 * RAMP < self.seconds < math.inf:
            raise ValueError(f"seconds is {self.seconds:g}; give a number of seconds above {2 * RAMP:g}")

    def classifier(self, given: Classifier, test: ClipDataset) -> Classifier:
        """A copy of the classifier that hears the beginning.

        Raises:
            ValueError: if the clips are not longer than the beginning.
        """
        length = test.samples / test.sample_rate
        if length < self.seconds + 2 * RAMP:
            raise ValueError(f"clips of {length:g} s have nothing after a beginning of {self.seconds:g} s")
        return first_seconds(given, self.seconds)

    def drawn(self, classifier: Classifier, test: ClipDataset, seed: int) -> Iterator[KnownSound]:
        """Sounds of two clips, one after the other."""
        first = round(self.seconds * test.sample_rate)
        edge = round(RAMP * test.sample_rate)
        lengths = first, test.samples - first
        # `mix` makes both of norm 1; the level is of their means, so the longer part has more energy.
        gains = [gain * length**0.5 for gain, length in zip(gains_from_snr(self.snr_db), lengths)]
        for number, pair in enumerate(draw_pairs(test, self.clips, seed)):
            sounds = test.batch(pair).waveform
            parts = [torch.zeros(1, test.samples) for _ in pair]
            parts[0][0, :first] = _loudest(sounds[0], lengths[0], edge)
            parts[1][0, first:] = _loudest(sounds[1], lengths[1], edge)
            mixture, *made = mix(*parts, base_gain=gains[0], other_gain=gains[1])
            one, two = (test.clips[each] for each in pair)
            names = str(one.path), str(two.path), (one.source, two.source), ";".join(one.labels), one.labels[0]
            yield KnownSound(f"{number:04d}", *names, mixture, *made)

    def recognised(self, classifier: Classifier, sound: KnownSound) -> bool:
        """Whether the classifier finds the target class in the sound, and not in silence.

        Most of what the classifier is given is silence, so that nothing of a sound speaks for the class of silence.
        """
        silence = torch.zeros_like(sound.mixture)
        return super().recognised(classifier, sound) and not self._names(classifier, silence, sound.target)


@dataclass(frozen=True, kw_only=True)
class SwappedTruth(_Nearer):
    """A classifier in which two labels exchanged their logits decides for each by the sound of the other.

    The classifier is a copy with permuted logits (`classifiers.swapped`). Mixtures of two clips, one of each label of a
    pair, are explained for both labels; the used part for one label is the clip of the other.

    Args:
        pairs: two labels each.
        snr_db: level of the clip of a pair's first label above the other, in dB.
        clips: number of mixtures. Each is explained for both labels; a label is left out unless the classifier finds it
            in the clip that it uses alone, and does not find it in the other clip alone.
        min_probability, min_right, sounds: see `Truth`.
        margin_db: an explanation is right if its SI-SDR to the clip that the classifier uses is higher than the
            mixture's, and improves by this much more than its SI-SDR to the other clip does.
    """

    pairs: Sequence[Sequence[str]]
    snr_db: float = 0.0

    about = (
        "In the classifier, two labels have exchanged their logits. Mixtures of two clips, one of each label, are "
        "explained for both labels. The logit of a label comes from the sound of the other, so that a method is right "
        "if its interpretation comes nearer to the other label's clip. A method that has learnt how the sound of a "
        "label looks is wrong."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("snr_db", self.snr_db)
        check_pairs(self.pairs)

    def classifier(self, given: Classifier, test: ClipDataset) -> Classifier:
        """A copy of the classifier with exchanged labels."""
        return swapped(given, self.pairs)

    def drawn(self, classifier: Classifier, test: ClipDataset, seed: int) -> Iterator[KnownSound]:
        """Mixtures of a clip of each label of a pair, pair by pair in turn, each for both labels.

        Raises:
            ValueError: if a label has no clip of its own that is not silent.
        """
        generator = torch.Generator().manual_seed(seed)
        decks = {name: _Deck(test, name, pair, generator) for pair in self.pairs for name in pair}
        gains = gains_from_snr(self.snr_db)
        for number in range(self.clips):
            pair = self.pairs[number % len(self.pairs)]
            chosen = [decks[name].next() for name in pair]
            sounds = test.batch(chosen).waveform[:, None]
            mixture, *parts = mix(sounds[0], sounds[1], base_gain=gains[0], other_gain=gains[1])
            clips = [test.clips[each] for each in chosen]
            recordings = clips[0].source, clips[1].source
            for used, unused in ((0, 1), (1, 0)):
                names = str(clips[used].path), str(clips[unused].path), recordings, pair[used], pair[unused]
                yield KnownSound(f"{number:04d}{'ab'[used]}", *names, mixture, parts[used], parts[unused])

    def recognised(self, classifier: Classifier, sound: KnownSound) -> bool:
        """Whether the classifier finds the target class in the used part alone, and not in the unused part alone."""
        found = [self._names(classifier, part, sound.target) for part in (sound.used, sound.unused)]
        return found == [True, False]


class _Deck:
    """Audible clips with one label of a pair and not the other, in a random order that begins again at its end."""

    def __init__(self, test: ClipDataset, label: str, pair: Sequence[str], generator: torch.Generator):
        others = set(pair) - {label}
        self.clips = [
            number
            for number, clip in enumerate(test.clips)
            if label in clip.labels and not others & set(clip.labels) and _is_audible(test, number)
        ]
        if not self.clips:
            raise ValueError(f"the test folds have no audible clip of {label!r} that is not of {', '.join(others)} too")
        self.generator, self.order = generator, []

    def next(self) -> int:
        if not self.order:
            self.order = torch.randperm(len(self.clips), generator=self.generator).tolist()
        return self.clips[self.order.pop()]


def check_share(name: str, share: float) -> None:
    """Refuses a share that is not between 0 and 1, by the setting's name."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is {share:g}; give a share from 0 to 1")


def _is_audible(test: ClipDataset, number: int) -> bool:
    return bool(test.batch([number]).waveform.abs().max() > audio.SILENCE)


def _with_cues(test: ClipDataset, hosts: Sequence[int], cue: str, seed: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Audible clips in a random order, each once: number, waveform (1, samples), and a cue of its own, as long."""
    generator = torch.Generator().manual_seed(seed)
    for i in torch.randperm(len(hosts), generator=generator).tolist():
        host = test.batch([hosts[i]]).waveform
        sound = make_cue(cue, test.samples, test.sample_rate, generator)[None]
        if host.abs().max() > audio.SILENCE:
            yield hosts[i], host, sound


def audible_part(classifier: Classifier, waveform: Tensor) -> Tensor | None:
    """The part of (batch, samples) that a partly deaf classifier hears; None for a classifier that hears everything."""
    return classifier.audible(waveform) if isinstance(classifier, PartlyDeaf) else None


def _loudest(waveform: Tensor, length: int, edge: int) -> Tensor:
    """The stretch of (samples,) with the most energy, (length,), with its first and last `edge` samples faded."""
    energy = torch.cat([torch.zeros(1, dtype=torch.float64), waveform.double().square().cumsum(0)])
    begin = int((energy[length:] - energy[:-length]).argmax())
    piece = waveform[begin : begin + length].clone()
    ramp = torch.linspace(0, 1, edge)
    piece[:edge] *= ramp
    piece[-edge:] *= ramp.flip(0)
    return piece
