"""Sanity checks: a method's mask must depend on the model, labels and target class, but not on inaudible noise.

Adebayo et al. (2018), "Sanity checks for saliency maps", https://arxiv.org/abs/1810.03292, with a check of class
sensitivity on mixtures with known stems, and the class-specific masking table of Stalder et al. (2022),
https://arxiv.org/abs/2205.11266. Every check states its rule; a method fails if it fails one check.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from audiointerp.bundles import bundle
from audiointerp.contracts import Classifier, Interpreter, frozen
from audiointerp.datasets import ClipDataset
from audiointerp.datasets.limits import check_counts, check_items, check_level
from audiointerp.evaluation.conditions import Mixtures
from audiointerp.evaluation.items import Item, clip_items
from audiointerp.metrics import separation
from audiointerp.metrics.faithfulness import target_probability
from audiointerp.results.reading import read_table
from audiointerp.results.writing import write_table
from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.methods import methods_of
from audiointerp.sound.masking import apply_mask
from audiointerp.training.progress import tracked

ROWS = ("method", "check", "item_id", "stage", "value")

__all__ = ["Sanity", "SanityChecks", "check_methods", "mask_correlation", "randomised"]


@dataclass(frozen=True)
class Sanity:
    """Settings of the sanity checks: the sounds to explain, and the rules.

    Args:
        clips: number of clean clips, drawn by the seed, for model randomisation, label randomisation and stability.
        costly_clips: the same for the comparison's costly methods.
        mixtures: number of two-class mixtures for class sensitivity.
        costly_mixtures: the same for costly methods.
        snr_db: level of a mixture's first clip above its second, in dB.
        noise_db: level of the clip above the white noise that is added for stability, in dB.
        max_correlation: a method fails if the rank correlation of its mask with the mask for a randomised model (or for
            a model trained on shuffled labels) is above this, averaged over mixtures and both their classes. It is
            taken over the bins that hold 99.5 % of the mixture's energy: over all bins of a clip, which is shown
            beside it, two masks also agree because both are 0 where the clip is silent.
        max_right: a method fails if its explanations of a randomised model, or of one trained on shuffled labels, still
            have a higher SI-SDR to the target class's stem than to the other in more than this share; chance is 0.5.
        min_right: each mixture is explained once for each of its two classes; a method fails if the share of these
            explanations that have a higher SI-SDR to the target class's stem than to the other is below this.
        min_stable: a method fails if the rank correlation of its masks with and without noise is below this.
        retrained: method -> its run on a classifier that was trained on shuffled labels; for other methods, this check
            is "not run".
        table_clips: clips per class for the table of present and target classes, which needs an explanation for every
            pair of classes and leaves out costly methods; 0 for no table.
    """

    clips: int = 10
    costly_clips: int = 4
    mixtures: int = 40
    costly_mixtures: int = 20
    snr_db: float = 0.0
    noise_db: float = 60.0
    max_correlation: float = 0.5
    max_right: float = 0.6
    min_right: float = 0.7
    min_stable: float = 0.9
    retrained: Mapping[str, str] = field(default_factory=dict)
    table_clips: int = 1

    def __post_init__(self) -> None:
        check_items(self.mixtures, "mixtures", "mixtures")
        check_counts(
            clips=self.clips,
            costly_clips=self.costly_clips,
            costly_mixtures=self.costly_mixtures,
            table_clips=self.table_clips,
        )
        check_level("snr_db", self.snr_db)
        check_level("noise_db", self.noise_db)


class SanityChecks(Kind):
    """Runs a recipe with the key `sanity`: sanity checks of the methods and controls of a comparison."""

    name = "sanity"
    scored = False
    key = "sanity"
    keys = {"sanity": Sanity, "methods": Mapping, "controls": Mapping, "comparison": Comparison}
    defaults = {"controls": {}, "comparison": Comparison()}
    required = ("classifier", "methods")
    needs_test = True
    trains = False

    def run(self, context: Context) -> None:
        """Checks the methods that have not been checked yet and writes verdicts, figures and the page."""
        methods, controls = methods_of(context)
        wanted: Sanity = context.values["sanity"]
        retrained = {name: bundle.load(path) for name, path in wanted.retrained.items()}
        test = context.data["test"]
        context.start(data={"test": test})
        costly = context.values["comparison"].costly
        check_methods(wanted, {**methods, **controls}, retrained, costly, test, context.folder, context.seed)
        context.finish(results={})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes verdicts, figures and the page."""
        from audiointerp.runs.sanity import page

        return page.write(folder)


