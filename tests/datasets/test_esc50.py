"""ESC-50 and ESC-10: the table, the files, and the download against a server on this machine."""

import functools
import http.server
import threading
import zipfile
from pathlib import Path

import pytest

from audiointerp.datasets import esc50
from audiointerp.datasets.esc50 import read_esc50

HEADER = "filename,fold,target,category,esc10,src_file,take\n"


def make_folder(root: Path, rows: str, files: tuple[str, ...]) -> Path:
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    (root / "meta" / "esc50.csv").write_text(HEADER + rows)
    for name in files:
        (root / "audio" / name).touch()
    return root


def test_real_esc10(esc10):
    clips = read_esc50(esc10)
    assert len(clips) == 320
    assert [sum(clip.fold == fold for clip in clips) for fold in (1, 2, 3, 4)] == [80] * 4
    assert len({clip.labels for clip in clips}) == 10
    # The file name carries fold, source, take and target: an account independent of the table's category column.
    names = {clip.path.stem.rsplit("-", 1)[1]: clip.labels[0] for clip in clips}
    assert (names["0"], names["10"], names["41"]) == ("dog", "rain", "chainsaw")
    assert all(clip.path.name.startswith(f"{clip.fold}-") for clip in clips)


def test_files_are_matched_by_stem_and_the_listed_name_wins(tmp_path):
    rows = "a.wav,1,0,dog,True,1,A\nb.wav,2,41,chainsaw,True,2,A\nc.wav,2,0,dog,True,3,A\n"
    folder = make_folder(tmp_path / "esc", rows, ("a.ogg", "b.FLAC", "c.wav", "c.ogg", "d.wav", "a.txt"))
    clips = read_esc50(folder)
    assert [clip.path.name for clip in clips] == ["a.ogg", "b.FLAC", "c.wav"]
    assert [clip.labels for clip in clips] == [("dog",), ("chainsaw",), ("dog",)]
    assert [clip.fold for clip in clips] == [1, 2, 2]


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        read_esc50(tmp_path / "nowhere")
    folder = make_folder(tmp_path / "esc", "a.wav,1,0,dog,True,1,A\nb.wav,1,0,dog,True,1,A\n", ("a.wav",))
    with pytest.raises(ValueError, match=r"1 of the table's 2 files are missing \(b\.wav\)"):
        read_esc50(folder)
    (folder / "meta" / "esc50.csv").write_text("filename,fold\na.wav,1\n")
    with pytest.raises(ValueError, match=r"esc50\.csv: lacks column target, category; it has filename, fold"):
        read_esc50(folder)
    (folder / "meta" / "esc50.csv").write_text(HEADER + "a.wav,one,0,dog,True,1,A\n")
    with pytest.raises(ValueError, match=r"row 2: fold is 'one'"):
        read_esc50(folder)
    (folder / "meta" / "esc50.csv").unlink()
    with pytest.raises(ValueError, match=r"esc50\.csv: no such file"):
        read_esc50(folder)
    (folder / "audio" / "a.wav").unlink()
    (folder / "audio").rmdir()
    with pytest.raises(ValueError, match=r"audio: no such folder"):
        read_esc50(folder)


def write_archive(path: Path, clips_per_class: int = 40) -> None:
    """A zip packed as GitHub packs the repository; the audio files are empty."""
    rows = [
        (f"{number % 5 + 1}-{target}-{number}.wav", number % 5 + 1, target, f"class {target}")
        for target in range(50)
        for number in range(clips_per_class)
    ]
    with zipfile.ZipFile(path, "w") as file:
        table = "".join(f"{name},{fold},{target},{category},False,0,A\n" for name, fold, target, category in rows)
        file.writestr("ESC-50-abc/meta/esc50.csv", HEADER + table)
        file.writestr("ESC-50-abc/LICENSE", "CC BY-NC 3.0")
        for name, *_ in rows:
            file.writestr(f"ESC-50-abc/audio/{name}", b"")


class Quiet(http.server.SimpleHTTPRequestHandler):
    refusals = 0

    def do_GET(self):
        if Quiet.refusals:
            Quiet.refusals -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served over HTTP; `read_esc50` downloads its esc50.zip."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # pooch waits between retries
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(esc50, "URL", f"http://127.0.0.1:{running.server_port}/esc50.zip")
        yield folder
        running.shutdown()
        thread.join()


def test_download(server, tmp_path):
    write_archive(server / "esc50.zip")
    Quiet.refusals = 2
    clips = read_esc50(tmp_path / "data" / "esc50", download=True)
    assert Quiet.refusals == 0
    assert len(clips) == 2000
    assert [sum(clip.fold == fold for clip in clips) for fold in range(1, 6)] == [400] * 5
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["esc50"]
    (server / "esc50.zip").unlink()
    assert len(read_esc50(tmp_path / "data" / "esc50", download=True)) == 2000


def test_a_download_that_is_not_esc50_is_refused_whole(server, tmp_path):
    target = tmp_path / "data" / "esc50"
    target.mkdir(parents=True)
    write_archive(server / "esc50.zip", clips_per_class=35)
    with pytest.raises(ValueError, match=r"is not ESC-50 \(2,000 WAV files"):
        read_esc50(target, download=True)
    (server / "esc50.zip").write_bytes(b"half a zip")
    with pytest.raises(ValueError, match=r"could not be downloaded from .* \(File is not a zip file\)"):
        read_esc50(target, download=True)
    (server / "esc50.zip").unlink()
    with pytest.raises(ValueError, match=r"could not be downloaded from .*404"):
        read_esc50(target, download=True)
    assert list((tmp_path / "data").iterdir()) == [target]
    assert list(target.iterdir()) == []


def test_download_leaves_other_people_s_files_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"is not empty but has no meta/esc50\.csv"):
        read_esc50(tmp_path, download=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_archive_is_pinned_to_a_commit():
    assert len(esc50.COMMIT) == 40
    assert esc50.COMMIT in esc50.URL


def test_a_file_under_two_labels_is_refused(tmp_path):
    rows = "a.wav,1,0,dog,True,1,A\nb.wav,2,0,dog,True,1,A\na.wav,1,41,chainsaw,True,1,A\n"
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    for name in ("a.wav", "b.wav"):
        (tmp_path / "audio" / name).touch()
    (tmp_path / "meta" / "esc50.csv").write_text(f"filename,fold,target,category,esc10,src_file,take\n{rows}")
    with pytest.raises(ValueError, match=r"esc50\.csv, row 4: a\.wav repeats row 2"):
        read_esc50(tmp_path)
