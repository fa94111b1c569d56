"""VGGSound's headerless table and its folder of clips."""

import logging

import pytest

from audiointerp.datasets.vggsound import read_vggsound

TABLE = (
    '-a_B,30,"female speech, woman speaking",train\n'
    "abc,5,dog barking,test\n"
    "gone,1,dog barking,train\n"
    "long_id_7,120,playing, banjo,train\n"
)
GOOD = TABLE.replace("playing, banjo", '"playing, banjo"')


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vggsound.csv").write_text(GOOD)
    (tmp_path / "test").mkdir()
    for name in ("-a_B_000030.wav", "test/abc_5.flac", "long_id_7_000120.ogg", "stranger_000001.wav"):
        (tmp_path / name).touch()
    return tmp_path


def test_clips_and_the_count_of_missing_ones(folder, caplog):
    with caplog.at_level(logging.WARNING):
        clips = read_vggsound(folder)
    assert [(clip.path.name, clip.labels, clip.fold) for clip in clips] == [
        ("-a_B_000030.wav", ("female speech, woman speaking",), 1),
        ("abc_5.flac", ("dog barking",), 2),
        ("long_id_7_000120.ogg", ("playing, banjo",), 1),
    ]
    # The file is the cut clip: the start in the table is a place in the video.
    assert all(clip.start == 0 and clip.seconds is None for clip in clips)
    (record,) = caplog.records
    assert record.name == "audiointerp.datasets.vggsound"
    assert "1 of the table's 4 clips are missing (gone_000001)" in record.getMessage()


def test_a_complete_folder_warns_of_nothing(folder, caplog):
    (folder / "gone_1.wav").touch()
    assert len(read_vggsound(folder, folder / "vggsound.csv")) == 4
    assert not caplog.records


def test_errors(folder, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read_vggsound(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"other\.csv: no such file"):
        read_vggsound(folder, tmp_path / "other.csv")
    (folder / "vggsound.csv").write_text(TABLE)
    with pytest.raises(ValueError, match=r"row 4: .* is not id, start in seconds, label, train or test"):
        read_vggsound(folder)
    (folder / "vggsound.csv").write_text("x,1,dog,valid\n")
    with pytest.raises(ValueError, match=r"row 1: "):
        read_vggsound(folder)
    (folder / "vggsound.csv").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        read_vggsound(folder)


def test_no_clip_at_all_is_an_error_that_sees_videos(folder):
    (folder / "vggsound.csv").write_text("x,1,dog,train\ny,2,dog,test\n")
    (folder / "x_000001.mp4").touch()
    with pytest.raises(ValueError, match=r"none of the 2 clips .*\(x_000001\); 1 video files are there: extract"):
        read_vggsound(folder)