def mask_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two masks (freq, time), ties at their mean rank; 1 for equal masks.

    The correlation of a constant mask with any other mask is 0.

    >>> mask_correlation(torch.tensor([[0.1, 0.2]]), torch.tensor([[0.3, 0.9]]))
    1.0
    """
    if torch.equal(first, second):
        return 1.0
    ranks = [rankdata(each.flatten().cpu().numpy()) for each in (first, second)]
    ranks = [each - each.mean() for each in ranks]
    scale = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float((ranks[0] * ranks[1]).sum() / scale) if scale > 0 else 0.0


def randomised(classifier: Classifier, seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """Copies of the classifier in which one block after the other is randomly initialised, from output to input.

    A block consists of the layers of one parent module. Yields the name of the block and the copy; the given classifier
    is not changed.
    """
    # A new copy for each stage, so that earlier copies are not changed by later stages.
    names = [name for name, module in classifier.named_modules() if hasattr(module, "reset_parameters")]
    blocks = [list(group) for _, group in groupby(names, lambda name: name.rpartition(".")[0])]
    current = classifier
    for number, block in enumerate(reversed(blocks)):
        current = copy.deepcopy(current)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            for name in block:
                _reset(current.get_submodule(name))
        yield block[0].rpartition(".")[0] or block[0], current


def _reset(module: nn.Module) -> None:
    module.reset_parameters()  # pyright: ignore[reportCallIssue]


def check_methods(
    sanity: Sanity,
    methods: Mapping[str, Interpreter],
    retrained: Mapping[str, Interpreter],
    costly: Sequence[str],
    test: ClipDataset,
    folder: Path,
    seed: int,
) -> pd.DataFrame:
    """Runs every check on every method; writes sanity.csv (one row per value) and verdicts.csv.

    Args:
        sanity: clips and rules.
        methods: name -> interpreter, all of the same classifier; oracle controls are left out.
        retrained: name -> the same method on a classifier trained on shuffled labels.
        costly: names of methods that are checked on fewer clips.
        test: clips of the test folds.
        folder: the run folder.
        seed: of all draws.

    Returns:
        The verdicts: columns method, check, value, n, rule, verdict ("pass", "fail" or "not run").
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = list(clip_items(test, sanity.clips, seed))
    mixtures = list(Mixtures(sanity.mixtures, sanity.snr_db).items("mixture", test, folder, seed))
    done = folder / "sanity.csv"
    rows: list[dict[str, Any]] = read_table(done, ROWS).to_dict("records")
    finished = {row["method"] for row in rows}
    left = [name for name, method in methods.items() if not method.needs_stem and name not in finished]
    for name in tracked(left, len(left), "sanity checks"):
        few = name in costly
        mine = clips[: sanity.costly_clips] if few else clips
        mixed = mixtures[: sanity.costly_mixtures] if few else mixtures
        *_, (_, random) = randomised(methods[name].classifier, seed)
        others = {"model_randomisation": methods[name].on(random), "label_randomisation": retrained.get(name)}
        with ExitStack() as stack:  # what does not depend on the target is computed once for a sound
            for each in filter(None, (methods[name], *others.values())):
                stack.enter_context(each.several_targets())
            rows += _randomise_model(name, methods[name], mine, seed)
            rows += _randomise_labels(name, methods[name], others["label_randomisation"], mine)
            rows += _add_noise(name, methods[name], mine, sanity.noise_db, seed)
            rows += _ask_both(name, methods[name], mixed, others)
            rows += _ask_all(name, methods[name], [] if few else _a_few_of_each(test, sanity.table_clips, seed))
        write_table(done, pd.DataFrame(rows))
    table = verdicts(pd.DataFrame(rows), sanity)
    write_table(folder / "verdicts.csv", table)
    return table


