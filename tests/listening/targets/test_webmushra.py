"""webMUSHRA configs, read by what mimics its parser, yaml.js, and by a YAML library; WAVs; the anchors' filter."""

import html
import logging
import re
import wave
from dataclasses import replace

import numpy as np
import pytest
from browsing import chromium
from references import yamljs
from ruamel.yaml import YAML

from audiointerp.listening.bs1534 import limits, lowpass
from audiointerp.listening.study import Presentation, Study, Trial
from audiointerp.listening.targets.webmushra import LEVEL_PAGE, write_configs
from audiointerp.listening.targets.yamljs import Row, to_yaml

RATE = 16000
NASTY = [
    "Straßenlärm: 50% ä",
    'say "hi"',
    "it's 007",
    "R&B + soul",
    "<b>&amp;</b>",
    "a, {b} [c] #d",
    "back\\slash \\u00e9",
    "- x",
    "12e3",
    "🥁",
]

# What yaml.js 0.3.0 itself made of each text.
RECORDED = [
    (
        "p:\n  - - random\n    - type: a\n      id: b\n  - type: c\n",
        {"p": ["- random\n- type: a\n  id: b", {"type": "c"}]},
    ),
    (
        "p:\n  -\n    - random\n    - type: a\n      id: b\n      q:\n        k: v\n  - type: c\n",
        {"p": [["random", {"type": "a", "id": "b", "q": {"k": "v"}}], {"type": "c"}]},
    ),
    ('a: "caf\\u00e9"\n', {"a": "cafÃ©"}),
    ('a: "café"\n', {"a": "café"}),
    ("a: 'it''s \\n'\n", {"a": "it's \\n"}),
    ('a: "say \\"hi\\" \\\\ there"\n', {"a": 'say "hi" \\ there'}),
    ('a: "one two\n  three"\nb: 1\n', {"a": "one two\nthree", "b": 1}),
    ("a: one two\n  three\nb: 1\n", {"a": "one two\nthree", "b": 1}),
    ("s:\n  007: x\n  12e3: y\n  abc: z\n", {"s": {"7": "x", "12000": "y", "abc": "z"}}),
    ('a: 007\nb: "007"\nc: 12e3\nd: "12e3"\n', {"a": 7, "b": "007", "c": 12000, "d": "12e3"}),
    (
        "a: yes\nb: no\nc: on\nd: true\ne: null\nf: ~\n",
        {"a": "yes", "b": "no", "c": "on", "d": True, "e": None, "f": None},
    ),
    (
        'r:\n  - {value: 1, label: "1 Bad"}\n  - {value: 2, label: "a, b: {c} [d] #e"}\n',
        {"r": [{"value": 1, "label": "1 Bad"}, {"value": 2, "label": "a, b: {c} [d] #e"}]},
    ),
    (
        'a: &m\n  - {value: 1, label: "x"}\nb: *m\n',
        {"a": [{"value": 1, "label": "x"}], "b": [{"value": 1, "label": "x"}]},
    ),
    ('{"a": [1, {"b": "c"}]}\n', {"a": [1, {"b": "c"}]}),
    ('{\n"a": 1\n}\n', yamljs.BadYaml),
    ("a: {x: 1,\n  y: 2}\nb: 1\n", {"a": {"x": 1, "y": 2}, "b": 1}),
    ("- 1\nb: 2\n", yamljs.BadYaml),
    ('a: "x" y\n', yamljs.BadYaml),
    ("a: -1\nb: 1.5\nc: 0x1F\n", {"a": -1, "b": 1.5, "c": 31}),
]


@pytest.mark.parametrize(("text", "read"), RECORDED)
def test_the_reference_parser_reads_as_yamljs_did(text, read):
    if read is yamljs.BadYaml:
        with pytest.raises(yamljs.BadYaml):
            yamljs.load(text)
    else:
        assert yamljs.load(text) == read


def safe_load(text):
    return YAML(typ="safe", pure=True).load(text)


def write_wav(path, samples, rate=RATE):
    path.parent.mkdir(exist_ok=True, parents=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples, "<i2").tobytes())


def read_wav(path):
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def noise(seed, frames=1600):
    return np.random.default_rng(seed).integers(-8000, 8000, frames)


