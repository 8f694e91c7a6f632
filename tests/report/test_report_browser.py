"""The page in a real browser: Chromium, headless, from file://."""

import pytest
import torch
from browsing import THEMES, WIDTHS, Visit
from synthetic_race import make_store

from thalweg.report import terrain, write_report

ENTRANTS = {
    "adamw + warmup(0.05) + linear": {"level": 0.97, "recipe": "adamw + warmup(0.05) + linear"},
    "sgd": {"level": 0.93, "noise": 0.002, "lr": 0.97, "cost": 0.8},
    "<script>alert(1)</script>": {"level": 0.96, "trials": ["ok", "diverged"], "cost": 2},
    "a name that is long " * 4: {"level": 0.9, "broken": ["diverged", "failed"]},
}


def weights(entrant, seed):
    stream = torch.Generator().manual_seed(100 * list(ENTRANTS).index(entrant) + seed)
    matrix = 100 ** torch.linspace(-1, 0, 20)
    return {"matrix": matrix, "x": torch.randn(20, generator=stream)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("race")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terrain, "SIZE", 9)
        with make_store(folder, ENTRANTS, workload="quadratic", weights=weights) as store:
            return write_report(store)


@pytest.fixture(scope="module")
def visits(browser, page_file):
    """One open page a width and theme, for all tests: a visit takes seconds."""
    made = {}

    def get(width, theme):
        if (width, theme) not in made:
            made[width, theme] = Visit(browser, page_file, width, theme)
        return made[width, theme]

    yield get
    for visit in made.values():
        visit.close()


@pytest.fixture
def visit(visits):
    return visits("desktop", "light")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_opens_without_a_word_and_asks_for_nothing(visits, page_file, width, theme):
    visit = visits(width, theme)
    assert visit.value("document.documentElement.dataset.ready") == "yes"
    assert visit.said == []
    assert visit.dialogs == []
    assert visit.asked == [page_file.as_uri()]
    drawn = visit.value("document.querySelectorAll('.plot .main-svg').length > 0")
    assert drawn
    assert visit.value("[...document.querySelectorAll('.plot')].every(p => p._fullLayout)")
    assert visit.value("document.documentElement.scrollWidth") == WIDTHS[width][0]
    colour = visit.value("getComputedStyle(document.body).backgroundColor")
    assert colour == THEMES[theme]


def test_no_plot_sticks_out_of_its_card_and_no_axis_lacks_a_title(visit):
    wide = visit.value(
        "[...document.querySelectorAll('.plot')].filter(p => p.scrollWidth > p.clientWidth + 1)"
        ".map(p => p.id)"
    )
    assert wide == []
    bare = visit.value(
        "[...document.querySelectorAll('.plot')].filter(p => p.id !== 'pairs' && "
        "!p._fullLayout.xaxis.title.text).map(p => p.id)"
    )
    assert bare == []


def test_hovering_shows_values(visit):
    said = visit.hover("curve-metric", 3, [10])
    assert "adamw" in said
    assert "step 110" in said
    assert "0." in said
    said = visit.hover("pairs", 1, [1, 0])
    assert "with probability" in said
    said = visit.hover("plane", 0, [2, 2])
    assert "loss" in said
    said = visit.hover("cost-time", 0, [0])
    assert "ms" in said
    said = visit.hover("line-0", 0, [6])
    assert "of the way" in said


def test_hovering_over_trials_shows_their_settings(visit):
    said = visit.hover("tuning-1", 0, [1])
    assert "trial" in said
    assert "adamw.lr =" in said
    said = visit.hover("tuning-2", 1, [0])
    assert "diverged at step" in said


def test_a_hostile_name_is_shown_as_it_is(visit):
    assert visit.dialogs == []
    texts = visit.value("[...document.querySelectorAll('#cost-time text')].map(t => t.textContent)")
    assert "<script>alert(1)</script>" in texts
    assert visit.page.locator(".board").get_by_text("<script>alert(1)</script>").count() >= 1


