"""Sounds made alike: rate, length, level, fades and file format, measured in the files written."""

import struct

import numpy as np
import pyloudnorm
import pytest
import soundfile
from listening_runs import Sound, noise, write_run
from scipy import signal

from audiointerp.listening import levels
from audiointerp.listening.making.manifest import ListeningError, read_manifest
from audiointerp.listening.making.preparation import Settings, Stimulus, prepare


def tone(seconds, rate=48000, level=0.1, hertz=1000.0):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("float32")


def prepared(folder, sounds, **settings):
    """Writes a run of (method or "mixture", samples, rate, subtype); returns the plan and name -> written samples."""
    run = write_run(
        folder / "run",
        [
            Sound(
                *(item, "mixture" if name == "mixture" else "interpretation", "" if name == "mixture" else name),
                *(samples, rate, subtype),
                facts={"pred_class": "dog"},
            )
            for item, name, samples, rate, subtype in sounds
        ],
    )
    clips = [Stimulus(f"{each.item_id}_{each.method or 'mixture'}", each) for each in read_manifest(run)]
    plan = prepare(clips, Settings(**settings))
    plan.write(folder / "out")
    return plan, {clip.name: soundfile.read(folder / "out" / f"{clip.name}.wav", always_2d=True)[0] for clip in clips}


def lufs(samples, rate=48000):
    return pyloudnorm.Meter(rate).integrated_loudness(samples)


def test_the_paper_s_own_mixture_of_files(tmp_path):
    """16 kHz float, 44.1 kHz 16-bit and 16 kHz float of other lengths, 20 LU apart, as in PIQ's own study."""
    sounds = [
        ("a", "mixture", noise(79877, 0, 0.2), 16000, "FLOAT"),
        ("a", "piq", noise(77376, 1, 0.02), 16000, "FLOAT"),
        ("a", "l2i_1", noise(220160, 2, 0.05), 44100, "PCM_16"),
    ]
    plan, written = prepared(tmp_path, sounds)
    assert {len(each) for each in written.values()} == {239631}  # ceil(79877 * 3), the longest
    assert {soundfile.info(path).samplerate for path in (tmp_path / "out").iterdir()} == {48000}
    before = [each.lufs_in for each in plan.prepared.values()]
    assert max(before) - min(before) > 18
    assert [lufs(each) for each in written.values()] == pytest.approx([-23] * 3, abs=0.1)
    assert plan.prepared["a_piq"].pad_frames == 239631 - 3 * 77376
    assert any("lengths differ by more than 50 ms" in line for line in plan.warnings)
    assert any("bandwidths, differ" in line for line in plan.warnings)


def test_lengths_half_a_second_apart_need_pad(tmp_path):
    sounds = [("a", "mixture", tone(1.1), 48000, "FLOAT"), ("a", "piq", tone(0.5), 48000, "FLOAT")]
    sounds += [("b", "mixture", tone(0.5), 48000, "FLOAT"), ("b", "piq", tone(1.4), 48000, "FLOAT")]
    with pytest.raises(ListeningError) as caught:
        prepared(tmp_path, sounds)
    assert [line.split(":")[0] for line in caught.value.problems] == ["item a", "item b"]
    assert "lasts 0.500 s" in caught.value.problems[0] and "--pad" in caught.value.problems[0]
    _, written = prepared(tmp_path, sounds, pad=True)
    assert {name: len(each) for name, each in written.items()} == {
        **{"a_mixture": 52800, "a_piq": 52800},
        **{"b_mixture": 67200, "b_piq": 67200},
    }
    assert not written["a_piq"][24000:].any()


def test_lengths_50_ms_apart_pass_without_a_word(tmp_path):
    plan, _ = prepared(tmp_path, [("a", "mixture", tone(0.55), 48000, "FLOAT"), ("a", "x", tone(0.51), 48000, "FLOAT")])
    assert plan.warnings == []


def test_silence_stays_silence_and_is_told(tmp_path):
    sounds = [("a", "mixture", tone(0.5), 48000, "FLOAT"), ("a", "piq", 0 * tone(0.5), 48000, "FLOAT")]
    sounds += [("a", "hum", tone(0.5, level=2e-4, hertz=40), 48000, "FLOAT")]  # above -80 dBFS, gated away by BS.1770
    plan, written = prepared(tmp_path, sounds)
    assert not written["a_piq"].any()
    done = plan.prepared["a_piq"]
    assert (done.silent, done.gain_db, done.lufs_out) == (True, 0.0, -np.inf)
    assert plan.prepared["a_hum"].silent and plan.prepared["a_hum"].gain_db == 0
    assert plan.warnings == ["silent, kept as they are: audio/a/interpretation_hum.wav, audio/a/interpretation_piq.wav"]


