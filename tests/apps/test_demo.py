"""What the demo prepares: a data folder with images that is found again, and the command that swaps one."""

import shutil

import pytest
from PIL import Image

from llmrec.apps.demo import SMOKE_IMAGES, SWAPPED, _data, _image_arguments, check_demo_folder, run_demo
from llmrec.errors import ConfigError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Cards for the three films that most have rated."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    return _data(folder, posters=None, num_images=3)


def test_films_get_title_cards_and_the_folder_is_found_again(prepared):
    named = {item: prepared.catalog.text(item, "image") for item in range(prepared.catalog.num_items)}
    images = sorted(name for name in named.values() if name)
    assert images == ["images/100.png", "images/258.png", "images/50.png"], "Fargo, Contact, Star Wars"
    assert sorted(path.name for path in (prepared.folder / "images").iterdir()) == ["100.png", "258.png", "50.png"]
    written = (prepared.folder / "data.json").stat().st_mtime_ns
    assert _data(prepared.folder, posters=None, num_images=3).card == prepared.card
    assert (prepared.folder / "data.json").stat().st_mtime_ns == written
    assert prepared.card["name"] == "ml-100k" and prepared.catalog.num_items == 1682


def test_other_images_need_another_folder(prepared, tmp_path):
    with pytest.raises(
        ConfigError, match=r"with other images \(title_cards-3\) than are asked for now \(title_cards\)"
    ):
        _data(prepared.folder, posters=None, num_images=None)
    with pytest.raises(ConfigError, match=r"asked for now \(posters-"):
        _data(prepared.folder, posters=tmp_path, num_images=None)


def test_a_folder_from_before_there_were_images_is_prepared_anew(movielens, tmp_path):
    shutil.copytree(movielens, tmp_path / "data")
    (tmp_path / "posters").mkdir()
    Image.new("RGB", (4, 6), "red").save(tmp_path / "posters" / "172.jpg")
    data = _data(tmp_path / "data", posters=tmp_path / "posters", num_images=None)
    assert [path.name for path in (data.folder / "images").iterdir()] == ["172.jpg"]


def test_the_command_to_type_names_a_image_that_is_there(prepared, tmp_path):
    words = _image_arguments(prepared, tmp_path)
    assert words[:4] == ["image", str(tmp_path / "soft"), "--item", SWAPPED]
    # the first there is besides Star Wars's own, where Return of the Jedi has none
    assert words[5] == str(prepared.folder / "images" / "100.png")
    assert prepared.catalog.contains([*words[7::2], SWAPPED]).all() and SMOKE_IMAGES >= 100


@pytest.mark.parametrize("mine", ["thesis.txt", "report.html", "data/notes.txt", ".git/HEAD"])
def test_the_demo_does_not_write_among_what_is_somebodys_own(tmp_path, mine):
    (tmp_path / mine).parent.mkdir(exist_ok=True)
    (tmp_path / mine).write_text("mine")
    with pytest.raises(ConfigError, match="holds what no demo wrote"):
        run_demo(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / mine]
    for wrong in (tmp_path / mine, tmp_path / ("n" * 300)):
        with pytest.raises(ConfigError, match="the demo cannot be written to"):
            run_demo(wrong)


def test_a_demo_folder_and_what_a_killed_demo_left_in_it_are_found_again(prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "data")
    (tmp_path / ".demo.json.7-0123abcd.tmp").mkdir()
    check_demo_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    check_demo_folder(tmp_path / "new")
    assert not (tmp_path / "new").exists()
