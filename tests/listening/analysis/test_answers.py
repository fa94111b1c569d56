"""Result files of every format -> the tidy table; what cleaning keeps and what it lists as left out."""

import json

import listening_simulation as simulated
import pandas as pd
import pytest
from listening_simulation import FIRST_ITEM as ITEM
from listening_simulation import FIRST_SCORES as SCORES
from listening_simulation import page, payload, values

from audiointerp.listening.analysis.analyse import analysed
from audiointerp.listening.analysis.answers import conditions_of, load, read_key
from audiointerp.listening.analysis.formats import is_missing, read_rows


@pytest.fixture
def key(tmp_path):
    return simulated.write_key(tmp_path / "private", simulated.study())


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# ---- formats ----------------------------------------------------------------------------------------------------


def test_the_standalone_page(tmp_path, key):
    path = simulated.write_csv(tmp_path / "a.csv", page(code="Müller, P.", transducer="headphones"))
    found = load([path], key)
    assert values(found) == SCORES
    row = found.table.iloc[0]
    assert (row.item_id, row.method, row.role, row.group) == ("c_0", "piq", "interpretation", "l2i_site")
    assert (row.participant, row.transducer, row.line, row.pred_class) == ("Müller, P.", "headphones", "2", "dog")


def test_the_standalone_json_with_its_header(tmp_path, key):
    rows = page()
    for row in rows:
        row.pop("session_id")
    path = write(tmp_path / "a.json", json.dumps({"schema": "x", "session_id": "a", "rows": rows}))
    assert values(load([path], key)) == SCORES


@pytest.mark.parametrize("change", ["bom", "crlf", "semicolon", "tab", "quoted", "excel", "decimals", "comma"])
def test_what_spreadsheets_do_to_a_csv(tmp_path, key, change):
    path = simulated.write_csv(tmp_path / "a.csv", page(code="p,1" if change == "quoted" else "p1"))
    text = path.read_text()
    if change == "bom":
        text = "\ufeff" + text
    elif change == "crlf":
        text = text.replace("\n", "\r\n")
    elif change in ("semicolon", "tab"):
        path = simulated.write_csv(path, page(code="p1"), sep=";" if change == "semicolon" else "\t")
        text = path.read_text()
    elif change == "excel":
        text = text.replace("s_0piq", '"=""s_0piq"""')
    elif change in ("decimals", "comma"):
        scores = [f"{score}.0" if change == "decimals" else f"{score},0" for score in (5, 2, 3)]
        text = simulated.write_csv(path, page(code="p1", scores=scores), sep=";").read_text()
    found = load([write(path, text)], key)
    assert values(found) == SCORES
    assert set(found.table["participant"]) == {"p,1" if change == "quoted" else "p1"}


def test_webmushra_opinion_scores_without_session(tmp_path, key):
    head = "session_test_id,participant_code,trial_id,stimuli_rating,stimuli,rating_time\n"
    rows = "".join(
        f'lt_simulate,{code},t_0," {score} ",{name},9000\n'
        for code in ("p1", "p2")
        for name, score in zip(ITEM, (5, 2, "NA"))
    )
    found = load([write(tmp_path / "lms.csv", head + rows)], key)
    assert values(found) == {"s_0piq": 5.0, "s_0l2i1": 2.0} and set(found.table["session_id"]) == {"p1", "p2"}
    assert found.exclusions["reason"].tolist() == ["no answer"] * 2


def test_sessions_are_inferred_where_a_question_recurs(tmp_path, key):
    head = "session_test_id,trial_id,stimuli_rating1,stimuli,rating_time\n"
    rows = [f"lt_simulate,t_0,{score},{name},9" for score, name in ((5, ITEM[0]), (2, ITEM[1]), (4, ITEM[0]))]
    found = load([write(tmp_path / "lss.csv", head + "\n".join(rows))], key)
    assert found.table["session_id"].tolist() == ["inferred_1", "inferred_1", "inferred_2"]
    assert any("a new session was assumed" in note for note in found.notes)


def mushra_key(tmp_path, anchors=True):
    rows = pd.DataFrame(simulated.key_rows())
    more = [("s_0ref", "reference", ""), ("s_0hid", "reference", "")]
    more += [("s_0low", "anchor", "low35"), ("s_0mid", "anchor", "low70")] if anchors else []
    extra = [{**rows.iloc[0], "stimulus_id": name, "role": role, "method": method} for name, role, method in more]
    path = tmp_path / "private" / "key.csv"
    path.parent.mkdir()
    pd.concat([rows, pd.DataFrame(extra)]).to_csv(path, index=False)
    return path