def test_everything_silent(tmp_path):
    sounds = [("a", name, 0 * tone(0.5), 48000, "FLOAT") for name in ("mixture", "piq")]
    for loudness in ("match", "item", "none"):
        plan, written = prepared(tmp_path / loudness, sounds, loudness=loudness)
        assert plan.lowered_db == 0 and not any(each.any() for each in written.values())


def test_short_sounds_count_by_their_mean_square(tmp_path):
    sounds = [("a", "mixture", tone(0.3), 48000, "FLOAT"), ("a", "piq", tone(0.3, level=0.01), 48000, "FLOAT")]
    plan, written = prepared(tmp_path, sounds)
    for name, samples in written.items():
        by_hand = -0.691 + 10 * np.log10(np.mean(samples**2))
        assert by_hand == pytest.approx(-23, abs=0.02), name
    assert plan.prepared["a_mixture"].lufs_in - plan.prepared["a_piq"].lufs_in == pytest.approx(20, abs=0.01)


def test_a_peak_lowers_the_whole_test(tmp_path):
    click = noise(48000, 3, 1e-3)
    click[2000] = 0.5
    sounds = [
        ("a", "mixture", tone(1.0), 48000, "FLOAT"),
        ("a", "piq", click, 48000, "FLOAT"),
        ("b", "mixture", tone(1.0, level=0.4), 48000, "FLOAT"),
        ("b", "piq", tone(1.0, hertz=300), 48000, "FLOAT"),
    ]
    plan, written = prepared(tmp_path, sounds)
    peaks = {name: 20 * np.log10(np.abs(each).max()) for name, each in written.items()}
    assert peaks["a_piq"] == pytest.approx(-1, abs=0.01) == max(peaks.values())
    assert plan.lowered_db > 12 and plan.target_lufs == pytest.approx(-23 - plan.lowered_db)
    assert [lufs(each) for each in written.values()] == pytest.approx([plan.target_lufs] * 4, abs=0.1)
    assert "audio/a/interpretation_piq.wav would clip" in plan.warnings[0]


def test_one_gain_an_item(tmp_path):
    sounds = [
        ("a", "mixture", tone(1.0, level=0.2), 48000, "FLOAT"),
        ("a", "piq", tone(1.0, level=0.02), 48000, "FLOAT"),
        ("b", "mixture", tone(1.0, level=0.01), 48000, "FLOAT"),
        ("b", "piq", tone(1.0, level=0.02), 48000, "FLOAT"),
    ]
    plan, written = prepared(tmp_path, sounds, loudness="item")
    found = {name: lufs(each) for name, each in written.items()}
    assert found == pytest.approx({"a_mixture": -23, "a_piq": -43, "b_mixture": -23, "b_piq": -17}, abs=0.1)
    assert plan.prepared["a_mixture"].gain_db == plan.prepared["a_piq"].gain_db


def test_levels_as_they_are(tmp_path):
    sounds = [("a", "mixture", tone(1.0, level=0.5), 48000, "FLOAT"), ("a", "x", tone(1.0), 48000, "FLOAT")]
    plan, written = prepared(tmp_path, sounds, loudness="none")
    assert plan.target_lufs is None and plan.lowered_db == 0
    assert np.abs(written["a_mixture"]).max() == pytest.approx(0.5, abs=1e-4)
    loud = [("a", "mixture", tone(1.0, level=2.0), 48000, "FLOAT"), ("a", "x", tone(1.0), 48000, "FLOAT")]
    plan, written = prepared(tmp_path / "loud", loud, loudness="none")
    peaks = [np.abs(each).max() for each in written.values()]
    assert peaks == pytest.approx([10 ** (-1 / 20), 10 ** (-1 / 20) / 20], rel=1e-3)  # nothing clips, ratio kept


def test_a_faint_sound_is_measured_as_it_will_be_heard(tmp_path):
    """BS.1770's gate at -70 LUFS would drop the quieter half of a sound at -68 and -74 LUFS: 1.8 LU too loud."""
    faint = np.concatenate([tone(2.0, level=5.6e-4), tone(2.0, level=2.8e-4)])
    assert lufs(faint) == pytest.approx(-68.1, abs=0.1)
    plan, written = prepared(tmp_path, [("a", "mixture", tone(4.0), 48000, "FLOAT"), ("a", "x", faint, 48000, "FLOAT")])
    assert lufs(written["a_x"]) == pytest.approx(-23, abs=0.1)
    assert plan.prepared["a_x"].lufs_in == pytest.approx(-70, abs=0.3)


