"""Clips, splits, batches and the cache of decoded samples."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.datasets import building, cache
from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.clips import Clip, class_names, split
from audiointerp.datasets.esc50 import read_esc50
from audiointerp.sound import files as audio


def ramp(path: Path, samples: int, rate: int = 1000, peak: float = 0.5) -> Path:
    """A file whose sample n is peak * (n + 1) / samples: any crop tells where it came from."""
    soundfile.write(path, peak * np.arange(1, samples + 1) / samples, rate, subtype="FLOAT")
    return path


def clip(name: str, label: str, fold: int) -> Clip:
    return Clip(Path(name), (label,), fold)


FOUR = [clip("a", "dog", 1), clip("b", "rain", 1), clip("c", "dog", 2), clip("d", "rain", 3)]


def test_split_sorts_by_fold_and_keeps_all_class_names():
    parts = split([*FOUR, clip("e", "wind", 4)], [1], [2], [3])
    assert [each.path.name for each in parts.train] == ["a", "b"]
    assert [each.path.name for each in parts.valid] == ["c"]
    assert [each.path.name for each in parts.test] == ["d"]
    assert parts.labels == ("dog", "rain", "wind") == class_names([*FOUR, clip("e", "wind", 4)])


def test_valid_and_test_may_be_empty():
    parts = split(FOUR, [1, 2, 3], [], [])
    assert (len(parts.train), parts.valid, parts.test) == (4, [], [])


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (([1, 2], [2], [3]), "fold 2 is named in both train_folds and valid_folds"),
        (([1, 1], [2], [3]), "fold 1 is named in both train_folds and train_folds"),
        (([1], [2], [7]), r"test_folds names fold 7, which has no clips; the data has folds \[1, 2, 3\]"),
        (([], [2], [3]), "train_folds is empty"),
        (([2], [1], []), r"class 'rain' \(b, valid\) has no training clip"),
        ((1, [2], [3]), "train_folds is 1; give a list"),
    ],
)
def test_split_refuses(folds, message):
    with pytest.raises(ValueError, match=message):
        split(FOUR, *folds)


@pytest.mark.parametrize("train", [[], [1], [7, 8]])
def test_where_nothing_is_trained_no_training_clips_are_needed(train):
    """Neither the folds of a shared recipe nor clips of every class; but what is there is kept apart."""
    parts = split(FOUR, train, [], [3], trains=False)
    assert [each.path.name for each in parts.train] == (["a", "b"] if train == [1] else [])
    assert [each.path.name for each in parts.test] == ["d"]
    with pytest.raises(ValueError, match="fold 3 is named in both train_folds and test_folds"):
        split(FOUR, [3], [], [3], trains=False)


def test_split_refuses_a_file_in_two_splits_however_its_path_is_spelt():
    twice = [*FOUR, Clip(Path("x/../a"), ("dog",), 3, start=2.0)]
    with pytest.raises(ValueError, match=r"a is in both train and test; give all clips of a file the same fold"):
        split(twice, [1], [2], [3])


@pytest.fixture
def ramps(tmp_path) -> list[Clip]:
    """Four files of 2, 3, 4 and 5 s at 1 kHz."""
    lengths = (2000, 3000, 4000, 5000)
    return [Clip(ramp(tmp_path / f"{n}.wav", n), ("dog" if n < 3500 else "rain",), 1) for n in lengths]


def dataset(clips, **settings) -> ClipDataset:
    return ClipDataset(clips, class_names(clips), **{"sample_rate": 1000, "seconds": 3.0} | settings)


def test_waveform_is_the_whole_clip_at_peak_one(ramps):
    wave = dataset(ramps).waveform(3)
    assert wave.dtype == torch.float32
    torch.testing.assert_close(wave, torch.arange(1, 5001) / 5000)


def test_silence_stays_silence(tmp_path):
    soundfile.write(tmp_path / "s.wav", np.zeros(3000), 1000)
    assert not dataset([Clip(tmp_path / "s.wav", ("x",), 1)]).waveform(0).any()


def test_batch_pads_short_clips_and_takes_the_start_of_long_ones(ramps):
    batch = dataset(ramps).batch([3, 0])
    assert batch.waveform.shape == (2, 3000)
    torch.testing.assert_close(batch.waveform[0], torch.arange(1, 3001) / 5000)
    torch.testing.assert_close(batch.waveform[1, :2000], torch.arange(1, 2001) / 2000)
    assert not batch.waveform[1, 2000:].any()
    assert batch.label.tolist() == [1, 0]
    assert batch.index.tolist() == [3, 0]


def test_random_crops_are_stretches_of_the_clip_that_reach_both_ends(tmp_path):
    one = dataset([Clip(ramp(tmp_path / "r.wav", 8), ("x",), 1)], seconds=0.006)
    rng = torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(60):
        piece = one.batch([0], rng).waveform[0] * 8
        torch.testing.assert_close(piece, piece[0] + torch.arange(6.0))
        starts.add(round(float(piece[0])) - 1)
    assert starts == {0, 1, 2}


def test_an_epoch_sees_every_clip_once_and_depends_on_its_seed_only(ramps):
    data = dataset(ramps)
    first = list(data.batches(3, shuffle_seed=7))
    torch.rand(5)  # global chance must play no part
    again = list(data.batches(3, shuffle_seed=7))
    assert [len(batch) for batch in first] == [3, 1]
    assert sorted(i for batch in first for i in batch.index.tolist()) == [0, 1, 2, 3]
    for one, two in zip(first, again):
        assert torch.equal(one.index, two.index)
        assert torch.equal(one.waveform, two.waveform)
    orders = {tuple(i for b in data.batches(4, shuffle_seed=seed) for i in b.index.tolist()) for seed in range(20)}
    assert len(orders) > 5
    assert [batch.index.tolist() for batch in data.batches(2)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("multilabel", [False, True])
def test_batches_read_ahead_are_those_read_one_by_one(ramps, multilabel):
    """For any number of threads, also from the middle of an epoch, as when a run resumes."""
    data = dataset(ramps * 5, multilabel=multilabel, seconds=1.5, readers=0)
    expected = list(data.batches(3, shuffle_seed=7))
    for readers in (1, 2, 5):
        data.readers = readers
        for first in (0, 2, 6, 7):
            made = list(data.batches(3, shuffle_seed=7, first=first))
            assert len(made) == len(expected) - first
            for one, two in zip(made, expected[first:]):
                for name in ("waveform", "label", "index"):
                    assert torch.equal(getattr(one, name), getattr(two, name))
                    assert getattr(one, name).dtype == getattr(two, name).dtype


def test_threads_read_a_few_batches_ahead_and_end_with_the_epoch(ramps, monkeypatch):
    data, read = dataset(ramps * 10, readers=2), []
    gather = data._gather
    monkeypatch.setattr(data, "_gather", lambda indices, where: read.append(indices) or gather(indices, where))
    before = threading.active_count()
    batches = data.batches(2)
    next(batches)
    deadline = time.monotonic() + 20
    while len(read) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(read) == 4  # the one that is used, and readers + 1 more, however long it is used
    batches.close()
    assert threading.active_count() == before and len(read) == 4


def test_an_error_while_reading_ahead_comes_in_its_turn(ramps, monkeypatch):
    data = dataset(ramps * 5, readers=3)
    gather = data._gather

    def failing(indices, where):
        if 12 in indices:
            raise audio.AudioError("12.wav: is broken")
        return gather(indices, where)

    monkeypatch.setattr(data, "_gather", failing)
    batches = data.batches(2)
    assert [next(batches).index.tolist() for _ in range(6)] == [[2 * n, 2 * n + 1] for n in range(6)]
    with pytest.raises(audio.AudioError, match=r"12\.wav: is broken"):
        next(batches)
    with pytest.raises(ValueError, match="readers is 65; give 0 to 64 threads"):
        dataset(ramps, readers=65)


def test_multilabel_labels_are_sets(tmp_path):
    path = ramp(tmp_path / "r.wav", 100)
    clips = [Clip(path, ("rain", "dog"), 1), Clip(path, ("wind",), 1)]
    data = dataset(clips, multilabel=True)
    assert data.labels == ("dog", "rain", "wind")
    assert data.labels_of().tolist() == [[1, 1, 0], [0, 0, 1]]
    assert data.batch([1]).label.tolist() == [[0, 0, 1]]
    with pytest.raises(ValueError, match=r"has 2 labels \['rain', 'dog'\]; set multilabel to True"):
        dataset(clips)


def test_labels_of_is_a_copy(ramps):
    data = dataset(ramps)
    data.labels_of().fill_(9)
    assert data.labels_of().tolist() == [0, 0, 1, 1]


def test_a_dataset_refuses_nonsense(ramps):
    with pytest.raises(ValueError, match="at least one clip"):
        ClipDataset([], ())
    with pytest.raises(ValueError, match="has label 'dog', which is none of the 1 classes"):
        ClipDataset(ramps, ("rain",))
    with pytest.raises(ValueError, match="clips last more than 0"):
        dataset(ramps, seconds=0.0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        dataset(ramps).batches(0)


def test_segments_of_one_file(tmp_path):
    path = ramp(tmp_path / "r.wav", 5000, peak=1.0)
    data = dataset([Clip(path, ("x",), 1, 1.0, 2.0), Clip(path, ("x",), 1, 4.5), Clip(path, ("x",), 1)])
    torch.testing.assert_close(data.waveform(0), torch.arange(1001, 3001) / 3000)
    torch.testing.assert_close(data.waveform(1), torch.arange(4501, 5001) / 5000)
    assert len(data.waveform(2)) == 5000
    late = dataset([Clip(path, ("x",), 1, 5.0)])
    with pytest.raises(audio.AudioError, match=r"r\.wav: a clip starts at 5 s but the file lasts 5\.00 s"):
        late.waveform(0)


def test_content_hash_tells_samples_and_labels_not_places(ramps, tmp_path):
    reference = dataset(ramps).content_hash
    (tmp_path / "elsewhere").mkdir()
    moved = [Clip(each.path.rename(tmp_path / "elsewhere" / each.path.name), each.labels, 2) for each in ramps]
    assert dataset(moved).content_hash == reference
    assert dataset(moved[:3]).content_hash != reference
    assert dataset(moved, seconds=2.0).content_hash != reference
    assert dataset([Clip(moved[0].path, ("rain",), 2), *moved[1:]]).content_hash != reference
    ramp(moved[0].path, 1999)
    assert dataset(moved).content_hash != reference


# --- cache -----------------------------------------------------------------------------------------------------------


def test_cache_holds_what_audio_read_gives(esc10, tmp_path):
    clips = read_esc50(esc10)[::40]
    stored = cache.ClipCache(clips, 16000, tmp_path)
    for place, each in enumerate(clips):
        expected = audio.read(each.path, 16000)[0]
        assert torch.equal(stored.read(place), expected)
        assert torch.equal(stored.read(place, 500, 20), expected[500:520])
        assert stored.gain(place) == float(audio.normalize_peak(expected)[1])


def test_a_cache_of_16_bits_takes_half_the_disk_and_errs_by_half_a_step(ramps, tmp_path):
    exact, coarse = (
        ClipDataset(ramps, ("dog", "rain"), 1000, 1.0, cache_folder=tmp_path / str(bits), cache_bits=bits)
        for bits in (32, 16)
    )
    for i in range(len(exact)):
        assert coarse.waveform(i).dtype == torch.float32
        error = (coarse.waveform(i) - exact.waveform(i)).abs()
        assert float(error.max()) <= 0.5001 / 32767 and float(coarse.waveform(i).abs().max()) == pytest.approx(1)
        torch.testing.assert_close(coarse.batch([i]).waveform, exact.batch([i]).waveform, atol=1.6e-5, rtol=0)
    sizes = {bits: sum(path.stat().st_size for path in (tmp_path / str(bits)).rglob("samples.*")) for bits in (32, 16)}
    assert sizes[32] == 2 * sizes[16] > 0 and exact.content_hash == coarse.content_hash
    # Built once, and again where the file is cut off.
    (samples,) = (tmp_path / "16").rglob("samples.i16")
    before = samples.stat().st_mtime_ns
    ClipDataset(ramps, ("dog", "rain"), 1000, 1.0, cache_folder=tmp_path / "16", cache_bits=16).waveform(0)
    assert samples.stat().st_mtime_ns == before
    samples.write_bytes(samples.read_bytes()[:-2])
    again = ClipDataset(ramps, ("dog", "rain"), 1000, 1.0, cache_folder=tmp_path / "16", cache_bits=16)
    assert torch.equal(again.waveform(1), coarse.waveform(1))
    with pytest.raises(ValueError, match="cache_bits is 8"):
        ClipDataset(ramps, ("dog", "rain"), cache_bits=8)


def test_silence_and_a_quiet_clip_in_a_cache_of_16_bits(tmp_path):
    """The steps are those of the clip's own peak, so that a clip at -80 dB is as exact as a loud one."""
    tone = torch.sin(torch.arange(16000) * 0.05)
    for name, samples in (("quiet", 1e-4 * tone), ("silent", 0 * tone)):
        audio.write(tmp_path / f"{name}.wav", samples, 16000)
    clips = [Clip(tmp_path / f"{name}.wav", ("a",), 1) for name in ("quiet", "silent")]
    data = ClipDataset(clips, ("a",), 16000, 1.0, cache_folder=tmp_path / "cache", cache_bits=16)
    torch.testing.assert_close(data.waveform(0), tone / tone.abs().max(), atol=2e-5, rtol=0)
    assert not data.waveform(1).any()


