"""The export as a whole: what is blind, what is the same twice, what is never overwritten, and the command line."""

import argparse
import csv
import hashlib
import hmac
import json
import subprocess
import sys
from base64 import b32encode

import numpy as np
import pytest
import soundfile
from listening_runs import Sound, make_run, noise, read_rows, write_rows, write_run

from audiointerp.listening.analysis.answers import load
from audiointerp.listening.commands import add_listen_parser, listen
from audiointerp.listening.making import blinding
from audiointerp.listening.making.export import export_study
from audiointerp.listening.making.manifest import ListeningError
from audiointerp.listening.study import ANSWER_COLUMNS, KEY_COLUMNS, Study
from audiointerp.listening.targets.folder import SHEET_COLUMNS

SECRET = "5a" * 32
METHODS = ("zzmethodpiq", "zzmethodlime")
TASKS = ("mos", "rating", "ab", "abx", "simulate")


def secret_run(folder, **options):
    """A run whose methods, items, groups and true classes are words that occur nowhere else."""
    run = make_run(folder, items=3, methods=METHODS, references=True, groups=("zzgroup",), seconds=0.45, **options)
    rows = read_rows(run)
    write_rows(run, [row | {"true_class": "zztruth"} for row in rows])
    return run


def with_secret(out):
    (out / "private").mkdir(parents=True)
    (out / "private" / "secret.hex").write_text(SECRET + "\n")
    return out


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("target", ["folder", "html", "webmushra"])
def test_public_files_tell_nothing(tmp_path, task, target):
    if (task, target) == ("ab", "webmushra"):
        pytest.skip("webMUSHRA has no preference page")
    run = secret_run(tmp_path / "zzrun")
    catch = 0 if task in ("ab", "abx") else 1
    done = export_study(run, tmp_path / "out", task=task, target=target, catch=catch)
    # "simulate" offers the true class among the others; nothing says that it is the true one.
    hidden = [*METHODS, "zzgroup", "zzrun", "c_00", "low35", *(["zztruth"] if task != "simulate" else [])]
    public = contents(done.public)
    assert public.keys() >= {"study.json"} and done.files and all(path.is_file() for path in done.files)
    for name, data in public.items():
        for word in hidden:
            assert word.encode() not in data and word not in name, f"{word} in {name}"
        for private in ("key.csv", "secret.hex", "settings.json"):
            assert not name.endswith(private)
    assert {path.name for path in done.private.iterdir()} == {"key.csv", "secret.hex", "settings.json", "study.json"}
    assert (done.private / "study.json").read_bytes() == public["study.json"]


@pytest.mark.parametrize("task", TASKS)
def test_every_sound_of_the_study_is_there_and_in_the_key(tmp_path, task):
    run = make_run(tmp_path / "run", items=3, references=True, leave_out=[(1, "l2i")])
    done = export_study(run, tmp_path / "out", task=task, target="folder")
    study = Study.read(done.public / "study.json")
    key = {row["stimulus_id"]: row for row in table(done.private / "key.csv")}
    used = {name for trial in study.trials for name in trial.stimuli}
    used |= {trial.context for trial in study.trials if trial.context}
    assert used == set(study.files) == set(study.seconds) == set(key)
    assert list(key) == sorted(key) and tuple(key[min(key)]) == KEY_COLUMNS
    manifest = {row["path"]: row for row in read_rows(run)}
    for name, row in key.items():
        path = done.public / study.files[name]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256_out"]
        assert (
            row["sha256_in"] == manifest[row["source"]]["sha256"]
            and row["item_id"] == manifest[row["source"]]["item_id"]
        )
        info = soundfile.info(path)
        assert (info.samplerate, info.subtype, info.frames / 48000) == (48000, "PCM_16", study.seconds[name])
    for session in study.sessions:
        for page in session:
            assert set(page.stimuli) <= set(study.trial(page.trial_id).stimuli)


def test_names_are_an_hmac_under_the_secret(tmp_path):
    done = export_study(make_run(tmp_path / "run"), with_secret(tmp_path / "out"), target="folder")
    rows = table(done.private / "key.csv")
    assert len(rows) == 6
    for row in rows:
        message = "|".join((done.test_id, row["item_id"], row["role"], row["method"])).encode()
        digest = hmac.new(bytes.fromhex(SECRET), message, "sha256").digest()
        assert row["stimulus_id"] == "s_" + b32encode(digest)[:8].decode().lower()
    assert (done.private / "secret.hex").read_text() == SECRET + "\n"


