"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ESC10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "esc10"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Decoded clips go to a temporary folder, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIOINTERP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def esc10() -> Path:
    """Folder of real recordings: ESC-10's folds 1 to 4 as Ogg files, laid out as ESC-50.

    Elsewhere than beside the repository: name it in AUDIOINTERP_ESC10.
    """
    folder = Path(os.environ.get("AUDIOINTERP_ESC10") or ESC10)
    if not (folder / "meta" / "esc50.csv").is_file():
        reason = f"no ESC-10 at {folder}; set AUDIOINTERP_ESC10 to a folder with meta/esc50.csv and audio/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