def test_bandwidths_meet_at_the_lowest(tmp_path):
    sounds = [("a", "mixture", noise(16000, 0), 16000, "FLOAT"), ("a", "wide", noise(44100, 1), 44100, "FLOAT")]

    def high(samples):
        frequencies, power = signal.welch(samples[:, 0], 48000, nperseg=1024)
        return power[frequencies > 9000].sum() / power.sum()

    plan, written = prepared(tmp_path, sounds)
    assert high(written["a_wide"]) > 0.4 and high(written["a_mixture"]) < 1e-5 and len(plan.warnings) == 1
    plan, written = prepared(tmp_path / "min", sounds, bandwidth="min")
    assert high(written["a_wide"]) < 1e-5 and plan.warnings == []
    assert {len(each) for each in written.values()} == {48000}


def test_fades_follow_a_raised_cosine_at_the_sound_s_own_ends(tmp_path):
    ones = np.full(24000, 0.1, "float32")
    sounds = [("a", "mixture", ones, 48000, "FLOAT"), ("a", "short", ones[:22000], 48000, "FLOAT")]
    _, written = prepared(tmp_path, sounds, loudness="none")
    short = written["a_short"][:, 0] / 0.1
    assert short[[0, 120, 239, 240, 479]] == pytest.approx([0, 0.1464, 0.5, 0.5, 1], abs=0.005)
    assert np.allclose(short[:22000], short[:22000][::-1], atol=1e-3) and not short[22000:].any()


def test_a_sound_shorter_than_its_fades(tmp_path):
    _, written = prepared(tmp_path, [("a", name, tone(0.001), 48000, "FLOAT") for name in ("mixture", "x")])
    assert len(written["a_x"]) == 48


def test_mono_meets_stereo(tmp_path):
    left = tone(0.5)
    stereo = np.stack([left, 0 * left], 1)
    both = [("a", "mixture", stereo, 48000, "FLOAT"), ("a", "x", stereo[:, ::-1].copy(), 48000, "FLOAT")]
    _, written = prepared(tmp_path, both)
    assert written["a_x"].shape[1] == 2 and not written["a_mixture"][:, 1].any() and not written["a_x"][:, 0].any()
    assert [lufs(each) for each in written.values()] == pytest.approx([-23, -23], abs=0.1)
    mixed = [("a", "mixture", stereo, 48000, "FLOAT"), ("a", "x", left, 48000, "FLOAT")]
    plan, written = prepared(tmp_path / "mixed", mixed)
    assert {each.shape[1] for each in written.values()} == {1} and "all are made mono" in plan.warnings[0]


def test_files_hold_two_chunks_and_one_time(tmp_path):
    prepared(tmp_path, [("a", name, tone(0.5), 48000, "FLOAT") for name in ("mixture", "x")])
    for path in (tmp_path / "out").iterdir():
        data, chunks, at = path.read_bytes(), {}, 12
        while at < len(data):
            name, size = struct.unpack("<4sI", data[at : at + 8])
            chunks[name], at = data[at + 8 : at + 8 + size], at + 8 + size
        assert list(chunks) == [b"fmt ", b"data"] and at == len(data)
        assert struct.unpack("<HHIIHH", chunks[b"fmt "]) == (1, 1, 48000, 96000, 2, 16)
        assert path.stat().st_mtime == 946684800


@pytest.mark.parametrize("rate", [7999, 192001, 0, -1])
def test_rates_no_browser_plays(rate):
    with pytest.raises(ValueError, match=f"rate is {rate} Hz; choose 8000 to 192000"):
        prepare([], Settings(sample_rate=rate))


def test_dither_makes_copies_differ_by_a_step(tmp_path):
    samples = tone(0.1)[None]
    for name, dither in (("plain", None), ("one", "a"), ("same", "a"), ("other", "b")):
        levels.write_pcm16(tmp_path / name, samples, 48000, dither)
    names = "plain", "one", "same", "other"
    plain, one, same, other = (np.frombuffer((tmp_path / n).read_bytes()[44:], "<i2").astype(int) for n in names)
    assert (one == same).all() and (one != other).any() and (one != plain).any()
    assert np.abs(one - plain).max() <= 2


def test_full_scale_does_not_wrap(tmp_path):
    levels.write_pcm16(tmp_path / "x.wav", np.array([[1.0, -1.0, 2.0]], "float32"), 48000)
    assert list(np.frombuffer((tmp_path / "x.wav").read_bytes()[44:], "<i2")) == [32767, -32768, 32767]
