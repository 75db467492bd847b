"""The page in a real browser: pick, see cards, filter, talk, compare, look inside, by mouse, by thumb and by keyboard alone."""

import re

import pytest

from llmrec.data.catalog import Catalog
from llmrec.explain.reasons import reasons
from tests.apps.web.conftest import ODD_TITLES

pytestmark = pytest.mark.slow


def titles(catalog: Catalog, found) -> list[str]:
    return [catalog.title(int(catalog.index([one.item_id])[0])) for one in found]


def test_what_is_picked_is_the_history_and_the_cards_are_the_recommender_s_own_list(visit, page_of_two):
    shelf = page_of_two.shelf
    visitor = visit(page_of_two)
    visitor.pick("star wars")
    visitor.pick("fargo")
    history = [shelf.catalog.item_id(shelf.search.find(title).items[0]) for title in ("star wars", "fargo")]
    for place, run in enumerate(shelf.runs):
        assert visitor.titles(place) == titles(shelf.catalog, run.recommender.recommend(history, 10))
    assert visitor.page.locator(".chip.good span").all_inner_texts() == ["Star Wars", "Fargo"]

    visitor.page.wait_for_function("document.querySelectorAll('.card .reason').length === 20")
    for place, run in enumerate(shelf.runs):
        listed = [one.item_id for one in run.recommender.recommend(history, 10)]
        shown = visitor.page.locator("#cards section").nth(place).locator(".reason").all_inner_texts()
        assert shown == [one.text for one in reasons(run.recommender, history, listed)]

    visitor.page.locator(".card .nope").first.click()
    visitor.settled()
    (refused,) = visitor.page.locator(".chip.bad span").all_inner_texts()
    assert refused not in visitor.titles(0) + visitor.titles(1)
    visitor.page.get_by_role("button", name="Undo").click()
    visitor.settled()
    assert visitor.page.locator(".chip.bad").count() == 0 and refused in visitor.titles(0)
    visitor.page.get_by_role("button", name="Remove Star Wars").click()
    visitor.settled()
    assert visitor.titles(0) == titles(shelf.catalog, shelf.runs[0].recommender.recommend(history[1:], 10))


def test_filters_are_the_catalogue_s_columns_and_hold_for_both_runs(visit, page_of_two):
    visitor = visit(page_of_two)
    visitor.page.get_by_role("button", name="Comedy: any").click()
    visitor.settled()
    visitor.page.get_by_role("button", name="Drama: any").click()
    visitor.settled()
    visitor.page.get_by_role("button", name="Drama: only these").click()
    visitor.settled()
    visitor.page.fill("[aria-label='year from']", "1995")
    visitor.page.locator("[aria-label='year from']").press("Tab")
    visitor.settled()
    shown = visitor.page.locator(".card .meta").all_inner_texts()
    assert len(shown) == 20
    for text in shown:
        assert "Comedy" in text and "Drama" not in text and int(text[:4]) >= 1995, text
    visitor.page.get_by_label("Titles of the list").fill("4")
    visitor.settled()
    assert len(visitor.titles(0)) == len(visitor.titles(1)) == 4
    visitor.page.fill("[aria-label='year from']", "2050")
    visitor.page.locator("[aria-label='year from']").press("Tab")
    visitor.settled()
    assert "none of the 1682 items is left" in visitor.page.locator(".lists .problem").first.inner_text()


def test_the_cards_follow_the_conversation_and_the_filters_show_what_was_said(visit, page_of_two):
    visitor = visit(page_of_two)
    first = visitor.titles()
    assert "You like: nothing yet" in visitor.page.locator(".understood").inner_text()
    assert "10 on the cards" in visitor.say("Fargo")
    assert visitor.page.locator(".chip.good span").all_inner_texts() == ["Fargo"]
    assert visitor.titles() != first
    third = visitor.titles()[2]
    visitor.say("not 3")
    assert third not in visitor.titles() and visitor.page.locator(".chip.bad").count() == 1
    visitor.say("/where genres=Comedy")
    assert all("Comedy" in text for text in visitor.page.locator(".card .meta").all_inner_texts())
    assert visitor.page.locator(".pill.want", has_text="Comedy").count() == 1
    assert "Only: Comedy" in visitor.page.locator(".understood").inner_text()
    listed = visitor.titles(), visitor.titles(1)
    visitor.say("more")
    assert not set(listed[0]) & set(visitor.titles()) and not set(listed[1]) & set(visitor.titles(1))
    assert visitor.page.locator(".rank").first.inner_text() == "11"

    visitor.say("Sabrina")
    visitor.page.get_by_role("button", name="2. Sabrina").click()
    visitor.settled()
    assert visitor.page.locator(".chip.good").count() == 2


def test_two_runs_stand_side_by_side_and_what_they_share_is_marked(visit, page_of_two):
    visitor = visit(page_of_two)
    visitor.pick("fargo")
    mine, theirs = visitor.titles(0), visitor.titles(1)
    shared = [title for title in mine if title in theirs]
    assert visitor.page.locator("#cards section").first.locator(".card.shared h3").all_inner_texts() == shared
    assert f"{len(shared)} of 10 in both lists" in visitor.page.locator(".listhead p").first.inner_text()


