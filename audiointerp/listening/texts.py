"""The texts of a listening test: one YAML file with language, consent, questions about the listener, and every word.

`words/en.yaml` is such a file, complete and with comments; what a user's file leaves out is taken from its language's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from audiointerp.results.shapes import is_unicode, misshapen, text_of

WORDS = Path(__file__).with_name("words")
MAX_CHARACTERS, MAX_NESTED = 200_000, 20
TASKS = ("mos", "ab", "abx", "simulate", "rating")
CHECKS = ("headphones", "level")
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_BY_TASK = (str, {"mos?": str, "ab?": str, "abx?": str, "simulate?": str, "rating?": str})
_SHOWN = (str, int, float, bool)  # YAML reads 1 and true as a number and a truth value
_QUESTION = {"name": str, "ask": str, "answers?": ({str: _SHOWN}, [_SHOWN])}
SHAPE = {
    **{"language?": str, "title?": str, "introduction?": _BY_TASK, "question?": _BY_TASK, "attention?": str},
    **{"consent?": str, "consent_tick?": str, "classes?": {str: str}, "questions?": [_QUESTION], "words?": {str: str}},
}

__all__ = ["CHECKS", "WORDS", "Texts", "languages", "read_texts"]


@dataclass(frozen=True)
class Texts:
    """All texts of a test.

    Attributes:
        language: code of the page's language, such as "en".
        title, attention, consent, consent_tick: see `words/en.yaml`.
        introduction, question: task -> text.
        classes: class -> its name for listeners.
        questions: {"name", "ask", "answers"}; `answers` maps what is stored to what is shown, empty for free text.
        words: every other word of the page.
    """

    language: str
    title: str
    introduction: dict[str, str]
    question: dict[str, str]
    attention: str
    consent: str
    consent_tick: str
    classes: dict[str, str]
    questions: tuple[dict[str, Any], ...]
    words: dict[str, str]
    own: frozenset[str] = field(default=frozenset())

    def of_page(self) -> dict[str, Any]:
        """What the page shows of these texts, for study.json."""
        names = ("language", "consent", "consent_tick", "questions", "words")
        return {name: getattr(self, name) for name in names}


def languages() -> list[str]:
    """Codes of the languages that come with the package."""
    return sorted(path.stem for path in WORDS.glob("*.yaml"))


def read_texts(path: str | Path | None = None) -> Texts:
    """The texts of a file, completed by its language's; English without a file.

    >>> read_texts().words["next"]
    'Next'

    Raises:
        ValueError: naming the file, if it cannot be read, has another shape, or lacks a text that no language has.
    """
    given = {} if path is None else _checked(Path(path))
    language = given.get("language", "en")
    if not re.fullmatch("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", language):
        raise ValueError(f"{path}: language is {language!r}; give a code such as en, de or pt-BR")
    known = language in languages()
    base = _language(language if known else "en")
    lacking = [f"words.{name}" for name in base["words"] if name not in given.get("words", {})] if not known else []
    lacking += [name for name in base if name not in given and name not in ("classes", "words")] if not known else []
    if lacking:
        raise ValueError(
            f"{path}: language {language} is not in the package (it has {', '.join(languages())}), so every text must "
            f"be given; missing: {', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''}"
        )
    merged = {**base, **given, "language": language, "words": {**base["words"], **given.get("words", {})}}
    for name in ("introduction", "question"):
        merged[name] = _by_task(base[name], given.get(name))
    questions = tuple({**each, "answers": _answers(each.get("answers"))} for each in merged["questions"])
    return Texts(**{**merged, "questions": questions, "own": frozenset(given)})


def _by_task(base: Mapping[str, str], given: Any) -> dict[str, str]:
    own = dict.fromkeys(TASKS, given) if isinstance(given, str) else dict(given or {})
    return {**base, **own}


def _answers(given: Any) -> dict[str, str]:
    """Stored answer -> shown answer."""
    pairs = given.items() if isinstance(given, dict) else ((each, each) for each in given or ())
    return {str(stored): str(shown) for stored, shown in pairs}


def _checked(path: Path) -> dict[str, Any]:
    """A user's file; every unknown name, every malformed question is an error."""
    data = _read(path)
    if problem := misshapen(data, SHAPE):
        raise ValueError(f"{path}: {problem}; `audiointerp listen texts` prints a complete file")
    words = _language("en")["words"]
    known = {name.removesuffix("?"): "" for name in SHAPE} | {f"words.{name}": "" for name in words}
    for name in (*data, *(f"words.{each}" for each in data.get("words", {}))):
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)  # YAML reads some names as dates and numbers
            raise ValueError(
                f"{path}: no text is called {str(name)!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    names = [each["name"] for each in data.get("questions", ())]
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            raise ValueError(
                f"{path}: a question is called {name!r}; names must differ, and begin with a letter a-z followed by at "
                "most 30 of a-z, 0-9 and _"
            )
    return data


@cache
def _language(name: str) -> dict[str, Any]:
    """The texts of a language of the package."""
    return _read(WORDS / f"{name}.yaml")


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML, YAMLError
    from ruamel.yaml.events import AliasEvent

    from audiointerp.recipe.merging import nested_brackets

    text = text_of(path)
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{path}: has more than {MAX_CHARACTERS} characters; give a file of texts")
    if nested_brackets(text) > MAX_NESTED:
        raise ValueError(f"{path}: brackets are nested more than {MAX_NESTED} deep; write plain texts")
    try:
        if any(isinstance(event, AliasEvent) for event in YAML(typ="safe", pure=True).parse(text)):
            raise ValueError("it has an alias, * before a word; write each text where it belongs")
        data = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not is_unicode(data):
        raise ValueError(f"{path}: holds half of a surrogate pair, which is no character; write the character itself")
    if not isinstance(data, dict):
        raise ValueError(f"{path}: must hold names and texts, such as `title: Listening test`")
    return data