@pytest.fixture
def make(tmp_path):
    """A study over noise: trials get as many sounds as they name; `same` are dithered copies of other sounds."""

    def build(task, trials, sessions=None, same=None, frames=1600, title="Sound test", rate=RATE):
        names = list(dict.fromkeys(n for t in trials for n in (*([t.context] if t.context else []), *t.stimuli)))
        names += [name for name in same or {} if name not in names]
        sounds = {name: noise(number, frames) for number, name in enumerate(names)}
        for name, other in (same or {}).items():
            if other in sounds:
                sounds[name] = sounds[other] + np.random.default_rng(1).integers(-1, 2, frames)
        for name in names:
            write_wav(tmp_path / "public" / "stimuli" / f"{name}.wav", sounds[name], rate)
        rows = sessions or [[(trial.trial_id, trial.stimuli) for trial in trials]]
        return Study(
            *("lt_7c1eaaaa", task, title, "Wear headphones.\nTake your time.", 0, rate, tuple(trials)),
            tuple(tuple(Presentation(*each) for each in row) for row in rows),
            {name: f"stimuli/{name}.wav" for name in names},
            dict.fromkeys(names, frames / rate),
        )

    return build


@pytest.fixture
def exported(make, tmp_path):
    """Config (by the part of its name after the test's) and the folder, as `write_configs` wrote them."""

    def export(task, trials, anchors=None, **more):
        study = make(task, trials, **more)
        paths = write_configs(study, tmp_path / "public", tmp_path / "out", anchors or {})
        read = {path.stem.removeprefix(study.test_id): yamljs.load(path.read_text("utf-8")) for path in paths}
        for path in paths:
            assert safe_load(path.read_text("utf-8")) == yamljs.load(path.read_text("utf-8"))
        return read, tmp_path / "out"

    return export


def trial(name, *stimuli, context=None, kind="trial", prompt="How well?", choices=()):
    return Trial(f"t_{name}", kind, prompt, context, stimuli, tuple(choices))


MOS = [
    trial("practice_1", "s_pa", "s_pb", context="s_pm", kind="practice"),
    trial("01", "s_b", "s_a", context="s_m", prompt='How well does each explain "DOG"?'),
    trial("02", "s_d", "s_c", context="s_n"),
]
RATING = [
    trial("practice_1", "s_pa", "s_ph", context="s_pr", kind="practice"),
    trial("01", "s_a", "s_b", "s_h", "s_low", "s_mid", "s_mix", context="s_r"),
    trial("02", "s_c", "s_d", "s_i", "s_lo2", "s_mi2", "s_mx2", context="s_q"),
]
COPIES = {"s_ph": "s_pr", "s_h": "s_r", "s_i": "s_q"}
ANCHORS = {
    "t_01": {"anchor35": "s_low", "anchor70": "s_mid", "mixture": "s_mix"},
    "t_02": {"anchor35": "s_lo2", "anchor70": "s_mi2", "mixture": "s_mx2"},
}
ABX = [trial("01", "s_a", "s_b", context="s_x"), trial("02", "s_c", "s_d", context="s_y")]
SIMULATE = [
    trial("practice_1", "s_p", kind="practice", choices=["dog", "cannot tell"]),
    trial("01", "s_a", "s_b", choices=NASTY),
    trial("02", "s_c", "s_d", choices=["cat", "dog", "cannot tell"]),
]
ROWS = [
    [("t_practice_1", ("s_p",)), ("t_02", ("s_c",)), ("t_01", ("s_b",))],
    [("t_practice_1", ("s_p",)), ("t_01", ("s_a",)), ("t_02", ("s_d",))],
]
TASKS = {
    "mos": {"trials": MOS},
    "mos without practice": {"trials": MOS[1:]},
    "rating": {"trials": RATING, "same": COPIES, "anchors": ANCHORS},
    "abx": {"trials": ABX, "same": {"s_x": "s_a", "s_y": "s_d"}},
    "simulate": {"trials": SIMULATE, "sessions": ROWS},
}


@pytest.fixture(params=TASKS)
def any_export(request, exported):
    return exported(request.param.split()[0], **TASKS[request.param])


def flat(pages):
    return [page for each in pages for page in (flat(each[1:]) if isinstance(each, list) else [each])]


