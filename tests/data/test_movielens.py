import io
import zipfile

import pytest

from llmrec.data import movielens
from llmrec.data.movielens import movielens_100k, split_year, tidy_title
from llmrec.data.prepare import prepare
from llmrec.data.readers import read_interactions, read_items
from llmrec.errors import DataError

FLAGS = "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"
ARCHIVES = {
    "100k": {
        "ml-100k/u.item": f"1|Toy Story (1995)|01-Jan-1995||http://x|{FLAGS}\n"
        f"2|Misérables, Les (1995)|01-Jan-1995||http://x|{FLAGS}\n".encode("latin-1").decode("latin-1"),
        "ml-100k/u.data": "196\t1\t3\t881250949\n186\t2\t4\t881250948\n",
    },
    "1m": {
        "ml-1m/movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Misérables, Les (1995)::Animation\n",
        "ml-1m/ratings.dat": "196::1::3::881250949\n186::2::4::881250948\n",
    },
    "latest": {
        "ml-latest-small/movies.csv": 'movieId,title,genres\n1,Toy Story (1995),Animation|Children\'s|Comedy\n'
        '2,"Misérables, Les (1995)",(no genres listed)\n',
        "ml-latest-small/ratings.csv": "userId,movieId,rating,timestamp\n196,1,3.0,881250949\n186,2,4.0,881250948\n",
    },
}  # fmt: skip


def write_archive(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text.encode("utf-8" if name.endswith(".csv") else "latin-1"))
    return path


@pytest.mark.parametrize("release", ARCHIVES)
def test_archives_of_every_layout_are_read(tmp_path, release):
    path = write_archive(tmp_path / "ml.zip", ARCHIVES[release])
    items, events = read_items(path).to_pylist(), read_interactions(path)
    toy_story = {"item_id": "1", "title": "Toy Story", "year": "1995", "genres": ["Animation", "Children's", "Comedy"]}
    assert items[0] == toy_story and items[1]["title"] == "Les Misérables"
    assert events["user_id"].to_pylist() == ["196", "186"] and events["item_id"].to_pylist() == ["1", "2"]
    assert events["timestamp"].to_pylist() == [881250949, 881250948] and events["rating"].to_pylist() == [3, 4]


@pytest.mark.parametrize(
    ("title", "tidy"),
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Horseman on the Roof, The (Hussard sur le toit, Le)", "The Horseman on the Roof (Le Hussard sur le toit)"),
        ("Fish Called Wanda, A", "A Fish Called Wanda"),
        ("Eclisse, L'", "L'Eclisse"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Paris, Texas", "Paris, Texas"),
        ("Seven (Se7en)", "Seven (Se7en)"),
    ],
)
def test_articles_come_first(title, tidy):
    assert tidy_title(title) == tidy


def test_years_end_titles_or_are_not_there():
    assert split_year("Seven (Se7en) (1995)") == ("Seven (Se7en)", "1995")
    assert split_year("1984") == ("1984", None)
    assert split_year("Rome (2005-2007)") == ("Rome", "2005")


def test_archives_that_are_none_are_refused(tmp_path):
    (tmp_path / "cut.zip").write_bytes(write_archive(tmp_path / "ml.zip", ARCHIVES["1m"]).read_bytes()[:-40])
    with pytest.raises(DataError, match=r"could not be read as a whole zip archive: .* Download it again"):
        read_items(tmp_path / "cut.zip")
    write_archive(tmp_path / "other.zip", {"a/readme.txt": "hello"})
    with pytest.raises(DataError, match=r"is not a MovieLens archive: .* but it holds readme.txt"):
        read_interactions(tmp_path / "other.zip")
    write_archive(tmp_path / "like.zip", {"movies.csv": "id,name\n1,x\n", "ratings.csv": "u,i\n1,1\n"})
    with pytest.raises(DataError, match=r"with the columns id,name instead of movieId,title,genres"):
        read_items(tmp_path / "like.zip")
    with pytest.raises(DataError, match="there is no file"):
        read_items(tmp_path / "none.zip")