def test_inside_the_model_stand_the_prompt_the_rules_and_the_beams_with_their_probabilities(visit, page_of_two):
    visitor = visit(page_of_two)
    visitor.pick("fargo")
    visitor.page.get_by_role("button", name="Horror: any").click()
    visitor.settled()
    visitor.page.get_by_role("tab", name="Inside the model").click()
    visitor.page.wait_for_selector(".views .prompt")
    bare, asked = visitor.page.locator(".views .prompt").all_inner_texts()
    assert "Fargo" in bare and "answer?" in bare and "The next item this user will choose is:" in asked
    rules = visitor.page.locator(".rules").first.inner_text()
    assert re.search(r"genres: Horror\s+1,590", rules) and re.search(r"left to recommend\s+92 of 1,682", rules)
    first, second = (visitor.page.locator(".tree").nth(place) for place in (0, 1))
    assert first.locator("li").count() == 11 and first.locator("li li").count() == 0
    assert second.locator("li li li").count() > 5  # three codes a title, those without a branch in one
    assert set(first.locator(".kept .words").all_inner_texts()[:3]) <= set(page_of_two.shelf.catalog.titles)


@pytest.mark.parametrize("tab", ["For you", "Inside the model"])
def test_nothing_is_cut_off_on_a_phone(visit, page_of_two, tab):
    visitor = visit(page_of_two, 390, 844)
    visitor.pick("fargo")
    if tab != "For you":
        visitor.page.get_by_role("tab", name=tab).click()
        visitor.page.wait_for_selector(".views .prompt")
    else:
        edges = visitor.page.locator("#cards img").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).map(r => [r.left, r.right, r.width])"
        )
        assert len(edges) == 20
        assert all(left >= 0 and right <= 390 and width > 100 for left, right, width in edges)
        words = visitor.page.locator("#cards :is(h3, .meta, button)").evaluate_all(
            "all => all.map(one => one.scrollWidth - one.clientWidth)"
        )
        assert max(words) <= 1
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_alone_is_enough(visit, page_of_two):
    visitor = visit(page_of_two)
    page = visitor.page

    def tab_to(name: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id") == name:
                outline = page.evaluate(
                    "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
                )
                assert outline == "solid3px", f"{name}: no focus is seen"
                return
        raise AssertionError(f"the tab key does not lead to {name}")

    tab_to("search-box")
    page.keyboard.type("star trek")
    page.wait_for_selector("#search-found li >> nth=3")
    page.keyboard.press("ArrowDown")
    second = page.locator("#search-found li[aria-selected=true] span").inner_text().split("\n")[0]
    page.keyboard.press("Enter")
    visitor.settled()
    assert page.locator(".chip.good span").all_inner_texts() == [second]
    tab_to("Horror: any")
    page.keyboard.press("Enter")
    visitor.settled()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Horror: only these"
    tab_to("say-box")
    page.keyboard.type("undo")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant:not(.wait)")
    visitor.settled()
    liked = visitor.titles()[0]
    tab_to(f"Like {liked}")
    page.keyboard.press("Enter")
    visitor.settled()
    assert page.locator(".chip.good span").all_inner_texts() == [second, liked]
    assert page.evaluate("document.activeElement.tagName") in ("BUTTON", "H2")


def test_visitors_do_not_see_each_other_s_titles(visit, page_of_two):
    one, other = visit(page_of_two), visit(page_of_two)
    one.pick("fargo")
    other.pick("alien")
    one.page.get_by_role("button", name="Comedy: any").click()
    one.settled()
    assert one.page.locator(".chip span").all_inner_texts() == ["Fargo", "genres: Comedy"]
    assert other.page.locator(".chip span").all_inner_texts() == ["Alien"]


def test_titles_that_are_markup_are_shown_as_they_are_written(visit, odd_page):
    visitor = visit(odd_page)
    assert set(visitor.titles()) == {" ".join(title.split()) for title in ODD_TITLES}
    visitor.page.locator("#search-box").press_sequentially("window")
    visitor.page.wait_for_selector("#search-found li")
    visitor.page.keyboard.press("Escape")
    visitor.page.fill("#search-box", "")
    for place in range(5):
        visitor.page.locator(".card .like").nth(place % 3).click()
        visitor.settled()
    visitor.say("<img src=y onerror='window.pwned = 4'> ${window.pwned = 5}")
    visitor.page.get_by_role("tab", name="Inside the model").click()
    visitor.page.wait_for_selector(".rules")
    assert "scores every title at once" in visitor.page.locator(".views").inner_text()
    assert visitor.page.evaluate("window.pwned") is None
    assert visitor.page.locator(".panel script, .panel img[src=x], .panel img[src=y]").count() == 0


def test_an_item_has_its_own_picture_or_a_drawn_one_and_none_from_outside_the_data_folder(visit, odd_page):
    visitor = visit(odd_page, 390, 844)
    kinds = visitor.page.locator("#cards img").evaluate_all(
        """async all => Promise.all(all.map(async one => {
            await one.decode();
            return (await fetch(one.src)).headers.get('content-type') + one.naturalWidth;
        }))"""
    )
    assert sorted(kinds) == ["image/svg+xml320"] * 7 + ["image/webp320"]
