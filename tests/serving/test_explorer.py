import time

import numpy as np
import pytest
from PIL import Image
from serving.process import served

from tests.serving.chromium import chromium

pytestmark = pytest.mark.serving
By = pytest.importorskip("selenium.webdriver.common.by").By
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait


@pytest.fixture(scope="module")
def address(exported):
    with served(exported.parent) as (address, _, _):
        yield address


@pytest.fixture
def page(address):
    with chromium() as driver:
        driver.set_window_size(500, 900)
        driver.get(address)
        wait(driver, lambda _: driver.execute_script("return document.body.dataset.ready"))
        yield driver
        assert driver.find_element(By.ID, "error").text == ""
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def wait(page, condition):
    return WebDriverWait(page, 20, poll_frequency=0.05).until(condition)


def pixels(page, slot, which=0):
    """Returns the pixels of a slot's canvas: 0 the decoded image, 1 the chosen one."""
    script = """
        const canvas = document.querySelectorAll(arguments[0])[arguments[1]];
        return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""
    shown = page.execute_script(script, f"#slot-{slot} canvas", which)
    return np.array(shown).reshape(8, 8, 4)[..., :1]


def codes(page):
    return np.array([float(page.find_element(By.ID, f"latent-{i}").get_attribute("value")) for i in range(6)])


def shows(page, slot, expected):
    """Waits until a slot shows an image in [0, 1], within 1 / 255."""
    wait(page, lambda _: np.abs(pixels(page, slot) - 255 * np.asarray(expected)).max() <= 1)


def set_slider(page, latent, value):
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    page.execute_script(script, page.find_element(By.ID, f"latent-{latent}"), value)


def click(page, element):
    page.find_element(By.ID, element).click()


def test_it_starts_with_two_stored_images(page, growing_model, eight):
    assert page.find_element(By.ID, "about").text == "blobs, version 1, still growing"
    places = [heading.text for heading in page.find_elements(By.CSS_SELECTOR, ".rung h2")]
    assert places == ["Rung 3 the deepest", "Rung 2 fading in, 50 %", "Rung 1 locked: not part of the model yet"]
    for slot, image in ("A", eight[:1]), ("B", eight[1:2]):
        shows(page, slot, growing_model.reconstruct(image)[0])
        assert np.array_equal(pixels(page, slot, which=1), np.rint(255 * image[0]))
    np.testing.assert_allclose(codes(page), growing_model.encode(eight[:1])[0][0], atol=1e-5)
    assert len(page.find_elements(By.CSS_SELECTOR, "#gallery button")) == 8 + 5


def test_dragging_a_slider_changes_the_image(page, growing_model, eight):
    expected = np.array(growing_model.encode(eight[:1])[0])
    for value in np.linspace(-2, 2, 21):
        set_slider(page, 4, float(value))
    expected[0, 4] = 2
    shows(page, "A", growing_model.decode(expected)[0])
    assert page.find_element(By.ID, "value-4").text == "2.00"
    shows(page, "B", growing_model.reconstruct(eight[1:2])[0])
    click(page, "reset-2")
    shows(page, "A", growing_model.reconstruct(eight[:1])[0])


def test_one_rung_is_resampled_or_swapped(page, growing_model, eight):
    start = codes(page)
    click(page, "resample-3")
    wait(page, lambda _: np.all(codes(page)[:3] != start[:3]))
    assert np.array_equal(codes(page)[3:], start[3:])
    shows(page, "A", growing_model.decode(codes(page)[None])[0])
    click(page, "reset-3")
    click(page, "swap-2")
    a, b = (np.array(growing_model.encode(eight[i : i + 1])[0]) for i in (0, 1))
    a[0, 3:5], b[0, 3:5] = b[0, 3:5].copy(), a[0, 3:5].copy()
    shows(page, "A", growing_model.decode(a)[0])
    shows(page, "B", growing_model.decode(b)[0])
    click(page, "slot-B")
    np.testing.assert_allclose(codes(page), b[0], atol=1e-5)


def test_locked_rungs_cannot_be_moved(page):
    assert not page.find_element(By.ID, "latent-5").is_enabled()
    assert not page.find_element(By.ID, "resample-1").is_enabled()


def test_an_uploaded_image_is_encoded(page, growing_model, tmp_path):
    image = np.zeros((40, 60, 3), "uint8")
    image[:, 15:] = 255  # in the 40 x 40 center, the left eighth is dark
    Image.fromarray(image).save(tmp_path / "half.png")
    click(page, "slot-B")
    page.find_element(By.ID, "upload").send_keys(str(tmp_path / "half.png"))
    wait(page, lambda _: pixels(page, "B", which=1)[4, 0] < 60)
    chosen = pixels(page, "B", which=1)
    assert chosen[:, 0].max() < 60 < 200 < chosen[:, 1].min()
    assert chosen[:, 2:].min() == 255
    shows(page, "B", growing_model.reconstruct(chosen[None].astype("float32") / 255)[0])
    click(page, "invert")
    page.find_element(By.ID, "upload").send_keys(str(tmp_path / "half.png"))
    wait(page, lambda _: np.abs(pixels(page, "B", which=1) + chosen - 255).max() <= 1)


def test_transparent_pixels_become_white(page, tmp_path):
    image = np.zeros((8, 8, 4), "uint8")
    image[:, :4, 3] = 255  # black ink on the left, nothing on the right
    Image.fromarray(image).save(tmp_path / "ink.png")
    page.find_element(By.ID, "upload").send_keys(str(tmp_path / "ink.png"))
    wait(page, lambda _: pixels(page, "A", which=1)[:, 6].min() == 255)
    assert pixels(page, "A", which=1)[:, :3].max() == 0


def test_images_of_the_gallery_and_new_ones_can_be_chosen(page, growing_model, eight):
    gallery = page.find_elements(By.CSS_SELECTOR, "#gallery button")
    gallery[3].click()
    shows(page, "A", growing_model.reconstruct(eight[3:4])[0])
    click(page, "draw")
    wait(page, lambda _: len(page.find_elements(By.CSS_SELECTOR, "#gallery button")) == 21)


def test_errors_are_shown_and_go_away(page, tmp_path):
    (tmp_path / "note.png").write_text("no picture")
    page.find_element(By.ID, "upload").send_keys(str(tmp_path / "note.png"))
    wait(page, lambda _: "note.png is not an image" in page.find_element(By.ID, "error").text)
    click(page, "resample-3")
    wait(page, lambda _: page.find_element(By.ID, "error").text == "")


def test_the_last_choice_wins_over_a_slow_earlier_one(page, growing_model, eight):
    page.execute_script("""
        const answer = window.fetch;
        let calls = 0;
        window.fetch = async (...request) => {
            const late = calls++ === 0;
            const response = await answer(...request);
            if (late) await new Promise(resolve => setTimeout(resolve, 1000));
            window.done = calls;
            return response;
        }""")
    gallery = page.find_elements(By.CSS_SELECTOR, "#gallery button")
    gallery[2].click()
    gallery[3].click()
    shows(page, "A", growing_model.reconstruct(eight[3:4])[0])
    time.sleep(1.2)
    shows(page, "A", growing_model.reconstruct(eight[3:4])[0])
    np.testing.assert_allclose(codes(page), growing_model.encode(eight[3:4])[0][0], atol=1e-5)


def test_a_missing_server_and_a_new_version_are_reported(page):
    fail = "window.fetchOfPage = window.fetch; window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))"
    page.execute_script(fail)
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    click(page, "resample-2")
    message = wait(page, lambda _: page.find_element(By.ID, "error").text)
    assert message.startswith("The server does not answer. Is it still running at 127.0.0.1:")
    assert 0 <= page.find_element(By.ID, "error").rect["y"] - page.execute_script("return scrollY") < 800  # visible
    assert "stale" in page.find_element(By.CSS_SELECTOR, "#slot-A canvas").get_attribute("class")
    page.execute_script("window.fetch = window.fetchOfPage; model.version = 7")
    click(page, "resample-2")
    wait(page, lambda _: "Another version of the model is served now" in page.find_element(By.ID, "error").text)
    page.execute_script("model.version = 1")
    page.get_log("browser")  # the browser logs the 404 itself
    click(page, "slot-B")
    click(page, "reset-2")
    wait(page, lambda _: page.find_element(By.ID, "error").text == "")
    wait(page, lambda _: page.find_elements(By.CSS_SELECTOR, "canvas.stale") == [])  # A is redrawn too


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_window_size(width, 800)
    inner, content = page.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
    assert content <= inner
    for button in page.find_elements(By.CSS_SELECTOR, ".bar button, .sliders input"):
        assert button.size["height"] >= 40  # a finger's width
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    top = page.find_element(By.ID, "slots").rect["y"] - page.execute_script("return scrollY")
    assert 0 <= top < 800  # the pictures stay visible
