"""The report in headless Chromium, without a network."""

import numpy as np
import pytest

from keras_provlae.report import write_report
from tests.metrics.conftest import Blobs
from tests.serving.chromium import chromium

pytestmark = pytest.mark.serving


@pytest.fixture(scope="module")
def path(growing_model, tmp_path_factory):
    factors = Blobs().factors(np.arange(60))
    data, factor_names = (Blobs().images(factors), factors), ["a_factor_with_a_rather_long_name", "row", "size"]
    path = tmp_path_factory.mktemp("report") / "report.html"
    facts = {"command": "make " + "long/" * 40}
    return write_report(growing_model, data, path=path, factor_names=factor_names, facts=facts, draws=100)


@pytest.fixture(params=[(1200, 900), (400, 800)], ids=["wide", "narrow"])
def browser(request, path):
    with chromium("--proxy-server=127.0.0.1:9") as driver:  # no network: nothing listens there
        driver.set_window_size(*request.param)
        driver.get(path.as_uri())
        yield driver
        assert driver.get_log("browser") == []


def test_the_report_is_complete_and_fits_the_window(browser):
    pictures = browser.execute_script(
        "return Array.from(document.images, i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width, i.alt])"
    )
    assert len(pictures) >= 8
    width = browser.execute_script("return document.documentElement.clientWidth")
    readable = max(width, 34 * 16)  # on a narrow page each picture scrolls
    assert all(complete and natural > 0 and 0 < shown <= readable and alt for complete, natural, shown, alt in pictures)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    addresses = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in addresses if not address.startswith("data:")] == []


def test_links_lead_to_their_sections(browser):
    targets = browser.execute_script(
        "return Array.from(document.querySelectorAll('nav a'), a => document.querySelector(a.hash)?.tagName)"
    )
    assert len(targets) >= 8
    assert set(targets) == {"SECTION"}