def test_p1_only_what_yamljs_reads(any_export):
    """Nested lists, keys, escapes and lines: both parsers agree (see `exported`), and the pages are there."""
    configs, out = any_export
    for path in (out / "configs").glob("*.yaml"):
        text = path.read_text("utf-8")
        assert "- - " not in text and "\\u" not in text.replace("\\\\u", "") and "\\x" not in text
        assert not re.search(r"^ *\d", text, re.MULTILINE)
        # Every line is an item of its own: nothing is folded.
        assert all(re.match(r" *(-|- \{.*\}|- [a-z]+|(- )?\w+:( .+)?)$", line) for line in text.splitlines())
    for config in configs.values():
        assert [page["type"] for page in flat(config["pages"])][:2] == ["generic", "consent"]
        assert all(isinstance(page, dict) and page["content"] is not None for page in flat(config["pages"]))


def test_p1_labels_survive(exported):
    configs, _ = exported(
        "simulate", [trial("01", "s_a", choices=NASTY, prompt="\n".join(NASTY))], title=" ".join(NASTY)
    )
    page = configs["_p00"]["pages"][2]
    assert [html.unescape(each["label"]) for each in page["response"]] == NASTY
    assert [html.unescape(each) for each in re.findall("<p>(.*?)</p>", page["content"])] == NASTY
    assert configs["_p00"]["testname"] == " ".join(NASTY)
    assert not re.search("[<>]", "".join(each["label"] for each in page["response"]))


@pytest.mark.parametrize("seed", range(20))
def test_p1_any_text_survives(seed):
    """Strings drawn from characters that mean something to YAML, as values and in one-line mappings."""
    numbers = np.random.default_rng(seed)
    texts = ["".join(numbers.choice(list("ab01 -:#'\"\\,{}[]&*!|>%@`~?=.eäß</"), 12)) for _ in range(20)]
    texts = [" ".join(text.split()) for text in texts]
    value = {"values": {f"k{n}": text for n, text in enumerate(texts)}, "rows": [Row(value=1, label=t) for t in texts]}
    assert yamljs.load(to_yaml(value)) == safe_load(to_yaml(value)) == value


def test_p1_a_usual_nested_list_would_be_misread(exported):
    """The checks above can fail: pages of a list written as libraries write it vanish into a string."""
    configs, out = exported("mos", MOS)
    text = (out / "configs" / "lt_7c1eaaaa.yaml").read_text("utf-8")
    usual = text.replace("  -\n    - random\n", "  - - random\n")
    assert usual != text and safe_load(usual) == configs[""]  # to a YAML library all the same
    assert [type(page) for page in yamljs.load(usual)["pages"]] == [dict, dict, dict, str, dict]


@pytest.mark.parametrize("key", ["007", "12e3", "a b", "nan", "true", "", "-", "ä"])
def test_p1_keys_that_would_be_numbers_are_refused(key):
    with pytest.raises(ValueError, match="cannot be a key"):
        to_yaml({key: 1})


def test_p2_the_first_stored_page_is_a_single_stimulus_outside_any_block(any_export):
    for config in any_export[0].values():
        stored = [
            page for page in config["pages"] if isinstance(page, list) or page["type"] not in ("generic", "consent")
        ]
        assert isinstance(stored[0], dict)
        assert stored[0]["type"] == "likert_single_stimulus"
        assert stored[0]["id"] in (LEVEL_PAGE, "t_practice_1")


def test_p3_nothing_that_is_sent_holds_what_the_upload_would_break(any_export):
    for config in any_export[0].values():
        pages = flat(config["pages"])
        questions = pages[-1]["questionnaire"]
        assert [each["name"] for each in questions] == ["participant_code"]  # no other free text
        ids = [page["id"] for page in pages if "id" in page]
        keys = [key for page in pages for key in page.get("stimuli", {})]
        names = [page["name"] for page in pages] + [each["name"] for each in questions]
        assert not set("&+%") & set("".join([config["testId"], *ids, *keys, *names]))
        assert all(isinstance(each["value"], int) for page in pages for each in page.get("response", []))


def test_p4_errors_are_shown_and_pymushra_is_warned_of(any_export):
    configs, out = any_export
    assert all(config["pages"][-1]["showErrors"] is True for config in configs.values())
    assert re.search("pymushra, set showErrors to false", (out / "README.txt").read_text("utf-8"))


def test_p5_names_start_with_a_letter(any_export):
    for config in any_export[0].values():
        pages = flat(config["pages"])
        keys = [key for page in pages for key in page.get("stimuli", {})]
        for name in [config["testId"], *keys, *(page["id"] for page in pages if "id" in page)]:
            assert re.fullmatch("[a-z][a-z0-9_]*", name) and name not in ("nan", "inf", "true", "false")