def test_webmushra_ratings_name_reference_and_anchors_by_what_they_are(tmp_path):
    head = "session_test_id,participant_code,session_uuid,trial_id,rating_stimulus,rating_score,rating_time,"
    head += "rating_comment\n"
    scores = {"s_0piq": 80, "anchor35": 10, "anchor70": 40, "reference": 100}
    rows = "".join(f"lt_simulate,p1,u1,t_0,{name},{score},9000,\n" for name, score in scores.items())
    found = load([write(tmp_path / "mushra.csv", head + rows)], mushra_key(tmp_path)).table
    assert found["role"].tolist() == ["interpretation", "anchor", "anchor", "reference"]
    assert found["method"].tolist() == ["piq", "low35", "low70", ""]
    assert (found["value"].tolist(), set(found["item_id"])) == ([80, 10, 40, 100], {"c_0"})
    assert set(found["session_id"]) == {"u1"} and set(found["task"]) == {"rating"}


def test_webmushra_paired_comparison_and_bs1116(tmp_path):
    key = simulated.write_key(tmp_path / "private", simulated.study("abx"))
    head = "session_test_id,participant_code,trial_id,choice_reference,choice_non_reference,choice_answer,choice_time,"
    rows = [("t_0", "correct"), ("t_1", "incorrect"), ("t_2", "undecided")]
    text = head + "choice_comment\n"
    text += "".join(f"lt_simulate,p1,{trial},reference,s_{trial[2]}l2i2,{said},9,\n" for trial, said in rows)
    found = load([write(tmp_path / "paired_comparison.csv", text)], key)
    # X is piq's sound, which webMUSHRA calls the reference.
    assert found.table["method"].tolist() == ["piq", "l2i_2"] and set(found.table["task"]) == {"abx"}
    assert found.exclusions["reason"].tolist() == ["no answer"]
    head = "session_test_id,participant_code,trial_id,rating_reference,rating_non_reference,rating_reference_score,"
    text = head + "rating_non_reference_score,rating_time,choice_comment\nlt_simulate,p1,t_0,s_0piq,s_0l2i2,5,3.4,9,\n"
    found = load([write(tmp_path / "bs1116.csv", text)], key)
    assert values(found) == {"s_0piq": 5.0, "s_0l2i2": 3.4} and set(found.table["task"]) == {"bs1116"}


def test_collected_sessions(tmp_path, key, caplog):
    lines = [payload(code="R&D + 50%"), payload("u2", ("NA", 1, ["4"]), "p2"), payload("u3", trials=[])]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"testId": "lt_sim'
    found = load([write(tmp_path / "sessions.jsonl", text)], key)
    assert found.table["value"].tolist() == [5, 2, 3, 1, 4]
    assert found.table["participant"].unique().tolist() == ["R&D + 50%", "p2"]
    assert found.exclusions["reason"].value_counts().to_dict() == {"practice": 2, "no answer": 1}
    assert "line 4: incomplete" in caplog.text