def verdicts(rows: pd.DataFrame, sanity: Sanity) -> pd.DataFrame:
    """One row per method and check: the value, the rule, and whether the method passes."""
    correlation = (sanity.max_correlation, "<=")
    heard = (sanity.max_right, "<=", "share with higher SI-SDR to the target's stem")
    rules = {
        "class_sensitivity": (sanity.min_right, ">=", "share with higher SI-SDR to the target's stem"),
        "model_randomisation_audible": (*correlation, "rank correlation of masks over audible bins, weights random"),
        "model_randomisation_heard": heard,
        "label_randomisation_audible": (*correlation, "rank correlation over audible bins, labels shuffled"),
        "label_randomisation_heard": heard,
        "stability": (sanity.min_stable, ">=", "rank correlation of masks, inaudible noise added"),
        "model_randomisation": (*correlation, "rank correlation of masks, all weights random"),
        "label_randomisation": (*correlation, "rank correlation of masks, labels shuffled in training"),
    }
    out = []
    for method, group in rows.groupby("method", sort=False):
        for check, (bound, sign, what) in rules.items():
            values: Any = group[group["check"] == check]
            if check == "model_randomisation" and len(values):
                values = values[values["stage"] == values["stage"].iloc[-1]]
            value = float(values["value"].mean())
            passed = value <= bound if sign == "<=" else value >= bound
            verdict = "not run" if np.isnan(value) else "pass" if passed else "fail"
            row = {"method": method, "check": check, "value": value, "n": int(values["value"].count())}
            out.append({**row, "rule": f"{what} {sign} {bound:g}", "verdict": verdict})
    return pd.DataFrame(out)


def _randomise_model(name: str, method: Interpreter, clips: Sequence[Item], seed: int) -> list[dict[str, Any]]:
    before = [_mask(method, _waveform(item, method), None) for item in clips]
    rows = []
    for stage, classifier in randomised(method.classifier, seed):
        other = method.on(classifier)
        for item, (mask, target) in zip(clips, before):
            after, _ = _mask(other, _waveform(item, method), target)
            rows.append(_row(name, "model_randomisation", item, mask_correlation(mask, after), stage))
    return rows


def _randomise_labels(
    name: str, method: Interpreter, retrained: Interpreter | None, clips: Sequence[Item]
) -> list[dict[str, Any]]:
    rows = [{"method": name, "check": "label_randomisation", "item_id": "", "stage": "", "value": float("nan")}]
    if retrained is None:
        return rows
    rows = []
    for item in clips:
        mask, target = _mask(method, _waveform(item, method), None)
        after, _ = _mask(retrained, _waveform(item, method), target)
        rows.append(_row(name, "label_randomisation", item, mask_correlation(mask, after)))
    return rows


