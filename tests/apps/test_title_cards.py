"""Images for the demo's films: title cards that are the same for the same words, and posters of a folder."""

import json

import numpy as np
import pytest
from PIL import Image

from llmrec.apps.title_cards import SIZE, genre_colour, items_with_images, title_card
from llmrec.errors import DataError

FILMS = [
    {"item_id": "50", "title": "Star Wars", "genres": ["Action", "Sci-Fi"]},
    {"item_id": "181", "title": "Return of the Jedi", "genres": ["Action"]},
    {"item_id": "7", "title": "Unknown", "genres": []},
]


@pytest.fixture
def films(tmp_path):
    (tmp_path / "films.jsonl").write_text("".join(json.dumps(film) + "\n" for film in FILMS))
    return tmp_path / "films.jsonl"


def images_of(path) -> list:
    return [json.loads(line).get("image") for line in path.read_text().splitlines()]


def test_a_card_is_one_band_a_genre_with_the_title_on_it():
    pixels = np.array(title_card("Star Wars", ["Action", "Sci-Fi"]))
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    assert tuple(pixels[2, 2]) == genre_colour("Action") and tuple(pixels[-3, 2]) == genre_colour("Sci-Fi")
    assert (pixels == 255).all(axis=2).any(), "the words are white"
    again, other = title_card("Star Wars", ["Action", "Sci-Fi"]), title_card("Star Trek", ["Action", "Sci-Fi"])
    assert (np.array(again) == pixels).all() and (np.array(other) != pixels).any()


def test_long_titles_stay_inside():
    long = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (and Shanghai Triad (Yao a yao yao))"
    pixels = np.array(title_card(long, ["Action"]))
    ground = (pixels == genre_colour("Action")).all(axis=2)
    assert ground[:4].all() and ground[-4:].all() and ground[:, :2].all() and ground[:, -2:].all()


def test_all_films_or_some_get_a_card(films, tmp_path):
    assert images_of(items_with_images(films, tmp_path / "all" / "cards")) == ["50.png", "181.png", "7.png"]
    some = items_with_images(films, tmp_path / "some", only={"181"})
    assert some == tmp_path / "some" / "some.jsonl" and images_of(some) == [None, "181.png", None]
    assert Image.open(tmp_path / "some" / "181.png").size == SIZE


def test_posters_go_by_the_ids_of_the_films_and_others_go_without(films, tmp_path):
    (tmp_path / "posters").mkdir()
    Image.new("RGB", (4, 6), "red").save(tmp_path / "posters" / "181.jpg")
    Image.new("RGB", (4, 6), "red").save(tmp_path / "posters" / "9999.png")
    made = items_with_images(films, tmp_path / "made", posters=tmp_path / "posters")
    assert images_of(made) == [None, "181.jpg", None] and not (tmp_path / "made" / "9999.png").exists()
    (tmp_path / "posters" / "181.jpg").unlink()
    with pytest.raises(DataError, match=r"name them after the films' ids: 50\.jpg, 181\.png"):
        items_with_images(films, tmp_path / "none", posters=tmp_path / "posters")
    with pytest.raises(DataError, match="expected a folder of posters"):
        items_with_images(films, tmp_path / "none", posters=tmp_path / "nowhere")