def test_cache_is_used_again_and_rebuilt_when_a_file_changes(ramps, tmp_path, monkeypatch):
    decoded = []
    read = audio.read
    monkeypatch.setattr(audio, "read", lambda path, rate: decoded.append(Path(path).name) or read(path, rate))
    dataset(ramps, cache_folder=tmp_path).waveform(0)
    assert sorted(decoded) == ["2000.wav", "3000.wav", "4000.wav", "5000.wav"]
    dataset(ramps[::-1], cache_folder=tmp_path).waveform(0)
    assert len(decoded) == 4

    stat = os.stat(ramps[0].path)
    ramp(ramps[0].path, 2000, peak=-0.5)  # same size
    os.utime(ramps[0].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert float(dataset(ramps, cache_folder=tmp_path).waveform(0)[-1]) == -1.0
    assert len(decoded) == 8
    dataset(ramps, sample_rate=500, cache_folder=tmp_path).waveform(0)
    assert len(decoded) == 12


def test_rotated_folds_decode_each_file_once(ramps, tmp_path, monkeypatch):
    clips = [Clip(each.path, ("x",), fold) for fold, each in enumerate(ramps)]
    dataset(clips[:3], cache_folder=tmp_path).waveform(0)
    dataset(clips[3:], cache_folder=tmp_path).waveform(0)
    monkeypatch.setattr(audio, "read", None)
    assert len(dataset([clips[3], clips[1]], cache_folder=tmp_path).waveform(0)) == 5000


def test_a_broken_file_is_named_and_leaves_nothing_behind(ramps, tmp_path):
    ramps[2].path.write_bytes(b"no audio")
    with pytest.raises(audio.AudioError, match=r"4000\.wav: not readable as audio"):
        dataset(ramps, cache_folder=tmp_path / "store").waveform(0)
    assert list((tmp_path / "store" / "clips").iterdir()) == []
    ramps[2].path.unlink()
    with pytest.raises(audio.AudioError, match=r"4000\.wav: no such file"):
        dataset(ramps, cache_folder=tmp_path / "store").waveform(0)


def test_a_killed_build_is_never_taken_for_a_cache(ramps, tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom audiointerp.sound import files as audio\n"
        "from audiointerp.datasets.cache import ClipCache\nfrom audiointerp.datasets.clips import Clip\n"
        "read = audio.read\n"
        "audio.read = lambda path, rate: os._exit(9) if path.endswith('5000.wav') else read(path, rate)\n"
        "ClipCache([Clip(Path(each), ('x',), 1) for each in sys.argv[2:]], 1000, sys.argv[1])\n"
    )
    paths = [str(each.path) for each in ramps]
    command = [sys.executable, "-c", script, str(tmp_path), *paths]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == 9
    (left,) = (tmp_path / "clips").iterdir()
    assert left.name.startswith(".part-")
    assert len(dataset(ramps, cache_folder=tmp_path).waveform(3)) == 5000
    assert left.exists()  # it might be another process at work; swept up once it is a day old

    old = time.time() - 2 * building.ABANDONED_AFTER
    for path in (*left.iterdir(), left):
        os.utime(path, (old, old))
    dataset(ramps[:1], cache_folder=tmp_path).waveform(0)
    assert not left.exists()


def test_damaged_samples_are_decoded_again(ramps, tmp_path):
    expected = dataset(ramps, cache_folder=tmp_path).waveform(2)
    (samples,) = tmp_path.glob("clips/*/samples.f32")
    samples.write_bytes(b"")
    assert torch.equal(dataset(ramps, cache_folder=tmp_path).waveform(2), expected)


def test_the_slower_of_two_builders_takes_the_other_s_result(ramps, tmp_path, monkeypatch):
    build = cache._build

    def build_twice(*arguments):
        build(*arguments)
        build(*arguments)

    monkeypatch.setattr(cache, "_build", build_twice)
    assert len(dataset(ramps, cache_folder=tmp_path).waveform(0)) == 2000
    (only,) = (tmp_path / "clips").iterdir()
    assert not only.name.startswith(".part-")


def test_default_root(monkeypatch):
    monkeypatch.setenv("AUDIOINTERP_CACHE", "/somewhere")
    assert cache.default_root() == Path("/somewhere")
    monkeypatch.delenv("AUDIOINTERP_CACHE")
    assert cache.default_root() == Path.home() / ".cache" / "audiointerp"


def test_no_progress_bar_without_a_terminal(ramps, tmp_path, capsys):
    dataset(ramps, cache_folder=tmp_path).waveform(0)
    assert capsys.readouterr() == ("", "")
