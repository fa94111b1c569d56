"""What each score is called, which way is better, and what it asks, in a sentence; read by tables and report pages.

Only words stand here, so that a page can be written without the libraries that compute the scores.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INFO", "OF_METHOD", "MetricInfo"]


@dataclass(frozen=True)
class MetricInfo:
    """How one column of scores.csv is shown.

    Attributes:
        name: the column.
        label: what people read.
        higher_is_better: None where neither direction is.
        help: what it asks and its range.
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
        "Does the classifier still choose the explained class when it hears only the interpretation? 1 yes, 0 no; "
        "the mean is the share of clips.",
    ),
    MetricInfo(
        "faithfulness",
        "Faithfulness",
        True,
        "How far does the explained class's probability fall when the interpretation is taken out and only the rest "
        "is heard? -1 to 1; around 0, the classifier does not miss it.",
    ),
    MetricInfo(
        "faithfulness_logit",
        "Faithfulness, logit",
        True,
        "The same fall, of the class's logit (before softmax): it still moves where the probability is close to 1.",
    ),
    MetricInfo(
        "ai",
        "Average increase (AI)",
        True,
        "Is the classifier surer of the class from the interpretation alone than from the whole clip? 100 yes, 0 no; "
        "the mean is the percentage of clips.",
        "%",
    ),
    MetricInfo(
        "ad",
        "Average drop (AD)",
        False,
        "What part of the class's probability is lost when only the interpretation is heard? 0 to 100.",
        "%",
    ),
    MetricInfo(
        "ag",
        "Average gain (AG)",
        True,
        "What part of the missing probability (1 minus the clip's) is gained when only the interpretation is heard? "
        "0 to 100.",
        "%",
    ),
    MetricInfo(
        "insertion",
        "Insertion",
        True,
        "Mean probability of the class when the mask's highest bins alone are heard, up to 10, 30, 50, 70 and 90 % of "
        "the clip's energy. 0 to 1; at equal energy, so that loudness alone gains nothing.",
    ),
    MetricInfo(
        "deletion",
        "Deletion",
        False,
        "Mean probability of the class when the mask's highest bins are removed, up to the same shares of the energy. "
        "0 to 1.",
    ),
    MetricInfo(
        "sparseness",
        "Sparseness",
        True,
        "Is the mask gathered in few time-frequency bins? Gini index of the mask: 0 spread evenly, near 1 in few bins.",
    ),
    MetricInfo(
        "complexity",
        "Complexity",
        False,
        "Over how many time-frequency bins is the mask spread? Entropy of the mask in nats: 0 for one bin, "
        "ln(number of bins), about 12.3 for 5 s, when spread evenly.",
    ),
    MetricInfo(
        "kept_energy",
        "Kept energy",
        None,
        "Which part of the clip's energy is in the interpretation? 0 nothing, 1 everything. Neither is better; it says "
        "how much the other scores were given to work with.",
    ),
    MetricInfo(
        "mean_mask",
        "Mean mask",
        None,
        "How open is the mask on average? 0 shut, 1 open.",
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
        "How close is the interpretation to the other sound of the mixture, the one that was not explained? In dB.",
        "dB",
    ),
    MetricInfo(
        "other_si_sdr_improvement",
        "SI-SDR improvement to the other sound",
        False,
        "How much closer to the other sound of the mixture is the interpretation than the input was? In dB; a method "
        "that singles out its class moves away from it.",
        "dB",
    ),
    MetricInfo(
        "wav_fidelity",
        "Fidelity of the WAV",
        True,
        "Fidelity once more, on the interpretation's waveform analysed again, as a listener's copy would be.",
    ),
    MetricInfo(
        "wav_faithfulness",
        "Faithfulness of the WAV",
        True,
        "Faithfulness once more, on the waveforms of interpretation and residual analysed again.",
    ),
    MetricInfo(
        "wav_ai",
        "AI of the WAV",
        True,
        "Average increase once more, on the written waveform; an increase counts above 0.00001.",
        "%",
    ),
    MetricInfo(
        "wav_ad",
        "AD of the WAV",
        False,
        "Average drop once more, on the written waveform.",
        "%",
    ),
    MetricInfo(
        "wav_ag",
        "AG of the WAV",
        True,
        "Average gain once more, on the written waveform.",
        "%",
    ),
    *(
        MetricInfo(
            f"theta_top{k}",
            f"Top-{k} fidelity",
            True,
            f"L2I only: is the classifier's class among the {k} likeliest of L2I's own prediction from its components? "
            "1 yes, 0 no.",
        )
        for k in (1, 3, 5)
    ),
    MetricInfo(
        "distortion_empty",
        "Distortion of nothing kept",
        None,
        "Rate-distortion only: half the squared change of the asked logit when every part is filled, D(empty). What an "
        "explanation has to win back.",
    ),
    MetricInfo(
        "distortion",
        "Distortion",
        False,
        "Rate-distortion only: half the squared change of the asked logit when the parts that are not kept are filled.",
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
        "Rate-distortion only: the share of the parts whose importance is below 0.1 or above 0.9, that is, decided.",
    ),
    MetricInfo(
        "silent",
        "Silent outputs",
        False,
        "Interpretations without any sound: the method found nothing to play.",
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
        "How far do a method's interpretations as a whole lie from the clean clips, in the classifier's embedding? 0 "
        "for equal distributions; blank where clips are too few for a covariance.",
    )
}
"""What a method has as a whole, and no clip by itself."""
