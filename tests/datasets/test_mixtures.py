"""Mixtures with known stems."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.clips import Clip, class_names
from audiointerp.datasets.esc50 import read_esc50
from audiointerp.datasets.mixtures import draw_pairs, gains_from_snr, mix, read_mixtures, write_mixtures

COLUMNS = "item_id,base,other,base_gain,other_gain,snr_db,seed,mixture,base_stem,other_stem,base_label,other_label"


def test_mix_by_hand():
    # |(3, 4)| = 5 and |(0, 2)| = 2: stems (0.6, 0.8) and 0.5 * (0, 1); their sum (0.6, 1.3) peaks at 1.3.
    mixture, base, other = mix(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]), base_gain=1.0, other_gain=0.5)
    torch.testing.assert_close(base, torch.tensor([0.6, 0.8]) / 1.3)
    torch.testing.assert_close(other, torch.tensor([0.0, 0.5]) / 1.3)
    torch.testing.assert_close(mixture, torch.tensor([0.6 / 1.3, 1.0]))


def snr(base: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(np.sum(base.astype(float) ** 2) / np.sum(other.astype(float) ** 2))


@pytest.mark.parametrize("snr_db", [-12.0, 0.0, 7.5])
def test_stems_have_the_snr_and_sum_to_the_mixture(snr_db):
    sounds = (
        torch.randn(2, 5, 4000, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.01, 3.0])[:, None, None]
    )
    gains = gains_from_snr(snr_db)
    mixture, base, other = mix(sounds[0], sounds[1], base_gain=gains[0], other_gain=gains[1])
    assert torch.equal(mixture, base + other)
    for row in range(5):
        assert snr(base[row].numpy(), other[row].numpy()) == pytest.approx(snr_db, abs=1e-4)
        assert float(mixture[row].abs().max()) == pytest.approx(1, abs=1e-6)


def test_mix_takes_a_gain_a_row():
    sounds = torch.randn(2, 2, 100, generator=torch.Generator().manual_seed(2))
    gains = torch.tensor([1.0, 0.1])
    _, base, other = mix(sounds[0], sounds[1], base_gain=1.0, other_gain=gains)
    assert [round(snr(base[row].numpy(), other[row].numpy()), 3) for row in (0, 1)] == [0, 20]


def test_mix_refuses():
    one = torch.ones(4)
    with pytest.raises(ValueError, match="the other sound is silent"):
        mix(one, torch.zeros(4), base_gain=1.0, other_gain=1.0)
    with pytest.raises(ValueError, match="the two sounds cancel"):
        mix(one, -2 * one, base_gain=1.0, other_gain=1.0)
    with pytest.raises(ValueError, match=r"shapes \(4,\) and \(3,\)"):
        mix(one, torch.ones(3), base_gain=1.0, other_gain=1.0)


def make_dataset(folder: Path, labels: list[tuple[str, ...]], silent: tuple[int, ...] = ()) -> ClipDataset:
    rng = np.random.default_rng(0)
    clips = []
    for number, names in enumerate(labels):
        sound = rng.uniform(-0.5, 0.5, 1500) * (number not in silent)
        soundfile.write(folder / f"{number}.wav", sound, 1000, subtype="FLOAT")
        clips.append(Clip(folder / f"{number}.wav", names, 1))
    return ClipDataset(clips, class_names(clips), sample_rate=1000, seconds=1.0, multilabel=True)


def test_pairs_share_no_class_leave_out_silence_and_use_bases_evenly(tmp_path):
    labels = [("dog",), ("dog", "rain"), ("rain",), ("wind",), ("dog",), ("wind",)]
    pairs = draw_pairs(make_dataset(tmp_path, labels, silent=(3,)), 20, seed=3)
    assert len(pairs) == 20
    assert all(not set(labels[base]) & set(labels[other]) for base, other in pairs)
    assert not {3} & {i for pair in pairs for i in pair}
    for stop in range(5, 21, 5):
        assert set(Counter(base for base, _ in pairs[:stop]).values()) == {stop // 5}


def test_a_clip_that_is_silent_where_it_is_used_is_left_out(tmp_path):
    data = make_dataset(tmp_path, [("dog",), ("rain",), ("wind",)])
    soundfile.write(tmp_path / "0.wav", np.r_[np.zeros(1000), np.ones(500)], 1000)
    assert 0 not in {i for pair in draw_pairs(data, 10, seed=0) for i in pair}


def test_pairs_come_from_the_seed_alone(tmp_path):
    data = make_dataset(tmp_path, [("a",), ("b",), ("c",), ("d",), ("e",), ("f",)])
    first = draw_pairs(data, 12, seed=5)
    torch.rand(3)
    assert draw_pairs(data, 12, seed=5) == first
    assert draw_pairs(data, 12, seed=6) != first


def test_no_pair_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="two clips that are not silent and share no class"):
        draw_pairs(make_dataset(tmp_path, [("dog",), ("dog",), ("rain",)], silent=(2,)), 1, seed=0)


def test_written_mixtures_read_back(esc10, tmp_path):
    clips = [clip for clip in read_esc50(esc10) if clip.fold == 4][:30]
    data = ClipDataset(clips, class_names(clips))
    table = write_mixtures(data, tmp_path / "out", items=4, seed=11, snr_db=5.0)
    assert table == tmp_path / "out" / "mixtures.csv"
    assert table.read_text().splitlines()[0] == COLUMNS
    mixtures = read_mixtures(table)
    assert [mixture.item_id for mixture in mixtures] == ["m_0000", "m_0001", "m_0002", "m_0003"]
    source = {clip.path.resolve(): clip.labels[0] for clip in clips}
    for mixture in mixtures:
        assert (mixture.snr_db, mixture.seed, mixture.base_gain) == (5.0, 11, 1.0)
        assert source[mixture.base.resolve()] == mixture.base_label != mixture.other_label
        assert source[mixture.other.resolve()] == mixture.other_label
        (whole, rate), (base, _), (other, _) = (
            soundfile.read(path, dtype="float32") for path in (mixture.mixture, mixture.base_stem, mixture.other_stem)
        )
        assert (rate, len(whole)) == (16000, 80000)
        assert soundfile.info(mixture.mixture).subtype == "FLOAT"
        assert np.array_equal(whole, base + other)
        assert snr(base, other) == pytest.approx(5.0, abs=1e-3)
        # The stem is the source scaled: perfectly correlated with it.
        sound = data.waveform([clip.path.resolve() for clip in clips].index(mixture.base.resolve())).numpy()[:80000]
        assert np.corrcoef(sound, base[: len(sound)])[0, 1] == pytest.approx(1, abs=1e-5)


def test_the_same_seed_writes_the_same_samples_and_gains_replace_the_snr(tmp_path):
    data = make_dataset(tmp_path, [("a",), ("b",), ("c",)])
    for name in ("one", "two"):
        write_mixtures(data, tmp_path / name, items=3, seed=2, gains=(0.8, 0.2))
    assert (tmp_path / "one" / "mixtures.csv").read_bytes() == (tmp_path / "two" / "mixtures.csv").read_bytes()
    files = sorted(path.name for path in (tmp_path / "one" / "audio").iterdir())
    assert len(files) == 9
    for name in files:  # not their bytes: libsndfile writes the time of day into float WAVs
        one, two = (soundfile.read(tmp_path / out / "audio" / name)[0] for out in ("one", "two"))
        assert np.array_equal(one, two)
    row = read_mixtures(tmp_path / "one" / "mixtures.csv")[0]
    assert (row.base_gain, row.other_gain) == (0.8, 0.2)
    assert row.snr_db == pytest.approx(12.0412, abs=1e-4)  # 20 log10 4


def test_write_refuses_nonsense(tmp_path):
    data = make_dataset(tmp_path, [("a",), ("b",)])
    with pytest.raises(ValueError, match="items is 0"):
        write_mixtures(data, tmp_path / "o", items=0, seed=0)
    with pytest.raises(ValueError, match="snr_db or gains"):
        write_mixtures(data, tmp_path / "o", items=1, seed=0, snr_db=None)
    with pytest.raises(ValueError, match="gains are 1 and 0; both must be above 0"):
        write_mixtures(data, tmp_path / "o", items=1, seed=0, gains=(1.0, 0.0))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("mixture", "audio/gone.wav", "row 3: mixture: no such file 'audio/gone.wav'"),
        ("snr_db", "loud", "row 3: snr_db is 'loud'; expected a number"),
        ("seed", "1.5", "row 3: seed is '1.5'; expected a whole number"),
        ("base_label", "", "row 3: base_label is empty"),
        ("item_id", "m_0000", "row 3: item_id 'm_0000' is used twice"),
    ],
)
def test_reading_names_the_row(tmp_path, column, text, message):
    table = write_mixtures(make_dataset(tmp_path, [("a",), ("b",)]), tmp_path, items=2, seed=0)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    rows[1][column] = text
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS.split(","))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(ValueError, match=message):
        read_mixtures(table)


def test_clips_that_cannot_be_mixed_are_named(tmp_path):
    sound = np.sin(np.arange(1000)) * 0.3
    clips = []
    for name, label, each in (("one", "dog", sound), ("other", "cat", -sound)):
        soundfile.write(tmp_path / f"{name}.wav", each, 1000, subtype="FLOAT")
        clips.append(Clip(tmp_path / f"{name}.wav", (label,), 1))
    with pytest.raises(ValueError, match=r"(one|other)\.wav and .*(one|other)\.wav: the two sounds cancel"):
        write_mixtures(ClipDataset(clips, ("cat", "dog"), 1000, 1.0), tmp_path / "out", items=1, seed=0)
