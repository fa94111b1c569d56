"""The command line of `explore`: what it opens, what it refuses with one line, and what other commands do not load."""

import socket
import subprocess
import sys

import pytest
import soundfile
from two_tones import RATE, tones

from audiointerp.__main__ import main


@pytest.fixture
def served(monkeypatch):
    """Instead of serving, keeps the app."""
    given = []
    monkeypatch.setattr("audiointerp.explore.server.serve", lambda app, *rest: given.append((app, *rest)))
    return given


@pytest.fixture
def sound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("my.wav", tones(0.5).numpy(), RATE)
    return "my.wav"


def test_a_sound_alone_is_opened_with_the_shipped_model(served, sound, tmp_path, capsys):
    assert main(["explore", sound, "--device", "cpu"]) == 0
    ((app, port, _, ending),) = served
    pages = app.app.routes[0].endpoint.__self__
    assert pages.model == "esc10-piq" and [each.name for each in pages.workbench.sounds.all()] == [sound]
    assert next(iter(pages.workbench.methods)) == "piq" and {"gradcam", "lime", "loudest"} <= {*pages.workbench.methods}
    assert port == 0 and not ending.is_set() and len(app.token) > 20
    assert pages.archive.folder.parent.name == "explored"
    assert sorted(each.name for each in tmp_path.iterdir()) == [sound]  # nothing is written before the first save
    assert capsys.readouterr().out == "ended\n"


def test_only_the_methods_that_are_named(served, sound):
    assert main(["explore", "esc10-piq", sound, "--method", "gradcam,loudest", "--binary", "-o", "out"]) == 0
    methods = served[0][0].app.routes[0].endpoint.__self__.workbench.methods
    assert list(methods) == ["gradcam", "loudest"] and all(each.binary for each in methods.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-model"], ["no-such-model", "esc10-piq"]),
        (["esc10-piq", "nothing.wav"], ["nothing.wav", "no such file"]),
        (["esc10-piq", "--method", "gradcan"], ["gradcan", "gradcam"]),
        (["esc10-piq", "-o", "full"], ["full", "not empty"]),
        (["esc10-piq", "full/note.wav"], ["note.wav", "not readable"]),
        (["esc10-piq", "."], ["folder", "one sound"]),
        (["esc10-piq", "--ports", "1"], ["--ports"]),
    ],
)
def test_refused_with_one_line(served, sound, tmp_path, capsys, arguments, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.wav").write_text("mine")
    assert main(["explore", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not served


def test_a_port_that_is_taken(sound, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["explore", "esc10-piq", "--no_browser", "--port", str(other.getsockname()[1])]) == 2
    assert "give another --port" in capsys.readouterr().err


def test_other_commands_load_no_web_server():
    code = (
        "import sys; from audiointerp.__main__ import main; main(['report', 'nothing']); import audiointerp.commands\n"
        "print([name for name in ('starlette', 'uvicorn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
