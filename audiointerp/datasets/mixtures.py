"""Two clips summed at a known level ratio, with the stems kept as references for interpretations of the mixture.

The recipe of PIQ's and L2I's out-of-domain tests: unit-norm stems, a gain each, the sum scaled to peak 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.limits import check_items, check_level, check_seed
from audiointerp.datasets.table import check_item_id, parse_files, parse_float, parse_seed, read_rows
from audiointerp.results.writing import csv_text, restored, write_text
from audiointerp.sound import files as audio
from audiointerp.sound.files import SILENCE

__all__ = ["Mixture", "draw_pairs", "gains_from_snr", "mix", "read_mixtures", "write_mixtures"]


@dataclass(frozen=True)
class Mixture:
    """A row of mixtures.csv; its columns are these attributes, in this order.

    Attributes:
        item_id: `m_` and a number.
        base, other: the source files.
        base_gain, other_gain: of the unit-norm stems, before the mixture was scaled to peak 1.
        snr_db: level of the base stem above the other stem, in dB.
        seed: of the draw.
        mixture, base_stem, other_stem: WAV files; the first is the sum of the others.
        base_label, other_label: class names, several separated by `;`.
    """

    item_id: str
    base: Path
    other: Path
    base_gain: float
    other_gain: float
    snr_db: float
    seed: int
    mixture: Path
    base_stem: Path
    other_stem: Path
    base_label: str
    other_label: str


# Gains that float32 samples do not overflow with.
MAX_GAIN = 1e6
COLUMNS = tuple(field.name for field in fields(Mixture))


def gains_from_snr(snr_db: float) -> tuple[float, float]:
    """Gains of base and other that set the base's level `snr_db` above the other's, in dB.

    >>> gains_from_snr(20.0)
    (1.0, 0.1)
    """
    return 1.0, 10 ** (-snr_db / 20)


def mix(
    base: Tensor, other: Tensor, *, base_gain: float | Tensor, other_gain: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixture, base stem and other stem, each shaped as the inputs; the mixture is their sum and has peak 1.

        x = g_b b / |b|_2 + g_o o / |o|_2;   x, and both stems, divided by max |x|

    Args:
        base, other: (..., samples), of any level.
        base_gain, other_gain: numbers, or (...,) for one per row.
    Raises:
        ValueError: shapes differ, a stem is silent, or the two cancel.

    >>> mixture, stem, rest = mix(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 7.0]), base_gain=1.0, other_gain=0.5)
    >>> mixture, stem, rest
    (tensor([1.0000, 0.5000]), tensor([1., 0.]), tensor([0.0000, 0.5000]))
    """
    if base.shape != other.shape:
        raise ValueError(f"sounds of shapes {tuple(base.shape)} and {tuple(other.shape)} cannot be mixed")
    for name, sound in (("base", base), ("other", other)):
        if (sound.abs().amax(-1) <= SILENCE).any():
            raise ValueError(f"the {name} sound is silent; its ratio to another cannot be set")
    # The mixture is summed last, from the scaled stems, so that it equals the sum of the stored stems to the bit.
    stems = [_unit(sound) * _column(gain) for sound, gain in ((base, base_gain), (other, other_gain))]
    peak = (stems[0] + stems[1]).abs().amax(-1, keepdim=True)
    if not torch.isfinite(peak).all():
        raise ValueError(
            f"the gains {base_gain} and {other_gain} overflow; only their ratio counts, so give smaller ones"
        )
    if (peak <= SILENCE).any():
        raise ValueError("the two sounds cancel; their sum is silent")
    base_stem, other_stem = (stem / peak for stem in stems)
    return base_stem + other_stem, base_stem, other_stem


def draw_pairs(dataset: ClipDataset, items: int, seed: int) -> list[tuple[int, int]]:
    """`items` pairs (base, other) of clip indices that share no class; silent clips are left out.

    Bases are drawn in rounds; each round uses every possible base once.

    Raises:
        ValueError: no two audible clips have disjoint classes.
    """
    generator = torch.Generator().manual_seed(seed)
    audible = _audible(dataset)
    labels = [set(clip.labels) for clip in dataset.clips]
    pairs: list[tuple[int, int]] = []
    while len(pairs) < items:
        before = len(pairs)
        for base in torch.randperm(len(dataset), generator=generator).tolist():
            if len(pairs) == items:
                break
            order = torch.randperm(len(dataset), generator=generator).tolist()
            partners = (other for other in order if not labels[base] & labels[other] and audible(other))
            other = next(partners, None) if audible(base) else None
            if other is not None:
                pairs.append((base, other))
        if len(pairs) == before:
            raise ValueError("mixtures need two clips that are not silent and share no class; these data have none")
    return pairs


