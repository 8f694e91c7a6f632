"""The page of scores in a real browser."""

import pytest
from browsing import THEMES, WIDTHS, Visit
from scored import HOSTILE, make_races, score, write_table


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    score(*make_races(folder), "--out", folder / "races")
    times = {
        f"submission number {i}": {f"a_workload_{j}": [10.0 + i + j] * 3 for j in range(10)}
        for i in range(30)
    }
    score(*write_table(folder, times), "--out", folder / "table")
    return {name: folder / name / "report.html" for name in ("races", "table")}


@pytest.mark.parametrize("which", ["races", "table"])
@pytest.mark.parametrize(("width", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_the_page_opens_without_a_word_and_fits(browser, pages, which, width, theme):
    visit = Visit(browser, pages[which], width, theme)
    assert visit.value("document.documentElement.dataset.ready") == "yes"
    assert visit.said == []
    assert visit.dialogs == []
    assert visit.asked == [pages[which].as_uri()]
    assert visit.value("document.documentElement.scrollWidth") == WIDTHS[width][0]
    assert visit.value("getComputedStyle(document.body).backgroundColor") == THEMES[theme]
    assert visit.value("[...document.querySelectorAll('.plot')].every(p => p._fullLayout)")
    wide = "[...document.querySelectorAll('.plot')].filter(p => p.scrollWidth > p.clientWidth + 1)"
    assert visit.value(f"{wide}.map(p => p.id)") == []
    visit.close()


def test_hovering_chips_and_the_switch(browser, pages):
    visit = Visit(browser, pages["table"])
    assert "the fastest time" in visit.hover("profile-figure", 29, [0])
    assert "submission number 15" in visit.hover("ratios", 0, [4, 15])
    faint = """document.getElementById('profile-figure')._fullData.filter(
        t => t.visible === true && t.opacity < 1).length"""
    assert visit.value(faint) == 24
    visit.page.get_by_role("button", name="Everyone").click()
    visit.until(faint, lambda now: now == 0)
    shown = """document.getElementById('profile-figure')._fullData.filter(
        t => t.visible === true).length"""
    visit.page.locator(".chip").first.click()
    visit.until(shown, lambda now: now == 29)
    assert visit.said == []
    visit.close()


def test_a_hostile_name_is_shown_as_it_is(browser, pages):
    visit = Visit(browser, pages["races"])
    texts = visit.value("[...document.querySelectorAll('#ratios text')].map(t => t.textContent)")
    assert HOSTILE in texts
    assert visit.page.locator(".board").get_by_text(HOSTILE).count() >= 1
    assert "told apart" in visit.hover("pairs", 0, [1, 0])
    visit.close()
