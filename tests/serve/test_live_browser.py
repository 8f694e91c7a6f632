"""The live page in Chromium, while a race runs in another process, until it is the report."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from playwright.sync_api import sync_playwright

from thalweg.report.numbers import NONE

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
RACE = """
import sys, time
from pathlib import Path
from thalweg import train
from thalweg.race import RaceConfig, parse_entrants, run_race
from thalweg.report import terrain, write_report

class Slow(train.Callback):
    def on_step(self, run, step, loss):
        if not Path(sys.argv[2]).exists():
            time.sleep(0.05)

def fit(*arguments, callbacks=(), **settings):
    return train.fit(*arguments, callbacks=[*callbacks, Slow()], **settings)

terrain.SIZE = 9
entrants = parse_entrants(["mine = adamw + linear", "<script>alert(1)</script> = sgd"])
run_race(
    RaceConfig("quadratic", entrants, Path(sys.argv[1]), trials=2, seeds=3, steps=60,
               target=0.01), fit=fit)
write_report(sys.argv[1])
"""
SERVE = "import sys; from thalweg.cli import main; main()"


@pytest.fixture
def process():
    """Return a function that starts a Python process, ended with the test."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.terminate()
        one.wait(30)
        one.stdout.close()


def test_a_race_is_watched_until_its_report(tmp_path, process):
    folder = tmp_path / "race"
    hurry = tmp_path / "hurry"
    racing = process(RACE, folder, hurry)
    while not (folder / "live").exists():
        assert racing.poll() is None
        time.sleep(0.05)
    serving = process(SERVE, "serve", folder, "--port", 0)
    address = serving.stdout.readline().split()[1]
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        path = path or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark")
        page.set_default_timeout(60_000)
        said, asked, done = [], [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        background = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(background) == "rgb(17, 22, 27)"
        page.locator("#theme").click()
        assert page.evaluate(background) == "rgb(252, 252, 250)"
        # What comes by events alone: the page is not loaded again until the end.
        page.evaluate("window.first = true")
        page.wait_for_selector(".under-way .panel")
        while page.locator("#part-hero .facts dd").count():
            text = page.locator("#part-hero .facts dd").first.text_content()
            if not done or done[-1] != text:
                done.append(text)
            if len(done) > 2 and page.locator("#part-board .strong").first.text_content() != NONE:
                break
            page.wait_for_timeout(100)
        assert page.evaluate("window.first") is True
        assert page.locator("#part-board tbody tr").count() == 2
        page.wait_for_function("document.getElementById('curve-metric').data.length > 0")
        drawn = page.evaluate("document.getElementById('curve-metric').data[0].x")
        assert drawn[-1] <= 60
        hurry.touch()
        # The race ends, and the page is the report.
        page.wait_for_selector("#landscape", state="attached", timeout=90_000)
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        assert page.evaluate("window.first || false") is False
        assert page.locator(".board tbody tr").count() == 2
        assert page.evaluate(background) == "rgb(252, 252, 250)"  # the reader's choice stays
        browser.close()
    assert said == []
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