def test_characters_that_no_file_can_hold_become_question_marks(tmp_path, key):
    lines = [payload(code="\ud800x"), payload("u2", code="p2")]
    path = write(tmp_path / "sessions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert load([path], key).table["participant"].unique().tolist() == ["?x", "p2"]


def test_a_payload_holds_ratings_and_comparisons(tmp_path):
    pair = {"reference": "s_0piq", "nonReference": "s_0l2i2", "time": 1}
    responses = {
        "mushra": {"stimulus": "s_0piq", "score": 71, "time": 5, "comment": ""},
        "bs1116": {**pair, "referenceScore": 5, "nonReferenceScore": 2},
        "paired_comparison": {**pair, "answer": "incorrect"},
        "generic": {},
    }
    trials = [{"type": kind, "id": "t_0", "responses": [response]} for kind, response in responses.items()]
    key = simulated.write_key(tmp_path)
    table = load([write(tmp_path / "one.json", json.dumps(payload(trials=trials)))], key).table
    assert table["task"].tolist() == ["rating", "bs1116", "bs1116", "abx"]
    assert table["stimulus_id"].tolist() == ["s_0piq", "s_0piq", "s_0l2i2", "s_0l2i2"]


def test_pymushra(tmp_path, key):
    head = "responses_stimulusRating;wm_id;questionaire_uuid;responses_stimulus;wm_type;wm_testId;wm_date;"
    head += "responses_time;questionaire_participant_code;wm_config;responses_score\n"
    rows = "[4];t_0;u1;s_0piq;likert_single_stimulus;lt_simulate;2026-01-01;9;7;x.yaml;\n"
    rows += ";t_0;u1;s_0l2i2;mushra;lt_simulate;2026-01-01;9;7;x.yaml;35\n"
    table = load([write(tmp_path / "p.csv", head + rows)], key).table
    assert table["value"].tolist() == [4, 35] and table["task"].tolist() == ["mos", "rating"]
    assert set(table["participant"]) == {"7"} and set(table["session_id"]) == {"u1"}


def test_a_filled_answer_sheet(tmp_path):
    key = simulated.write_key(tmp_path / "private", simulated.study("ab"))
    text = "session_id,trial_id,stimulus_id,task,answer\n"
    text += "p1,t_0,,ab,s_0piq\np1,t_1,,ab,no preference\np1,t_2,,ab,\np1,t_3,,ab,left\n"
    found = load([write(tmp_path / "answer_sheet.csv", text)], key)
    assert found.table["stimulus_id"].tolist() == ["s_0piq", ""]
    assert found.table["method"].tolist() == ["piq", ""] and found.table["item_id"].tolist() == ["c_0", "c_1"]
    assert found.exclusions["reason"].tolist() == ["no answer", "no sound is named"]


def test_classes_that_webmushra_stores_as_numbers(tmp_path):
    key = simulated.write_key(tmp_path / "private", simulated.study("simulate", ("cat", "dog", "cannot tell")))
    head = "session_test_id,participant_code,trial_id,stimuli_rating,stimuli,rating_time\n"
    found = load([write(tmp_path / "lss.csv", head + "lt_simulate,p1,t_0,2,s_0piq,9\n")], key).table.iloc[0]
    assert (found.task, found.answer, found.pred_class) == ("simulate", "dog", "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no known format"),
        ('{"a": 1}', "neither"),
        ('{"testId": "x", "trials": [{}]}', "session without"),
        ("{oops\n", "not JSON"),
        ("trial_id,stimulus_id,answer\n1,2\n1,2,3\n1,2,3,4\n", "line 2, 4"),
        ("session_test_id,trial_id,stimuli_rating1,stimuli_rating2,stimuli\n", "several scales"),
        ("session_test_id,trial_id,something\nx,y,z\n", "unknown page type"),
    ],
)
def test_files_that_are_no_answers_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_rows(write(tmp_path / "a.txt", text))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="UTF-8"):
        read_rows(write(tmp_path / "a.csv", "participant_code\nMüller\n", "latin-1"))
    with pytest.raises(ValueError, match=r"nothing\.csv: cannot be read"):
        read_rows(tmp_path / "nothing.csv")


def test_missing_answers():
    assert all(map(is_missing, ("", " NA ", "nan", "null", "n/a"))) and not any(map(is_missing, ("0", "3.0", "none!")))


# ---- key and test -----------------------------------------------------------------------------------------------


def test_answers_to_another_test_or_about_unknown_sounds_are_refused(tmp_path, key):
    other = [{**row, "test_id": "lt_other"} for row in page()]
    with pytest.raises(ValueError, match=r"line 2.*'lt_other'.*the study is 'lt_simulate'"):
        load([simulated.write_csv(tmp_path / "a.csv", other)], key)
    strange = [{**page()[0], "stimulus_id": "s_strange"}]
    with pytest.raises(ValueError, match=r"a\.csv, line 2: the key has no sound 's_strange'"):
        load([simulated.write_csv(tmp_path / "a.csv", strange)], key)
    (tmp_path / "private" / "study.json").unlink()
    files = [simulated.write_csv(tmp_path / "b.csv", page()), simulated.write_csv(tmp_path / "a.csv", other)]
    found = load(files, key)
    assert "the first file is 'lt_simulate'" in found.set_aside[files[1]] and values(found) == SCORES


