"""Messages and the states that they make, by the rules of eval/phrasings/README.md and their numbers there."""

from pathlib import Path

import pytest

from llmrec.conversation.changes import changed
from llmrec.conversation.facets import Facets
from llmrec.conversation.state import ChatState
from llmrec.conversation.wish_rules.reader import RuleReader
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.title_search import TitleSearch

# message || state before || state after, with the action where it is not "recommend"; titles have "/" between them.
FILMS_AND_PRODUCTS = """
# 1 and 2: liking, not liking, knowing
I adored The Big Lebowski || || liked=The Big Lebowski
Fargo was brilliant || || liked=Fargo
my favourite film is Casablanca || || liked=Casablanca
i'm a huge fan of alien || || liked=Alien
the usual suspects blew me away || || liked=The Usual Suspects
Toy Story bored me to tears || || disliked=Toy Story
can't bear Evita || || disliked=Evita
Wasn't a fan of Speed || || disliked=Speed
anything but Titanic || || disliked=Titanic
seen Fargo already || || seen=Fargo
I know Casablanca by heart || || seen=Casablanca
already watched it || shown=Fargo || seen=Fargo
We've just watched The Fugitive || || seen=The Fugitive
I watched Fargo but hated it || || disliked=Fargo
# 3: words of titles
no more batman please || || without=Batman
nothing with star trek in it || || without=Star Trek
not another home alone || || without=Home Alone
without die hard || || without=Die Hard
enough free willy! || || without=Free Willy
skip anything with Batman || || without=Batman
# 4: naming a value is a condition
a good comedy || || where=genres=Comedy
show me horror movies || || where=genres=Horror
I'd fancy a thriller tonight || || where=genres=Thriller
a film noir || || where=genres=Film-Noir
comedies or dramas || || where=genres=Comedy|Drama
either a western or a war film || || where=genres=Western|War
an action comedy || || where=genres=Action,genres=Comedy
a sci-fi film that is a comedy as well || || where=genres=Sci-Fi,genres=Comedy
musical comedies || || where=genres=Musical,genres=Comedy
a rom-com || || where=genres=Romance,genres=Comedy
I hate musicals || || where=genres!=Musical
please avoid war films || || where=genres!=War
nothing with romance in it || || where=genres!=Romance
leave the westerns out || || where=genres!=Western
I'm sick of dramas || where=genres=Drama || where=genres!=Drama
actually make that a western || where=genres=Comedy || where=genres=Western
dramas too || where=genres=Comedy || where=genres=Comedy|Drama
you can include westerns as well || where=genres=Comedy || where=genres=Comedy|Western
and also mysteries || where=genres=Comedy || where=genres=Comedy|Mystery
throw in some thrillers as well || where=genres=Crime || where=genres=Crime|Thriller
# 5: numbers
80s movies || || where=year>=1980,year<=1989
the '60s || || where=year>=1960,year<=1969
something made in the 1940s || || where=year>=1940,year<=1949
released in 1994 || || where=year>=1994,year<=1994
anything since 1990 || || where=year>=1990
1990 or newer || || where=year>=1990
from 1990 on || || where=year>=1990
no later than 1980 || || where=year<=1980
up to 1980 || || where=year<=1980
before the eighties || || where=year<=1979
nothing older than 1980 || || where=year>=1980
films from 1994 or 1995 || || where=year>=1994,year<=1995
the 70s and 80s || || where=year>=1970,year<=1989
films of 1990 and 1996 || || 
between 1950 and 1965 || || where=year>=1950,year<=1965
from 1950 to 1965 || || where=year>=1950,year<=1965
around 1980 || where=year>=1990 || where=year>=1978,year<=1982
the nineties please || where=year>=1950,year<=1959 || where=year>=1990,year<=1999
pre-1970 || || where=year<=1969
classic films || || where=year<=1969
some oldies || || where=year<=1969
# 6: comparatives
newer films only || where=year<=1979 || where=year>=1980
more modern ones || liked=Casablanca/Vertigo || liked=Casablanca/Vertigo;where=year>=1943
earlier than the first one || shown=Fargo/Alien || where=year<=1995
like Alien but newer || || liked=Alien;where=year>=1980
similar to Casablanca, just more recent || || liked=Casablanca;where=year>=1943
something a little older than Jaws || || where=year<=1974
too old || shown=Fargo/Alien/Heat || where=year>=1996
these are too old for me || shown=Casablanca/Vertigo/Psycho || where=year>=1959
not so old please || shown=Casablanca/Vertigo/Psycho || where=year>=1959
# 7: qualities lean
funnier please || || prefer=genres+=Comedy
not too scary || || prefer=genres-=Horror
nothing too violent || || prefer=genres-=Action
not so sad || prefer=genres+=Drama || prefer=genres-=Drama
a bit more suspenseful || || prefer=genres+=Thriller
more action please || || prefer=genres+=Action
more of a thriller || || prefer=genres+=Thriller
a touch more romance || || prefer=genres+=Romance
suitable for children || || prefer=genres+=Children's
something that'll make me cry || || prefer=genres+=Drama
I want to be scared || || prefer=genres+=Horror
we need a good laugh || || prefer=genres+=Comedy
a true story || || prefer=genres+=Documentary
a gripping war film || || where=genres=War;prefer=genres+=Thriller
# 8: references
more like the second || shown=Fargo/Alien/Heat || liked=Alien
I loved number 2 || shown=Fargo/Alien/Heat || liked=Alien
the third one looks great, more like that || shown=Fargo/Alien/Heat || liked=Heat
not the first || shown=Fargo/Alien/Heat || disliked=Fargo
seen the first and the last || shown=Fargo/Alien/Heat || seen=Fargo/Heat
seen the last two || shown=Fargo/Alien/Heat || seen=Alien/Heat
I didn't enjoy any of them || shown=Fargo/Alien || disliked=Fargo/Alien
that one was boring || liked=Fargo/Alien || liked=Fargo;disliked=Alien
I already own number 1 || shown=Fargo/Alien || seen=Fargo
not numbers 1 and 2 || shown=Fargo/Alien/Heat || disliked=Fargo/Alien
the 2nd please, but funnier || shown=Fargo/Alien/Heat || liked=Alien;prefer=genres+=Comedy
# 9: forgetting
forget Batman || liked=Fargo/Batman Returns;without=Batman || liked=Fargo
forget about Fargo || liked=Fargo || 
ignore what I said about Fargo || disliked=Fargo || 
the year doesn't matter || where=year>=1990 || 
I don't care about the year any more || where=year>=1990,year<=1999 || 
whatever genre || where=genres=Comedy,year>=1990;prefer=genres+=War || where=year>=1990
I don't mind horror any more || prefer=genres-=Horror || 
needn't be a comedy || where=genres=Comedy;prefer=genres+=Comedy || 
it doesn't need to be funny || prefer=genres+=Comedy || 
they don't have to be westerns any more || where=genres=Western || 
# 10: surprise
surprise me || || surprise=true
I'm in an adventurous mood || || surprise=true
give me something unexpected || || surprise=true
no more surprises || surprise=true || 
back to the usual || surprise=true || 
don't surprise me || surprise=true || 
# 11: count and more
five films || || count=5
just three || || count=3
Show me 7 films please || || count=7
a single film || || count=1
a dozen || || count=12
ten more || shown=Fargo;count=5 || count=10;action=more
anything else? || || action=more
what else is there || || action=more
any others? || || action=more
# why, questions, whole messages
why this one? || shown=Alien || action=explain 1
is it in black and white? || shown=Psycho || action=question
when was Metropolis made || || action=question
are any of these in French? || shown=Psycho/Heat/Alien || action=question
what have I told you so far? || || action=list
show me my filters || || action=list
what do you think I like? || || action=list
list what you know || || action=list
can you sum up my preferences || || action=list
undo || || action=undo
undo that last change || || action=undo
start over || liked=Fargo || action=reset
what can you do? || || action=help
how do I use this? || || action=help
bye || || action=quit
that's all, thanks || || action=quit
I'm done, goodbye || || action=quit
# 12: several at once
no horror or war but something funny || || where=genres!=Horror|War;prefer=genres+=Comedy
like Fargo but funnier, and no crime || || liked=Fargo;prefer=genres+=Comedy;where=genres!=Crime
something lighter, not horror, from the nineties || || prefer=genres+=Comedy;where=genres!=Horror,year>=1990,year<=1999
I loved Fargo and The Big Lebowski, hated Titanic || || liked=Fargo/The Big Lebowski;disliked=Titanic
I've seen Heat. Show me five thrillers from before 1980 || || seen=Heat;count=5;where=genres=Thriller,year<=1979
More like Fargo, less like Titanic || || liked=Fargo;disliked=Titanic
five comedies from the 80s without romance || || count=5;where=genres=Comedy,year>=1980,year<=1989,genres!=Romance
I want a comedy. No Batman. || || where=genres=Comedy;without=Batman
# typing errors and titles that are words
somthing funy for teh kids || || prefer=genres+=Comedy,genres+=Children's
a horrer film || || where=genres=Horror
comedys pls || || where=genres=Comedy
wsterns from the fiftees || || where=genres=Western,year>=1950,year<=1959
true romance || || liked=True Romance
I liked True Lies || || liked=True Lies
the rock || || liked=The Rock
Have you seen Big Night? I loved it. || || liked=Big Night
# products
p:anything from Morrow? || || where=brand=Morrow
p:show me things for the kitchen || || where=category=Kitchen
p:for under £25 || || where=price<25
p:I can spend up to 150 || || where=price<=150
p:my budget is 60 || || where=price<=60
p:above 20 but under 40 || || where=price>20,price<40
p:at least 50 || where=price<=100 || where=price>=50,price<=100
p:from 20 up || || where=price>=20
p:between 20 and 40 euros || || where=price>=20,price<=40
p:20 to 40 euros || || where=price>=20,price<=40
p:anything less pricey? || shown=Lumen Floor Lamp/Lumen Desk Lamp || where=price<42
p:more expensive ones || shown=Lumen Floor Lamp/Lumen Desk Lamp || where=price>42
p:I have the Harbour Mirror already || || seen=Harbour Mirror
p:I own it already || shown=Sonora Radio || seen=Sonora Radio
p:my Fjord Tent Two is great || || liked=Fjord Tent Two
p:any colour || where=colour=Red,price<40 || where=price<40
p:any brand will do || where=brand=Kestrel || 
p:Alder is fine again || where=brand!=Alder || 
p:doesn't have to be black || where=colour=Black || 
p:newer ones || shown=Kestrel Kettle/Alder Chef Knife/Lumen Desk Lamp || where=released>=2020
p:what colour is the second one? || shown=Sonora Radio/Sonora Earbuds || action=question
p:does the third come in blue? || shown=Sonora Radio/Sonora Earbuds/Pulse Yoga Mat || action=question
p:something unusual for the living room || || surprise=true;where=category=Living Room
p:travel things, not blue || || where=category=Travel,colour!=Blue
p:not too expensive || shown=Lumen Floor Lamp/Lumen Desk Lamp || where=price<42
p:forget Kestrel || liked=Kestrel Kettle/Sonora Radio || liked=Sonora Radio
"""
CASES = [line.split(" ||") for line in FILMS_AND_PRODUCTS.splitlines() if line and not line.startswith("#")]


