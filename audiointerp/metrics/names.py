"""Name, better direction and a short description of each score, for tables and report pages.

This module holds only text, so that a page can be written without the libraries that compute the scores.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INFO", "OF_METHOD", "MetricInfo"]


@dataclass(frozen=True)
class MetricInfo:
    """How one column of scores.csv is shown.

    Attributes:
        name: name of the column.
        label: the name shown to readers.
        higher_is_better: None where neither direction is better.
        help: the question that the score answers, and its range.
        unit: "" for a plain number, else "%" (the column holds 0 to 100), "dB" or "s".
    """

    name: str
    label: str
    higher_is_better: bool | None
    help: str
    unit: str = ""

    @property
    def arrow(self) -> str:
        """An up or down arrow for the better direction, or nothing.

        >>> INFO["fidelity"].arrow, INFO["complexity"].arrow, INFO["mean_mask"].arrow
        ('↑', '↓', '')
        """
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_ALL = (
    MetricInfo(
        "fidelity",
        "Fidelity",
        True,
        "Does the classifier still predict the explained class from the interpretation alone? 1 yes, 0 no; the mean is "
        "the share of clips. A classifier of several labels predicts the class if it is among the likeliest tenth of "
        "all labels, at most five.",
    ),
    MetricInfo(
        "fidelity_argmax",
        "Fidelity, likeliest label",
        True,
        "Classifiers of several labels only: is the explained class the likeliest of all labels on the interpretation "
        "alone? 1 yes, 0 no. A label such as Dog usually fails this, because Animal is likelier.",
    ),
    MetricInfo(
        "faithfulness",
        "Faithfulness",
        True,
        "How far does the explained class's probability fall when the interpretation is removed and only the residual "
        "is classified? -1 to 1; around 0, removing the interpretation makes no difference.",
    ),
    MetricInfo(
        "faithfulness_logit",
        "Faithfulness, logit",
        True,
        "How far does the explained class's logit (before softmax or sigmoid) fall when the interpretation is removed? "
        "The logit still changes where the probability is close to 1.",
    ),
    MetricInfo(
        "ai",
        "Average increase (AI)",
        True,
        "Is the class's probability higher on the interpretation alone than on the whole clip? 100 yes, 0 no; the mean "
        "is the percentage of clips.",
        "%",
    ),
    MetricInfo(
        "ad",
        "Average drop (AD)",
        False,
        "Which share of the class's probability is lost when only the interpretation is classified? 0 to 100.",
        "%",
    ),
    MetricInfo(
        "ag",
        "Average gain (AG)",
        True,
        "Which share of the missing probability (1 minus the clip's) is gained when only the interpretation is "
        "classified? 0 to 100.",
        "%",
    ),
    MetricInfo(
        "insertion",
        "Insertion",
        True,
        "Mean probability of the class when only the mask's highest bins are kept, up to 10, 30, 50, 70 and 90 % of "
        "the clip's energy. 0 to 1; the energy is equal for all masks, so that loudness alone gives no advantage.",
    ),
    MetricInfo(
        "deletion",
        "Deletion",
        False,
        "Mean probability of the class when the mask's highest bins are removed, up to 10, 30, 50, 70 and 90 % of the "
        "clip's energy. 0 to 1.",
    ),
    MetricInfo(
        "sparseness",
        "Sparseness",
        True,
        "Is the mask concentrated in few time-frequency bins? Gini index of the mask: 0 if it is spread evenly, near 1 "
        "if it is in few bins.",
    ),
    MetricInfo(
        "complexity",
        "Complexity",
        False,
        "Over how many time-frequency bins is the mask spread? Entropy of the mask in nats: 0 for one bin, "
        "ln(number of bins) when spread evenly.",
    ),
    MetricInfo(
        "kept_energy",
        "Kept energy",
        None,
        "Which share of the clip's energy is in the interpretation? 0 nothing, 1 everything. Neither is better, but "
        "the other scores depend on how much energy is kept.",
    ),
    MetricInfo(
        "mean_mask",
        "Mean mask",
        None,
        "Mean of the mask over all time-frequency bins: 0 keeps nothing, 1 keeps everything.",
    ),
    MetricInfo(
        "si_sdr",
        "SI-SDR",
        True,
        "How close is the interpretation to the known clean sound of the class, whatever its level? In dB; 0 means as "
        "much error as signal. Silent interpretations have none and are left out.",
        "dB",
    ),
    MetricInfo(
        "si_sdr_improvement",
        "SI-SDR improvement",
        True,
        "How much closer to the known clean sound is the interpretation than the input was? In dB; 0 means no closer. "
        "Silent interpretations have none and are left out.",
        "dB",
    ),
    MetricInfo(
        "other_si_sdr",
        "SI-SDR to the other sound",
        None,
        "How close is the interpretation to the other sound of the mixture, which was not explained? In dB.",
        "dB",
    ),
    MetricInfo(
        "other_si_sdr_improvement",
        "SI-SDR improvement to the other sound",
        False,
        "How much closer to the other sound of the mixture is the interpretation than the input was? In dB; below 0 "
        "for a method that isolates the explained class.",
        "dB",
    ),
    MetricInfo(
        "right",
        "Right answers",
        True,
        "Is the interpretation of a mixture closer to the known sound of the explained class than to the other sound, "
        "by at least 0.01 dB of SI-SDR? 1 yes, 0 no; a silent interpretation counts as no. A mask that does not depend "
        "on the class gets about 0.5 at 0 dB.",
    ),
    MetricInfo(
        "time_auc",
        "AUC over time",
        True,
        "Where the times of the class's sound are known: are moments in which it sounds more relevant than the others? "
        "Area under the ROC curve over steps of 0.1 s: 1 for all of them, 0.5 by chance.",
    ),
    MetricInfo(
        "time_iou",
        "IoU over time",
        True,
        "How far do the relevant moments (at least half of the largest relevance) coincide with the times of the "
        "class's sound? Intersection over union, 0 to 1.",
    ),
    MetricInfo(
        "time_f1",
        "F1 over time",
        True,
        "F1 score of the relevant moments (at least half of the largest relevance) as a detector of the class's sound, "
        "0 to 1.",
    ),
    MetricInfo(
        "pointing_game",
        "Pointing game",
        True,
        "Does the class sound at the most relevant moment? 1 yes, 0 no; the mean is the share of clips. By chance it "
        "is the share of the time in which the class sounds.",
    ),
    MetricInfo(
        "wav_fidelity",
        "Fidelity of the WAV",
        True,
        "Fidelity computed from the interpretation's written waveform, which people listen to.",
    ),
    MetricInfo(
        "wav_faithfulness",
        "Faithfulness of the WAV",
        True,
        "Faithfulness computed from the written waveforms of interpretation and residual.",
    ),
    MetricInfo(
        "wav_ai",
        "AI of the WAV",
        True,
        "Average increase computed from the written waveform; only increases above 0.00001 count.",
        "%",
    ),
    MetricInfo(
        "wav_ad",
        "AD of the WAV",
        False,
        "Average drop computed from the written waveform.",
        "%",
    ),
    MetricInfo(
        "wav_ag",
        "AG of the WAV",
        True,
        "Average gain computed from the written waveform.",
        "%",
    ),
    *(
        MetricInfo(
            f"theta_top{k}",
            f"Top-{k} fidelity",
            True,
            f"L2I, VIBI and FLINT only: is the classifier's class among the {k} likeliest classes of the method's own "
            "prediction (from L2I's components, VIBI's tiles, FLINT's attributes)? 1 yes, 0 no.",
        )
        for k in (1, 3, 5)
    ),
    MetricInfo(
        "distortion_empty",
        "Distortion with nothing kept",
        None,
        "Rate-distortion only: half the squared change of the target's logit when every part is filled, D(empty): the "
        "distortion that an explanation has to reduce.",
    ),
    MetricInfo(
        "distortion",
        "Distortion",
        False,
        "Rate-distortion only: half the squared change of the target's logit when the parts not kept are filled.",
    ),
    MetricInfo(
        "rate",
        "Rate",
        False,
        "Rate-distortion only: the share of the parts that is kept; in the deletion game, that is taken away.",
    ),
    MetricInfo(
        "saturated",
        "Saturated",
        True,
        "Rate-distortion only: the share of the parts whose importance is below 0.1 or above 0.9, that is, clearly "
        "kept or left out.",
    ),
    MetricInfo(
        "silent",
        "Silent outputs",
        False,
        "Silent interpretations: the method kept no audible part of the clip.",
    ),
    MetricInfo(
        "seconds",
        "Time",
        False,
        "How long the explanation took to compute, per clip.",
        "s",
    ),
)

INFO: dict[str, MetricInfo] = {info.name: info for info in _ALL}
"""Column of scores.csv -> its description, in the order of the tables."""

OF_METHOD: dict[str, MetricInfo] = {
    "frechet_distance": MetricInfo(
        "frechet_distance",
        "Frechet distance",
        False,
        "How far are a method's interpretations, as a set, from the clean clips, in the classifier's embedding? 0 "
        "for equal distributions; blank where clips are too few for a covariance.",
    )
}
"""Scores of a method's interpretations as a set, without a value per clip."""