def test_a_broken_file_is_set_aside_by_name_and_the_rest_analysed(tmp_path, key, caplog):
    good = simulated.write_csv(tmp_path / "good.csv", page())
    broken = [
        write(tmp_path / "cut.json", '{"rows": [{"trial'),
        write(tmp_path / "latin.csv", "participant_code\nMüller\n", "latin-1"),
        write(tmp_path / "notes.txt", "call anna"),
        simulated.write_csv(tmp_path / "other.csv", [{**row, "test_id": "lt_other"} for row in page("x")]),
        simulated.write_csv(tmp_path / "strange.csv", [{**page("y")[0], "stimulus_id": "s_strange"}]),
        simulated.write_csv(tmp_path / "taste.csv", page("z", task="taste")),
        tmp_path / "nothing.csv",
    ]
    found = load([*broken, good], key)
    assert values(found) == SCORES and found.files == [good] and set(found.set_aside) == set(broken)
    for path in broken:
        assert any("was set aside" in note and path.name in note for note in found.notes)
        assert path.name in caplog.text
    with pytest.raises(ValueError, match=r"cut\.json"):
        load(broken, key)


def test_answers_about_the_listener_come_from_every_format(tmp_path, key):
    asked = {"hearing": "no", "remarks": "fine, “thanks”\n& more"}
    rows = [{**row, **{f"q_{name}": said for name, said in asked.items()}} for row in page("a")]
    table = tmp_path / "a.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    whole = {"session_id": "b", "questionnaire": {**asked, "hearing": "yes"}, "rows": page("b", (1, 2, 1))}
    found = load([table, write(tmp_path / "b.json", json.dumps(whole))], key)
    said = found.listeners.set_index("session_id")
    assert said["q_hearing"].to_dict() == {"a": "no", "b": "yes"} and set(said["q_remarks"]) == {asked["remarks"]}
    left = load([table, tmp_path / "b.json"], key, leave_out=["hearing=yes"])
    assert set(left.table["session_id"]) == {"a"} and set(left.exclusions["reason"]) == {"said hearing: yes"}
    with pytest.raises(ValueError, match="the questions are hearing, remarks"):
        load([table], key, leave_out=["age=30"])


def test_the_order_is_that_of_the_run_not_of_the_first_file(tmp_path, key):
    order = {"items": ["c_2", "c_0"], "methods": ["l2i_2", "piq", "l2i_1"]}
    (key.parent / "settings.json").write_text(json.dumps({"order": order}))
    rows = [row for row in simulated.mos_rows() if row["trial_id"] in ("t_0", "t_2")]
    tables = []
    for name in ("a", "b"):
        path = simulated.write_csv(tmp_path / f"{name}.csv", rows if name == "a" else rows[::-1])
        tables.append(analysed(load([path], key).table)["mos"].reset_index(drop=True))
    for table in tables:
        assert list(dict.fromkeys(table["item_id"])) == ["c_2", "c_0"]
        assert conditions_of(table) == ["l2i_2", "piq", "l2i_1"]
    columns = ["participant", "stimulus_id", "value"]
    assert tables[0][columns].equals(tables[1][columns])


