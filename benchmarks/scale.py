"""A data set of VGGSound's size: `python benchmarks/scale.py [--clips 200000] [--read 2000] [--folder FOLDER]`.

Simulated are 200,000 rows in VGGSound's layout: its CSV, and hard links to sixteen WAVs of 0.05 s, so that every file
is opened, decoded and cached as in a real run, while the cache takes 0.3 GB instead of 64. Measured, each in a process
of its own: the time to the first batch with and without a cache, the resident memory of the process at each step, and
the bytes of a clip in the index and in the cache. Rates are those of 2,000 clips of 10 s (16 kHz mono WAV; 44.1 kHz
stereo FLAC), in the order of a shuffled epoch of `pretrain.yaml`, from files, from the cache, and through the recipe's
augmentation on the processor. With --shards the same clips also lie in tar shards (WebDataset's layout).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

SOURCES = 16  # a file of ext4 has at most 65,000 links
CLASSES = 309
SHORT = 0.05  # seconds of a clip of the simulated 200,000
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--read", type=int, default=2_000, help="clips of 10 s whose reading is timed; 0: none")
    parser.add_argument("--folder", type=Path, help="keep the made files here, and use them again")
    parser.add_argument("--shards", action="store_true", help="also read tar shards")
    parser.add_argument("--step", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step[0]](Path(options.step[1]))))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        measure(folder, options)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> None:
    many = folder / "many"
    make_rows(many, options.clips, SHORT, 16000, 1, "wav")
    told("first use, the cache is made", step("first_batch", many))
    told("the cache is there", step("first_batch", many))
    told("cache on disk", sizes(many, options.clips))
    told("what each part holds", step("parts", many))
    if options.shards:
        make_shards(folder / "tars", many, options.clips)
        told("shards: first use of 5,000 clips a shard", step("shards", folder / "tars"))
        told("shards: the index is there", step("shards", folder / "tars"))
    if options.read:
        for name, rate, channels, suffix in (("mono16k", 16000, 1, "wav"), ("stereo44k", 44100, 2, "flac")):
            make_rows(folder / name, options.read, 10.0, rate, channels, suffix)
            told(f"files, {name}", step("decode", folder / name))
        told("epoch, clips of 10 s", step("epoch", folder / "mono16k"))


def step(name: str, folder: Path) -> dict:
    """The numbers of one step, measured in a new process."""
    command = [sys.executable, __file__, "--step", name, str(folder)]
    environment = {**os.environ, "AUDIOINTERP_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def told(what: str, *numbers: dict) -> None:
    for each in numbers:
        print(f"{what}: " + ", ".join(f"{name} {value:,.5g}" for name, value in each.items()), flush=True)


# What is read.


def make_rows(folder: Path, clips: int, seconds: float, rate: int, channels: int, suffix: str) -> None:
    """`clips` rows of VGGSound's CSV and as many files, hard links to a few sounds."""
    if (folder / "vggsound.csv").is_file():
        return
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    sources = []
    for number in range(min(SOURCES, clips)):
        time_s = np.arange(round(seconds * rate)) / rate
        tone = np.sin(2 * np.pi * (200 + 100 * number) * time_s)[:, None]
        sound = 0.4 * tone + 0.1 * rng.standard_normal((len(time_s), channels))
        sources.append(folder / f"source{number}.bin")
        soundfile.write(sources[-1], sound.clip(-1, 1), rate, subtype="PCM_16", format=suffix.upper())
    with open(folder / "part.csv", "w", newline="") as file:
        writer = csv.writer(file)
        for number in range(clips):
            name = f"v{number:010d}"
            os.link(sources[number % len(sources)], audio / f"{name}_{number % 300:06d}.{suffix}")
            part = "test" if number % 13 == 0 else "train"
            writer.writerow([name, number % 300, f"sound of class {number % CLASSES}", part])
    os.rename(folder / "part.csv", folder / "vggsound.csv")


