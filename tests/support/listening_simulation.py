"""A simulated listening test with known truth: 22 listeners, 8 items in two groups, scores from 1 to 5.

As in the PIQ paper's audio study, four items have three methods and four have two. A listener's latent opinion is the
method's mean plus an effect of the item, a bias of the listener and noise; it is rounded to the nearest score on the
scale. The truth that intervals must cover is therefore not the latent mean but the mean of the discretised
distribution, over listeners (whose bias is random) and for exactly these items (which are fixed).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from audiointerp.listening.study import ANSWER_COLUMNS, KEY_COLUMNS, SCHEMA, Presentation, Study, Trial

LISTENERS, ITEMS = 22, 8
EFFECTS = {"piq": 4.1, "l2i_1": 2.6, "l2i_2": 3.1}
ITEM_EFFECTS = np.array([0.3, -0.2, 0.1, -0.4, 0.0, 0.4, -0.1, -0.1])
BIAS_SD, NOISE_SD = 0.5, 0.8
CLASSES = ("dog", "dog", "church_bells", "crying_baby", "cat", "pig", "chirping_birds", "cat")
TEST_ID = "lt_simulate"


def methods_of(item: int) -> list[str]:
    """Three methods for the first four items, two for the others."""
    return [method for method in EFFECTS if item < 4 or method != "l2i_1"]


def true_mean(method: str, items: Sequence[int]) -> float:
    """Mean opinion score of the discretised distribution over listeners, averaged over the items."""
    sd = np.hypot(BIAS_SD, NOISE_SD)
    means = []
    for item in items:
        # P(score >= k) is the latent's tail above k - 0.5; the mean of 1..5 is 1 plus these tails.
        means.append(1 + sum(stats.norm.sf(k - 0.5, EFFECTS[method] + ITEM_EFFECTS[item], sd) for k in (2, 3, 4, 5)))
    return float(np.mean(means))


def scores(method: str, items: Sequence[int], studies: int = 1, seed: int = 0, bias: np.ndarray | None = None):
    """(studies, listeners, items) integer scores; `bias` (studies, listeners, 1) is shared by a listener's methods."""
    rng = np.random.default_rng(seed)
    if bias is None:
        bias = rng.normal(0, BIAS_SD, (studies, LISTENERS, 1))
    latent = EFFECTS[method] + ITEM_EFFECTS[list(items)] + bias
    return np.clip(np.round(latent + rng.normal(0, NOISE_SD, (studies, LISTENERS, len(items)))), 1, 5)


def stimulus(item: int, method: str) -> str:
    return f"s_{item}{method.replace('_', '')}"


def key_rows() -> list[dict[str, object]]:
    rows = []
    for item in range(ITEMS):
        about = {
            **dict.fromkeys(KEY_COLUMNS, ""),
            "item_id": f"c_{item}",
            "group": "l2i_site" if item < 4 else "esc50",
            "pred_class": CLASSES[item],
            "true_class": CLASSES[item],
            "silent": "false",
        }
        rows.append({**about, "stimulus_id": f"s_{item}mix", "role": "mixture"})
        for method in methods_of(item):
            rows.append({**about, "stimulus_id": stimulus(item, method), "role": "interpretation", "method": method})
    return rows


def study(task: str = "mos", choices: tuple[str, ...] = ()) -> Study:
    """What was asked: a page per item (ab, abx: of piq and l2i_2; simulate: one sound per session)."""
    trials, names = [], [row["stimulus_id"] for row in key_rows()]
    for item in range(ITEMS):
        methods = methods_of(item) if task in ("mos", "simulate", "rating") else ["piq", "l2i_2"]
        context = stimulus(item, "piq") if task == "abx" else f"s_{item}mix"
        sounds = tuple(stimulus(item, method) for method in methods)
        trials.append(Trial(f"t_{item}", "trial", "?", context, sounds, choices))
    session = tuple(
        Presentation(trial.trial_id, trial.stimuli[:1] if task == "simulate" else trial.stimuli) for trial in trials
    )
    seconds = dict.fromkeys(names, 1.0)
    return Study(
        TEST_ID,
        task,
        "Sound explanation test",
        "?",
        0,
        48000,
        tuple(trials),
        (session,),
        dict.fromkeys(names, ""),
        seconds,
    )


def answer(**values: object) -> dict[str, object]:
    """A row of answers; columns not named are filled in."""
    row = {"schema_version": SCHEMA, "test_id": TEST_ID, "task": "mos", "answer_ms": 9000, "heard_fraction": 1}
    return {**dict.fromkeys(ANSWER_COLUMNS, ""), **row, **values}


def mos_rows(seed: int = 1) -> list[dict[str, object]]:
    """Every listener's scores of every sound."""
    rng = np.random.default_rng(seed)
    bias = rng.normal(0, BIAS_SD, (1, LISTENERS, 1))
    rows = []
    for number, method in enumerate(EFFECTS):
        items = [item for item in range(ITEMS) if method in methods_of(item)]
        drawn = scores(method, items, seed=1000 * seed + number, bias=bias)[0]
        for listener, item_scores in enumerate(drawn):
            for item, score in zip(items, item_scores):
                rows.append(
                    answer(
                        session_id=f"session_{listener:02d}",
                        participant_code=f"p{listener:02d}",
                        trial_id=f"t_{item}",
                        stimulus_id=stimulus(item, method),
                        answer=int(score),
                    )
                )
    return rows


def write_csv(path: Path, rows: Sequence[dict[str, object]], **options) -> Path:
    pd.DataFrame(rows, columns=list(ANSWER_COLUMNS)).to_csv(path, index=False, **options)
    return path


def write_key(folder: Path, of_study: Study | None = None) -> Path:
    """private/key.csv, with study.json beside it if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(key_rows(), columns=list(KEY_COLUMNS)).to_csv(folder / "key.csv", index=False)
    if of_study:
        (folder / "study.json").write_text(of_study.to_json())
    return folder / "key.csv"


FIRST_ITEM = ("s_0piq", "s_0l2i1", "s_0l2i2")
FIRST_SCORES = {"s_0piq": 5.0, "s_0l2i1": 2.0, "s_0l2i2": 3.0}


def page(session="a", scores=(5, 2, 3), code="", trial="t_0", **values):
    """Rows of one page about the first item."""
    about = {"session_id": session, "participant_code": code, "trial_id": trial, **values}
    return [answer(**about, stimulus_id=name, answer=score) for name, score in zip(FIRST_ITEM, scores)]


def values(answers):
    return dict(zip(answers.table["stimulus_id"], answers.table["value"]))


def payload(uuid="u1", scores=(5, 2, 3), code="p1", trials=None):
    rating = [{"stimulus": name, "stimulusRating": score, "time": 9} for name, score in zip(FIRST_ITEM, scores)]
    if trials is None:
        trials = [
            {"type": "likert_single_stimulus", "id": "practice", "responses": [{**rating[0], "stimulus": "level"}]},
            {"type": "likert_multi_stimulus", "id": "t_0", "responses": rating},
        ]
    participant = {"name": ["participant_code"], "response": [code]}
    return {"testId": "lt_simulate", "participant": participant, "trials": trials, "uuid": uuid, "config": "x.yaml"}
