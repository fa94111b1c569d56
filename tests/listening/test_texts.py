"""The texts of the page: the languages of the package, a user's file, and what is wrong with one."""

import re
from pathlib import Path

import pytest
from listening_runs import make_run

from audiointerp.__main__ import main
from audiointerp.listening import texts
from audiointerp.listening.study import Study
from audiointerp.listening.texts import WORDS, languages, read_texts

PAGE = Path(texts.__file__).parent / "targets"
BRACES = r"\{\w+\}"


def test_every_language_has_every_text_with_the_same_braces():
    english = read_texts()
    assert languages() == ["de", "en"]
    for name in languages():
        other = read_texts(WORDS / f"{name}.yaml")
        assert other.language == name and other.words.keys() == english.words.keys()
        for key, text in english.words.items():
            assert sorted(re.findall(BRACES, other.words[key])) == sorted(re.findall(BRACES, text)), key
        for task, question in english.question.items():
            assert ("{class}" in other.question[task]) == ("{class}" in question)
        assert [each["name"] for each in other.questions] == [each["name"] for each in english.questions]


def test_the_page_has_no_words_of_its_own_and_uses_every_word():
    scripts = "".join(path.read_text("utf-8") for path in PAGE.glob("*.js"))
    page = (PAGE / "page.html").read_text("utf-8")
    code = (PAGE / "page.py").read_text("utf-8")
    named = set(re.findall(r'word\(\s*"(\w+)"', scripts)) | set(re.findall(r"\bw\.(\w+)", page))
    assert named <= read_texts().words.keys()
    for key in read_texts().words:
        parts = [key, re.sub("s$", "", key), re.sub("^(eyebrow|check)_.*", r"`\1_", key)]
        assert any(part in scripts or part in page or part in code for part in parts), key
    shown = re.sub(r"(?s)<(style|script|svg)\b.*?</\1>|{%.*?%}|{{.*?}}|<[^>]*>", " ", page)
    assert re.findall("[A-Za-z]{2,}", shown) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", "no text is called 'titel'; did you mean 'title'"),
        ("words: {nxt: x}", r"no text is called 'words.nxt'; did you mean 'words.next'"),
        ("title: 3", "title is 3, expected text"),
        ("language: fr\ntitle: Essai", r"language fr is not in the package .*words.needs_script"),
        ("language: '\"><script>'", "give a code such as"),
        ("questions: [{name: Age, ask: x}]", "a question is called 'Age'"),
        ("questions: [{name: a, ask: x}, {name: a, ask: y}]", "names must differ"),
        ("questions: [{ask: x}]", "lacks 'name'"),
        ("a: &b [1]\nc: *b", "an alias"),
        ("title: a: b", "cannot be read as YAML"),
        ("- 1", "must hold names and texts"),
        ("2020-01-01: x", "no text is called"),
        ('title: "\\ud800"', "surrogate"),
        ("questions: [{name: a, ask: x, answers: [[1], {a: b}]}]", "answers"),
        ("words: " + "[" * 30, "nested more than 20 deep"),
        ("title: !!python/object:os.system x", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_a_line(tmp_path, text, message):
    path = tmp_path / "texts.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_texts(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_writes_a_file_that_export_takes(tmp_path, capsys):
    own = tmp_path / "texts.yaml"
    assert main(["listen", "texts", "--language", "de", "-o", str(own)]) == 0
    own.write_text(own.read_text("utf-8").replace("title: Hörtest", "title: Mein Hörtest"), "utf-8")
    run = make_run(tmp_path / "run")
    target = ["--target", "folder", "--practice", "0"]
    assert main(["listen", "export", str(run), "-o", str(tmp_path / "out"), "--texts", str(own), *target]) == 0
    assert Study.read(tmp_path / "out" / "public" / "study.json").title == "Mein Hörtest"
    assert main(["listen", "texts", "-o", str(own)]) == 2 and main(["listen", "texts", "--language", "xx"]) == 2
    assert "exists; choose another file" in capsys.readouterr().err
