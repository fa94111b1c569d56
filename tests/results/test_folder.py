"""Which command may go on with a run folder that another one began."""

import pytest

from audiointerp.results import folder as run_folder


@pytest.fixture
def begun(tmp_path):
    run_folder.start(tmp_path, "a: 1\n", data_hash="x")
    yield tmp_path
    run_folder._LOCKS.clear()


@pytest.mark.parametrize("name", ["scores", "sanity", "planted", "class_masks", "dictionaries"])
def test_rows_of_one_recipe_are_not_continued_by_another(name, begun):
    """Also of a run that was killed before it was finished: two recipes' numbers would stand in one table."""
    run_folder._LOCKS.clear()
    column = "dictionary" if name == "dictionaries" else "method"
    table = begun / f"{name}.csv"
    table.write_text(f"item_id,{column},value\n")
    run_folder.start(begun, "a: 2\n", data_hash="x")  # nothing was made yet
    run_folder._LOCKS.clear()
    table.write_text(f"item_id,{column},value\nx,piq,1\n")
    run_folder.start(begun, "a: 2\n", data_hash="x")
    run_folder._LOCKS.clear()
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        run_folder.start(begun, "a: 3\n", data_hash="x")
    with pytest.raises(ValueError, match="the data changed"):
        run_folder.start(begun, "a: 2\n", data_hash="y")


def test_sounds_alone_may_be_drawn_again_by_another_recipe(begun):
    run_folder._LOCKS.clear()
    (begun / "mixtures_0db.csv").write_text("item_id,first,second\nm_0,a.wav,b.wav\n")
    (begun / "odd.csv").mkdir()
    run_folder.start(begun, "a: 2\n", data_hash="x")
