"""The report in a real browser: it draws, says its verdict, logs nothing, fits a phone, and turns dark."""

import os
import shutil

import pytest

from gramian.report import write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
DRAWN = "document.querySelector('#mlp-loss .js-line')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER and DRIVER):
        said = f"no browser to open the report in: chromium is {BROWSER}, chromedriver is {DRIVER}"
        if os.environ.get("CI") == "true" or os.environ.get("GRAMIAN_REQUIRE_BROWSER") == "1":
            pytest.fail(said)
        pytest.skip(said)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, tmp_path):
    """Writes facts and opens them at a size and in a color scheme; at the end, the console must be empty."""

    def open_report(facts, width=1280, height=800, scheme="light", anchor="", phone=False):
        html, _ = write(facts, tmp_path)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        colors(browser, scheme)
        browser.get("about:blank")
        browser.get(html.as_uri() + anchor)
        wait(browser, "document.readyState === 'complete' && typeof Plotly === 'object'")
        return browser

    yield open_report
    assert browser.get_log("browser") == []


def colors(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10, 0.05).until(lambda b: b.execute_script(f"return {condition}"), condition)


def js(browser, expression):
    return browser.execute_script(f"return {expression}")


def test_first_screen_has_verdict_answer_and_four_pictures(show, facts, run):
    facts["runs"] = [run]
    browser = show(facts)
    assert js(browser, "document.querySelector('.verdict .badge').innerText.trim()") == "observed"
    assert run["answer"][1].split(",")[0] in js(browser, "document.querySelector('.words').innerText")
    wait(browser, "document.querySelectorAll('.four .plot .main-svg').length >= 4")
    bottoms = js(browser, "[...document.querySelectorAll('.four .plot')].map(p => p.getBoundingClientRect().bottom)")
    assert len(bottoms) == 4
    assert max(bottoms) < 800


def test_pictures_of_several_networks_fit_the_first_screen_too(show, facts):
    browser = show(facts)
    script = "[...document.querySelectorAll('#mlp .four .plot')].map(p => p.getBoundingClientRect().bottom)"
    assert max(js(browser, script)) < 800


def test_lines_are_drawn_and_nothing_else_is_requested(show, facts):
    browser = show(facts)
    wait(browser, DRAWN)
    assert js(browser, "document.querySelectorAll('#mlp-loss .scatterlayer .js-line').length") == 3
    loaded = js(browser, "performance.getEntriesByType('resource').map(e => e.name)")
    assert [name.rpartition("/")[2] for name in loaded] in ([], ["plotly.min.js"])


def test_no_sideways_scrolling(show, facts):
    browser = show(facts, width=390, height=844, phone=True)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for width in (390, 768, 1024, 1280):
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == 390}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for anchor in ("mlp", "cnn", "resnet"):
            browser.execute_script(f"location.hash = '{anchor}'")
            wait(browser, f"!document.getElementById('{anchor}').hidden")
            assert js(browser, "document.documentElement.scrollWidth") <= width


def test_the_hash_selects_the_tab(show, facts):
    browser = show(facts, anchor="#cnn")
    shown = "[...document.querySelectorAll('.run')].filter(r => !r.hidden).map(r => r.id)"
    assert js(browser, shown) == ["cnn"]
    browser.execute_script("location.hash = '#resnet-width'")
    wait(browser, "!document.getElementById('resnet').hidden")
    assert js(browser, shown) == ["resnet"]
    wait(browser, "document.querySelectorAll('#resnet .plot .main-svg').length > 0")


def test_tabs_by_keyboard(show, facts):
    from selenium.webdriver.common.keys import Keys

    browser = show(facts)
    browser.find_element("css selector", ".tabs a[aria-selected=true]").send_keys(Keys.ARROW_RIGHT)
    assert js(browser, "location.hash") == "#cnn"
    assert js(browser, "document.activeElement.innerText.trim()") == facts["runs"][1]["title"]
    browser.find_element("css selector", ".tabs a[aria-selected=true]").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert js(browser, "document.querySelector('.run:not([hidden])').id") == "resnet"


def test_dark_mode_recolors_page_and_pictures(show, facts):
    browser = show(facts)
    paper = "getComputedStyle(document.body).backgroundColor"
    stroke = "document.querySelector('#mlp-loss .js-line').style.stroke"
    wait(browser, DRAWN)
    light = js(browser, stroke)
    colors(browser, "dark")
    wait(browser, f"{stroke} !== '{light}'")
    assert js(browser, paper) == "rgb(17, 20, 23)"
    assert js(browser, stroke) == "rgb(130, 177, 255)"
    assert js(browser, "document.querySelector('#mlp-loss .main-svg').style.background") in ("", "rgba(0, 0, 0, 0)")


def test_names_with_markup_run_nothing(show, facts, run):
    evil = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    run["title"] = run["probes"][0]["title"] = run["moved"]["layers"][0] = evil
    browser = show(facts)
    assert js(browser, "window.hacked") is None
    assert js(browser, "document.querySelector('.tabs a').innerText.trim()") == evil


def test_printing_shows_every_network(show, facts):
    browser = show(facts)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert js(browser, "document.querySelectorAll('.run[hidden]').length") == 0
    wait(browser, "[...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))")
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert js(browser, "document.querySelectorAll('.run[hidden]').length") == 2


def test_a_watched_loop_shows_its_slowest_samples_and_fits_a_phone(show, facts, run):
    gray = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAAAAA"
        "CMmsGiAAAADklEQVR42mNoAAIGVAIAUBQIAW1N4EkAAAAASUVORK5CYII="
    )
    run |= {"status": "watched", "questions": [f"question {k}?" for k in range(len(run["answer"]))]}
    run["samples"] = [{"row": k, "label": "cat", "said": "dog", "image": gray} for k in range(12)]
    run["layers"] = [{"name": "layers.0.weight", "moved": 0.5, "lately": 0.1, "pull": 1.0}] * 4
    facts["runs"] = [run]
    browser = show(facts, width=390, height=844, phone=True)
    wait(browser, "[...document.querySelectorAll('.samples img')].every(i => i.complete)")
    assert js(browser, "[...document.querySelectorAll('.samples img')].map(i => i.naturalWidth)") == [4] * 12
    for width in (390, 768, 1280):
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == 390}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert js(browser, "document.documentElement.scrollWidth") <= width
    assert "row 3" in js(browser, "document.querySelector('.samples').innerText")
    assert "question 0?" in js(browser, "document.querySelector('.words').innerText")


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_the_gallery_filters_links_and_fits(browser, tmp_path, width, phone):
    from gramian.claims import CLAIMS, write_gallery

    index = write_gallery(tmp_path)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(index.as_uri())
    wait(browser, "document.readyState === 'complete'")
    cards = "[...document.querySelectorAll('.claims > li')]"
    assert js(browser, f"{cards}.filter(card => !card.hidden).length") == len(CLAIMS)
    js(browser, "document.querySelector('button[data-value=\"optimization\"]').click()")
    assert set(js(browser, f"{cards}.filter(card => !card.hidden).map(card => card.dataset.topic)")) == {"optimization"}
    assert js(browser, "document.documentElement.scrollWidth") <= width
    js(browser, "document.querySelector('.claims > li:not([hidden]) a').click()")
    wait(browser, "typeof Plotly === 'object' && document.querySelectorAll('.plot .main-svg').length >= 1")
    assert js(browser, "document.documentElement.scrollWidth") <= width
    assert js(browser, "[...document.querySelectorAll('.badge')].length") >= 3
    assert browser.get_log("browser") == []
