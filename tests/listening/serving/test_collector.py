"""The collector over real sockets: sessions are kept whole, and nothing but the checkout is served."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import quote_plus

import pytest

from audiointerp.listening.serving import collector
from audiointerp.listening.serving.collector import make_server, serve

CONFIG = 'testname: Rätsel\ntestId: "lt_7c1eaaaa"\npages: []\n'.encode()
SECRET = b"nobody may see this"
DEADLINE = 120  # seconds until a test gives up; nothing is asked about speed


def read_sessions(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def session(number=0, test_id="lt_7c1eaaaa", **more):
    """As webMUSHRA's JSON.stringify writes one."""
    trials = [{"type": "mushra", "id": "t_01", "responses": [{"stimulus": "s_a", "score": number}]}]
    data = {"testId": test_id, "participant": {"name": ["participant_code"], "response": [f"p{number}"]}}
    return {**data, "trials": trials, "uuid": f"u{number}", **more}


def dump(data):
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.fixture
def checkout(tmp_path):
    """What a webMUSHRA checkout holds, with things beside and inside it that are nobody's business."""
    root = tmp_path / "webMUSHRA"
    for name, content in {
        "index.html": b"<title>webMUSHRA</title>",
        "startup.js": b"start()",
        "lib/app.js": b"app()",
        "configs/lt_7c1eaaaa.yaml": CONFIG,
        "configs/lt_7c1eaaaa/s_a.wav": bytes(range(200)),
        "configs/a b.wav": b"blank",
        "doc/index.html": b"doc",
        "results/old/mushra.csv": SECRET,
        "service/write.php": SECRET,
        ".git/config": SECRET,
        "configs/.hidden": SECRET,
        "../private/key.csv": SECRET,
        "../webMUSHRA2/index.html": SECRET,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "configs" / "out.csv").symlink_to(tmp_path / "private" / "key.csv")
    (root / "configs" / "outside").symlink_to(tmp_path / "private")
    (root / "configs" / "hop").symlink_to(root / "results")
    (root / "configs" / "twin.wav").symlink_to(root / "configs" / "lt_7c1eaaaa" / "s_a.wav")
    return root


@pytest.fixture
def running(checkout, tmp_path):
    """A server that runs; its results lie beside the checkout."""
    kept = []
    server = make_server(checkout, tmp_path / "results", 0, on_session=kept.append)
    server.kept = kept
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def request(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=DEADLINE)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def post(server, body, path="/service/write.php"):
    headers = {"Content-type": "application/x-www-form-urlencoded"}
    return request(server, "POST", path, body, headers)[:2]


def raw_request(server, text):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=DEADLINE) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def sessions_file(server, slug="lt_7c1eaaaa"):
    return server.store.folder / slug / "sessions.jsonl"


def rejected(server):
    return sorted(path.read_bytes() for path in (server.store.folder / "rejected").glob("*"))


def test_a_session_is_answered_with_nothing_and_kept_as_sent(running):
    raw = dump(session(7))
    assert post(running, b"sessionJSON=" + raw) == (200, b"")
    assert sessions_file(running).read_bytes() == raw + b"\n"
    assert read_sessions(sessions_file(running)) == [session(7)]
    assert running.kept == ["kept a session of lt_7c1eaaaa"]


@pytest.mark.parametrize(
    "text", ["R&B", "a+b", "%41", "50 %", "a=b&sessionJSON=c", "ä 🥁", 'say "hi"', "\\u00e9", "", "\u2028"]
)
def test_p3_answers_are_not_decoded(running, text):
    sent = session(participant={"name": ["comment"], "response": [text]})
    assert post(running, b"sessionJSON=" + dump(sent))[0] == 200
    assert post(running, b"sessionJSON=" + json.dumps(sent).encode())[0] == 200
    assert post(running, f"sessionJSON={quote_plus(json.dumps(sent))}".encode())[0] == 200
    assert read_sessions(sessions_file(running)) == [sent, sent, sent]
    assert not (running.store.folder / "rejected").exists()