def encrypted(content):
    """The archive with the mark of encryption on its files, in front of each and in the list at the end."""
    content = bytearray(content)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(magic)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(magic, place + 4)
    return bytes(content)


@pytest.mark.parametrize(
    ("files", "change", "sentence"),
    [
        ({"u.item": "", "u.data": "1\t1\t3\t5\n"}, None, "holds u.item without a film in it"),
        (
            {"u.item": "1|Toy Story (1995)|01-Jan\n", "u.data": ""},
            None,
            r"film 1 in u.item has 3 fields .* but 24 were expected",
        ),
        ({"movies.dat": "1::Toy Story (1995)\n", "ratings.dat": ""}, None, "film 1 in movies.dat has 2 fields"),
        ({"movies.csv": "movieId,title,genres\n1,a\n", "ratings.csv": ""}, None, "film 1 in movies.csv has 2 fields"),
        (
            {"movies.csv": b"movieId,title,genres\n1,Mis\xe9rables,a\n", "ratings.csv": ""},
            None,
            "movies.csv is not UTF-8 text",
        ),
        (ARCHIVES["1m"], encrypted, "is encrypted, password required"),
        (ARCHIVES["1m"], lambda content: content.replace(b"::Toy", b"::toy"), "Bad CRC-32"),
        (
            ARCHIVES["1m"],
            lambda content: content[:30] + b"x" * 40 + content[70:],
            "could not be read as a whole zip archive",
        ),
    ],
)
def test_archives_that_are_empty_short_encrypted_or_damaged_are_refused(tmp_path, files, change, sentence):
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = (tmp_path / "ml.zip").read_bytes()
    (tmp_path / "ml.zip").write_bytes(change(content) if change else content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_items(tmp_path / "ml.zip")
    assert "\n" not in str(caught.value)


def test_badly_deflated_archives_and_short_ratings_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("movies.dat", "1::Toy Story (1995)::Animation\n" * 50)
        archive.writestr("ratings.dat", "1::1\n")
    with pytest.raises(
        DataError, match=r"ratings.dat could not be read as a table of MovieLens: .*Expected 7 columns, got 3"
    ):
        read_interactions(tmp_path / "ml.zip")
    content = bytearray((tmp_path / "ml.zip").read_bytes())
    content[44:50] = b"\xff" * 6
    (tmp_path / "ml.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"could not be read as a whole zip archive: .* Download it again"):
        read_items(tmp_path / "ml.zip")


@pytest.mark.slow
def test_movielens_100k_is_fetched_once_and_prepared(tmp_path, monkeypatch, capsys):
    items, events, terms = movielens_100k()  # from the cache, where an earlier run filled it
    monkeypatch.setattr(movielens, "_reached", lambda *_: pytest.fail("fetched again"))
    capsys.readouterr()
    assert movielens_100k() == (items, events, terms) and "research use" in terms
    assert capsys.readouterr().err == ""
    data = prepare(items, events, tmp_path / "ml", terms=terms)
    assert (data.interactions.num_users, data.catalog.num_items, data.interactions.num_events) == (943, 1682, 100_000)
    assert data.catalog.titles[11] == "The Usual Suspects" and data.catalog.text(11, "year") == "1995"
    assert data.catalog.fields == ["title", "year", "genres"] and data.catalog.num_untitled == 0
    assert data.card["terms"] == terms


def test_when_no_source_answers_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(movielens, "_reached", lambda *_: False)
    monkeypatch.setattr(movielens, "_WHEEL", "recbole==0.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match=r"could not be fetched: .* Go online, or pass your own files"):
        movielens_100k()
    assert not (tmp_path / "cache" / "movielens-100k").exists()


def test_a_host_that_answers_with_something_else_counts_as_unreachable(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"<html>please log in</html>"))
    assert not movielens._reached("https://example.org/ml-100k.zip", tmp_path / "ml.zip")
