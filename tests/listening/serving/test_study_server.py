"""The server of a test's page: what it serves, whose answers it takes, and how it spreads orders over participants."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiointerp.listening.analysis.formats import read_rows
from audiointerp.listening.serving.study_server import UNDER_WAY, make_study_server
from audiointerp.listening.study import ANSWER_COLUMNS, SCHEMA, Presentation, Study, Trial
from audiointerp.listening.targets.page import write_page

SECRET = b"nobody may see this"
DEADLINE = 120
PUBLIC = "https://listen.example.org/test/"


def make_test(folder, embed=True):
    """An exported test of one page and four orders, with a private folder beside the public one."""
    public = folder / "public"
    (public / "stimuli").mkdir(parents=True)
    names = ["s_x", "s_a", "s_b"]
    for name in names:
        soundfile.write(public / "stimuli" / f"{name}.wav", 0.1 * np.ones(800), 8000)
    trial = Trial("t_1", "trial", "How well?", "s_x", ("s_a", "s_b"))
    sessions = tuple((Presentation("t_1", order),) for order in (("s_a", "s_b"), ("s_b", "s_a")) * 2)
    files = {name: f"stimuli/{name}.wav" for name in names}
    study = Study("lt_served00", "mos", "T", "I", 0, 8000, (trial,), sessions, files, dict.fromkeys(names, 0.1))
    (public / "study.json").write_text(study.to_json())
    write_page(study, public, public / "listening_test.html", embed_limit_mb=50 if embed else 0)
    (folder / "private").mkdir()
    (folder / "private" / "key.csv").write_bytes(SECRET)
    return folder


def session(number=0, code="p", order=0, answers=(4, 2), **more):
    """As the page sends one."""
    own = {"test_id": "lt_served00", "session_id": f"s_{number:016x}"}
    row = {**dict.fromkeys(ANSWER_COLUMNS, ""), **own, "trial_id": "t_1", "task": "mos", "participant_code": code}
    rows = [{**row, "stimulus_id": name, "answer": answer} for name, answer in zip(("s_a", "s_b"), answers)]
    said = {"questionnaire": {"hearing": "no"}, "participant_code": code, "order": order}
    return {"schema": SCHEMA, **own, **said, "rows": rows, **more}


class Served:
    """A server that runs, and requests to it."""

    def __init__(self, folder, **options):
        self.said = []
        self.server = make_study_server(folder, None, 0, on_session=self.said.append, **options)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def request(self, method, path, data=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=DEADLINE)
        try:
            body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def order(self, participant, number=None):
        asked = {"test_id": "lt_served00", "participant": participant, "number": number}
        return json.loads(self.request("POST", "/order", asked)[1])["order"]

    def kept(self):
        path = self.server.store.path_of("lt_served00")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.fixture
def serve(tmp_path):
    """serve(**options) -> a Served of one test."""
    folder, running = make_test(tmp_path / "test"), []

    def start(**options):
        running.append(Served(folder, **options))
        return running[-1]

    yield start
    for each in running:
        each.close()


def test_only_the_page_and_its_sounds_are_served(serve, tmp_path):
    served = serve()
    status, page = served.request("GET", "/?PROLIFIC_PID=x")
    assert status == 200 and b'<meta name="collector" content="answers">' in page
    assert served.request("GET", "/listening_test.html") == (200, page)
    sound = (tmp_path / "test" / "public" / "stimuli" / "s_a.wav").read_bytes()
    assert served.request("GET", "/stimuli/s_a.wav") == (200, sound)
    for path in ("/study.json", "/private/key.csv", "/../private/key.csv", "/%2e%2e/private/key.csv", "/answers",
                 "/stimuli/", "/stimuli/../study.json", "/stimuli/%2e%2e/study.json", "/nothing"):  # fmt: skip
        status, content = served.request("GET", path)
        assert status == 404 and SECRET not in content, path


def test_answers_are_stored_once_and_the_analysis_reads_them(serve):
    served = serve(completion="CODE-7")
    sent = session(1, answers=(5, 3))
    for _ in range(2):  # the reply of the first may have been lost
        status, told = served.request("POST", "/answers", sent)
        assert (status, json.loads(told)) == (200, {"stored": True, "completion": "CODE-7"})
    assert served.kept() == [sent]
    rows = read_rows(served.server.store.path_of("lt_served00"))
    assert rows["answer"].tolist() == ["5", "3"] and set(rows["q_hearing"]) == {"no"}
    changed = session(1, answers=(5, 4))
    assert served.request("POST", "/answers", changed)[0] == 200 and served.kept() == [sent, changed]


def test_an_incomplete_session_gets_no_completion_code(serve):
    served = serve(completion="CODE-7")
    status, told = served.request("POST", "/answers", session(2, rows=[]))
    assert (status, json.loads(told)["completion"]) == (200, "") and b"CODE-7" not in served.request("GET", "/")[1]
    for number, answers in enumerate([(None, None), ("", ""), (99, 99), (4, "4"), ("=cmd|x", 3), (4,)]):
        status, told = served.request("POST", "/answers", session(10 + number, answers=answers))
        assert (status, json.loads(told)["completion"]) == (200, ""), answers
    status, told = served.request("POST", "/answers", session(30, answers=(1, 5)))
    assert (status, json.loads(told)["completion"]) == (200, "CODE-7")


@pytest.mark.parametrize(
    ("task", "choices", "good", "bad"),
    [
        ("rating", (), [("s_a", 0), ("s_b", 100.0)], [("s_a", 101), ("s_a", "5"), ("", 5)]),
        ("ab", ("no preference",), [("s_a", "preferred"), ("", "no preference")], [("s_a", "A"), ("", "preferred")]),
        ("ab", (), [("s_b", "preferred")], [("", "no preference")]),
        ("abx", (), [("s_a", "A"), ("s_b", "B")], [("s_a", "C"), ("", "A")]),
        ("simulate", ("dog", "cannot tell"), [("s_a", "dog"), ("s_b", "cannot tell")], [("s_a", "cat"), ("", "dog")]),
    ],
)
def test_answers_that_a_page_can_give(task, choices, good, bad):
    trial = Trial("t_1", "trial", "?", "s_x", ("s_a", "s_b"), choices)
    study = Study("lt_x", task, "T", "I", 0, 8000, (trial,), (), {}, {})
    assert all(study.takes("t_1", *each) for each in good) and not any(study.takes("t_1", *each) for each in bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_id": "lt_other000"}, "collects lt_served00"),
        ({"rows": [{**session()["rows"][0], "stimulus_id": "s_zz"}]}, "no sound 's_zz'"),
        ({"rows": [{**session()["rows"][0], "trial_id": "t_9"}]}, "page 't_9'"),
        ({"session_id": "../../x"}, "malformed"),
        ({"participant_code": "x" * 41}, "malformed"),
        ({"rows": "no"}, "a list"),
        ({"schema": "x"}, "collects"),
        ({"participant_code": "\ud800"}, "no character"),
        ({"rows": [{**session()["rows"][0], "task": "ab"}]}, "the test's is mos"),
        ({"rows": [{**session()["rows"][0], "q_hearing": "no"}]}, "the column 'q_hearing'"),
    ],
)
def test_other_tests_and_junk_are_refused_and_kept_aside(serve, change, message):
    served = serve()
    status, told = served.request("POST", "/answers", {**session(), **change})
    assert status == 400 and message in json.loads(told)["error"] and served.kept() == []
    assert len(list((served.server.store.folder / "rejected").iterdir())) == 1
    assert served.request("POST", "/answers", b"[" * 100_000)[0] == 400
    assert served.request("POST", "/elsewhere", session())[0] == 404


OWN = {"Host": "listen.example.org", "Origin": "https://listen.example.org"}


@pytest.mark.parametrize(
    ("headers", "stored"),
    [
        (OWN, True),
        ({**OWN, "Sec-Fetch-Site": "same-origin"}, True),
        ({**OWN, "Origin": "https://evil.example"}, False),
        ({**OWN, "Origin": "http://listen.example.org"}, False),
        ({**OWN, "Origin": "null"}, False),
        ({**OWN, "Host": "evil.example"}, False),
        ({**OWN, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}, True),
    ],
)
def test_behind_a_web_server_only_its_own_pages_post(serve, headers, stored):
    served = serve(address=PUBLIC)
    assert served.request("POST", "/answers", session(), headers)[0] == (200 if stored else 403)
    assert len(served.kept()) == stored


def test_a_link_of_another_site_opens_the_page_but_cannot_embed_it(serve):
    served = serve(address=PUBLIC)
    link = {"Host": "listen.example.org", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.request("GET", "/?PROLIFIC_PID=x", None, {**link, "Sec-Fetch-Dest": "document"})[0] == 200
    assert served.request("GET", "/", None, {**link, "Sec-Fetch-Dest": "iframe"})[0] == 403
    assert served.request("GET", "/stimuli/s_a.wav", None, {**link, "Sec-Fetch-Mode": "no-cors"})[0] == 403


def test_orders_are_balanced_and_remembered(serve, monkeypatch):
    served = serve()
    assert [served.order(f"p{number}") for number in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [served.order(f"p{number}") for number in (5, 2)] == [1, 2]  # the same participant, the same order
    assert served.order("anna", 7) == 3  # an order that the address names
    again = serve()
    assert again.order("p6") == 2 and again.order("new") == 0


def test_participants_who_never_finish_leave_their_order_to_others(serve, monkeypatch):
    served, now = serve(), [1000.0]
    monkeypatch.setattr("audiointerp.listening.serving.study_server.time.time", lambda: now[0])
    assert [served.order(f"p{number}") for number in range(4)] == [0, 1, 2, 3]
    for number in (0, 1, 3):
        assert served.request("POST", "/answers", session(number, f"p{number}", order=number))[0] == 200
    now[0] += UNDER_WAY + 1
    assert served.order("late") == 2  # p2 has gone


def test_what_cannot_be_served_is_told_in_a_line(tmp_path):
    folder = make_test(tmp_path / "test")
    for options, message in (
        ({"host": "0.0.0.0"}, "--address"),
        ({"address": "listen.example.org"}, "such as https://"),
        ({"results": folder / "public" / "answers"}, "for listeners"),
        ({"port": 70000}, "another --port"),
    ):
        with pytest.raises(ValueError, match=message):
            make_study_server(folder, **options)
    with pytest.raises(ValueError, match="no test with a page"):
        make_study_server(tmp_path)
    page = folder / "public" / "listening_test.html"
    page.write_text(page.read_text().replace('name="collector"', 'name="other"'))
    with pytest.raises(ValueError, match="export it again"):
        make_study_server(folder)


def test_the_container_s_dependencies_suffice(tmp_path):
    """docs/listening_server/Dockerfile installs the package without its dependencies, and three of them by name."""
    text = (Path(__file__).parents[3] / "docs" / "listening_server" / "Dockerfile").read_text()
    installed = re.search(r"pip install --no-cache-dir ([a-z -]+?) &&", text)[1].replace("-", "_").split()
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    needed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1]
    names = {"PyYAML": "yaml", "PyWavelets": "pywt", "ruamel.yaml": "ruamel"}
    others = [names.get(name, name.replace("-", "_")) for name in re.findall(r'"([A-Za-z.-]+)', needed)]
    blocked = [name for name in others if name not in installed]
    assert "torch" in blocked and "pandas" in blocked
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
    code += "from audiointerp.__main__ import main\n"
    code += f"sys.exit(main(['listen', 'serve', {str(make_test(tmp_path / 'test'))!r}, '--address', 'no']))"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 2 and "address is 'no'" in ended.stderr, ended.stderr


@pytest.mark.parametrize("name", ["", "sessions.jsonl", "orders.jsonl"])
def test_a_store_that_cannot_be_written_is_told_at_the_start(tmp_path, name):
    test = make_test(tmp_path / "test")
    place = test / "answers" / "lt_served00"
    if name:
        (place / name).mkdir(parents=True)
    else:
        place.parent.mkdir()
        place.write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        make_study_server(test, None, 0)


def test_malformed_addresses_and_names_with_control_characters(serve):
    served = serve()
    for line in (b"GET http://[ HTTP/1.0", b"POST http://[::1/ HTTP/1.0"):
        with socket.create_connection(("127.0.0.1", served.server.server_port), timeout=DEADLINE) as asked:
            asked.sendall(line + f"\r\nHost: 127.0.0.1:{served.server.server_port}\r\n\r\n".encode())
            assert b" 404 " in asked.makefile("rb").readline(), line
    assert served.request("POST", "/answers", session(1, code="\x1b[2Jé"))[0] == 200
    assert served.said == ["kept 2 answers of \\x1b[2J\\xe9"]