def test_a_session_over_several_lines_becomes_one(running):
    sent = session(text="ä\n+")
    assert post(running, b"sessionJSON=" + json.dumps(sent, indent=1).encode() + b"\r\n")[0] == 200
    assert sessions_file(running).read_bytes().count(b"\n") == 1
    assert read_sessions(sessions_file(running)) == [sent]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"sessionJSON=", b"sessionJSON={", b"sessionJSON=[]", b"sessionJSON=null", b"sessionJSON=7",
        b"other=" + dump(session()), dump(session()), b"sessionJSON=" + dump(session())[:-1],
        b"sessionJSON=" + dump(session()) + b"&x=1", b"sessionJSON=\xff{}", b'sessionJSON={"testId":"a","trials":NaN}',
        b"sessionJSON=" + dump({"testId": 7, "trials": []}), b"sessionJSON=" + dump({"testId": "..", "trials": []}),
        b"sessionJSON=" + dump({"testId": "lt_a"}), b"sessionJSON=" + b"[" * 100000, b"sessionJSON=%7B%22a",
    ],
)  # fmt: skip
def test_a_broken_body_is_refused_and_kept_aside(running, body):
    post(running, b"sessionJSON=" + dump(session(1)))
    before = sessions_file(running).read_bytes()
    status, text = post(running, body)
    assert status == 400
    assert b"not kept" in text and b"\n" not in text
    assert rejected(running) == [body]
    assert sessions_file(running).read_bytes() == before
    assert post(running, b"sessionJSON=" + dump(session(2)))[0] == 200


def test_a_connection_that_breaks_off_loses_nothing(running):
    body = b"sessionJSON=" + dump(session())
    head = b"POST /service/write.php HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert b" 400 " in raw_request(running, head + body[:-5])
    assert rejected(running) == [body[:-5]]
    assert not sessions_file(running).exists()


@pytest.mark.parametrize(
    "length", [b"", b"Content-Length: -1\r\n", b"Content-Length: x\r\n", b"Content-Length: 1_0\r\n"]
)
def test_a_body_without_length_is_refused(running, length):
    assert b" 411 " in raw_request(running, b"POST /service/write.php HTTP/1.1\r\n" + length + b"\r\n")


def test_a_huge_body_is_refused(running, monkeypatch):
    monkeypatch.setattr(collector, "MAX_BYTES", 1000)
    assert post(running, b"sessionJSON=" + b"x" * 10**6)[0] == 413
    assert list(running.store.folder.rglob("*")) == []
    assert post(running, b"sessionJSON=" + dump(session()))[0] == 200


def test_fifty_at_once(running):
    gate, answers = threading.Barrier(50), []

    def send(number):
        gate.wait()
        answers.append(post(running, b"sessionJSON=" + dump(session(number, text="x" * 20000))))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, b"")] * 50
    kept = read_sessions(sessions_file(running))
    assert sorted(each["uuid"] for each in kept) == sorted(f"u{number}" for number in range(50))


def test_two_servers_share_a_folder(running, checkout):
    with make_server(checkout, running.store.folder, 0) as other:
        threads = [
            threading.Thread(target=lambda store=store, n=n: store.keep(b"sessionJSON=" + dump(session(n))))
            for n, store in enumerate([running.store, other.store] * 10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_sessions(sessions_file(running))) == 20


@pytest.mark.parametrize(
    ("test_id", "slug"),
    [("LT_A b&-c", "lt_a-b-c"), ("../../etc", "-etc"), ("a/../b", "a-b"), ("rejected", "rejected_")],
)
def test_each_test_has_a_folder_as_write_php_names_it(running, test_id, slug):
    (running.root / "configs" / "more.yaml").write_text(f"testId: {test_id}\n")
    assert post(running, b"sessionJSON=" + dump(session(test_id=test_id)))[0] == 200
    assert read_sessions(sessions_file(running, slug)) == [session(test_id=test_id)]
    assert [path.name for path in running.store.folder.iterdir()] == [slug]


def test_a_full_disk_leaves_the_file_whole_and_says_so(running, monkeypatch):
    post(running, b"sessionJSON=" + dump(session(1)))
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda file, data: write(file, data[:10]) if b"testId" in data else write(file, data)
    )
    status, text = post(running, b"sessionJSON=" + dump(session(2)))
    assert status == 500 and b"could not be written" in text
    monkeypatch.undo()
    assert read_sessions(sessions_file(running)) == [session(1)]
    assert sessions_file(running).read_bytes() == dump(session(1)) + b"\n"