@pytest.mark.parametrize("target", ["folder", "html", "webmushra"])
def test_the_same_run_options_and_secret_give_the_same_bytes(tmp_path, target):
    run = make_run(tmp_path / "run", items=3, references=True)
    one, two = (with_secret(tmp_path / name) for name in ("one", "two"))
    for out in (one, two, two):  # the second time over itself
        export_study(run, out, task="rating", target=target, seed=5)
    assert contents(one) == contents(two)
    times = {path.stat().st_mtime for path in (two / "public/stimuli").iterdir()}
    assert len(times) == 1


def test_secret_seed_and_manifest_all_matter(tmp_path):
    run = make_run(tmp_path / "run", items=3)
    first = export_study(run, with_secret(tmp_path / "a"), target="folder").test_id
    seeded = export_study(run, with_secret(tmp_path / "b"), target="folder", seed=1).test_id
    drawn = export_study(run, tmp_path / "c", target="folder")
    other = export_study(
        make_run(tmp_path / "run2", items=3, seed=1), with_secret(tmp_path / "d"), target="folder"
    ).test_id
    assert len({first, seeded, drawn.test_id, other}) == 4
    assert ((drawn.private / "secret.hex").stat().st_mode & 0o777) == 0o600
    assert len(bytes.fromhex((drawn.private / "secret.hex").read_text())) == 32


def meant(done):
    """The sessions in words that hold in every folder: item, role and method instead of blind names."""
    key = {row["stimulus_id"]: (row["item_id"], row["role"], row["method"]) for row in table(done.private / "key.csv")}
    study = Study.read(done.public / "study.json")
    return [[(each.trial_id, [key[name] for name in each.stimuli]) for each in session] for session in study.sessions]


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_is_the_same_test_in_any_folder(tmp_path, task):
    """Each folder draws its own secret, so that blind names differ; what is heard in which order does not."""
    run = make_run(tmp_path / "run", items=4, methods=("piq", "l2i", "lime"), references=True)
    options = {"task": task, "target": "folder", "seed": 3, **({"catch": 1} if task in ("mos", "rating") else {})}
    one, two = (export_study(run, tmp_path / name, **options) for name in ("one", "two"))
    assert one.test_id != two.test_id and meant(one) == meant(two)
    again = export_study(run, tmp_path / "again", secret=one.private / "secret.hex", **options)
    assert contents(again.public) == contents(one.public)
    other = export_study(run, tmp_path / "other", **{**options, "seed": 4})
    assert meant(other) != meant(one)
    with pytest.raises(ValueError, match="is another secret"):
        export_study(run, two.private.parent, secret=one.private / "secret.hex", **options)


def test_texts_of_a_file_reach_the_page_and_the_key(tmp_path):
    own = tmp_path / "texts.yaml"
    own.write_text(
        "language: de\ntitle: Mein Test\nquestion: 'Passt {class}?'\nclasses: {dog: Hund}\nconsent: Ja & nein\n"
        "questions:\n  - {name: age, ask: Alter?, answers: [jung, alt]}\n"
    )
    done = export_study(make_run(tmp_path / "run"), tmp_path / "out", texts=own, checks=["level"], practice=0, catch=1)
    study = Study.read(done.public / "study.json")
    prompts = [trial.prompt for trial in study.trials]
    assert study.title == "Mein Test" and prompts[:2] == ["Passt HUND?", "Passt CHURCH BELLS?"]
    assert prompts[2].startswith("Aufmerksamkeitsfrage") and study.texts["checks"] == ["level"]
    assert "Hund" in {row["pred_class"] for row in table(done.private / "key.csv")}
    page = (done.public / "listening_test.html").read_text("utf-8")
    assert '<html lang="de">' in page and "Ja &amp; nein" in page and "Alter?" in page and "Weiter" in page
    settings = json.loads((done.private / "settings.json").read_text())
    assert settings["order"] == {"items": ["c_00", "c_01"], "methods": ["piq", "l2i"]}


