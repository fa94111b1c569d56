"""What is asked, and in which orders: balance counted by hand, incomplete designs, practice and catch trials."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from audiointerp.listening.making.design import build
from audiointerp.listening.making.manifest import ListeningError, Sound
from audiointerp.listening.making.orders import sessions, williams
from audiointerp.listening.making.selection import select
from audiointerp.listening.study import Trial

LABELS = ["dog", "cat", "pig", "bells", "baby"]
PIQ_STUDY = [("piq", "l2i_1", "l2i_2")] * 4 + [("piq", "l2i_2")] * 4  # methods of its eight items


def run(methods, references=False, more=()):
    """Sounds of items i0, i1, ... that have these methods each."""
    sounds = []
    for place, names in enumerate(methods):
        roles = [("mixture", ""), *([("reference", "")] if references else []), *(("interpretation", n) for n in names)]
        sounds += [sound(f"i{place}", *role, pred_class=LABELS[place % 5]) for role in roles]
    return [*sounds, *more]


def sound(item_id, role, method="", **facts):
    source = f"{item_id}/{role}{method}.wav"
    return Sound(item_id, role, method, Path("x.wav"), source, 16000, 8000, 1, "0" * 64, **facts)


def named(sound, *, role="", method="", copy="", cutoff_hz=0.0):
    """A name that can be read, so that tests can say what a trial asks about."""
    return ".".join(filter(None, (sound.item_id, role or sound.role, method or sound.method, copy)))


def design(task, sounds, practice=0, pairs=False, **options):
    return build(task, select(sounds, practice=practice, pairs=pairs), named, labels=LABELS, **options)


@pytest.mark.parametrize("count", range(1, 9))
def test_williams_squares_are_balanced(count):
    rows = williams(count)
    assert len(rows) == (count if count % 2 == 0 or count == 1 else 2 * count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    for position in range(count):
        assert set(Counter(row[position] for row in rows).values()) == {len(rows) // count}
    successors = Counter(pair for row in rows for pair in pairwise(row))
    assert len(successors) == count * (count - 1) and len(set(successors.values())) <= 1


def trials(sizes):
    return [
        Trial(f"t_{n}", "trial", "?", None, tuple(f"s{n}_{k}" for k in range(size))) for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [[3] * 4, [3, 3, 3, 3, 2, 2, 2, 2], [2] * 3, [4], [1] * 2, [5] * 30])
def test_every_sound_comes_at_every_place_equally_often(sizes):
    asked = trials(sizes)
    met = sessions("mos", asked, seed=3)
    for trial in asked:
        shown = [page.stimuli for session in met for page in session if page.trial_id == trial.trial_id]
        assert len(shown) == len(met)  # once in each session
        for position in range(len(trial.stimuli)):
            counts = Counter(stimuli[position] for stimuli in shown)
            assert set(counts.values()) == {len(met) // len(trial.stimuli)}
        followers = Counter(pair for stimuli in shown for pair in pairwise(stimuli))
        assert len(set(followers.values())) <= 1


def test_the_order_of_trials_is_balanced_and_crossed_with_that_of_sounds():
    met = sessions("mos", trials([3] * 4 + [2] * 4))
    assert len(met) == 48  # 8 orders of trials times 6 of sounds
    for position in range(8):
        assert set(Counter(session[position].trial_id for session in met).values()) == {6}
    seen = {(tuple(page.trial_id for page in session), session[0].stimuli) for session in met}
    assert len(met) == len(set(met)) and len(seen) >= 24


def test_consecutive_participants_get_unlike_pages():
    met = sessions("mos", trials([3]))
    assert len({session[0].stimuli for session in met[:6]}) == 6


def test_long_tests_draw_their_orders():
    asked = trials([3] * 200)
    met = sessions("mos", asked, seed=1)
    assert len(met) == 24 and len({tuple(page.trial_id for page in session) for session in met}) == 24
    assert sessions("mos", asked, seed=1) == met != sessions("mos", asked, seed=2)


def test_simulation_is_a_latin_square():
    """Each participant hears an item under one method; each method of an item, however many, comes equally often."""
    asked = trials([3, 3, 3, 2, 2])
    met = sessions("simulate", asked)
    assert all(len(page.stimuli) == 1 for session in met for page in session)
    assert all(sorted(page.trial_id for page in session) == sorted(t.trial_id for t in asked) for session in met)
    for trial in asked:
        heard = Counter(page.stimuli[0] for session in met for page in session if page.trial_id == trial.trial_id)
        assert set(heard) == set(trial.stimuli) and set(heard.values()) == {len(met) // len(trial.stimuli)}


def test_in_a_complete_simulation_each_participant_hears_each_method_equally_often():
    asked = [Trial(f"t_{n}", "trial", "?", None, (f"a{n}", f"b{n}", f"c{n}")) for n in range(6)]
    methods = {sound: sound[0] for trial in asked for sound in trial.stimuli}
    for session in sessions("simulate", asked, methods=methods):
        assert Counter(methods[page.stimuli[0]] for page in session) == {"a": 2, "b": 2, "c": 2}


def test_practice_comes_first_and_catch_trials_never():
    asked = trials([2] * 5)
    practice = [Trial("t_practice_1", "practice", "?", None, ("p",))]
    catch = [Trial("t_06", "catch", "!", None, ("x",))]
    met = sessions("mos", asked, practice, catch)
    places = Counter([page.trial_id for page in session].index("t_06") for session in met)
    assert {session[0].trial_id for session in met} == {"t_practice_1"}
    assert min(places) >= 2 and len(places) > 2 and {len(session) for session in met} == {7}


def test_opinions_of_the_paper_s_study():
    made = design("mos", run(PIQ_STUDY))
    assert [trial.trial_id for trial in made.trials] == [f"t_{n:02d}" for n in range(1, 9)]
    assert [len(trial.stimuli) for trial in made.trials] == [3, 3, 3, 3, 2, 2, 2, 2]
    first = made.trials[0]
    assert first.prompt == "How well does each sound explain the decision DOG?"
    assert first.context == "i0.mixture" and set(first.stimuli) == {
        *("i0.interpretation.piq", "i0.interpretation.l2i_1", "i0.interpretation.l2i_2")
    }
    assert made.items["t_05"] == "i4" and made.warnings == []


def test_sounds_stand_in_the_order_of_blind_names():
    assert design("mos", run([("z", "a", "m")])).trials[0].stimuli == tuple(
        f"i0.interpretation.{name}" for name in ("a", "m", "z")
    )


def test_a_question_of_one_s_own():
    made = design("mos", run([("a",)]), question="Is this {class}? Really {class}?")
    assert made.trials[0].prompt == "Is this DOG? Really DOG?"


def test_preferences_are_asked_of_every_pair():
    made = design("ab", run([("a", "b", "c"), ("a",), ("b", "c")]), ties=True)
    assert [set(trial.stimuli) for trial in made.trials] == [
        *({f"i0.interpretation.{x}", f"i0.interpretation.{y}"} for x, y in ("ab", "ac", "bc")),
        {"i2.interpretation.b", "i2.interpretation.c"},
    ]
    assert all(trial.choices == ("no preference",) for trial in made.trials)
    assert made.warnings == ["left out of task ab, as they have one method: i1"]
    with pytest.raises(ValueError, match="task ab needs items with two methods or more"):
        design("ab", run([("a",), ("b",)]))


def test_x_is_a_copy_of_one_of_two_as_often_the_first_as_the_second():
    made = design("abx", run([("a", "b", "c", "d")] * 4))
    firsts = 0
    for trial in made.trials:
        x = str(trial.context)
        assert x not in trial.stimuli and x.endswith(f"x {trial.trial_id}")
        same = [name for name in trial.stimuli if x.startswith(f"{name}.")]
        assert len(same) == 1
        firsts += same[0] == trial.stimuli[0]
    assert firsts == len(made.trials) / 2 == 12


def test_ratings_hide_the_reference_among_anchors():
    made = design("rating", run([("a", "b")], references=True))
    (trial,) = made.trials
    assert trial.context == "i0.reference" and "closest" not in trial.prompt and "reference" in trial.prompt
    assert set(trial.stimuli) == {
        *("i0.interpretation.a", "i0.interpretation.b", "i0.reference.hidden"),
        *("i0.anchor.low35", "i0.anchor.low70", "i0.mixture"),
    }
    assert made.anchors == {
        "t_01": {"anchor35": "i0.anchor.low35", "anchor70": "i0.anchor.low70", "mixture": "i0.mixture"}
    }
    bare = design("rating", run([("a", "b")], references=True), anchors=False)
    assert len(bare.trials[0].stimuli) == 3 and bare.anchors == {}


def test_ratings_without_a_reference_compare_with_the_mixture():
    (trial,) = design("rating", run([("a", "b")])).trials
    assert trial.context == "i0.mixture" and len(trial.stimuli) == 2
    assert trial.prompt == "How well does each sound explain the decision DOG?"


def test_anchors_that_the_run_brings_are_not_made_again():
    more = [sound("i0", "anchor", "low35"), sound("i0", "anchor", "hiss")]
    made = design("rating", run([("a",)], references=True, more=more))
    assert made.anchors["t_01"]["anchor35"] == "i0.anchor.low35"
    assert Counter(made.trials[0].stimuli)["i0.anchor.low35"] == 1 and "i0.anchor.hiss" in made.trials[0].stimuli


def test_simulation_never_plays_the_mixture_nor_tells_the_class():
    made = design("simulate", run(PIQ_STUDY), practice=1)
    for trial in (*made.trials, *made.practice):
        assert trial.context is None and not any("mixture" in name for name in trial.stimuli)
        assert not any(label in trial.prompt.lower() for label in LABELS)
        assert trial.choices == (*LABELS, "cannot tell")
    with pytest.raises(ValueError, match="would give the answer away"):
        design("simulate", run(PIQ_STUDY), question="Is it {class}?")


def test_of_many_classes_twelve_are_offered():
    many = [f"class {n}" for n in range(50)]
    item = {"pred_class": "class 7", "true_class": "class 40", "distractor_class": "class 3"}
    sounds = [sound("i0", "mixture", **item), sound("i0", "interpretation", "a", **item)]
    choices = build("simulate", select(sounds, practice=0), named, labels=many).trials[0].choices
    assert len(choices) == 13 and {"class 7", "class 40", "class 3"} < set(choices) and choices[-1] == "cannot tell"
    assert [many.index(each) for each in choices[:-1]] == sorted(many.index(each) for each in choices[:-1])


def test_without_a_list_of_classes_those_of_the_items_are_offered():
    made = build("simulate", select(run([("a",)] * 3), practice=0), named)
    assert made.trials[0].choices == ("cat", "dog", "pig", "cannot tell")


def test_practice_prefers_items_outside_the_test():
    sounds = run([("a", "b")] * 6)
    chosen = select(sounds, items=["i1", "i2"], seed=4)
    assert chosen.practice_items[0].item_id not in ("i1", "i2") and chosen.warnings == ()
    everything = select(sounds, seed=4)
    (practised,) = [item.item_id for item in everything.practice_items]
    assert [item.item_id for item in everything.items] == [f"i{n}" for n in range(6) if f"i{n}" != practised]
    assert f"for practice, so not in the test: {practised};" in everything.warnings[0]
    assert select(sounds, practice=0).practice_items == () and len(select(sounds, practice=0).items) == 6


@pytest.mark.parametrize("items", [["i0", "i1"], 2])
def test_items_that_were_chosen_are_tested_and_practised_only_if_asked(items):
    sounds = run([("a", "b")] * 2)
    chosen = select(sounds, items=items)
    assert len(chosen.items) == 2 and chosen.practice_items == () and "--practice_repeat" in chosen.warnings[0]
    repeated = select(sounds, items=items, repeat=True)
    assert len(repeated.items) == 2 and len(repeated.practice_items) == 1
    assert repeated.warnings == (f"practice repeats {repeated.practice_items[0].item_id} of the test",)


def test_the_last_item_is_tested_not_practised():
    for sounds, pairs in ((run([("a",)]), False), (run([("a", "b"), ("a",)]), True)):
        chosen = select(sounds, pairs=pairs)
        assert chosen.practice_items == () and {item.item_id for item in chosen.items} >= {"i0"}
        assert "no practice" in chosen.warnings[-1]


def test_practice_sounds_of_the_run_come_first():
    more = [sound("p1", "practice", pred_class="dog"), sound("p2", "practice")]
    more.append(sound("p2", "mixture", pred_class="cat"))
    made = design("mos", run([("a",)], more=more), practice=1)
    assert [(trial.stimuli, trial.context) for trial in made.practice] == [
        (("p1.practice",), None),
        (("p2.practice",), "p2.mixture"),
    ]
    assert made.practice[0].prompt.endswith("DOG?") and made.practice[1].prompt.startswith("Practice: ")
    pairs = design("ab", run([("a", "b")] * 2, more=more), practice=1, pairs=True)
    assert len(pairs.practice) == 1 and pairs.practice[0].kind == "practice"


@pytest.mark.parametrize("task, answers", [("mos", ["1", "1"]), ("rating", ["0", "0"])])
def test_catch_trials_say_what_to_answer(task, answers):
    made = design(task, run([("a", "b")] * 4, references=True), catch=2)
    assert [trial.trial_id for trial in made.catch] == ["t_05", "t_06"] and list(made.catch_answers.values()) == answers
    for trial in made.catch:
        assert trial.kind == "catch" and f"“{answers[0]}”" in trial.prompt
        assert trial.stimuli[0].endswith(".catch")


def test_catch_sounds_of_the_run_may_say_their_answer():
    more = [sound("x1", "catch", true_class="5"), sound("x2", "catch", true_class="dog")]
    made = design("mos", run([("a",)], more=more))
    assert made.catch_answers == {"t_02": "5", "t_03": "1"}


def test_catch_trials_of_a_simulation_ask_for_a_class_of_a_practised_sound():
    made = design("simulate", run([("a", "b")] * 4), practice=1, catch=1)
    (trial,) = made.catch
    assert made.catch_answers[trial.trial_id] in LABELS and trial.stimuli[0].split(".")[0] == made.items["t_practice_1"]
    none = design("simulate", run([("a", "b")] * 4), catch=1)
    assert none.catch == () and "1 catch trials were requested; there are sounds for 0" in none.warnings


def test_gold_items_show_sounds_of_another_class():
    made = design("mos", run([("a", "b")] * 4), gold=3)
    assert [trial.trial_id for trial in made.catch] == ["t_05", "t_06", "t_07"]
    assert made.gold_answers == dict.fromkeys(["t_05", "t_06", "t_07"], (1, 2)) and made.catch_answers == {}
    classes = {f"i{n}": LABELS[n % len(LABELS)] for n in range(4)}
    for trial in made.catch:
        own, others = trial.context.split(".")[0], {name.split(".")[0] for name in trial.stimuli}
        assert trial.kind == "catch" and classes[own].upper() in trial.prompt and len(trial.stimuli) == 2
        assert len(others) == 1 and classes[others.pop()] != classes[own]
    pair = design("ab", run([("a", "b")] * 4), gold=1)
    ((trial_id, expected),) = pair.gold_answers.items()
    (trial,) = pair.catch
    assert trial.trial_id == trial_id and expected in trial.stimuli
    assert (
        expected.split(".")[0] == trial.context.split(".")[0] != (set(trial.stimuli) - {expected}).pop().split(".")[0]
    )
    rated = design("rating", run([("a", "b")] * 3, references=True), gold=1)
    assert "reference" in rated.catch[0].context and rated.catch[0].context_is == "reference"
    alike = design("mos", run([("a",)]), gold=1)
    assert alike.catch == () and "the test has 0 of" in alike.warnings[-1]


@pytest.mark.parametrize("references, role", [(True, "reference"), (False, "mixture")])
def test_a_rating_says_whether_its_first_sound_is_the_stem_or_the_mixture(references, role):
    for trial in design("rating", run([("a", "b")] * 2, references=references)).trials:
        assert trial.context_is == role and role in trial.context


@pytest.mark.parametrize(
    "task, option",
    [
        ("abx", {"gold": 1}),
        ("simulate", {"gold": 1}),
        ("ab", {"catch": 1}),
        ("abx", {"catch": 1}),
        ("mos", {"ties": True}),
    ],
)
def test_options_that_a_task_lacks(task, option):
    with pytest.raises(ValueError, match=f"task {task} has no"):
        design(task, run([("a", "b")]), **option)


def test_items_and_methods_are_chosen_by_name_or_number():
    sounds = run([("a", "b"), ("a",), ("b",), ("a", "b")])
    assert [item.item_id for item in select(sounds, items=["i3", "i0"], practice=0).items] == ["i0", "i3"]
    only_b = select(sounds, methods=["b"], practice=0)
    assert [[each.method for each in item.systems] for item in only_b.items] == [["b"]] * 3
    assert only_b.warnings == ("left out, as they have none of the methods: i1",)
    drawn = [tuple(item.item_id for item in select(sounds, items=2, seed=s, practice=0).items) for s in range(20)]
    assert all(len(each) == 2 for each in drawn) and len(set(drawn)) > 2
    assert select(sounds, items=9, practice=0).warnings == ("9 items were requested; the run has 4",)


def test_explanations_of_a_mixture_s_other_class_are_left_out_unless_named():
    sounds = run([("piq", "piq_other", "each_other"), ("piq",)])
    chosen = select(sounds, practice=0)
    assert [[each.method for each in item.systems] for item in chosen.items] == [["piq", "each_other"], ["piq"]]
    (warning,) = chosen.warnings
    assert "other class" in warning and "piq_other;" in warning and "--methods" in warning
    named_by_user = select(sounds, methods=["piq_other"], practice=0)
    assert [[each.method for each in item.systems] for item in named_by_user.items] == [["piq_other"]]


def test_unknown_names_are_told_all_at_once():
    with pytest.raises(ListeningError) as caught:
        select(run([("a", "b")] * 2), items=["i1", "c_dog"], methods=["b", "lime"])
    assert caught.value.problems == [
        "no method 'lime' in this run; it has a, b",
        "no item 'c_dog' in this run; it has i0, i1",
    ]
    with pytest.raises(ListeningError, match="items is 0; give a number of at least 1"):
        select(run([("a",)]), items=0)
    with pytest.raises(ValueError, match="no item is left for the test"):
        select(run([("a",), ("b",)]), items=["i0"], methods=["b"])
