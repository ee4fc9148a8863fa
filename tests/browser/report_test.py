"""Reports in headless Chromium: usage report_test.py TORPOR RENDER_PROFILE SOURCE_DIR OUT_DIR [unittest options].

Two pages: of a real run on a small model, and of a profile with 32 layers that nobody measured. Screenshots of both are
left in OUT_DIR. Exit code 77, with the reason, where the browser or selenium is absent.
"""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import unittest

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError as error:
    print(f"SKIPPED: {error}; scripts/setup test installs it")
    sys.exit(77)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    print("SKIPPED: needs Debian's chromium and chromium-driver; scripts/setup test installs them")
    sys.exit(77)

TORPOR, RENDER, SOURCE, OUT = (pathlib.Path(a).resolve() for a in sys.argv[1:5])

# A canvas counts as drawn when it has a few colours, not all of them the background.
COLOURS = """
const c = arguments[0], p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Set();
for (let i = 0; i < p.length; i += 4) seen.add((p[i] << 24) ^ (p[i+1] << 16) ^ (p[i+2] << 8) ^ p[i+3]);
return seen.size;
"""
# The labels of the horizontal axis that touch their neighbours.
CROWDED = """
  const axis = Chart.getChart(arguments[0]).scales.x, context = axis.ctx;
  const size = axis.options.ticks.font && axis.options.ticks.font.size || Chart.defaults.font.size;
  context.save();
  context.font = `${size}px ${Chart.defaults.font.family}`;
  const labels = axis.ticks.map((tick, i) => ({ text: tick.label, at: axis.getPixelForTick(i), width: context.measureText(tick.label).width }));
  context.restore();
  return labels.filter((l, i) => i > 0 && l.text && labels[i - 1].text && l.at - l.width / 2 < labels[i - 1].at + labels[i - 1].width / 2 + 2)
      .map((l) => l.text);"""