def test_keys_are_checked(tmp_path, key):
    with pytest.raises(ValueError, match="no column role"):
        read_key(write(tmp_path / "k.csv", "stimulus_id,item_id,method\n"))
    with pytest.raises(ValueError, match="s_1 is listed twice"):
        read_key(write(tmp_path / "k.csv", "stimulus_id,item_id,role,method\ns_1,a,b,c\ns_1,a,b,c\n"))
    with pytest.raises(ValueError, match="cannot be read as a key"):
        read_key(tmp_path / "none.csv")
    (key.parent / "settings.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"settings\.json"):
        load([simulated.write_csv(tmp_path / "a.csv", page())], key)


def test_options_are_checked(tmp_path, key):
    with pytest.raises(ValueError, match="'last'"):
        load([simulated.write_csv(tmp_path / "a.csv", page())], key, repeat="last")  # pyright: ignore
    with pytest.raises(ValueError, match="no file"):
        load([], key)
    with pytest.raises(ValueError, match="task 'taste'"):
        load([simulated.write_csv(tmp_path / "a.csv", page(task="taste"))], key)


# ---- cleaning ---------------------------------------------------------------------------------------------------


def test_what_is_no_score_is_listed_with_its_place(tmp_path, key):
    path = simulated.write_csv(
        tmp_path / "a.csv", [*page(scores=("6", "good", " NA ")), *page("b", trial="t_practice_1")]
    )
    found = load([path], key)
    assert found.table.empty
    assert found.exclusions["line"].tolist() == ["5", "6", "7", "4", "2", "3"]
    assert found.exclusions["reason"].tolist() == ["practice"] * 3 + ["no answer"] + ["not a number on the scale"] * 2


def test_the_same_upload_twice_counts_once(tmp_path, key):
    first, again = (simulated.write_csv(tmp_path / name, page()) for name in ("a.csv", "b.csv"))
    found = load([first, again], key)
    assert values(found) == SCORES and len(found.table) == 3
    assert set(found.exclusions["reason"]) == {"the same answers submitted again"} and not found.notes
    # Written "5" here and "5.0" there, the answer is the same; naming a file twice is not handing it in twice.
    other = simulated.write_csv(tmp_path / "c.csv", page(scores=("5.0", "2.0", "3")))
    assert not load([first, other], key).notes and load([first, first], key).exclusions.empty


def test_of_different_uploads_the_first_complete_one_counts(tmp_path, key):
    partial = simulated.write_csv(tmp_path / "a.csv", page(scores=(1, 1, "")))
    complete = simulated.write_csv(tmp_path / "b.csv", page())
    later = simulated.write_csv(tmp_path / "c.csv", page(scores=(4, 4, 4)))
    found = load([partial, complete, later], key)
    assert values(found) == SCORES and set(found.table["file"]) == {str(complete)}
    assert found.exclusions["reason"].value_counts()["other answers of the same session"] == 5
    assert any("Session a" in note for note in found.notes)


def test_an_upload_repeated_within_one_file(tmp_path, key):
    lines = [payload(), payload(), payload("u2", (1, 1, 1), "p2")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    found = load([write(tmp_path / "sessions.jsonl", text)], key)
    assert len(found.table) == 6 and (found.exclusions["reason"] == "the same answers submitted again").sum() == 3


def test_parts_of_a_session_in_two_files_belong_together(tmp_path, key):
    rows = page()
    files = [simulated.write_csv(tmp_path / "a.csv", rows[:1]), simulated.write_csv(tmp_path / "b.csv", rows[1:])]
    found = load(files, key)
    assert values(found) == SCORES and found.exclusions.empty


@pytest.mark.parametrize(
    ("repeat", "people", "scores"),
    [("first", ["p1"], [5, 2, 3]), ("keep", ["p1", "p1 (2)"], [5, 2, 3, 4, 1, 3]), ("mean", ["p1"], [4.5, 1.5, 3])],
)
def test_one_participant_in_two_sessions(tmp_path, key, repeat, people, scores):
    rows = [*page("a", code="p1"), *page("b", (4, 1, 3), code="p1")]
    found = load([simulated.write_csv(tmp_path / "a.csv", rows)], key, repeat=repeat)
    assert sorted(found.table["participant"].unique()) == people and found.table["value"].tolist() == scores
    assert any("p1" in note for note in found.notes)
    assert len(found.exclusions) == (3 if repeat == "first" else 0)


def test_incomplete_sessions_are_kept_unless_asked(tmp_path, key):
    rows = simulated.mos_rows()
    rows[0]["answer"] = "NA"
    path = simulated.write_csv(tmp_path / "a.csv", rows)
    assert load([path], key).table["session_id"].nunique() == simulated.LISTENERS
    found = load([path], key, complete_only=True)
    assert "session_00" not in set(found.table["session_id"])
    assert (found.exclusions["reason"] == "session incomplete").sum() == 19
    # Without the study, the fullest session says what is complete.
    (key.parent / "study.json").unlink()
    assert load([path], key, complete_only=True).table.equals(found.table)


def test_a_file_without_answers_is_a_note(tmp_path, key):
    files = [simulated.write_csv(tmp_path / "a.csv", page()), simulated.write_csv(tmp_path / "b.csv", [])]
    assert load(files, key).notes == ["b.csv holds no answers"]


def test_practice_and_catch_are_told_by_the_study_or_the_role(tmp_path):
    rows = [*simulated.key_rows(), {"stimulus_id": "s_c", "item_id": "x", "role": "catch", "method": ""}]
    key = tmp_path / "key.csv"
    pd.DataFrame(rows).to_csv(key, index=False)
    path = simulated.write_csv(
        tmp_path / "a.csv", [*page(), simulated.answer(stimulus_id="s_c", trial_id="t_9", answer=1)]
    )
    assert load([path], key).table["kind"].tolist() == ["trial"] * 3 + ["catch"]