def test_the_switches_change_what_is_drawn(visit):
    title = visit.page.locator("#curve-metric-title")
    before = title.text_content()
    first = visit.value("document.getElementById('curve-metric').data.at(-1).x.at(-1)")
    visit.page.get_by_role("button", name="Seconds").click()
    end = "document.getElementById('curve-metric').data.at(-1).x.at(-1)"
    assert visit.until(end, lambda last: last != first) == pytest.approx(first * 0.004)
    assert title.text_content() != before
    axis = "document.getElementById('curve-metric')._fullLayout.xaxis.title.text"
    assert visit.value(axis) == "training time in seconds"
    span = "document.getElementById('curve-metric')._fullLayout.yaxis.range"
    whole = visit.value(span)
    visit.page.get_by_role("button", name="Second half").click()
    assert visit.until(span, lambda now: now != whole)[0] > whole[0]
    assert visit.value(axis) == "training time in seconds"
    visit.page.get_by_role("button", name="Steps", exact=True).click()
    visit.page.get_by_role("button", name="Whole run").click()
    visit.until(span, lambda now: now == whole)
    assert title.text_content() == before
    assert visit.said == []


def test_a_chip_hides_its_entrant_everywhere(visit):
    chip = visit.page.locator(".chip", has_text="sgd")
    shown = """[...document.querySelectorAll('.plot')].flatMap(p => p._fullData).filter(
        t => t.meta && t.meta.entrant === 1 && t.visible === true && !t.meta.always).length"""
    before = visit.value(shown)
    assert before > 5
    chip.click()
    visit.until(shown, lambda now: now == 0)
    assert chip.get_attribute("aria-pressed") == "false"
    chip.click()
    visit.until(shown, lambda now: now == before)


def test_the_theme_switch_repaints_the_plots_and_is_remembered(visits):
    visit = visits("phone", "light")
    line = "document.getElementById('curve-metric')._fullData.at(-1).line.color"
    text = "document.getElementById('curve-metric')._fullLayout.font.color"
    light = visit.value(line), visit.value(text)
    visit.page.locator("#theme").click()
    visit.until(text, lambda now: now != light[1])
    visit.until(line, lambda now: now != light[0])
    assert visit.value("getComputedStyle(document.body).backgroundColor") == THEMES["dark"]
    dark = visit.value(line)
    visit.page.reload()
    visit.page.wait_for_selector("html[data-ready]", state="attached")
    assert visit.value("getComputedStyle(document.body).backgroundColor") == THEMES["dark"]
    assert visit.value(line) == dark
    visit.page.evaluate("localStorage.clear()")
    assert visit.said == []


def test_copy_buttons_copy(visit):
    button = visit.page.locator(".copy").first
    button.click()
    visit.until("document.getElementById('live').textContent", lambda said: said == "Copied")
    visit.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<textarea id=paste>')")
    visit.page.locator("#paste").focus()
    visit.page.keyboard.press("Control+v")
    assert visit.page.locator("#paste").input_value() == button.get_attribute("data-copy")
    visit.page.evaluate("document.getElementById('paste').remove()")


def test_print_is_light_and_holds_the_plots(visits):
    visit = visits("desktop", "dark")
    visit.page.emulate_media(media="print")
    assert visit.value("getComputedStyle(document.body).backgroundColor") == THEMES["light"]
    assert visit.value("getComputedStyle(document.querySelector('.bar')).display") == "none"
    ink = "document.getElementById('curve-metric')._fullLayout.font.color"
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    visit.until(ink, lambda now: now == "rgba(22,32,43,1)")
    visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert visit.value("document.documentElement.dataset.theme || 'none'") == "none"
    visit.page.emulate_media(media="screen")


def test_a_browser_that_cannot_unpack_says_so_and_keeps_the_numbers(browser, page_file):
    context = browser.new_context()
    context.add_init_script("delete globalThis.DecompressionStream")
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready=failed]", state="attached")
    assert "cannot draw the plots" in page.locator(".waiting").first.text_content()
    assert page.locator(".board tbody tr").count() == 4
    context.close()