def open_browser(width=1280, arguments=()):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},1000", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        OUT.mkdir(parents=True, exist_ok=True)
        golden = SOURCE / "tests" / "golden"
        subprocess.run([TORPOR, "profile", golden / "apps" / "tiny", "--text", golden / "apps" / "text.txt", "-q", "-o",
                        OUT / "tiny"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([RENDER, golden / "report" / "profile_sample.json", OUT / "sample.html"], check=True)
        cls.pages = {"tiny": (OUT / "tiny" / "report.html").as_uri(), "sample": (OUT / "sample.html").as_uri()}
        cls.browser = open_browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()

    def open(self, name):
        b = self.browser
        b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        b.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        b.get_log("performance"), b.get_log("browser")
        b.get(self.pages[name])
        time.sleep(0.5)
        return b

    def scroll_through(self, b):
        """Charts are drawn when they come into view: in the frame after the one that shows them."""
        b.execute_async_script("""
const done = arguments[0], frame = () => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)));
(async () => {
  for (const figure of document.querySelectorAll('figure.chart')) {
    figure.scrollIntoView({block: 'center', behavior: 'instant'});
    await frame();
  }
  scrollTo({top: 0, behavior: 'instant'});
  await frame();
  done();
})();
""")

    def shoot(self, b, name):
        picture = b.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (OUT / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def whole_page(self, b, name):
        size = b.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        picture = b.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {
            "x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}})
        (OUT / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def test_every_chart_draws_without_errors_or_network(self):
        for name in self.pages:
            b = self.open(name)
            self.scroll_through(b)
            canvases = [c for c in b.find_elements(By.CSS_SELECTOR, "figure.chart canvas") if c.is_displayed()]
            self.assertGreater(len(canvases), 6, name)
            for canvas in canvases:
                self.assertGreater(b.execute_script(COLOURS, canvas), 3, canvas.get_attribute("aria-label"))
            self.whole_page(b, name)
            problems = [e for e in b.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
            self.assertEqual(problems, [], name)
            requests = [json.loads(e["message"])["message"] for e in b.get_log("performance")]
            urls = [m["params"]["request"]["url"] for m in requests if m["method"] == "Network.requestWillBeSent"]
            self.assertTrue(urls)
            self.assertEqual([u for u in urls if not u.startswith(("file:", "data:"))], [], name)

    def test_every_chart_has_a_table_and_they_hold_the_profile(self):
        b = self.open("tiny")
        for figure in b.find_elements(By.CSS_SELECTOR, "figure.chart"):
            self.assertTrue(figure.find_elements(By.CSS_SELECTOR, "details table tbody tr"), figure.text[:80])
        profile = json.loads((OUT / "tiny" / "profile.json").read_text())
        cells = b.execute_script("return [...document.querySelectorAll('td[data-v]')].map(c => Number(c.dataset.v))")
        wanted = [p["sparsity"] for p in profile["curve"]]
        wanted += [v for l in profile["layers"] for v in (l["density"], l["threshold"])]
        for value in wanted:
            self.assertTrue(any(abs(c - value) <= 1e-9 * max(1, abs(value)) for c in cells), value)

    def test_headline_says_what_the_profile_says(self):
        b = self.open("tiny")
        profile = json.loads((OUT / "tiny" / "profile.json").read_text())
        text = b.find_element(By.TAG_NAME, "body").text.replace("\u00a0", " ")
        self.assertIn(f"{100 * profile['chosen']['sparsity']:.1f} %", text)
        self.assertIn("budget", text)

    def test_dark_mode_follows_the_system_and_the_button(self):
        b = self.open("tiny")
        colour = "return getComputedStyle(document.body).backgroundColor"
        light = b.execute_script(colour)
        b.execute_cdp_cmd("Emulation.setEmulatedMedia",
                          {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        time.sleep(0.4)
        dark = b.execute_script(colour)
        self.assertNotEqual(light, dark)
        self.scroll_through(b)
        self.whole_page(b, "tiny-dark")
        b.find_element(By.ID, "theme").click()
        time.sleep(0.4)
        self.assertEqual(b.execute_script(colour), light)
        b.execute_script("localStorage.clear()")

    def test_everything_can_be_reached_and_used_by_keyboard(self):
        b = self.open("tiny")
        seen, body = [], b.find_element(By.TAG_NAME, "body")
        for _ in range(60):
            b.switch_to.active_element.send_keys(Keys.TAB)
            active = b.switch_to.active_element
            seen.append((active.tag_name, active.get_attribute("id")))
            if active.tag_name == "summary":
                outline = b.execute_script(
                    "const s = getComputedStyle(arguments[0]); return s.outlineStyle + s.boxShadow", active)
                self.assertNotEqual(outline, "nonenone", "focus is not to be seen")
                active.send_keys(Keys.ENTER)
                self.assertTrue(active.find_element(By.XPATH, "..").get_attribute("open"))
                break
        self.assertIn(("button", "theme"), seen)
        self.assertIn("a", [tag for tag, _ in seen])
        self.assertEqual(seen[-1][0], "summary", "no table can be opened by keyboard")
        self.assertIsNotNone(body)

    def test_sorting_a_table_orders_its_rows(self):
        b = self.open("sample")
        table = next(t for t in b.find_elements(By.CSS_SELECTOR, "main table")
                     if len(t.find_elements(By.CSS_SELECTOR, "tbody tr")) == 32 and t.is_displayed())
        button = table.find_elements(By.CSS_SELECTOR, "thead th button")[2]
        values = lambda: b.execute_script(
            "return [...arguments[0].tBodies[0].rows].map(r => Number(r.cells[2].dataset.v))", table)
        b.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        button.click()
        self.assertEqual(values(), sorted(values()))
        button.click()
        self.assertEqual(values(), sorted(values(), reverse=True))

    def test_narrow_screens_need_no_sideways_scrolling(self):
        b = self.open("sample")
        b.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                          {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True})
        b.refresh()
        time.sleep(0.5)
        self.scroll_through(b)
        wide = b.execute_script("return document.documentElement.scrollWidth")
        self.whole_page(b, "sample-400")
        self.assertLessEqual(wide, 400)

    def test_prints_with_its_charts(self):
        b = self.open("tiny")
        b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        time.sleep(0.6)
        for canvas in b.find_elements(By.CSS_SELECTOR, "figure.chart canvas"):
            if canvas.is_displayed():  # none was scrolled to: printing draws them all
                self.assertGreater(b.execute_script(COLOURS, canvas), 3, canvas.get_attribute("aria-label"))
                self.assertEqual(b.execute_script(CROWDED, canvas), [], canvas.get_attribute("aria-label"))
        self.assertFalse([e.text for e in b.find_elements(By.CSS_SELECTOR, "select, #theme, summary") if e.is_displayed()])
        b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        pdf = base64.b64decode(b.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        (OUT / "tiny.pdf").write_bytes(pdf)
        self.assertTrue(pdf.startswith(b"%PDF"))
        self.assertGreater(len(pdf), 100_000)

    def test_without_scripts_the_numbers_are_there(self):
        b = self.open("tiny")
        b.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        try:
            b.refresh()
            time.sleep(0.3)
            text = b.find_element(By.TAG_NAME, "body").text
            self.assertIn("neurons", text)
            self.assertTrue(b.find_elements(By.CSS_SELECTOR, "details table"))
        finally:
            b.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]])
