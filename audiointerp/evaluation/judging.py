"""Computes all scores of one interpretation with the functions of `metrics`.

The classifier takes the masked features, as in the published tables, and once more the written waveforms (columns
`wav_*`). One interpretation costs 4 passes of the classifier, and 10 more with the curves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpretation, Interpreter, Prediction, frozen
from audiointerp.metrics import compactness, curves, separation, times
from audiointerp.metrics import faithfulness as faith
from audiointerp.sound.activity import Times
from audiointerp.sound.masking import apply_mask

PASSES, CURVE_PASSES = 4, 2 * len(curves.SHARES)
RIGHT_MARGIN_DB = 0.01  # an unchanged mixture at 0 dB is equally near to both sounds, up to rounding
WAV_TOLERANCE = 1e-5  # a probability may differ by this much after a sound was written and read again

__all__ = ["CURVE_PASSES", "PASSES", "hear", "judge", "judge_stems", "judge_times", "judge_waveforms"]


def judge(
    interpretation: Interpretation,
    waveform: Tensor,
    classifier: Classifier,
    stems: Iterable[Tensor] = (),
    with_curves: bool = False,
) -> dict[str, Tensor]:
    """All scores of a batch of interpretations except those of the written waveforms, each (batch,).

    Args:
        interpretation: of `waveform`.
        waveform: (batch, samples), as it was explained.
        classifier: the explained classifier.
        stems: the target class's stem and, if known, the other stem, each (batch, samples).
        with_curves: whether to compute insertion and deletion too.
    """
    scores = _of_mask(interpretation, waveform, classifier, with_curves)
    scores |= _own_prediction(interpretation) | _rate_and_distortion(interpretation)
    scores["kept_energy"] = compactness.kept_energy(waveform, interpretation.waveform)
    scores["silent"] = separation.is_silent(interpretation.waveform, waveform)
    return scores | judge_stems(interpretation.waveform, waveform, stems)


def judge_stems(kept: Tensor, waveform: Tensor, stems: Iterable[Tensor]) -> dict[str, Tensor]:
    """The scores against known stems, each (batch,): of interpretations of waveforms, all (batch, samples).

    Args:
        kept: the interpretations.
        waveform: as it was explained.
        stems: the target class's stem and, if known, the other stem; none give no scores.
    """
    scores, silent = {}, separation.is_silent(kept, waveform)
    for prefix, stem in zip(("", "other_"), stems):
        ratio = separation.si_sdr(kept, stem)
        gained = separation.si_sdr_improvement(kept, stem, waveform)
        scores[f"{prefix}si_sdr"] = ratio.masked_fill(silent, torch.nan)
        scores[f"{prefix}si_sdr_improvement"] = gained.masked_fill(silent, torch.nan)
    if "other_si_sdr" in scores:  # a comparison with NaN is false: a silent interpretation is not right
        scores["right"] = (scores["si_sdr"] > scores["other_si_sdr"] + RIGHT_MARGIN_DB).float()
    return scores


def judge_times(interpreter: Interpreter, made: Interpretation, events: Times) -> dict[str, Tensor]:
    """Whether an explanation points to the times of the target class's sounds; scores, each (batch,).

    The relevance of a step of 0.1 s is the mean of `Interpreter.over_time` over its frames.

    Args:
        interpreter: the method that made it.
        made: the explanation of a clip, or of several of equal times.
        events: start and end of each sound in seconds from the clip's beginning.
    """
    spectrogram = interpreter.classifier.spectrogram
    seconds = made.waveform.shape[1] / made.sample_rate
    found = times.by_step(interpreter.over_time(made), spectrogram.hop_length / made.sample_rate, seconds)
    active = times.active_steps(events, seconds).to(found.device).expand(found.shape)
    return {
        "time_auc": times.time_auc(found, active),
        "time_iou": times.time_iou(found, active),
        "time_f1": times.time_f1(found, active),
        "pointing_game": times.pointing_game(found, active),
    }


def hear(kept: Tensor, left: Tensor, input_gain: Tensor, classifier: Classifier) -> tuple[Prediction, Prediction]:
    """Predictions for interpretation and residual, each (batch, samples), at the level of the explained input."""
    with frozen(classifier), torch.no_grad():
        kept_heard, left_heard = (classifier(part * input_gain[:, None]) for part in (kept, left))
    return kept_heard, left_heard


def judge_waveforms(
    whole: Prediction, kept: Prediction, left: Prediction, target: Tensor, multilabel: bool = False
) -> dict[str, Tensor]:
    """The scores `wav_*`, from the predictions of `hear` for the written waveforms; AI counts increases above 1e-5."""
    scores = _faithfulness(whole, kept, left, target, multilabel, WAV_TOLERANCE)
    return {f"wav_{name}": scores[name] for name in ("fidelity", "faithfulness", "ai", "ad", "ag")}


def _of_mask(
    interpretation: Interpretation, waveform: Tensor, classifier: Classifier, with_curves: bool
) -> dict[str, Tensor]:
    """Scores on the masked features; for a method without a mask, on its waveforms."""
    samples, gain, target = waveform.shape[1], interpretation.input_gain, interpretation.target
    mask = interpretation.mask
    if mask is None or interpretation.domain is None:
        kept, left = hear(interpretation.waveform, interpretation.residual, gain, classifier)
        return _faithfulness(interpretation.prediction, kept, left, target, classifier.multilabel)
    with frozen(classifier), torch.no_grad():
        stft = classifier.spectrogram(waveform * gain[:, None])
        kept, left = (
            classifier.classify_stft(apply_mask(stft, each, interpretation.domain), samples)
            for each in (mask, 1 - mask)
        )
        scores = _faithfulness(interpretation.prediction, kept, left, target, classifier.multilabel)
        if with_curves:
            # Clip by clip, since each is classified in ten versions at once.
            rows = [
                curves.insertion_and_deletion(
                    mask[row : row + 1],
                    stft[row : row + 1],
                    lambda heard, row=row: _probability(classifier, heard, samples, target[row : row + 1]),
                )
                for row in range(len(mask))
            ]
            scores["insertion"], scores["deletion"] = (torch.cat(each) for each in zip(*rows))
    return scores | {
        "sparseness": compactness.sparseness(mask),
        "complexity": compactness.complexity(mask),
        "mean_mask": compactness.mean_mask(mask),
    }


def _probability(classifier: Classifier, stft: Tensor, samples: int, target: Tensor) -> Tensor:
    """Probability of the target classes; the STFTs of one clip are consecutive rows."""
    heard = classifier.classify_stft(stft, samples).probabilities
    return faith.target_probability(heard, target.repeat_interleave(len(heard) // len(target), 0))


def _faithfulness(
    whole: Prediction, kept: Prediction, left: Prediction, target: Tensor, multilabel: bool, tolerance: float = 0.0
) -> dict[str, Tensor]:
    p, o, q = (faith.target_probability(each.probabilities, target) for each in (whole, kept, left))
    logits = (faith.mean_over_target(each.logits, target) for each in (whole, left))
    counted = faith.fidelity_rank(target.shape[1], multilabel)
    first = faith.fidelity(kept.probabilities, target)
    return {
        "fidelity": faith.fidelity(kept.probabilities, target, counted),
        **({"fidelity_argmax": first} if multilabel else {}),
        "faithfulness": faith.faithfulness(p, q),
        "faithfulness_logit": faith.faithfulness(*logits),
        "ai": faith.average_increase(p, o, tolerance),
        "ad": faith.average_drop(p, o),
        "ag": faith.average_gain(p, o),
    }


def _own_prediction(interpretation: Interpretation) -> dict[str, Tensor]:
    """For a method with its own prediction (L2I): whether the classifier's class is among its k most probable."""
    own = interpretation.details.get("theta_probabilities")
    if own is None:
        return {}
    predicted = interpretation.prediction.predicted[:, None]
    return {f"theta_top{k}": faith.in_top(own, predicted, k) for k in (1, 3, 5)}


def _rate_and_distortion(interpretation: Interpretation) -> dict[str, Tensor]:
    """For a rate-distortion explanation: the rate and the distortions."""
    names = {"distortion_empty": "empty", "distortion": "end", "rate": "rate", "saturated": "saturated"}
    details = interpretation.details
    return {name: details[key] for name, key in names.items()} if {*names.values()} <= details.keys() else {}
