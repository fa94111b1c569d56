"""Upper bounds of PIQ's training targets: each target is used as the mask, without a network, on held-out clips.

    python benchmarks/target_bounds.py CLASSIFIER ESC10 [--fold 4] [--mixtures 160]

Clean clips: fidelity, faithfulness, AD, mean mask. 0 dB mixtures whose prediction is one of the two labels: SI-SDR
improvement of the predicted class's stem.
"""

from __future__ import annotations

import argparse

import torch

import audiointerp
from audiointerp.datasets import ClipDataset, draw_pairs, mix, read_esc50
from audiointerp.evaluation.judging import judge
from audiointerp.interpreters import Loudest, TargetMasking
from audiointerp.sound.masking import EnergyMask, StemMask, ThresholdMask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classifier")
    parser.add_argument("data")
    parser.add_argument("--fold", type=int, default=4)
    parser.add_argument("--mixtures", type=int, default=160)
    options = parser.parse_args()
    classifier = audiointerp.load(options.classifier)
    clips = [clip for clip in read_esc50(options.data) if clip.fold == options.fold]
    dataset = ClipDataset(clips, classifier.labels)
    print("| target | fidelity | FF | AD | mean mask | SI-SDR improvement, dB |\n|---|---|---|---|---|---|")
    for name, method in methods(classifier).items():
        clean = on_clips(method, dataset) if name != IDEAL else dict.fromkeys(COLUMNS, float("nan"))
        gained = on_mixtures(method, dataset, options.mixtures)
        print(f"| {name} | " + " | ".join(f"{clean[each]:.2f}" for each in COLUMNS) + f" | {gained:.1f} |", flush=True)


COLUMNS = ("fidelity", "faithfulness", "ad", "mean_mask")
IDEAL = "ideal ratio mask of the stem (oracle)"


def methods(classifier) -> dict:
    made = {
        "0.35 of the maximum, log-magnitude (paper's code)": TargetMasking(classifier, ThresholdMask()),
        "0.35 of the maximum, magnitude (paper's text)": TargetMasking(classifier, ThresholdMask(domain="magnitude")),
        "90 % of the energy above the noise floor": TargetMasking(classifier, EnergyMask(0.9)),
        "99 % of the energy above the noise floor": TargetMasking(classifier, EnergyMask(0.99)),
        "loudest 20 % of bins": Loudest(classifier, 0.2),
        IDEAL: TargetMasking(classifier, StemMask(), "magnitude"),
    }
    for name in ("0.35 of the maximum, log-magnitude (paper's code)", "99 % of the energy above the noise floor"):
        filled = TargetMasking(classifier, made[name].target_mask)
        filled.fill = True
        made[f"{name}, the rest at the noise floor"] = filled
    return made


def on_clips(method, dataset) -> dict[str, float]:
    rows = [judge(method.interpret(batch.waveform), batch.waveform, method.classifier) for batch in dataset.batches(8)]
    return {name: float(torch.cat([row[name].double() for row in rows]).mean()) for name in COLUMNS}


def on_mixtures(method, dataset, count: int) -> float:
    labels, gained = dataset.labels_of(), []
    for i, j in draw_pairs(dataset, count, seed=0):
        base, other = dataset.batch([i]).waveform, dataset.batch([j]).waveform
        mixture, *stems = mix(base, other, base_gain=1.0, other_gain=1.0)
        predicted = int(method.classifier(mixture).predicted)
        if predicted in (int(labels[i]), int(labels[j])):
            stem = stems[0] if predicted == labels[i] else stems[1]
            made = method.interpret(mixture, stem=stem)
            gained.append(judge(made, mixture, method.classifier, [stem])["si_sdr_improvement"])
    return float(torch.cat(gained).nanmean())


if __name__ == "__main__":
    with torch.inference_mode():
        main()