class Reads:
    """One catalogue with its reader, and states written as texts."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.facets = catalog, Facets(catalog)
        self.reader = RuleReader(catalog, self.facets, TitleSearch(catalog))
        self.ids = dict(zip(catalog.titles, catalog.item_ids, strict=True))

    def state(self, text: str) -> tuple[ChatState, str]:
        """liked=Fargo/Heat;where=year>=1990,genres!=War;count=5;action=more"""
        read: dict = {}
        for part in filter(None, (part.strip() for part in text.split(";"))):
            name, value = part.split("=", 1)
            if name in ("liked", "disliked", "seen", "shown"):
                read[name] = [self.ids[title] for title in value.split("/")]
            elif name in ("where", "prefer", "without"):
                read[name] = value.split(",")
            else:
                read[name] = {"count": int, "surprise": bool, "action": str}[name](value)
        action = read.pop("action", "recommend")
        return ChatState.from_json(read), action

    def after(self, message: str, before: ChatState) -> tuple[ChatState, str]:
        """The state that a message makes, and its action."""
        wishes = self.reader.read(message, before)
        action = f"{wishes.action} {wishes.number}" if wishes.action == "explain" else wishes.action
        return changed(before, wishes.edits, self.facets)[0], action


@pytest.fixture(scope="module")
def films(movielens) -> Reads:
    return Reads(load_data(movielens).catalog)


@pytest.fixture(scope="module")
def products() -> Reads:
    rows = (Path(__file__).parents[3] / "eval" / "phrasings" / "products.csv").read_text(encoding="utf-8").splitlines()
    names = rows[0].split(",")
    found = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    return Reads(Catalog.from_rows([{**row, "category": row["category"].split("|")} for row in found]))


def compared(state: ChatState) -> dict:
    """A state without the order of what has none."""
    where = sorted((one.column, one.operator, *sorted(one.values)) for one in state.where)
    sets = {name: sorted(map(str, getattr(state, name))) for name in ("disliked", "seen", "without", "prefer")}
    return {"liked": state.liked, "where": where, **sets, "surprise": state.surprise, "count": state.count}


@pytest.mark.parametrize(("message", "before", "after"), CASES, ids=[case[0] for case in CASES])
def test_a_message_makes_the_state_that_the_rules_say(message, before, after, films, products):
    reads = products if message.startswith("p:") else films
    state, _ = reads.state(before)
    wanted, wanted_action = reads.state(after)
    if wanted_action.split()[0] in ("explain", "question", "list", "undo", "reset", "help", "quit"):
        wanted = state  # what undo and reset go back to is the engine's
    found, action = reads.after(message.removeprefix("p:"), state)
    assert (compared(found), action) == (compared(wanted), wanted_action)


def test_words_that_say_nothing_are_unread_in_their_order(films):
    wishes = films.reader.read("a Comedy with Zorblax, Quux and more zorblaxes", ChatState())
    assert wishes.unread == "Zorblax Quux zorblaxes"
    assert films.reader.read("hmm, could you please find me some funny films, then?", ChatState()).unread == ""


def test_words_that_are_spelled_right_are_no_typing_errors(films, products):
    """Each is one or two slips away from a word that asks for something: older, less, exit, blacks, garden."""
    for word in ("order", "loss", "exist", "blocks", "gardener", "data", "brought"):
        for reads in (films, products):
            assert reads.reader.read(f"something {word}", ChatState()).edits == (), word


def test_a_range_that_is_not_wanted_is_unread_since_no_condition_says_it(films):
    wishes = films.reader.read("horror, but not from the nineties", ChatState())
    assert [str(edit.values) for edit in wishes.edits] == ["('Horror',)"] and wishes.unread == "from the nineties"


BOOKS = """
sci-fi under 300 pages || || where=subjects=Science Fiction,pages<=299
shorter, and in French || shown=Dune/Emma/Dracula || where=pages<=116,language=French
longer than Emma || || where=pages>=118
more of Jane Austen || || prefer=author+=Jane Austen
anything by Stephen King but no horror || || where=author=Stephen King,subjects!=Horror
poems || || where=subjects=Poetry
a rating of at least 4 || || where=rating>=4
better rated than Dune || || where=rating>3
at least 4 stars || || where=rating>=4
published before 1850 || || where=published<=1849
I loved It || || liked=It
any language || where=language=French ||
the length doesn't matter || where=pages<=200 ||
"""


@pytest.fixture(scope="module")
def books() -> Reads:
    titles = ["Dune", "Emma", "Dracula", "It", "Ulysses"]
    about = [["Science Fiction"], ["Romance"], ["Horror", "Poetry"]]
    return Reads(Catalog.from_rows([
        {"item_id": str(n), "title": titles[n] if n < 5 else f"Book {n}",
         "author": ["Frank Herbert", "Jane Austen", "Stephen King"][n % 3],
         "subjects": about[n % 3], "pages": str(100 + 17 * n), "rating": f"{3 + n % 20 / 10:.1f}", "published": str(1813 + 5 * n),
         "language": ["English", "French"][n % 2]} for n in range(40)
    ]))  # fmt: skip


@pytest.mark.parametrize("line", BOOKS.split("\n")[1:-1])
def test_another_catalogues_columns_are_read_by_the_same_rules(line, books):
    message, before, after = line.split(" ||")
    found, action = books.after(message, books.state(before)[0])
    assert (compared(found), action) == (compared(books.state(after)[0]), "recommend")
    assert books.reader.read(message, books.state(before)[0]).unread == ""


@pytest.mark.parametrize(("message", "named"), [
    ("more like jurasic park but funnier", "Jurassic Park"), ("I loved Indiana Jones", "Indiana Jones and the Last Crusade"),
    ("seen the godfahter, show me comedies", "The Godfather"),
])  # fmt: skip
def test_a_title_with_slips_is_found_where_a_title_must_stand(message, named, films):
    (mark, *_), unread = films.reader.read(message, ChatState()).edits, films.reader.read(message, ChatState()).unread
    assert mark.mention.item_ids == (films.ids[named],) and not unread


def test_a_title_that_is_not_clear_is_left_to_be_asked_back(films):
    (mark,) = films.reader.read("like Fargoo", ChatState()).edits
    assert (mark.mention.text, mark.mention.item_ids) == ("Fargoo", ())
    for message in ("I like trains", "I love Tom Hanks", "home alon"):  # Trainspotting is not meant
        wishes = films.reader.read(message, ChatState())
        assert wishes.edits == () and wishes.unread, message