def test_targets_of_one_test_share_its_names(tmp_path):
    run = make_run(tmp_path / "run")
    made = [export_study(run, with_secret(tmp_path / each), target=each) for each in ("html", "folder", "webmushra")]
    assert len({each.test_id for each in made}) == 1
    assert len({(each.public / "study.json").read_bytes() for each in made}) == 1


def test_another_test_is_not_overwritten_and_its_key_never_lost(tmp_path):
    run, out = make_run(tmp_path / "run"), tmp_path / "out"
    first = export_study(run, out, target="folder")
    key = (out / "private/key.csv").read_bytes()
    before = contents(out)
    with pytest.raises(ValueError, match=f"holds {first.test_id}, another test or other options"):
        export_study(run, out, target="folder", seed=1)
    assert contents(out) == before
    second = export_study(run, out, target="folder", seed=1, force=True)
    assert (out / "private" / first.test_id / "key.csv").read_bytes() == key != (out / "private/key.csv").read_bytes()
    assert Study.read(out / "public/study.json").test_id == second.test_id
    names = {row["stimulus_id"] for row in table(out / "private/key.csv")}
    assert {path.stem for path in (out / "public/stimuli").iterdir()} == names


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    run, out = make_run(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no listening test"):
        export_study(run, out)
    assert contents(out) == {"thesis.txt": b"mine"}
    export_study(run, out, target="folder", force=True)
    assert (out / "thesis.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="is a file; name a folder"):
        export_study(run, out / "thesis.txt")


def test_a_failed_export_leaves_no_half(tmp_path):
    sounds = [Sound("a", "mixture", "", noise(32000, 0), facts={"pred_class": "dog"})]
    run = write_run(tmp_path / "run", [*sounds, Sound("a", "interpretation", "x", noise(16000, 1))])
    with pytest.raises(ListeningError, match="--pad"):
        export_study(run, tmp_path / "out", target="folder")
    assert set(contents(tmp_path / "out")) <= {"private/secret.hex"}
    export_study(run, tmp_path / "out", target="folder", pad=True)
    run2 = make_run(tmp_path / "run2")
    with pytest.raises(ValueError, match="webMUSHRA"):
        export_study(run2, tmp_path / "out2", task="ab", target="webmushra")
    assert set(contents(tmp_path / "out2")) <= {"private/secret.hex"}


def test_a_bad_secret_is_named(tmp_path):
    (tmp_path / "secret.hex").write_text("abc")
    with pytest.raises(ValueError, match="must hold 64 hexadecimal digits"):
        blinding.load_secret(tmp_path / "secret.hex")


def test_silent_interpretations_are_kept_and_flagged(tmp_path):
    sounds = [Sound("a", "mixture", "", noise(16000, 0), facts={"pred_class": "dog"})]
    sounds += [Sound("a", "interpretation", "piq", noise(16000, 1))]
    sounds += [Sound("a", "interpretation", "l2i", np.zeros(16000, "float32"))]
    done = export_study(write_run(tmp_path / "run", sounds), tmp_path / "out", target="folder")
    assert done.silent == ("audio/a/interpretation_l2i.wav",)
    rows = {row["method"]: row for row in table(done.private / "key.csv")}
    assert (rows["l2i"]["silent"], rows["l2i"]["gain_db"], rows["l2i"]["lufs_out"]) == ("true", "0.0000", "-inf")
    assert (rows["piq"]["silent"], rows["piq"]["lufs_out"]) == ("false", "-23.0000")
    assert not soundfile.read(done.public / "stimuli" / f"{rows['l2i']['stimulus_id']}.wav")[0].any()


def test_anchors_are_the_reference_below_3500_and_7000_hz(tmp_path):
    run = make_run(tmp_path / "run", items=1, references=True, sample_rate=48000)
    done = export_study(run, tmp_path / "out", task="rating", target="folder", practice=0)
    rows = {(row["role"], row["method"]): row["stimulus_id"] for row in table(done.private / "key.csv")}

    def share_above(name, hertz):
        samples, rate = soundfile.read(done.public / "stimuli" / f"{name}.wav")
        power = np.abs(np.fft.rfft(samples)) ** 2
        return power[np.fft.rfftfreq(len(samples), 1 / rate) > hertz].sum() / power.sum()

    assert share_above(rows["anchor", "low35"], 4500) < 1e-4 < 0.05 < share_above(rows["anchor", "low35"], 3000)
    assert share_above(rows["anchor", "low70"], 9000) < 1e-4 < 0.3 < share_above(rows["anchor", "low70"], 4500)
    assert done.stimuli == 7  # mixture, two methods, reference and its hidden copy, two anchors


def test_copies_of_a_sound_are_no_equal_files(tmp_path):
    """Otherwise a look at the files would solve ABX, or find the hidden reference."""
    run = make_run(tmp_path / "run", items=2, references=True)
    for task in ("abx", "rating"):
        done = export_study(run, tmp_path / task, task=task, target="folder")
        hashes = [row["sha256_out"] for row in table(done.private / "key.csv")]
        assert len(hashes) == len(set(hashes)), task


def test_the_key_says_what_x_was(tmp_path):
    done = export_study(make_run(tmp_path / "run", items=2), tmp_path / "out", task="abx", target="folder", practice=0)
    key = {row["stimulus_id"]: row for row in table(done.private / "key.csv")}
    for trial in Study.read(done.public / "study.json").trials:
        x = key[trial.context]
        assert [key[name]["method"] for name in trial.stimuli].count(x["method"]) == 1


def test_classes_are_words_alike_in_choices_prompts_and_key(tmp_path):
    done = export_study(make_run(tmp_path / "run", items=3), tmp_path / "out", task="simulate", target="folder")
    study = Study.read(done.public / "study.json")
    assert study.trials[-1].choices == ("dog", "church bells", "crying baby", "cat", "pig", "cannot tell")
    assert {row["pred_class"] for row in table(done.private / "key.csv")} <= set(study.trials[-1].choices)
    assert not (done.public / "stimuli").joinpath("mixture.wav").exists()
    assert {row["role"] for row in table(done.private / "key.csv")} == {"interpretation"}


def test_the_key_says_what_catch_trials_expect(tmp_path):
    done = export_study(make_run(tmp_path / "run", items=3), tmp_path / "out", target="folder", catch=2)
    rows = [row for row in table(done.private / "key.csv") if row["role"] == "catch"]
    assert [row["true_class"] for row in rows] == ["1", "1"]
    settings = json.loads((done.private / "settings.json").read_text())
    assert list(settings["catch_answers"].values()) == ["1", "1"]
    kinds = [trial.kind for trial in Study.read(done.public / "study.json").trials]
    assert kinds == ["practice", "trial", "trial", "catch", "catch"]


@pytest.mark.parametrize(
    "task, fill",
    [
        ("mos", lambda row, trial: "3"),
        ("rating", lambda row, trial: "55"),
        ("ab", lambda row, trial: trial.stimuli[0]),
        ("abx", lambda row, trial: trial.stimuli[0]),
        ("simulate", lambda row, trial: "dog"),
    ],
)
def test_a_filled_answer_sheet_can_be_analysed(tmp_path, task, fill):
    run = make_run(tmp_path / "run", items=3, references=True)
    done = export_study(run, tmp_path / "out", task=task, target="folder", participants=3)
    study = Study.read(done.public / "study.json")
    sheet = done.public / "answer_sheet.csv"
    rows = table(sheet)
    assert set(SHEET_COLUMNS) == set(ANSWER_COLUMNS) and not any(row["answer"] for row in rows)
    with open(tmp_path / "filled.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"answer": fill(row, study.trial(row["trial_id"]))} for row in rows)
    answers = load([tmp_path / "filled.csv"], done.private / "key.csv")
    assert len(answers.table) == len(rows) > 0 and answers.exclusions.empty
    assert answers.table["participant"].nunique() == 3
    orders = table(done.public / "orders.csv")
    assert {row["participant"] for row in orders} == {"0", "1", "2"}
    assert all((done.public / row["file"]).is_file() for row in orders)


def test_the_paper_s_study(tmp_path):
    """Two groups of four mixtures, methods that differ per group."""
    run = make_run(
        *(tmp_path / "run", 8, ("piq", "l2i_1", "l2i_2")),
        leave_out=[(n, "l2i_1") for n in range(1, 8, 2)],
        groups=("l2i_site", "esc50"),
        practice=1,
    )
    done = export_study(run, tmp_path / "out")
    assert (done.trials, done.stimuli, done.sessions) == (8, 8 + 20 + 1, 48)
    assert done.warnings == () and done.target_lufs == -23
    groups = {row["item_id"]: row["group"] for row in table(done.private / "key.csv") if row["role"] == "mixture"}
    assert sorted(groups.values()) == ["esc50"] * 4 + ["l2i_site"] * 4
    assert done.files == (done.public / "listening_test.html",) and done.files[0].stat().st_size > 1e6


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"target": "qualtrics"}, "target is 'qualtrics'; it must be one of html, webmushra, folder"),
        ({"task": "mushra"}, "task is 'mushra'; it must be one of mos"),
        ({"loudness": "loud"}, "loudness is 'loud'; it must be one of match, item, none"),
        ({"bandwidth": "max"}, "bandwidth is 'max'; it must be one of none, min"),
        ({"practice": -1}, "practice is -1; it must be 0 to 100"),
        ({"participants": 0}, "participants is 0; it must be 1 to 10000"),
        ({"rate": 100}, "rate is 100 Hz"),
        ({"checks": ["nose"]}, "checks holds 'nose'.*headphones, level"),
        ({"checks": ["level"], "target": "folder"}, "checks with target folder"),
        ({"gold": -1}, "gold is -1"),
        ({"gold": 1, "target": "webmushra"}, "gold items need the target html"),
        ({"task": "simulate", "practice_repeat": True}, "would give answers of the test away"),
        ({"secret": "nothing.hex"}, "nothing.hex: no such file"),
    ],
)
def test_bad_options(tmp_path, options, expected):
    with pytest.raises(ValueError, match=expected):
        export_study(make_run(tmp_path / "run"), tmp_path / "out", **options)