def test_a_full_disk_leaves_no_part_of_what_is_no_session(running, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert post(running, b"sessionJSON=junk")[0] == 500 and rejected(running) == []
    monkeypatch.undo()
    assert post(running, b"sessionJSON=junk")[0] == 400 and rejected(running) == [b"sessionJSON=junk"]


def test_a_line_cut_by_a_kill_is_repaired_at_the_next_start(checkout, tmp_path, caplog):
    path = tmp_path / "results" / "lt_a" / "sessions.jsonl"
    path.parent.mkdir(parents=True)
    whole, cut = dump(session(1)) + b"\n", dump(session(2))[:-20]
    path.write_bytes(whole + cut)
    with make_server(checkout, tmp_path / "results", 0) as server:
        assert path.read_bytes() == whole
        assert rejected(server) == [cut]
        server.store.keep(b"sessionJSON=" + dump(session(3, test_id="lt_a")))
        # And a kill of another server in between.
        with open(path, "ab") as file:
            file.write(cut)
        server.store.keep(b"sessionJSON=" + dump(session(4, test_id="lt_a")))
        assert rejected(server) == [cut, cut]
    assert [each["uuid"] for each in read_sessions(path)] == ["u1", "u3", "u4"]


def test_a_last_line_that_lacks_only_its_end_is_kept(checkout, tmp_path):
    path = tmp_path / "results" / "lt_a" / "sessions.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(dump(session(1)))
    assert read_sessions(path) == [session(1)]
    with make_server(checkout, tmp_path / "results", 0) as server:
        server.store.keep(b"sessionJSON=" + dump(session(2, test_id="lt_a")))
    assert [each["uuid"] for each in read_sessions(path)] == ["u1", "u2"]


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("/", b"<title>webMUSHRA</title>", "text/html; charset=utf-8"),
        ("/?config=lt_7c1eaaaa.yaml", b"<title>webMUSHRA</title>", "text/html; charset=utf-8"),
        ("/configs/lt_7c1eaaaa.yaml?x=1", CONFIG, "text/plain; charset=utf-8"),
        ("/configs/lt_7c1eaaaa/s_a.wav", bytes(range(200)), "audio/wav"),
        ("/configs/twin.wav", bytes(range(200)), "audio/wav"),
        ("/configs/a%20b.wav", b"blank", "audio/wav"),
        ("/lib/app.js", b"app()", "text/javascript; charset=utf-8"),
        ("/doc/", b"doc", "text/html; charset=utf-8"),
    ],
)
def test_files_of_the_checkout_are_served(running, path, content, kind):
    status, body, headers = request(running, "GET", path)
    assert (status, body, headers["Content-Type"]) == (200, content, kind)
    status, body, headers = request(running, "HEAD", path)
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(content)))


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=10-19", range(10, 20)), ("bytes=190-", range(190, 200)), ("bytes=190-999", range(190, 200))],
)
def test_parts_of_a_sound_are_served(running, wanted, part):
    status, body, headers = request(running, "GET", "/configs/lt_7c1eaaaa/s_a.wav", headers={"Range": wanted})
    assert (status, body) == (206, bytes(part))
    assert headers["Content-Range"] == f"bytes {part[0]}-{part[-1]}/200"
    for other in ("bytes=999-", "bytes=-5", "bytes=0-1,5-6", "x"):
        status, body, _ = request(running, "GET", "/configs/lt_7c1eaaaa/s_a.wav", headers={"Range": other})
        assert (status, len(body)) == (200, 200)


