"""The page in a browser: no complaint on its console; it sorts, filters, opens cells, and fits."""

import shutil

import pytest

from nsdbench.bench import tables
from nsdbench.bench.store import Store
from nsdbench.report.page.render import render
from tests.report.test_page import EVIL, EVIL_FOLDER, RESULTS, TABLE, record_of

pytestmark = pytest.mark.slow
webdriver = pytest.importorskip("selenium.webdriver")
By = pytest.importorskip("selenium.webdriver.common.by").By
WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",  # which containers often have little of
)  # fmt: skip
WIDTHS = (1280, 390)
NAMES = ("table1", "table2", "fashion-mnist", "nsd-search", "figure3", "figure4")
NSD = "FashionMNIST-ipc1-nsd-convnet3-w32-common-300ep"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium or chromedriver is missing: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    running = webdriver.Chrome(options=options, service=service)
    yield running
    running.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of the committed records, as a file; those of DWT are left out: not measured."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    records, _ = Store(RESULTS).records("small")
    records = [record for record in records if record.cell.method != "dwt"]
    text = render(NAMES, "small", records, RESULTS)
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def opened(browser, address, width=1280, scheme="light"):
    """Open a page afresh at a width in pixels; the console must stay empty from here on."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(address)
    return browser


def is_fitting(browser):
    """Say whether nothing lies beyond the right edge."""
    sizes = ("scrollWidth", "clientWidth")
    content, screen = (
        browser.execute_script(f"return document.documentElement.{x}") for x in sizes
    )
    return content <= screen


def shown(browser, selector):
    return [x for x in browser.find_elements(By.CSS_SELECTOR, selector) if x.is_displayed()]


@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_complaint_and_fits_the_screen(browser, address, width):
    opened(browser, address, width)
    assert is_fitting(browser)
    assert browser.execute_script("return document.styleSheets.length") == 1
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(x => x.name)"
    )
    assert [name for name in loaded if not name.startswith("data:")] == []
    sizes = "return [...document.images].map(x => x.naturalWidth)"
    assert min(browser.execute_script(sizes)) > 100, "the figures are drawn"
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_column_sorts_both_ways_and_back(browser, address, width):
    opened(browser, address, width)
    rows = "document.querySelectorAll('#table2 .cells tr.cell')"
    column = f"return [...{rows}].map(x => x.children[3].dataset.sort)"
    before = browser.execute_script(column)
    known = [float(text) for text in before if text]
    heading = browser.find_element(By.CSS_SELECTOR, "#table2 .cells th:nth-child(4)")
    for order, expected in (
        ("descending", sorted(known, reverse=True)),
        ("ascending", sorted(known)),
    ):
        heading.find_element(By.TAG_NAME, "button").click()
        assert heading.get_attribute("aria-sort") == order
        after = browser.execute_script(column)
        assert [float(text) for text in after[: len(known)]] == expected
        assert set(after[len(known) :]) == {""}, "what is not measured is last either way"
    heading.find_element(By.TAG_NAME, "button").click()
    assert heading.get_attribute("aria-sort") is None
    assert browser.execute_script(column) == before
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_filters_leave_what_was_asked_for(browser, address, width):
    opened(browser, address, width)
    everything = len(shown(browser, "tr.cell"))
    browser.find_element(By.NAME, "text").send_keys("nsd MEASURED")
    assert {row.get_attribute("data-status") for row in shown(browser, "tr.cell")} == {"measured"}
    assert all("nsd" in row.get_attribute("data-text") for row in shown(browser, "tr.cell"))
    browser.find_element(By.CSS_SELECTOR, "select[name=ipc] option[value='10']").click()
    rows = shown(browser, "#table1 tr.cell")
    assert {row.get_attribute("data-ipc") for row in rows} == {"10"}
    panels = shown(browser, "#table1 .panels figure")
    assert {panel.get_attribute("data-ipc") for panel in panels} == {"10"}
    number = browser.execute_script("return document.querySelector('#filters output').textContent")
    assert number == f"{len(shown(browser, 'tr.cell'))} of {everything} cells"
    browser.find_element(By.NAME, "text").send_keys(" nothing has these words")
    assert shown(browser, "tr.cell") == [] and shown(browser, "#table1 .none")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_opens_and_closes(browser, address, width):
    opened(browser, address, width)
    row = browser.find_element(By.ID, f"table1/{NSD}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    opener = row.find_element(By.TAG_NAME, "button")
    opener.click()
    assert opener.get_attribute("aria-expanded") == "true"
    (details,) = shown(browser, ".opened .details")
    for text in ("Yang et al.", "guided_weight", "sec. 4.1", "AMD EPYC", "of 31,360", "iteration"):
        assert text in details.text
    (picture,) = details.find_elements(By.TAG_NAME, "img")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) == 10 * 29 + 1
    assert details.size["width"] <= width
    assert is_fitting(browser)
    opener.click()
    assert shown(browser, ".opened") == [] and opener.get_attribute("aria-expanded") == "false"
    assert browser.get_log("browser") == []


def test_an_address_opens_its_cell(browser, address):
    opened(browser, f"{address}#table2/{NSD}")
    (details,) = shown(browser, "#table2 .opened .details")
    assert "NSD" in details.text and shown(browser, "#table1 .opened") == []
    opened(browser, address).find_element(By.CSS_SELECTOR, f"a[href='#table1/{NSD}']").click()
    WebDriverWait(browser, 60).until(  # the browser tells of the address after the click
        lambda _: len(shown(browser, "#table1 .opened .details")) == 1
    )
    assert browser.get_log("browser") == []


def test_light_and_dark_are_readable(browser, address):
    """Text has a contrast of at least 4.5 (WCAG 2.1, sec. 1.4.3, with its relative luminance)."""

    def luminance(color):
        parts = [int(x) / 255 for x in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    script = "const s = getComputedStyle(document.querySelector(arguments[0])); return s.color"
    seen = set()
    for scheme in ("light", "dark"):
        opened(browser, address, scheme=scheme)
        paper = "return getComputedStyle(document.body).backgroundColor"
        behind = luminance(browser.execute_script(paper))
        seen.add(behind > 0.5)
        for selector in ("body", ".quiet", "nav a", ".printed", ".badge", ".sorter"):
            front = luminance(browser.execute_script(script, selector))
            high, low = max(front, behind), min(front, behind)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, selector)
    assert seen == {True, False}


def test_paper_has_all_columns_and_nothing_to_press(browser, address):
    opened(browser, address, 688)  # A4 within its margins
    assert not shown(browser, "#table1 th.wide") and shown(browser, "#filters")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert shown(browser, "#table1 .cells th.wide") and not shown(browser, "#filters, nav")
    assert is_fitting(browser)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_names_of_users_run_nothing(browser, tmp_path, monkeypatch):
    (tmp_path / "evil.toml").write_text(TABLE.format(evil=EVIL, folder=EVIL_FOLDER))
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    measured, _ = tables.load("evil").entries("smoke")
    record = record_of(measured, [50.0], provenance={"command": EVIL, "device": EVIL})
    (tmp_path / "page.html").write_text(render(["evil"], "smoke", [record], tmp_path))
    opened(browser, (tmp_path / "page.html").as_uri())  # an alert would fail what follows
    for opener in shown(browser, ".opener"):
        opener.click()
    assert EVIL in shown(browser, ".details")[0].text
    assert browser.get_log("browser") == []