def _add_noise(name: str, method: Interpreter, clips: Sequence[Item], level: float, seed: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for item in clips:
        waveform = _waveform(item, method)
        noise = torch.randn(waveform.shape, generator=generator).to(waveform.device)
        noisy = waveform + noise * waveform.norm() / noise.norm() * 10 ** (-level / 20)
        mask, target = _mask(method, waveform, None)
        rows.append(_row(name, "stability", item, mask_correlation(mask, _mask(method, noisy, target)[0])))
    return rows


def _ask_both(
    name: str, method: Interpreter, mixtures: Sequence[Item], others: Mapping[str, Interpreter | None] | None = None
) -> list[dict[str, Any]]:
    """Explains each mixture for each of its classes; 1 if the output has a higher SI-SDR to the target class's stem.

    A silent output counts as 0. `others`, such as the method on a randomised classifier, explain the same: the rows
    "<check>_heard" hold the same number, "<check>_audible" the rank correlation of the masks over the bins that hold
    99.5 % of the energy, "<check>_improvement" and "improvement" the SI-SDR improvement in dB.
    """
    rows, labels = [], method.classifier.labels
    for item in mixtures:
        waveform = _waveform(item, method)
        loud = _audible(method.classifier.spectrogram(waveform)[0])
        for asked in item.stems:
            stems = [item.stems[asked], *(stem for label, stem in item.stems.items() if label != asked)]
            sound, mask = _explained(method, waveform, labels.index(asked))
            rows.append(_row(name, "class_sensitivity", item, float(_nearer(sound, stems)), asked))
            rows.append(_row(name, "improvement", item, _improvement(sound, stems, waveform), asked))
            for check, other in (others or {}).items():
                if other is None:
                    continue
                sound, after = _explained(other, waveform, labels.index(asked))
                correlation = mask_correlation(mask[loud], after[loud])
                rows.append(_row(name, f"{check}_audible", item, correlation, asked))
                rows.append(_row(name, f"{check}_heard", item, float(_nearer(sound, stems)), asked))
                rows.append(_row(name, f"{check}_improvement", item, _improvement(sound, stems, waveform), asked))
    return rows


def _explained(method: Interpreter, waveform: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """The interpretation (1, samples) on the CPU, and its mask (freq, time) or the magnitudes in its place."""
    made = method.interpret(waveform, target)
    level = method.classifier.spectrogram(made.waveform).abs() if made.mask is None else made.mask
    return made.waveform.cpu(), level[0]


def _nearer(sound: Tensor, stems: Sequence[Tensor]) -> bool:
    """Whether a sound has a higher SI-SDR to the first stem than to the second."""
    own, other = (float(separation.si_sdr(sound, stem)) for stem in stems)
    return own > other


def _improvement(sound: Tensor, stems: Sequence[Tensor], mixture: Tensor) -> float:
    return float(separation.si_sdr_improvement(sound, stems[0], mixture.cpu()))


def _audible(stft: Tensor, share: float = 0.995) -> Tensor:
    """The fewest bins that hold a share of the energy, (freq, time) bool."""
    power, order = stft.abs().square().flatten().sort(descending=True)
    count = int((power.cumsum(0) < share * power.sum()).sum()) + 1
    kept = torch.zeros(stft.numel(), dtype=torch.bool, device=stft.device)
    kept[order[:count]] = True
    return kept.view(stft.shape)


def _ask_all(name: str, method: Interpreter, clips: Sequence[Item]) -> list[dict[str, Any]]:
    """Probability of the class that is present, under the mask of each target class."""
    rows, classifier = [], method.classifier
    for item in clips:
        waveform = _waveform(item, method)
        for asked in range(len(classifier.labels)):
            made = method.interpret(waveform, asked)
            if made.mask is None or made.domain is None:
                continue
            with frozen(classifier), torch.no_grad():
                kept = apply_mask(classifier.spectrogram(waveform * made.input_gain[:, None]), made.mask, made.domain)
                heard = classifier.classify_stft(kept, waveform.shape[1]).probabilities
            present = torch.zeros_like(heard, dtype=torch.bool)
            present[:, classifier.labels.index(item.label)] = True
            value = float(target_probability(heard, present))
            rows.append(_row(name, "present", item, value, f"{item.label}|{classifier.labels[asked]}"))
    return rows


def _a_few_of_each(test: ClipDataset, count: int, seed: int) -> list[Item]:
    """`count` clips of every class, drawn by the seed."""
    chosen: dict[str, list[Item]] = {}
    for item in clip_items(test, None, seed) if count else ():
        same = chosen.setdefault(item.label, [])
        if len(same) < count:
            same.append(item)
    return [item for same in chosen.values() for item in same]


def _mask(method: Interpreter, waveform: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mask (freq, time) and target; for a method without masks, the magnitudes of its interpretation instead."""
    made = method.interpret(waveform, target)
    level = method.classifier.spectrogram(made.waveform).abs() if made.mask is None else made.mask
    return level[0], made.target


def _waveform(item: Item, method: Interpreter) -> Tensor:
    return next(item.windows()).waveform.to(method.classifier.device)


def _row(method: str, check: str, item: Item, value: float, stage: str = "") -> dict[str, Any]:
    return {"method": method, "check": check, "item_id": item.item_id, "stage": stage, "value": value}