@pytest.mark.parametrize(
    "path",
    [
        "/../private/key.csv", "/configs/../../private/key.csv", "/%2e%2e/private/key.csv", "/..%2fprivate/key.csv",
        "/configs/%2e%2e%2f%2e%2e%2fprivate/key.csv", "/%252e%252e/private/key.csv", "/..%5cprivate%5ckey.csv",
        "/..\\private\\key.csv", "//private/key.csv", "/./private/key.csv", "/configs/out.csv",
        "/configs/outside/key.csv", "/configs/outside/",
        "/configs/hop/old/mushra.csv", "/results/old/mushra.csv", "/RESULTS/old/mushra.csv",
        "/results/", "/service/write.php", "/configs/../results/old/mushra.csv", "/.git/config", "/configs/.hidden",
        "/configs/", "/configs", "/lib/", "/nothing", "/%00", "/index.html%00.png", "/%ff", "/../webMUSHRA2/index.html",
        "http://evil/index.html", "/a" * 3000, "*",
    ],
)  # fmt: skip
def test_nothing_else_is_served(running, tmp_path, path):
    for target in (path, path.replace("/private", f"/{tmp_path}/private")):
        for method in ("GET", "HEAD"):
            answer = raw_request(running, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert answer.split(b" ")[1] in (b"404", b"400", b"414")
            assert SECRET not in answer and b"s_a.wav" not in answer and b"key.csv" not in answer


def test_an_absolute_path_is_not_served(running, tmp_path):
    for path in (f"{tmp_path}/private/key.csv", f"/{tmp_path}/private/key.csv", f"file://{tmp_path}/private/key.csv"):
        assert SECRET not in raw_request(running, f"GET {path} HTTP/1.1\r\n\r\n".encode())


def test_sessions_inside_the_checkout_are_not_served(checkout):
    with make_server(checkout, checkout / "answers", 0) as server:
        server.store.keep(b"sessionJSON=" + dump(session()))
        assert (checkout / "answers" / "lt_7c1eaaaa" / "sessions.jsonl").is_file()
        assert server.find("/answers/lt_7c1eaaaa/sessions.jsonl") is None
        assert server.find("/lib/app.js") == checkout / "lib" / "app.js"


def test_results_above_the_checkout_do_not_hide_it(checkout):
    with make_server(checkout, checkout.parent, 0) as server:
        assert server.find("/lib/app.js") == checkout / "lib" / "app.js"


def test_only_the_service_takes_sessions(running):
    body = b"sessionJSON=" + dump(session())
    assert post(running, body, "/index.html")[0] == 404
    assert post(running, body, "/service/../service/write.php")[0] == 404
    assert request(running, "PUT", "/service/write.php", body)[0] == 501
    assert request(running, "DELETE", "/index.html")[0] == 501
    assert not sessions_file(running).exists()


def test_only_this_computer_can_connect(running):
    assert running.server_address[0] == "127.0.0.1"


def test_addresses_to_open(checkout, tmp_path):
    for name in ("lt_b_p00", "lt_b_p01", "lt_b_p02"):
        (checkout / "configs" / f"{name}.yaml").touch()
    with make_server(checkout, tmp_path / "results", 0) as server:
        base = f"http://127.0.0.1:{server.server_port}/?config="
        assert server.addresses() == [
            f"{base}lt_7c1eaaaa.yaml", f"{base}lt_b_p00.yaml ... {base}lt_b_p02.yaml",
        ]  # fmt: skip
    for path in (checkout / "configs").glob("lt_*.yaml"):
        path.unlink()
    with make_server(checkout, tmp_path / "results", 0) as server:
        assert "no exported test" in server.addresses()[0]


def test_what_cannot_be_served_is_said_in_a_line(checkout, tmp_path):
    with pytest.raises(ValueError, match="no webMUSHRA there") as error:
        make_server(tmp_path / "private", tmp_path / "results", 0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()
    with pytest.raises(ValueError, match="would be served"):
        make_server(checkout, checkout, 0)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        make_server(checkout, tmp_path / "file", 0)
    with make_server(checkout, tmp_path / "results", 0) as server, pytest.raises(ValueError, match="another --port"):
        serve(checkout, tmp_path / "results", server.server_port)
    with pytest.raises(ValueError, match="another --port"):
        make_server(checkout, tmp_path / "results", 70000)


@pytest.fixture
def process(checkout, tmp_path):
    """`serve` in a process of its own, and its port."""
    code = "import signal, sys; from pathlib import Path; from audiointerp.listening.serving import collector; "
    code += "from audiointerp.listening.serving.collector import serve; collector._Handler.timeout = None; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "serve(Path(sys.argv[1]), Path(sys.argv[2]), 0)"
    arguments = [sys.executable, "-c", code, str(checkout), str(tmp_path / "results")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            first, second = started.stdout.readline(), started.stdout.readline()
            assert first.startswith("http://127.0.0.1:") and first.endswith("/?config=lt_7c1eaaaa.yaml\n")
            assert "Ctrl-C" in second
            started.port = int(first.split(":")[2].split("/")[0])
            yield started
        finally:
            started.kill()


def send_to(port, number):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("POST", "/service/write.php", b"sessionJSON=" + dump(session(number, text="x" * 100000)))
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_disk_that_is_full_for_a_while(process, tmp_path):
    """The system refuses to make any file of the server larger: no session is confirmed that is not stored."""
    path = tmp_path / "results" / "lt_7c1eaaaa" / "sessions.jsonl"
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (250_000, hard))  # of sessions of 100 kB
    assert [send_to(process.port, number) for number in range(5)] == [200, 200, 500, 500, 500]
    assert [each["uuid"] for each in read_sessions(path)] == ["u0", "u1"]
    assert path.read_bytes().endswith(b"\n")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert [send_to(process.port, number) for number in range(2, 5)] == [200, 200, 200]
    assert [each["uuid"] for each in read_sessions(path)] == ["u0", "u1", "u2", "u3", "u4"]
    assert not (tmp_path / "results" / "rejected").exists()


def test_ctrl_c_ends_it_while_a_browser_holds_a_connection(process, tmp_path):
    """This server never gives a connection up: were it waited for, the process would not end at all."""
    with socket.create_connection(("127.0.0.1", process.port)):
        assert send_to(process.port, 1) == 200
        assert "kept a session of lt_7c1eaaaa" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0 and errors == "" and "ended" in out
    assert [each["uuid"] for each in read_sessions(tmp_path / "results" / "lt_7c1eaaaa" / "sessions.jsonl")] == ["u1"]


def test_what_was_confirmed_survives_a_kill(process, checkout, tmp_path):
    confirmed = []

    def keep_sending(start):
        try:
            for number in range(start, start + 1000):
                if send_to(process.port, number) == 200:
                    confirmed.append(f"u{number}")
        except (OSError, http.client.HTTPException):
            return

    threads = [threading.Thread(target=keep_sending, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    while len(confirmed) < 20 and any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    process.kill()
    for thread in threads:
        thread.join()
    with make_server(checkout, tmp_path / "results", 0) as server:
        kept = [each["uuid"] for each in read_sessions(sessions_file(server))]
    assert 20 <= len(confirmed) < 3000
    assert set(confirmed) <= set(kept) and len(set(kept)) == len(kept)


def test_closing_waits_for_a_session_that_is_arriving(checkout, tmp_path):
    server = make_server(checkout, tmp_path / "results", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    body = b"sessionJSON=" + dump(session())
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=DEADLINE) as connection:
        connection.sendall(b"POST /service/write.php HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:9])
        while not server._receiving:
            time.sleep(0.01)
        timer = threading.Timer(0.3, lambda: connection.sendall(body[9:]))
        timer.start()
        server.shutdown()
        thread.join()
        server.server_close()
        assert b" 200 " in connection.recv(1000)
        timer.join()
    assert read_sessions(sessions_file(server)) == [session()]


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example:8000"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost@evil.example"},
    {"Host": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://127.0.0.1"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_sites_neither_read_nor_post(running, headers):
    """A page that the experimenter opens, or a name that its owner points at this computer."""
    body = b"sessionJSON=" + dump(session())
    for method, path, data in (("GET", "/index.html", None), ("POST", "/service/write.php", body)):
        status, content, answered = request(running, method, path, data, headers)
        assert status == 403 and b"webMUSHRA" not in content
        assert "Access-Control-Allow-Origin" not in answered
    assert not sessions_file(running).exists() and not rejected(running)


@pytest.mark.parametrize("test_id", ["lt_unknown0", "LT_7C1EAAAA", "../lt_7c1eaaaa"])
def test_answers_of_an_unknown_test_are_refused_and_kept_aside(running, test_id):
    body = b"sessionJSON=" + dump(session(test_id=test_id))
    status, text = post(running, body)
    assert status == 400 and b"is not served here" in text and rejected(running) == [body]
    assert [path.name for path in running.store.folder.iterdir()] == ["rejected"]


def test_the_test_itself_reads_and_posts(running):
    body = b"sessionJSON=" + dump(session())
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        for port in (running.server_port, 9999):  # a forwarded port
            own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}", "Sec-Fetch-Site": "same-origin"}
            assert request(running, "POST", "/service/write.php", body, own)[0] == 200
            status, _, answered = request(running, "GET", "/index.html", None, own)
            assert status == 200 and answered["Cross-Origin-Resource-Policy"] == "same-origin"
    assert len(read_sessions(sessions_file(running))) == 6


def test_two_hosts_are_refused(running):
    text = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw_request(running, text).split(b" ")[1] == b"403"


@pytest.mark.parametrize("test_id", ["rejected", "Rejected", "REJECTED"])
def test_a_test_named_as_the_folder_of_junk(running, test_id):
    (running.root / "configs" / "more.yaml").write_text(f"testId: '{test_id}'\n")
    assert post(running, b"junk")[0] == 400
    assert post(running, b"sessionJSON=" + dump(session(test_id=test_id))) == (200, b"")
    assert rejected(running) == [b"junk"]
    assert [each["testId"] for each in read_sessions(sessions_file(running, "rejected_"))] == [test_id]


def test_junk_does_not_fill_the_disk(running, monkeypatch):
    monkeypatch.setattr("audiointerp.listening.serving.sessions.MAX_REJECTED", 5)
    for number in range(10):
        assert post(running, b"junk%d" % number)[0] == 400
    assert len(rejected(running)) == 5
    monkeypatch.setattr("audiointerp.listening.serving.sessions.MAX_REJECTED", 100)
    monkeypatch.setattr("audiointerp.listening.serving.sessions.MAX_REJECTED_BYTES", 40)
    for _ in range(10):
        assert post(running, b"x" * 9)[0] == 400
    assert sum(map(len, rejected(running))) <= 40
    assert post(running, b"sessionJSON=" + dump(session())) == (200, b"")


@pytest.mark.parametrize("wanted", ["bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000, "bytes=٣-٤"])
def test_ranges_with_thousands_of_digits(running, wanted):
    text = f"GET /lib/app.js HTTP/1.1\r\nHost: localhost\r\nRange: {wanted}\r\nConnection: close\r\n\r\n".encode()
    answer = raw_request(running, text)
    assert answer.split(b" ")[1] == b"200" and answer.endswith(b"app()")


def test_a_hundred_at_once_and_a_kill(process, checkout, tmp_path):
    """kill -9 while a hundred participants press Send: each who was told so has an answer on disk."""
    confirmed, ready = [], threading.Barrier(100)

    def send(number):
        ready.wait()
        try:
            if send_to(process.port, number) == 200:
                confirmed.append(f"u{number}")
        except (OSError, http.client.HTTPException):
            return

    threads = [threading.Thread(target=send, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    while len(confirmed) < 30 and any(thread.is_alive() for thread in threads):
        time.sleep(0.0005)
    process.kill()
    for thread in threads:
        thread.join()
    told = set(confirmed)
    with make_server(checkout, tmp_path / "results", 0) as server:
        kept = [each["uuid"] for each in read_sessions(sessions_file(server))]
    assert len(told) >= 30 and told <= set(kept) and len(set(kept)) == len(kept)