def make_shards(folder: Path, many: Path, clips: int) -> None:
    """The clips of `many` as tar shards of 5,000."""
    if (folder / "made").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(many / "vggsound.csv", newline="") as file:
        rows = [row for row in csv.reader(file) if row[3] == "train"]
    sounds = [(many / f"source{number}.bin").read_bytes() for number in range(min(SOURCES, clips))]
    for shard, first in enumerate(range(0, len(rows), 5000)):
        with tarfile.open(folder / f"train-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, row in enumerate(rows[first : first + 5000], first):
                for suffix, data in (("cls", row[2].encode()), ("wav", sounds[number % len(sounds)])):
                    entry = tarfile.TarInfo(f"{row[0]}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    (folder / "made").touch()


# What is measured; each is run in a process of its own.


def resident() -> float:
    """Resident memory of this process now, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def private() -> float:
    """Memory of this process now that is its own, without mapped files and shared libraries, in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1e3


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def dataset(clips, labels, seconds: float):
    from audiointerp.datasets import ClipDataset

    return ClipDataset(clips, labels, 16000, seconds, cache_bits=16)


def first_batch(folder: Path) -> dict:
    """Until the first batch of a run: table, split, labels, cache, the hash of the content, and the batch."""
    from audiointerp.datasets import read_vggsound, split

    numbers, at_start, start, begun = {}, private(), time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        numbers[f"{name} s"] = time.perf_counter() - start
        numbers[f"{name} CPU s"] = time.process_time() - begun
        numbers[f"{name} MB"] = private() - at_start

    splits = split(read_vggsound(folder), [1], [], [2])
    lap("table")
    train = dataset(splits.train, splits.labels, SHORT)
    lap("dataset")
    train.waveform(0)  # opens the cache
    lap("cache open")
    assert len(train.content_hash) == 64
    lap("content hash")
    batches = train.batches(BATCH, shuffle_seed=1)
    next(batches)
    lap("first batch")
    for _, _ in zip(range(3000), batches):
        pass
    lap("3,000 batches")
    batches.close()
    return {**numbers, "imports MB": at_start, "private MB": private(), "resident MB": resident(), "peak MB": peak()}


def parts(folder: Path) -> dict:
    """Bytes a clip of the parts of a data set in memory, from its private memory before and after; pickled as well."""
    from audiointerp.datasets import read_vggsound, split

    before = private()
    clips = read_vggsound(folder)
    after = private()
    numbers = {"rows": len(clips), "clips, bytes each": (after - before) * 1e6 / len(clips)}
    numbers["clips pickled, bytes each"] = len(pickle.dumps(clips)) / len(clips)
    splits = split(clips, [1], [], [2])
    train = dataset(splits.train, splits.labels, SHORT)
    before = private()
    train.waveform(0)
    numbers["opened cache, bytes each"] = (private() - before) * 1e6 / len(train)
    return numbers


def shards(folder: Path) -> dict:
    from audiointerp.datasets import read_shards

    before, start = private(), time.perf_counter()
    clips = read_shards(folder)
    numbers = {"clips": len(clips), "index s": time.perf_counter() - start}
    return {**numbers, "private MB": private() - before, "pickled, bytes each": len(pickle.dumps(clips)) / len(clips)}


def decode(folder: Path) -> dict:
    """Clips a second from the files themselves, as the cache reads them: decoded, mixed to mono, resampled."""
    from audiointerp.datasets import cache, read_vggsound

    clips = read_vggsound(folder)
    segments = [cache.segment_of(clip) for clip in clips][:500]
    start, begun = time.perf_counter(), time.process_time()
    for _ in cache.decode(segments, 16000):
        pass
    seconds, busy = time.perf_counter() - start, time.process_time() - begun
    return {"clips/s": len(segments) / seconds, "clips per CPU s": len(segments) / busy, "cores": os.cpu_count() or 1}


def epoch(folder: Path) -> dict:
    """Clips a second of an epoch of `pretrain.yaml`'s batches from the cache, and through its augmentation."""
    import torch

    from audiointerp.datasets import Chain, Gain, Mixup, TimeRoll, one_hot_labels, read_vggsound, split

    splits = split(read_vggsound(folder), [1], [], [2])
    train = dataset(splits.train, splits.labels, 10.0)
    train.waveform(0)
    augment, rng = Chain([TimeRoll(), Gain(-9.0, 3.0), Mixup(0.3)]), torch.Generator().manual_seed(0)
    numbers = {"clips": len(train)}
    for readers in (0, 1, 2) if hasattr(train, "readers") else (0,):
        train.readers = readers
        for name, change, busy_s in (("read", None, 0), ("augmented", augment, 0), ("beside a device", None, 0.04)):
            at_start, start, begun, waited = private(), time.perf_counter(), time.process_time(), 0.0
            for batch in train.batches(BATCH, shuffle_seed=2):
                if change:
                    change(one_hot_labels(batch, CLASSES), rng)
                if busy_s:  # as long as a device computes (32 clips at 800 a second), this thread waits
                    time.sleep(busy_s)
                    waited += busy_s
            seconds, busy = time.perf_counter() - start, time.process_time() - begun
            numbers[f"{readers} readers, {name}, clips/s"] = len(train) / seconds
            numbers[f"{readers} readers, {name}, clips per CPU s"] = len(train) / busy
            if busy_s:
                numbers[f"{readers} readers, device's share"] = waited / seconds
        numbers[f"{readers} readers, MB"] = private() - at_start
    return numbers


def sizes(folder: Path, clips: int) -> dict:
    """Bytes a clip of the cache's index and samples on disk."""
    total = {"index": 0, "samples": 0}
    for path in (folder / "cache").rglob("*"):
        if path.is_file():
            total["samples" if path.name.startswith("samples") else "index"] += path.stat().st_size
    # Test clips are not cached by the steps above.
    cached = sum(number % 13 != 0 for number in range(clips))
    return {f"{name}, bytes a clip": size / cached for name, size in total.items()} | {"of 10 s": 10 * 16000 * 2.0}


STEPS = {"first_batch": first_batch, "parts": parts, "shards": shards, "decode": decode, "epoch": epoch}


if __name__ == "__main__":
    main()