def write_mixtures(
    dataset: ClipDataset,
    out: str | Path,
    *,
    items: int,
    seed: int,
    snr_db: float | None = 0.0,
    gains: tuple[float, float] | None = None,
) -> Path:
    """Draws pairs and writes `out/mixtures.csv` and float32 WAVs in `out/audio`; returns the table's path.

    Args:
        dataset: clips are cropped or padded to its `seconds`.
        items: number of mixtures.
        seed: the same one gives the same pairs and samples.
        snr_db: level of the base above the other, in dB.
        gains: of the unit-norm base and other, in place of `snr_db`.
    Raises:
        ValueError: fewer than one item or more than 100,000, neither SNR nor gains, a gain that is not above 0, or no
            pairs.
    """
    check_items(items, "mixtures")
    check_seed(seed)
    if gains is None:
        if snr_db is None:
            raise ValueError("mixtures need snr_db or gains; both are None")
        check_level("snr_db", snr_db)
        gains = gains_from_snr(snr_db)
    _check_gains(gains)
    out = Path(out)
    pairs = draw_pairs(dataset, items, seed)
    rows = [_write_item(dataset, pair, f"m_{number:04d}", gains, seed, out) for number, pair in enumerate(pairs)]
    return _write_table(out / "mixtures.csv", rows)


def _check_gains(gains: tuple[float, float]) -> None:
    if not all(0 < gain < math.inf for gain in gains):
        raise ValueError(f"gains are {gains[0]:g} and {gains[1]:g}; both must be above 0 and finite")
    if not all(1 / MAX_GAIN <= gain <= MAX_GAIN for gain in gains):
        raise ValueError(
            f"gains are {gains[0]:g} and {gains[1]:g}; only their ratio counts, so give numbers between "
            f"{1 / MAX_GAIN:g} and {MAX_GAIN:g}"
        )


def read_mixtures(csv_path: str | Path) -> list[Mixture]:
    """Rows of a mixtures.csv, paths joined to its folder. The source files need not exist; the WAVs must.

    Raises:
        ValueError: naming the row (the header is row 1): a missing column, file or label, a bad number, an item_id
            used twice.
    """
    csv_path = Path(csv_path)
    mixtures: dict[str, Mixture] = {}
    for place, row in read_rows(csv_path, COLUMNS):
        mixture = _parse(place, {name: restored(cell) for name, cell in row.items()}, csv_path.parent)
        if mixture.item_id in mixtures:
            raise ValueError(f"{place}: item_id {mixture.item_id!r} is used twice")
        mixtures[mixture.item_id] = mixture
    return list(mixtures.values())


def _write_item(
    dataset: ClipDataset, pair: tuple[int, int], item_id: str, gains: tuple[float, float], seed: int, out: Path
) -> Mixture:
    sounds = dataset.batch(pair).waveform
    base, other = (dataset.clips[i] for i in pair)
    try:
        signals = mix(sounds[0], sounds[1], base_gain=gains[0], other_gain=gains[1])
    except ValueError as error:
        raise ValueError(f"{base.name} and {other.name}: {error}") from None
    files = {
        "mixture": Path("audio", f"{item_id}_mixture.wav"),
        "base_stem": Path("audio", f"{item_id}_base.wav"),
        "other_stem": Path("audio", f"{item_id}_other.wav"),
    }
    for path, signal in zip(files.values(), signals):
        audio.write(out / path, signal, dataset.sample_rate)
    return Mixture(
        item_id=item_id,
        base=Path(os.path.relpath(base.name, out)),
        other=Path(os.path.relpath(other.name, out)),
        base_gain=gains[0],
        other_gain=gains[1],
        snr_db=round(20 * math.log10(gains[0] / gains[1]), 9),
        seed=seed,
        **files,
        base_label=";".join(base.labels),
        other_label=";".join(other.labels),
    )


def _parse(place: str, row: dict[str, str], folder: Path) -> Mixture:
    for name in ("item_id", "base_label", "other_label"):
        if not row[name]:
            raise ValueError(f"{place}: {name} is empty")
    if row["base_label"] == row["other_label"]:
        raise ValueError(f"{place}: both labels are {row['base_label']!r}; a mixture has sounds of two classes")
    check_item_id(place, row["item_id"], folder)
    files = parse_files(place, row, ("mixture", "base_stem", "other_stem"), folder)
    return Mixture(
        item_id=row["item_id"],
        base=Path(os.path.join(folder, row["base"])),  # where the sources were: noted, never read
        other=Path(os.path.join(folder, row["other"])),
        base_gain=parse_float(place, "base_gain", row["base_gain"]),
        other_gain=parse_float(place, "other_gain", row["other_gain"]),
        snr_db=parse_float(place, "snr_db", row["snr_db"]),
        seed=parse_seed(place, row["seed"]),
        **files,
        base_label=row["base_label"],
        other_label=row["other_label"],
    )


def _write_table(path: Path, rows: list[Mixture]) -> Path:
    """Writes the table, after its WAVs and then renamed, so that an existing table has all its WAVs."""
    cells = [[getattr(row, name) for name in COLUMNS] for row in rows]
    texts = [[cell.as_posix() if isinstance(cell, Path) else cell for cell in row] for row in cells]
    return write_text(path, csv_text([COLUMNS, *texts]))


def _audible(dataset: ClipDataset) -> Callable[[int], bool]:
    """Whether a clip has sound in the stretch that a mixture would use; each clip is read once."""
    known: dict[int, bool] = {}

    def audible(i: int) -> bool:
        if i not in known:
            known[i] = bool(dataset.batch([i]).waveform.abs().max() > SILENCE)
        return known[i]

    return audible


def _unit(sound: Tensor) -> Tensor:
    return sound / sound.norm(dim=-1, keepdim=True)


def _column(gain: float | Tensor) -> float | Tensor:
    return gain[..., None] if isinstance(gain, Tensor) else gain
