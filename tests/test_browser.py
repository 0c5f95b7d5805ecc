"""The report in a real browser: sorted by mouse and keyboard, filtered, in the dark, on a phone; it never complains."""

import shutil
import sys
from pathlib import Path

import pytest

from xbench import api
from xbench.report.html import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is neither chromium nor google-chrome on the path"),
]

PLAIN = {"executor": "inline", "device": "cpu", "limit": 40}
FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run once, with everything a report can show, and once more under hostile names."""
    made = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBENCH_CACHE", str(made / "cache"))
        patch.syspath_prepend(str(FAKES))
        import hostile

        api.run(
            "blobs",
            model="fake/linear,fake/learnt@*",
            explainer="fake/weights,fake/noise,fake/half,fake/background,fake/raises,controls/*",
            metric="accuracy,localisation_precision,deletion,insertion,pointing_game,relevance_mass,validity,"
            "translation_flip_rate",
            out=made / "whole",
            **PLAIN,
        )
        write_report(hostile.spoil(made / "whole", made / "spoilt"))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("xbench_fake", "hostile")]:
        del sys.modules[name]
    return made


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, folder):
    """Return a function that opens a report; whatever the page complains of or asks for fails the test."""
    complaints, contexts = [], []

    def enter(name="whole", width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        url = (folder / name / "report/index.html").as_uri()
        page.on("request", lambda request: request.url.startswith((url, "data:")) or complaints.append(request.url))
        page.goto(url)
        return page

    yield enter
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, place):
    """Return the sort keys of a column of the first table, from the top."""
    return page.eval_on_selector_all(
        "table.ranking >> nth=0 >> tbody tr", f"rows => rows.map(row => row.cells[{place}].dataset.v ?? null)"
    )


def names(page):
    rows = page.locator("table.ranking").first.locator("tbody tr:visible")
    return rows.evaluate_all("rows => rows.map(row => row.dataset.name)")


def heads(page):
    return page.locator("table.ranking").first.locator("thead th")


def is_sorted(values, descending):
    known = [float(value) for value in values if value is not None]
    assert values[: len(known)] == [value for value in values if value is not None]
    return len(set(known)) > 1 and known == sorted(known, reverse=descending)


def test_a_click_sorts_best_first_another_turns_it_and_what_has_no_number_stays_last(opened):
    page = opened()
    before = names(page)
    place = next(i for i, text in enumerate(heads(page).all_inner_texts()) if text.startswith("deletion"))
    head = heads(page).nth(place)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert is_sorted(column(page, place), descending=False)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert is_sorted(column(page, place), descending=True)
    assert heads(page).nth(0).get_attribute("aria-sort") is None
    assert sorted(names(page)) == sorted(before) != names(page)
    page.get_by_role("button", name="By rank").first.click()
    assert names(page) == before


def test_the_keyboard_alone_sorts_too(opened):
    page = opened()
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.closest('th')?.innerText ?? ''")
        if focused.startswith("insertion"):
            break
    else:
        pytest.fail("Tab never reached the header's buttons")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    place = next(i for i, text in enumerate(heads(page).all_inner_texts()) if text.startswith("insertion"))
    page.keyboard.press("Enter")
    assert heads(page).nth(place).get_attribute("aria-sort") == "descending"
    assert is_sorted(column(page, place), descending=True)
    page.keyboard.press("Space")
    assert is_sorted(column(page, place), descending=False)


def test_filters_keep_what_they_say_and_tell_how_many(opened):
    page = opened()
    every = names(page)
    tools = page.locator("[data-for]").first
    tools.get_by_label("Explainers").select_option("fake")
    assert names(page) == [name for name in every if name.startswith("fake/")]
    tools.get_by_label("Find an explainer").fill("NOI")
    assert names(page) == ["fake/noise"]
    assert tools.get_by_role("status").inner_text() == f"1 of {len(every)} explainers"
    tools.get_by_role("button", name="By rank").click()
    assert names(page) == every
    tools.get_by_label("Scores").select_option("localisation")
    shown = page.locator("table.ranking").first.locator("thead th:visible").all_inner_texts()
    assert any(text.startswith("pointing") for text in shown)
    assert not any(text.startswith("deletion") for text in shown)


def test_controls_can_be_hidden_everywhere(opened):
    page = opened()
    assert page.locator(".control:visible").count() > 3
    page.get_by_role("button", name="Hide controls").click()
    assert page.locator(".control:visible").count() == 0
    assert not any(name.startswith("controls/") for name in names(page))
    assert "fake/weights" in names(page)


def brightness(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)")


def test_the_dark_is_dark_by_system_and_by_button_and_text_keeps_its_contrast(opened):
    page = opened(color_scheme="dark")
    assert max(brightness(page)) < 60
    button = page.locator("[data-theme-button]")
    button.click()
    assert min(brightness(page)) > 200
    button.click()
    assert max(brightness(page)) < 60
    light = opened(color_scheme="light")
    assert min(brightness(light)) > 200
    for one in (page, light):
        assert one.evaluate(CONTRAST) >= 4.5


# The smallest contrast (WCAG 2) of any text against the first opaque background behind it; colours of whatever notation are
# read back through a canvas.
CONTRAST = """() => {
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  let least = 21;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.offsetParent || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const pair = [rgba(getComputedStyle(element).color), behind(element)].map((c) => light(c.slice(0, 3)));
    least = Math.min(least, (Math.max(...pair) + .05) / (Math.min(...pair) + .05));
  }
  return least;
}"""


@pytest.mark.parametrize("name", ["whole", "spoilt"])
def test_a_phone_scrolls_tables_but_never_the_page_sideways(opened, name):
    page = opened(name, width=375)
    for details in page.locator("details").all():
        details.evaluate("one => one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    # Text for screen readers alone must not widen the page either, however many columns stand beside each other.
    loose = "all => all.filter(one => one.offsetParent === document.body).length"
    assert page.locator(".box .hide").evaluate_all(loose) == 0
    assert page.locator(".box").first.evaluate("box => box.scrollWidth > box.clientWidth")


def test_a_map_tells_its_scores_to_who_points_and_to_who_walks_with_arrows(opened):
    page = opened()
    readout = page.locator("[data-readout]").first
    cells = page.locator("table.gallery").first.locator("tbody tr").first.locator("td[data-e]")
    scored = next(i for i in range(cells.count()) if cells.nth(i).get_attribute("data-e") != "")
    cells.nth(scored).hover()
    pointed = readout.inner_text()
    assert "deletion" in pointed
    assert cells.nth(scored).get_attribute("title") == pointed
    cells.nth(scored).click()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.cellIndex") == scored + 2
    assert readout.inner_text() != pointed
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.parentElement.rowIndex") == 2
    assert page.locator('table.gallery >> nth=0 >> td[tabindex="0"]').count() == 1


def test_a_map_is_reachable_by_tab_after_controls_are_hidden(opened):
    page = opened()
    table = page.locator("table.gallery").first
    table.locator("td.control[data-e]").first.click()
    page.get_by_role("button", name="Hide controls").click()
    assert table.locator('td[tabindex="0"]').count() == 1
    assert table.locator('td[tabindex="0"]').is_visible()


def test_the_pointer_is_silent_and_the_readout_names_what_the_row_holds(opened):
    page = opened()
    readout = page.locator("[data-readout]").first
    cell = page.locator("table.gallery").first.locator('td[data-e]:not([data-e=""])').first
    row = page.locator("table.gallery").first.locator("tbody tr").first
    row.evaluate("row => { row.dataset.label = 'no label'; row.dataset.predicted = 'predicted: cat'; }")
    cell.hover()
    assert readout.get_attribute("aria-live") == "off"
    image = row.get_attribute("data-image")
    assert f"image {image}: no label, taken for predicted: cat." in readout.inner_text()
    cell.click()
    assert readout.get_attribute("aria-live") == "polite"


def test_outlines_and_curves_can_be_switched_off_and_on(opened):
    page = opened()
    outline = page.locator(".gallery .pic svg").first
    button = page.get_by_role("button", name="Outline of the true object").first
    assert outline.is_visible()
    button.click()
    assert not outline.is_visible()
    assert button.get_attribute("aria-pressed") == "false"
    legend = page.locator(".legend button[aria-pressed='true']").first
    curve = page.locator(f"[data-curves] >> nth=0 >> g.curve[data-k='{legend.get_attribute('data-k')}']")
    assert curve.get_attribute("hidden") is None
    page.locator(".legend button").nth(int(legend.get_attribute("data-k"))).click()
    assert curve.get_attribute("hidden") is not None


def test_hostile_names_do_nothing_and_are_read_as_they_are(opened):
    page = opened("spoilt")
    assert page.locator("h1").inner_text() == "<script>alert(1)</script>"
    assert "{{7*7}}" in page.locator("table.ranking").first.inner_text()
    page.locator("td[data-e]").first.hover()
    page.wait_for_timeout(50)


def test_everything_has_a_name_for_who_listens(opened):
    page = opened()
    assert page.locator("main").count() == page.locator("h1").count() == 1
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("svg[role=img]:not([aria-labelledby])").count() == 0
    nameless = "all => all.filter(one => !(one.innerText || one.ariaLabel || '').trim()).length"
    assert page.locator("button:visible").evaluate_all(nameless) == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"


def test_without_scripts_everything_can_still_be_read(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("table.ranking").first.is_visible()
    assert page.locator("[data-theme-button]").is_hidden()
    assert page.locator("svg.plot").first.is_visible()
