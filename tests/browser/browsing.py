"""The browser, and what is held of every page it opens."""
import os
import pathlib
import re
import sys
import urllib.parse

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import sync_playwright

from world import WAIT_MAX, Mistake

SCREENSHOTS = pathlib.Path(os.environ["SCREENSHOTS"])
WIDTHS = {"wide": (1280, 800), "narrow": (390, 844)}
HTML_BYTES_MAX = 100_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CONTRAST = ["color-contrast"]

# Where it asks for something, the page is told by the browser; this only remembers.
WATCH = """
window.refusals = [];
document.addEventListener("securitypolicyviolation", (event) =>
  refusals.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`));
"""
# Elements that reach over the window's right edge, unless something around them scrolls.
OVER = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const scrolls = (element) => element && element !== document.body
    && (getComputedStyle(element).overflowX !== "visible" || scrolls(element.parentElement));
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > width + 0.5
      && !scrolls(element.parentElement))
    .slice(0, 5)
    .map((element) => element.outerHTML.slice(0, 160));
}"""
AXE = """async (options) => (await axe.run(document, options)).violations.flatMap((violation) =>
  violation.nodes.map((node) => `${violation.id}: ${node.target.join(" ")}: ${node.failureSummary.split("\\n")[1] ?? ""} `
    + node.html.slice(0, 160)))"""


class Chromium:
    """Debian's Chromium, without a screen."""

    def __init__(self, url):
        self.url = url
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"],
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        self.state = None

    def context(self, size="wide", **options):
        """A person's browser: its own cookies, at one size."""
        width, height = WIDTHS[size]
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, base_url=self.url, locale="en-GB",
            timezone_id="Europe/Berlin", reduced_motion="reduce", **options)
        context.set_default_timeout(WAIT_MAX * 1000)
        context.add_init_script(WATCH)
        return context

    def signed_in(self, key, size="wide", **options):
        """A context with a session of `key`; all that ask share one."""
        if self.state is None:
            context = self.context()
            tab = Tab(context)
            tab.go("/console/sign-in")
            tab.page.locator("input[name=key]").fill(key)
            tab.page.locator("form:has(input[name=key]) button").click()
            tab.page.wait_for_url(lambda url: "/sign-in" not in url)
            tab.close()
            self.state = context.storage_state()
            context.close()
        return self.context(size, storage_state=self.state, **options)

    def picture_of_failure(self, name):
        """What every open page shows; closes them."""
        for context in self.browser.contexts:
            for number, page in enumerate(context.pages):
                path = SCREENSHOTS / f"failed-{name}-{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=path, full_page=True)
                print(f"{page.url}: {path}", file=sys.stderr)
            context.close()

    def close(self):
        self.browser.close()
        self.playwright.stop()


class Tab:
    """A page whose every message, refusal and foreign request is remembered."""

    def __init__(self, context):
        self.page = context.new_page()
        self.origin = None
        self.faults, self.requests = [], []
        # Answers with these statuses are what a case is about.
        self.expected = {200, 303, 304}
        page = self.page
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("dialog", self._asked)
        page.on("request", self._asks)

    def _said(self, message):
        if message.type not in ("error", "warning"):
            return
        # A field that says it cannot show what the address asks for does as it should.
        if message.text.startswith("The specified value"):
            return
        status = re.search(r"status of (\d+)", message.text)
        if not (status and int(status[1]) in self.expected):
            self.faults.append(f"console: {message.text}")

    def _asked(self, dialog):
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asks(self, request):
        self.requests.append(request)
        address = urllib.parse.urlsplit(request.url)
        origin = f"{address.scheme}://{address.netloc}"
        if self.origin and address.scheme != "data" and origin != self.origin:
            self.faults.append(f"asked another origin: {request.url}")

    def go(self, path, status=200):
        """Opens an address of the console, which answers `status`."""
        self.expected.add(status)
        answer = self.page.goto(path, wait_until="load")
        self.origin = self.origin or self.page.evaluate("location.origin")
        if answer.status != status:
            raise Mistake(f"{path}: answered {answer.status} in place of {status}: "
                          f"{self.page.locator('main').first.inner_text()[:400]!r}")
        return answer

    def picture(self, name):
        """A screenshot of the whole page; its path."""
        path = SCREENSHOTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)
        return path

    def check(self, where, rules=RULES):
        """What is wrong with the page as it is: messages, refusals, axe, what runs over."""
        found = self.faults[:]
        self.faults.clear()
        if self.page.evaluate("typeof window.refusals") == "object":
            found += [f"refused by the policy: {each}" for each in self.page.evaluate("refusals")]
        found += [f"wider than the window: {each}" for each in self.over()]
        found += [f"axe: {each}" for each in self.axe(rules)]
        return [f"{where}: {each}" for each in found]

    def over(self):
        """What reaches over the window's edge."""
        return self.page.evaluate(OVER)

    def axe(self, rules):
        if self.page.evaluate("typeof window.axe") == "undefined":
            self.page.evaluate(AXE_SCRIPT)
        kind = "rule" if rules == CONTRAST else "tag"
        return self.page.evaluate(AXE, {"runOnly": {"type": kind, "values": rules}, "resultTypes": ["violations"]})

    def require_clean(self, where):
        if found := self.check(where):
            raise Mistake("\n".join(found))

    def close(self):
        self.page.close()


def shape(path):
    """An address without its ids and what is asked: which page it is."""
    address = urllib.parse.urlsplit(path)
    bare = re.sub(r"/[a-z]+_[0-9a-z]{16,}", "/*", address.path)
    bare = re.sub(r"/event-types/(?!new$)[^/]+", "/event-types/*", bare)
    names = sorted(name for name, _ in urllib.parse.parse_qsl(address.query, keep_blank_values=True))
    return bare + ("?" + "&".join(names) if names else "")