@pytest.mark.parametrize("text, expected", [("{", "not valid JSON"), ("[]", "must hold a JSON object, not a list")])
def test_a_broken_run_json(tmp_path, text, expected):
    run = make_run(tmp_path / "run")
    (run / "run.json").write_text(text)
    with pytest.raises(ValueError, match=expected):
        export_study(run, tmp_path / "out")


def test_without_run_json(tmp_path):
    run = make_run(tmp_path / "run", items=3)
    (run / "run.json").unlink()
    assert export_study(run, tmp_path / "out", target="folder").trials == 2


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_listen_parser(parser)
    return parser.parse_args([str(each) for each in arguments])


def test_the_command_exports(tmp_path, capsys):
    run = make_run(tmp_path / "run", items=4)
    status = listen(parse("export", run, "-o", tmp_path / "out", "--target", "folder", "--items", "2", "--catch", "1"))
    said = capsys.readouterr()
    assert status == 0 and "2 trials" in said.out and "loudness -23.0 LUFS" in said.out
    assert f"keep to yourself: {tmp_path / 'out/private/key.csv'}" in said.out and said.err == ""
    assert f"listen analyse ANSWERS --key {tmp_path / 'out/private/key.csv'} -o RESULT" in said.out
    chosen = ("--items", "c_00", "c_01", "--methods", "piq", "--loudness", "none", "--practice", "0", "--force")
    listen(parse("export", run, "-o", tmp_path / "out", "--target", "folder", *chosen))
    assert "levels unchanged" in capsys.readouterr().out
    listen(parse("export", run, "-o", tmp_path / "all", "--target", "folder"))
    assert "audiointerp: for practice, so not in the test: c_0" in capsys.readouterr().err


def test_the_command_plans(capsys):
    assert listen(parse("plan", "--methods", "3")) == 0
    assert "18 listeners" in capsys.readouterr().out  # t-interval of half-width 0.5 at SD 1


def test_options_reach_the_other_commands():
    options = parse("serve", "--webmushra", "checkout", "--port", "0")
    assert (str(options.webmushra), options.results, options.port, options.test) == ("checkout", None, 0, None)
    with pytest.raises(ValueError, match="folder of one test, or --webmushra"):
        listen(parse("serve"))
    options = parse("analyse", "a.csv", "b.csv", "--key", "key.csv", "-o", "out")
    assert len(options.answers) == 2 and options.needs_output and not parse("plan").needs_output


def test_parsing_imports_nothing_heavy():
    code = (
        "import sys, argparse; from audiointerp.listening.commands import add_listen_parser; "
        "add_listen_parser(argparse.ArgumentParser()); "
        "print([m for m in ('torch', 'scipy', 'numpy', 'pandas', 'soundfile') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
