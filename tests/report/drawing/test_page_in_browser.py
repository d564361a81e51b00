"""The report page as people use it: sorted, opened, on a phone, in the dark, by keyboard, and looked over by axe.

python -m pytest tests/report/drawing/test_page_in_browser.py
"""

import io

import pytest
from browsing import emulate, open_browser, require_browser, violations
from PIL import Image
from selenium.webdriver.common.keys import Keys

from kdam_ray.report.drawing.curves import learning_curves
from kdam_ray.report.drawing.page import Facts, PagePicture, RunCard, RunLine, Section, report_page
from kdam_ray.report.drawing.plots import Plot
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.tasks import DATASETS

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=\"document.title='hacked'\"> & 'quoted'"
# name, ours, paper: in an order that is none of theirs
ROWS = (
    ("beta 2", "12.49±0.07", "-"),
    ("beta 16", "+9.5", "44.10"),
    ("beta 0.5", "missing", "5.25"),
    (EVIL, "101.00 (n 1)", "-"),
)
RUNS = (("aaa111",), ("bbb222", "ccc333"), ("aaa111",), ())


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    require_browser()
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def png():
    target = io.BytesIO()
    Image.new("RGB", (900, 60), (200, 30, 30)).save(target, format="PNG")
    return target.getvalue()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page as a file, with every kind of part."""
    rows = tuple((Cell(name), Cell(ours, is_best=ours.startswith("101")), Cell(paper)) for name, ours, paper in ROWS)
    grid = Grid(
        "A table", ("", "ours", "paper"), 1, rows, ("a note",), (("", 1), ("SemSeg mIoU ↑ %", 2)), ("a head",), RUNS
    )
    wide = Grid("A wide table", tuple(f"column {n}" for n in range(30)), 1, ((Cell("12.345"),) * 30,) * 2)
    history = {"val/semseg/mIoU": [(1, 2.0), (2, 3.0)], "train/loss": [(1, 1.0), (2, 0.5)]}
    figure = learning_curves({EVIL: history, "KDAM": history}, DATASETS["rooms"].tasks)
    first = RunLine("aaa111", "0123", "http://127.0.0.1:5000/#/runs/0123")
    cards = (
        RunCard("beta 2", ("aaa111",), (first,), (PagePicture(png(), "what beta 2 predicts"),), is_open=True),
        RunCard(EVIL, ("bbb222", "ccc333"), (RunLine("bbb222", EVIL), RunLine("ccc333"))),
    )
    facts = Facts("Run", {"distill": {"beta": 1.0}, "a long value": "x" * 300, "none": None}, is_open=True)
    parts = (Plot("curves", figure, "what is drawn", "what was found"), *cards, facts)
    page = report_page(EVIL, [Section("Tables", ("A paragraph.", grid, wide)), Section("More", parts)])
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    emulate(browser, width=1400)
    browser.get(address)
    return browser


def names(page):
    """The names of the rows of the first table, as they stand."""
    script = "return [...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[0].textContent)"
    return page.execute_script(script)


def head(page, number):
    return page.find_elements("css selector", "table.sortable thead th[scope=col]")[number]


def test_columns_are_sorted_by_their_numbers_and_what_has_none_stays_last(page):
    as_printed = names(page)
    ours = head(page, 1)
    for direction, expected in (
        ("descending", [EVIL, "beta 2", "beta 16", "beta 0.5"]),  # higher is better: the best first
        ("ascending", ["beta 16", "beta 2", EVIL, "beta 0.5"]),
        (None, as_printed),
    ):
        ours.find_element("tag name", "button").click()
        assert (ours.get_attribute("aria-sort"), names(page)) == (direction, expected)
    assert as_printed == [name for name, _, _ in ROWS]


def test_the_keyboard_sorts_and_one_column_at_a_time_is_sorted(page):
    head(page, 2).find_element("tag name", "button").send_keys(Keys.ENTER)
    assert names(page)[:2] == ["beta 16", "beta 0.5"]
    head(page, 0).find_element("tag name", "button").send_keys(Keys.SPACE)
    assert names(page)[1:] == ["beta 0.5", "beta 2", "beta 16"]
    assert [head(page, number).get_attribute("aria-sort") for number in range(3)] == ["ascending", None, None]
    assert page.switch_to.active_element.get_attribute("aria-label") == "sort by name"


def test_a_row_shows_what_is_behind_it_and_takes_it_along(page):
    button = page.find_element("css selector", "button.behind")
    button.send_keys(Keys.ENTER)
    beneath = page.find_element("id", button.get_attribute("aria-controls"))
    assert button.get_attribute("aria-expanded") == "true"
    assert beneath.find_element("tag name", "img").is_displayed()
    assert beneath.find_element("tag name", "a").get_attribute("href") == "http://127.0.0.1:5000/#/runs/0123"
    head(page, 1).find_element("tag name", "button").click()
    after = "return arguments[0].closest('tr').nextElementSibling === arguments[1]"
    assert page.execute_script(after, button, beneath)
    button.find_element("xpath", "ancestor::tr/td[1]").click()  # anywhere in the row
    assert button.get_attribute("aria-expanded") == "false"
    assert not page.find_elements("css selector", "tr.more")


def test_without_its_script_every_row_leads_to_what_is_behind_it(browser, address):
    emulate(browser, width=1400)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        links = browser.find_elements("css selector", "a.behind")
        targets = [browser.find_element("id", link.get_attribute("href").partition("#")[2]) for link in links]
        assert [target.tag_name for target in targets] == ["details"] * 3
        assert "what beta 2 predicts" in targets[0].text
        assert not browser.find_elements("css selector", "th button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_wrong_and_the_page_is_no_wider_than_its_window(browser, address, width, dark):
    emulate(browser, width=width, dark=dark)
    browser.get(address)
    browser.find_element("css selector", "button.behind").send_keys(Keys.ENTER)
    assert violations(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(24, 24, 22)" if dark else "rgb(255, 255, 255)")
    ink = "return getComputedStyle(document.querySelector('svg text')).fill"
    assert browser.execute_script(ink) == ("rgb(232, 230, 227)" if dark else "rgb(26, 26, 26)")


def test_names_stay_text_and_no_other_script_runs(page):
    assert page.title == EVIL
    for button in page.find_elements("css selector", "button.behind"):
        button.click()
    assert not page.find_elements("css selector", "img[src=x]")
    page.execute_script(
        "const one = document.createElement('script'); one.textContent = 'document.title = \"run\"';"
        "document.body.append(one)"
    )
    assert page.title == EVIL
