"""Open the built documentation in a browser, as readers do, wide and on a phone.

Usage: ``python .ci/check_pages.py docs/_build/html [--pictures FOLDER]``. Needs playwright and a
Chromium; ``$CHROMIUM`` names it, ``/usr/bin/chromium`` by default.
"""

import argparse
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

WIDTHS = {"wide": 1280, "phone": 390}
SEARCHES = {"ADSExplainer": "ADSExplainer", "GridSearchCV": "GridSearchCV"}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
ARGUMENTS += ["--disable-component-update", "--no-first-run"]
NOTICEABLE = 8  # difference of colours, of 255
PATIENCE = 120_000  # milliseconds, for machines that are busy with other things
TO_LOOK_AT = ["index", "getting_started", "paper", "benchmarks", "user_guide/ads"]


class Handler(SimpleHTTPRequestHandler):
    """Serve files without a line per request."""

    def log_message(self, *arguments):
        """Say nothing."""

    def copyfile(self, source, outputfile):
        """Send a file; whoever leaves the page before it has arrived does not want it."""
        with suppress(BrokenPipeError, ConnectionResetError):
            super().copyfile(source, outputfile)


def main():
    """Check every page; exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, help="where to put screenshots of a few pages")
    args = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=args.folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        wrong = check_all(browser, address, args.folder)
        wrong += check_search(browser, address)
        wrong += check_margins(args.folder / "_images")
        if args.pictures:
            take_pictures(browser, address, args.pictures)
        browser.close()
    for line in wrong:
        print(line)
    print(f"{len(wrong)} faults")
    sys.exit(bool(wrong))


def check_all(browser, address, folder):
    """Return what is wrong with the pages: errors, missing pictures, sideways scrolling."""
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    pages = [page for page in pages if not page.startswith("_")]
    print(f"{len(pages)} pages")
    wrong = []
    for name, width in WIDTHS.items():
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.set_default_timeout(PATIENCE)
        faults = []
        # Pages are complete without a network.
        tab.route(lambda url: not url.startswith(address), refuser(faults))
        tab.on("pageerror", lambda error, faults=faults: faults.append(f"error: {error}"))
        tab.on("response", lambda response, faults=faults: note_failure(response, faults))
        for page in pages:
            faults.clear()
            tab.goto(f"{address}/{page}", wait_until="load")
            found = list(faults)
            found += [f"picture is missing: {source}" for source in tab.evaluate(MISSING_PICTURES)]
            found += [f"no alternative text: {source}" for source in tab.evaluate(SILENT_PICTURES)]
            found += tab.evaluate(UNSET_EQUATIONS)
            overflow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if overflow > 0:
                found.append(f"{overflow} pixels too wide: {tab.evaluate(WIDEST)}")
            wrong += [f"{page} ({name}): {fault}" for fault in found]
        tab.close()
    return wrong


def refuser(faults):
    """Return what fetches nothing from elsewhere, and remembers what was asked for."""

    def refuse(route):
        faults.append(f"asks for {route.request.url}")
        route.abort()

    return refuse


def note_failure(response, faults):
    """Remember what the server did not have."""
    if response.status >= 400:
        faults.append(f"{response.status}: {response.url}")


MISSING_PICTURES = """() => [...document.images]
    .filter(image => image.loading !== "lazy" && !(image.complete && image.naturalWidth))
    .map(image => image.src)"""
SILENT_PICTURES = """() => [...document.images]
    .filter(image => !image.hasAttribute("alt")).map(image => image.src)"""
UNSET_EQUATIONS = """async () => {
    const sources = [...document.querySelectorAll("span.math, div.math")];
    if (!sources.length) return [];
    if (!window.MathJax?.startup) return ["MathJax is missing"];
    await window.MathJax.startup.promise;
    return sources
        .filter(source => !source.querySelector("mjx-container")
            || source.querySelector("mjx-merror"))
        .map(source => "equation is not set: " + source.textContent);
}"""
WIDEST = """() => [...document.querySelectorAll("main *")]
    .filter(element => element.getBoundingClientRect().right > window.innerWidth + 1)
    .slice(0, 3).map(element => element.tagName + "." + element.className).join(", ")"""


def check_search(browser, address):
    """Return which words the search page does not find."""
    wrong = []
    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.route(lambda url: not url.startswith(address), lambda route: route.abort())
    for word, title in SEARCHES.items():
        tab.goto(f"{address}/search.html?q={word}")
        try:
            tab.wait_for_selector("#search-results li", timeout=PATIENCE)
            found = tab.inner_text("#search-results")
        except Exception as error:  # playwright's own, whatever went wrong
            found = str(error)
        if title not in found:
            wrong.append(f"search for {word} finds nothing: {found[:200]}")
    tab.close()
    return wrong


def check_margins(folder):
    """Return which pictures of the gallery are cut: all have an empty margin."""
    wrong = []
    for path in sorted(folder.glob("sphx_glr_plot_*_0*.png")):
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        edges = picture[0], picture[-1], picture[:, 0], picture[:, -1]
        if max(np.ptp(edge, axis=0).max() for edge in edges) > NOTICEABLE:
            wrong.append(f"{path.name} is cut at an edge")
    return wrong


def take_pictures(browser, address, folder):
    """Photograph a few pages, light and dark, wide and narrow."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for name, width in WIDTHS.items():
            size = {"width": width, "height": 900}
            tab = browser.new_page(viewport=size, color_scheme=scheme)
            tab.set_default_timeout(PATIENCE)
            for page in TO_LOOK_AT:
                tab.goto(f"{address}/{page}.html")
                file = f"{page.replace('/', '-')}-{scheme}-{name}.png"
                tab.screenshot(path=folder / file, full_page=True)
            tab.close()


if __name__ == "__main__":
    main()
