"""The page in a real browser: what it shows equals what the engine says, with a pointer or keys alone."""

import json
import shutil

import httpx
import numpy as np
import pytest

from clearweight.artifact import Artifact
from clearweight.service import Engine
from tests.service.conftest import start_server, stop_server

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def site(models):
    server = start_server(models, shadow=1.0)
    yield server.url
    stop_server(server)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as runner:
        found = runner.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield found
        found.close()


@pytest.fixture
def page(browser, site):
    context = browser.new_context()
    found = context.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("request", lambda request: problems.append(request.url) if site not in request.url else None)
    found.goto(site)
    found.wait_for_selector("#tiles .tile")
    yield found
    context.close()
    assert problems == []


def draw(page):
    pad = page.locator("#pad")
    pad.focus()
    for key in ("Space", "Shift+ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
        pad.press(key)
    settled(page)


def settled(page):
    """Wait until what is shown belongs to the present input."""
    page.wait_for_selector("#maps[aria-busy=false] canvas")


def pixels(page) -> np.ndarray:
    """Return what the pad holds as the float input of the model."""
    grey = page.evaluate(
        """() => { const pad = document.getElementById("pad");
        return Array.from(pad.getContext("2d").getImageData(0, 0, pad.width, pad.height).data)
            .filter((_, i) => i % 4 === 0); }"""
    )
    return (np.array(grey, np.float32) / 255).reshape(1, 1, 8, 8)


def test_the_card_shows_the_manifests_figures(page, site):
    card = httpx.get(f"{site}/web/card/tiny").json()
    tiles = page.locator("#tiles").inner_text()

    assert f"{card['quality']['compressed']['accuracy']:.2%}".replace("%", " %") in tiles
    assert f"{card['fidelity']['similarity']['pooled_cosine']:.3f}" in tiles


def test_keys_alone_draw_predict_and_explain_as_the_engine_does(page, models):
    draw(page)

    with Engine(models) as engine:
        expected = engine.explain(pixels(page))
    shown = page.locator("#prediction").inner_text()
    logits = expected.logits[0].astype(np.float64)
    share = (np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()).max()
    assert f"{100 * share:.2f} %" in shown
    captions = page.locator("#maps figcaption").all_inner_texts()
    assert captions == ["reference", "compressed", "difference"]
    assert page.locator("#maps canvas").nth(1).get_attribute("width") == "8"


def test_the_picture_of_a_map_is_red_where_it_is_positive_and_blue_where_negative(page, models):
    draw(page)
    with Engine(models) as engine:
        values = engine.explain(pixels(page)).map[0, 0]
    colours = np.array(
        page.evaluate(
            """() => Array.from(document.querySelectorAll("#maps canvas")[1].getContext("2d")
            .getImageData(0, 0, 8, 8).data)"""
        )
    ).reshape(8, 8, 4)
    strong = np.abs(values) > 0.2 * np.abs(values).max()
    redder = colours[..., 0].astype(int) > colours[..., 2]

    assert strong.any()
    np.testing.assert_array_equal(redder[strong], values[strong] > 0)


def test_another_method_and_another_class_change_the_map(page):
    draw(page)
    before = page.locator("#maps canvas").nth(1).get_attribute("aria-label")

    page.select_option("#method", "gradient")
    page.wait_for_function(
        "before => document.querySelectorAll('#maps canvas')[1].ariaLabel !== before", arg=before
    )
    by_method = page.locator("#maps canvas").nth(1).get_attribute("aria-label")
    page.select_option("#target", "3")
    page.wait_for_function(
        "before => document.querySelectorAll('#maps canvas')[1].ariaLabel !== before", arg=by_method
    )

    assert "Explained: " in page.locator("#prediction").inner_text()


def test_a_picture_can_be_opened(page, tmp_path):
    from PIL import Image

    Image.fromarray(np.tile(np.arange(0, 256, 16, np.uint8), (16, 1))).save(tmp_path / "ramp.png")

    page.set_input_files("#file", tmp_path / "ramp.png")
    settled(page)

    held = pixels(page)[0, 0]
    assert held[0, 0] < 0.1
    assert held[0, -1] > 0.8


def test_a_file_that_is_no_picture_is_named(page, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")

    page.set_input_files("#file", tmp_path / "notes.png")

    page.wait_for_selector("#problem:not([hidden])")
    assert "notes.png" in page.locator("#problem").inner_text()


def test_the_three_questions_are_answered_and_drift_moves(page, site):
    draw(page)
    page.wait_for_function("document.querySelectorAll('#charts figure').length > 0")

    answers = page.locator("#questions .pill").all_inner_texts()
    health = httpx.get(f"{site}/v2/models/tiny/drift").json()

    assert answers[:2] == [health["fidelity"]["state"], health["integrity"]["state"]]
    assert page.locator("#charts figure").count() == len(health["drift"]["series"])


def test_the_theme_is_kept(page):
    first = page.evaluate("document.documentElement.dataset.theme")
    page.click("#theme")
    page.reload()
    page.wait_for_selector("#tiles .tile")

    assert page.evaluate("document.documentElement.dataset.theme") != first


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "docs"])
def test_axe_finds_nothing_serious(browser, site, path, scheme):
    found = browser.new_page(color_scheme=scheme)
    found.goto(f"{site}/{path}")
    found.wait_for_selector(".tile" if path == "" else ".operation")
    if path == "":
        draw(found)
        found.wait_for_selector("#charts figure")
    serious = [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in axe.Axe().run(found).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    found.close()

    assert serious == []


def test_every_control_is_reached_by_the_tabulator(page):
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))

    assert {"model", "theme", "pad", "file", "clear", "method", "target", "overlay"} <= reached


def test_the_documentation_lists_every_path(browser, site):
    found = browser.new_page()
    found.goto(f"{site}/docs")
    found.wait_for_selector(".operation")
    shown = set(found.locator(".operation h2 code").all_inner_texts())
    found.close()

    assert shown == set(json.loads(httpx.get(f"{site}/openapi.json").text)["paths"])


def test_an_administrator_gives_a_token_and_picks_a_probe(browser, models):
    token = "admin-token-0123456789"
    server = start_server(models, admin_port=0, admin_tokens=token)
    found = browser.new_page()
    found.goto(f"http://127.0.0.1:{server.admin_port}/")
    found.wait_for_selector("#access:not([hidden])")
    found.fill("#token", token)
    found.press("#token", "Enter")
    found.wait_for_selector("#canary-row:not([hidden])")
    found.select_option("#canary", index=3)  # behind "none"
    settled(found)
    shown = found.locator("#prediction").inner_text()
    found.close()
    stop_server(server)

    logits = Artifact.open(models / "tiny" / "10").canaries().logits_compressed[2].astype(np.float64)
    share = (np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()).max()
    assert f"{100 * share:.2f} %" in shown