@pytest.mark.parametrize("name", ["007", "12e3", "nan", "true", "7_1", "S_A", "reference", "header", "a&b"])
def test_p5_other_names_are_refused(make, tmp_path, name):
    study = make("mos", [trial("01", "s_a", context="s_m")])
    files = {"s_a": study.files["s_a"], name: study.files["s_a"], "s_m": study.files["s_m"]}
    for bad in (
        replace(study, trials=(replace(study.trials[0], stimuli=(name,)),), files=files),
        replace(study, trials=(replace(study.trials[0], trial_id=name),)),
        replace(study, test_id=name),
    ):
        with pytest.raises(ValueError, match="cannot name a page or a sound"):
            write_configs(bad, tmp_path / "public", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_p6_names_can_be_elements_and_keys_keep_their_order(any_export):
    for config in any_export[0].values():
        questions = [each["name"] for each in config["pages"][-1]["questionnaire"]]
        ids = [page["id"] for page in flat(config["pages"]) if "id" in page]
        assert len(set(questions)) == len(questions) and len(set(ids)) == len(ids)
        assert not {"header", "slider"} & {*questions, *ids}
        for page in flat(config["pages"]):
            assert yamljs.javascript_order(page.get("stimuli")) == page.get("stimuli")
            assert list(yamljs.javascript_order(page.get("stimuli", {}))) == list(page.get("stimuli", {}))


def test_p11_likert_sounds_have_silence_at_both_ends(exported, tmp_path):
    _, out = exported("mos", MOS)
    for name in ("s_a", "s_m", "s_pa"):
        copy, source = (read_wav(path) for path in (
            out / "configs" / "lt_7c1eaaaa" / f"{name}.wav", tmp_path / "public" / "stimuli" / f"{name}.wav",
        ))  # fmt: skip
        assert len(copy) == len(source) + 2 * 960  # 60 ms at 16 kHz
        assert not copy[:960].any() and not copy[-960:].any()
        np.testing.assert_array_equal(copy[960:-960], source)
    raw = (out / "configs" / "lt_7c1eaaaa" / "s_a.wav").read_bytes()
    assert raw[12:16] == b"fmt " and raw[36:40] == b"data" and len(raw) == 44 + 2 * (1600 + 1920)


def test_p11_rated_sounds_stay_as_they_are_beside_a_padded_one_for_the_level(exported, tmp_path):
    _, out = exported("rating", RATING, ANCHORS, same=COPIES)
    folder = out / "configs" / "lt_7c1eaaaa"
    np.testing.assert_array_equal(read_wav(folder / "s_a.wav"), read_wav(tmp_path / "public" / "stimuli" / "s_a.wav"))
    np.testing.assert_array_equal(read_wav(folder / "level.wav")[960:-960], read_wav(folder / "s_pr.wav"))


def test_p15_participants_are_shown_no_results(any_export):
    assert all(config["pages"][-1]["showResults"] is False for config in any_export[0].values())


def test_every_sound_of_a_config_is_there_and_no_other(any_export):
    configs, out = any_export
    named = {path for config in configs.values() for path in re.findall(r"configs/\w+/\w+\.wav", repr(config))}
    there = {str(path.relative_to(out)) for path in out.glob("configs/*/*.wav")}
    hidden = {f"configs/lt_7c1eaaaa/{name}.wav" for name in ("s_h", "s_i", "s_ph", "s_x", "s_y", "s_a", "s_d")}
    assert named <= there
    assert there - named <= hidden  # copies that webMUSHRA makes itself


def test_opinion_page(exported):
    configs, _ = exported("mos", MOS)
    assert list(configs) == [""]
    _, _, practice, block, finish = configs[""]["pages"]
    assert practice["type"] == "likert_single_stimulus" and practice["id"] == "t_practice_1"
    assert block[0] == "random" and [page["id"] for page in block[1:]] == ["t_01", "t_02"]
    page = block[1]
    assert page["type"] == "likert_multi_stimulus"
    assert page["stimuli"] == {name: f"configs/lt_7c1eaaaa/{name}.wav" for name in ("s_a", "s_b")}
    assert page["mustPlayback"] == "ended" and page["mustRate"] is True
    assert "<p>How well does each explain &quot;DOG&quot;?</p>" in page["content"]
    assert "<audio controls src='configs/lt_7c1eaaaa/s_m.wav'></audio>" in page["content"]
    assert page["response"][0] == {"value": 1, "label": "1 Bad"} and page["response"][4]["label"] == "5 Excellent"
    assert finish["type"] == "finish"


def test_mushra_page(exported):
    configs, out = exported("rating", RATING, ANCHORS, same=COPIES)
    page = configs[""]["pages"][4][1]
    assert page["type"] == "mushra" and page["name"] == "MUSHRA" and page["strict"] is True
    assert page["reference"] == "configs/lt_7c1eaaaa/s_r.wav"
    # The hidden copy is left out: webMUSHRA adds the reference itself.
    assert page["stimuli"] == {
        key: f"configs/lt_7c1eaaaa/{name}.wav"
        for key, name in {
            "anchor35": "s_low",
            "anchor70": "s_mid",
            "s_a": "s_a",
            "s_b": "s_b",
            "s_mix": "s_mix",
        }.items()
    }
    assert page["createAnchor35"] is False and page["createAnchor70"] is False
    assert page["randomize"] is True  # else the hidden reference is always the last
    readme = (out / "README.txt").read_text("utf-8")
    assert "MUSHRA test" in readme and "Schoeffler" in readme and "licence" in readme


@pytest.mark.parametrize("missing", ["anchor35", "anchor70", "both"])
def test_mushra_is_only_what_has_both_anchors(exported, caplog, missing):
    some = {t: {k: n for k, n in each.items() if k != missing} for t, each in ANCHORS.items()}
    configs, out = exported("rating", RATING, {} if missing == "both" else some, same=COPIES)
    assert "MUSHRA" not in repr(configs)
    readme = (out / "README.txt").read_text("utf-8")
    assert "a multi-stimulus rating for webMUSHRA" in readme
    assert "without both anchors" in readme and "t_01, t_02" in readme
    assert any("without both anchors" in record.getMessage() for record in caplog.records)


def test_sessions_fix_the_order_of_pages(exported):
    rows = [[(RATING[n].trial_id, RATING[n].stimuli) for n in order] for order in ((0, 1, 2), (0, 2, 1))]
    configs, _ = exported("rating", RATING, ANCHORS, same=COPIES, sessions=rows)
    assert sorted(configs) == ["", "_p00", "_p01"]
    order = {
        key: [page["id"] for page in flat(config["pages"]) if page["type"] == "mushra"]
        for key, config in configs.items()
    }
    assert order["_p00"] == ["t_practice_1", "t_01", "t_02"]
    assert order["_p01"] == ["t_practice_1", "t_02", "t_01"]
    assert not any(isinstance(page, list) for page in configs["_p01"]["pages"])
    assert {config["testId"] for config in configs.values()} == {"lt_7c1eaaaa"}


def test_simulation_gives_each_participant_one_method(exported):
    configs, _ = exported("simulate", SIMULATE, sessions=ROWS)
    assert sorted(configs) == ["_p00", "_p01"]  # none for everybody
    pages = configs["_p00"]["pages"][2:-1]
    assert [(page["id"], list(page["stimuli"])) for page in pages] == [
        *(("t_practice_1", ["s_p"]), ("t_02", ["s_c"]), ("t_01", ["s_b"])),
    ]
    assert {page["type"] for page in pages} == {"likert_single_stimulus"}
    assert [(each["value"], each["label"]) for each in pages[1]["response"]] == [
        (1, "cat"),
        (2, "dog"),
        (3, "cannot tell"),
    ]


def test_abx_offers_what_x_is_not(exported):
    configs, _ = exported("abx", **TASKS["abx"])
    first, second = configs[""]["pages"][3][1:]
    assert first["type"] == "paired_comparison" and first["reference"].endswith("/s_x.wav")
    assert list(first["stimuli"]) == ["s_b"] and list(second["stimuli"]) == ["s_c"]


def test_catch_trial_of_ratings_compares_a_sound_with_itself(exported):
    caught = trial("03", "s_k", context="s_r", kind="catch", prompt="Give this sound 0.")
    configs, _ = exported("rating", [*RATING, caught], ANCHORS, same=COPIES)
    page = configs[""]["pages"][4][3]
    assert page["reference"].endswith("/s_k.wav") and list(page["stimuli"]) == ["s_k"]
    assert "100" not in page["content"]


@pytest.mark.parametrize(
    ("task", "trials", "message"),
    [
        ("ab", ABX, "not a preference test; use --target html"),
        ("abx", [trial("01", "s_a", "s_b")], "t_01: no reference"),
        ("abx", ABX, "X is neither of the two sounds"),
        ("rating", [trial("01", "s_a", "s_b")], "t_01: no reference"),
        ("rating", [trial("01", "s_a", "s_b", context="s_mixture")], "no clean reference among its sounds"),
        ("simulate", [trial("01", "s_a", choices=["dog"])], "two choices or more"),
        ("mos", [], "no trials"),
        ("mos", [trial("01", context="s_m")], "no sounds"),
    ],
)
def test_what_webmushra_cannot_do_is_refused_in_a_line(make, tmp_path, task, trials, message):
    with pytest.raises(ValueError, match=message) as error:
        write_configs(make(task, trials), tmp_path / "public", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_sounds_that_webmushra_cannot_take_are_refused(make, tmp_path):
    study = make("rating", RATING, same=COPIES)
    path = tmp_path / "public" / study.files["s_b"]
    write_wav(path, noise(0, 1599))
    with pytest.raises(ValueError, match="t_01: s_b differ from the reference in length"):
        write_configs(study, tmp_path / "public", tmp_path / "out", ANCHORS)
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="not a WAV of 16-bit PCM"):
        write_configs(study, tmp_path / "public", tmp_path / "out", ANCHORS)
    with pytest.raises(ValueError, match="no such trials"):
        write_configs(study, tmp_path / "public", tmp_path / "out", {"t_99": {}})
    with pytest.raises(ValueError, match=r"s_none: not in study\.files"):
        write_configs(study, tmp_path / "public", tmp_path / "out", {"t_01": {"anchor35": "s_none"}})


def test_limits_of_bs1534(exported, make, tmp_path, caplog):
    many = [trial("01", "s_h", *(f"s_a{n}" for n in range(11)), "s_low", "s_mid", context="s_r")]
    anchors = {"t_01": {"anchor35": "s_low", "anchor70": "s_mid"}}
    with caplog.at_level(logging.WARNING):
        configs, out = exported("rating", many, anchors, same={"s_h": "s_r"})
    assert configs[""]["pages"][3][1]["strict"] is False  # 13 conditions: a pop-up would bar the page
    said = (out / "README.txt").read_text("utf-8")
    for line in ("more than 12 sounds with the hidden reference (t_01)", "1 trials; BS.1534", "asks for training"):
        assert line in said
        assert any(line in record.getMessage() for record in caplog.records)
    long = make("rating", RATING, same=COPIES, frames=12 * 800 + 1, rate=800)
    assert any(line.startswith("longer than 12 s") for line in limits(long, tmp_path / "public", ANCHORS))


def test_a_7_khz_anchor_of_16_khz_material_is_warned_of(make, tmp_path):
    study = make("rating", RATING, same=COPIES, frames=24000, rate=48000)
    narrow = lowpass(noise(5, 24000).astype(float), 48000, 7000)
    write_wav(tmp_path / "public" / study.files["s_q"], narrow, 48000)
    write_wav(tmp_path / "public" / study.files["s_i"], narrow, 48000)
    lines = limits(study, tmp_path / "public", ANCHORS)
    assert [line for line in lines if "transparent" in line] == [
        "nothing above 8 kHz, so the 7 kHz anchor is close to transparent: do not screen on it (t_02)"
    ]


def test_a_long_test_is_warned_of(make, tmp_path):
    study = make("mos", MOS)
    assert limits(study, tmp_path / "public", {}) == []
    long = replace(study, seconds=dict.fromkeys(study.seconds, 250.0))  # 6 sounds judged: 25 minutes
    assert limits(long, tmp_path / "public", {}) == [
        "25 minutes of sound; answers are sent once, at the end: split the test"
    ]


def test_exports_are_equal_to_the_byte(make, tmp_path):
    study = make("rating", RATING, same=COPIES)
    contents = []
    for name in ("one", "two"):
        write_configs(study, tmp_path / "public", tmp_path / name, ANCHORS)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([(str(path.relative_to(tmp_path / name)), path.read_bytes()) for path in files])
        assert {path.stat().st_mtime for path in files if path.suffix == ".wav"} == {946684800}
    assert contents[0] == contents[1]


def decibels(rate, cutoff, frequencies):
    """Gain of the filter at frequencies, by the definition of the transform of its answer to an impulse."""
    impulse = np.zeros(4001)
    impulse[2000] = 1
    answer = lowpass(impulse, rate, cutoff)
    return 20 * np.log10(
        [abs(np.sum(answer * np.exp(-2j * np.pi * f * np.arange(4001) / rate))) + 1e-12 for f in frequencies]
    )


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("cutoff", [3500, 7000])
def test_lowpass_keeps_the_mask_of_bs1534(rate, cutoff):
    nyquist = rate / 2
    assert np.abs(decibels(rate, cutoff, np.linspace(0, cutoff, 71))).max() <= 0.1
    first, second = cutoff * 8 / 7, cutoff * 9 / 7  # 4 and 4.5 kHz at 3.5 kHz
    if first <= nyquist:
        assert decibels(rate, cutoff, np.linspace(first, nyquist, 50)).max() <= -25
    if second <= nyquist:
        assert decibels(rate, cutoff, np.linspace(second, nyquist, 50)).max() <= -50


def test_lowpass_is_symmetric_and_without_delay():
    impulse = np.zeros(2001)
    impulse[1000] = 1
    answer = lowpass(impulse, 48000, 3500)
    assert np.argmax(answer) == 1000
    np.testing.assert_allclose(answer, answer[::-1], atol=1e-15)


@pytest.mark.parametrize("shape", [(1,), (50,), (2, 999), (0,)])
def test_lowpass_keeps_shape_and_type(shape):
    waveform = np.ones(shape, np.float32)
    assert lowpass(waveform, 48000, 3500).shape == shape
    assert lowpass(waveform, 48000, 3500).dtype == np.float32


def test_lowpass_above_nyquist_changes_nothing_and_bad_input_is_refused():
    waveform = np.random.default_rng(0).normal(size=100)
    np.testing.assert_array_equal(lowpass(waveform, 8000, 7000), waveform)
    with pytest.raises(ValueError, match="NaN"):
        lowpass(np.array([0.0, np.nan]), 48000, 3500)
    with pytest.raises(ValueError, match="above 0 Hz"):
        lowpass(waveform, 48000, 0)


# What webMUSHRA has around a page's content: its page manager, the events of its player, and the button that goes on.
AROUND = """<div id="page"></div><button id="__button_next" onclick="left += 1"><i>Next</i></button><script>
var left = 0, alerts = [], listeners = [];
window.alert = (text) => alerts.push(text);
const player = { addEventListener: (f) => listeners.push(f), getConditions: () => ["a", "b", "c"] };
var shown = { mushraAudioControl: player };
var pageManager = { getCurrentPage: () => shown };
const play = (name, index) => listeners.forEach((listener) => listener({ name, index }));
</script>"""


def test_a_mushra_page_does_not_go_on_unheard(exported, tmp_path):
    """In a real browser, within what webMUSHRA has around it; its jQuery runs the content's scripts, as here."""
    trials = [trial(str(n), "s_a", "s_b", "s_hid", context="s_ref") for n in range(5)]
    read, _ = exported("rating", trials, same={"s_hid": "s_ref"})
    (page_config,) = [each for each in flat(read[""]["pages"]) if each.get("id") == "t_0"]
    with chromium() as browser:
        page = browser.new_page()
        page.set_content(AROUND)
        page.evaluate(
            """content => document.getElementById("page").append(
              document.createRange().createContextualFragment("<p>" + content + "</p>"))""",
            page_config["content"],
        )
        click = "document.querySelector('#__button_next i').click()"
        condition = "playConditionTriggered"
        played = [
            (condition, 0),
            (condition, 0),
            ("playReferenceTriggered", None),
            ("stopTriggered", None),
            (condition, 2),
        ]
        for name, index in played:
            page.evaluate(click)
            page.evaluate("([name, index]) => play(name, index)", [name, index])
        assert page.evaluate("[left, alerts.length]") == [0, 5] and "every condition" in page.evaluate("alerts[0]")
        page.evaluate("play('playConditionTriggered', 1)")
        page.evaluate(click)
        assert page.evaluate("[left, alerts.length]") == [1, 5]
        page.evaluate("shown = {}")  # the next page, of another type
        page.evaluate(click)
        assert page.evaluate("[left, alerts.length]") == [2, 5]
        browser.close()
