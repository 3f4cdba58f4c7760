"""Names that would be elements, attributes, scripts or another order of letters.

They stand in every field that people or programs may set and the console shows. In
the browser each attribute of each element is looked at.
"""
import contextlib
import urllib.parse

from browsing import Tab
from pages import PAGES
from world import Mistake, Project, Receiver, until

# Whatever becomes an element or attribute of one of these can be found by its name.
NAMES = [
    "\"><x-planted data-planted=1></x-planted><img src=/planted onerror=\"window.planted=1;alert(1)\">",
    "' onmouseover='window.planted=1' data-planted='1' x='",
    "</title></textarea></script></style><script>window.planted=1;alert(2)</script>",
    "{{7*7}}${7*7}<svg onload=window.planted=1 data-planted=1>&lt;b&gt;&#x3c;i&#x3e;",
    "\u202egnp.exe \u2066abc\u2069 \u200b\u0301\u0301 👩‍👩‍👧‍👦 مرحبا שלום",
    "javascript:window.planted=1",
]
# What is taken up to some length is tried with the longest that is taken.
LENGTHS = [10_000, 4_000, 1_000, 500, 256, 200, 100, 40]

# Of each page: what should not be there. Texts of the names that run from right to left
# are to be kept apart from what stands beside them.
LOOK = r"""() => {
  const found = [];
  if (window.planted !== undefined) found.push("a script of a name ran");
  const named = /planted|\u202e|7\*7/;
  const texts = new Set(["title", "value", "data-copy", "aria-label", "placeholder", "content", "alt", "data-noun",
    "label", "datetime"]);
  const addresses = new Set(["href", "src", "action", "formaction", "data-src", "poster", "srcset", "xlink:href"]);
  for (const element of document.querySelectorAll("*")) {
    const where = `${element.outerHTML.slice(0, 200)}`;
    if (/^(x-planted|iframe|object|embed|base|style)$/.test(element.localName)) found.push(`element: ${where}`);
    if (element.localName === "script" && !element.src.startsWith(location.origin + "/assets/")) found.push(`script: ${where}`);
    for (const { name, value } of element.attributes) {
      if (name.startsWith("on") || name === "style" || name === "srcdoc" || name === "data-planted") found.push(`attribute ${name}: ${where}`);
      else if (addresses.has(name)) {
        const address = new URL(value, location.href);
        if (!["http:", "https:", "data:"].includes(address.protocol)) found.push(`address ${name}: ${where}`);
        if (element.localName !== "a" && address.origin !== location.origin && address.protocol !== "data:") found.push(`foreign ${name}: ${where}`);
      } else if (named.test(value) && !texts.has(name)) found.push(`attribute ${name}: ${where}`);
    }
  }
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const parent = walk.currentNode.parentElement;
    if (walk.currentNode.data.includes("\u202e") && !parent.closest("bdi, pre, code, textarea, option, [dir=auto]"))
      found.push(`not kept apart: ${parent.outerHTML.slice(0, 200)}`);
  }
  return found;
}"""


def run(program, browser):
    # What a receiver answers is shown too.
    failing = Receiver(500)
    try:
        found = []
        for name in NAMES:
            found += look(program, browser, name, failing)
        found += asked(program, browser)
        found += led_away(program, browser)
        if found:
            raise Mistake("\n".join(found))
    finally:
        failing.close()


def look(program, browser, name, failing):
    project, made = plant(program, name, failing)
    found, shown = [], False
    for size in ("wide", "narrow"):
        tab = Tab(browser.signed_in(program.admin_key, size))
        for page, path in {**PAGES, "projects": None}.items():
            address = project.path + path.format(**made) if path is not None else "/console/projects"
            tab.go(address)
            found += faults(tab, f"hostile, {page}, {size}, {name[:24]!r}")
            # As it was written: neither lost nor written twice in HTML's words.
            shown |= name in tab.page.locator("body").inner_text()
        tab.page.context.close()
    if not shown:
        found.append(f"hostile: {name!r} stands on no page as it is")
    return found


def faults(tab, where):
    found = tab.page.evaluate(LOOK)
    found += tab.page.evaluate("window.refusals")
    found += tab.faults
    tab.faults.clear()
    over = tab.over()
    return [f"{where}: {each}" for each in found + [f"wider than the window: {each}" for each in over]]


def plant(program, name, failing):
    """A project with the name in all that the API lets be called so."""
    project = Project(program, name[:100])
    api = project.api
    made = {}

    def longest(write):
        """The longest of it that is taken; a name that is refused at any length has no place there."""
        for length in LENGTHS:
            text = (name + " " + "w" * length)[:length]
            with contextlib.suppress(Mistake):
                return write(text)
        return None

    def endpoint(text, **more):
        return api("POST", "/v1/endpoints", {
            "url": failing.url + "/" + urllib.parse.quote(name), "description": text, **more})["id"]
    made["failing"] = longest(endpoint)
    made["well"] = longest(lambda text: endpoint(name, metadata={name[:40]: text}, headers={"x-planted": "1"}))
    made["off"] = longest(lambda text: endpoint(name, tenant=text, state="disabled")) or endpoint(name, state="disabled")
    longest(lambda text: endpoint(name, event_types=[text]))
    longest(lambda text: api("POST", "/v1/event-types", {
        "name": "invoice.paid", "description": text, "metadata": {name[:40]: name},
        "schema": {"title": name, "properties": {name: {"description": text, "examples": [text]}}}}))
    made["meter"] = longest(lambda text: api("POST", "/v1/meters", {
        "name": text, "description": name, "event_type": "*", "aggregation": "count", "group_by": ["/group"]}))["id"]
    admin = type(api)(program.url, program.admin_key)
    longest(lambda text: admin("POST", f"/v1/projects/{project.id}/keys", {"name": text, "scopes": ["events:read"]}))

    def event(**attributes):
        body = {"type": "invoice.paid", "data": {name: name, "group": name, "long": name + "w" * 10_000}}
        return api("POST", "/v1/events", {**body, **attributes})["id"]
    made["event"] = event(subject=name)
    for attribute in ("subject", "tenant", "source", "id", "type"):
        longest(lambda text: event(**{attribute: text}))
    made["recovery"] = api("POST", f"/v1/endpoints/{made['well']}/replay-missing", {"since": "2020-01-01T00:00:00Z"})["id"]
    until("an attempt that failed", lambda: failing.arrived(made["event"], 500))
    return project, made


def asked(program, browser):
    """What stands in an address or a form is text as well, refused or not."""
    project = Project(program, "hostile, asked")
    tab, found = Tab(browser.signed_in(program.admin_key)), []
    tab.expected |= {400, 404, 409, 422}
    for name in NAMES:
        text = urllib.parse.quote(name)
        for path in [f"/events?type={text}&tenant={text}&subject={text}&since={text}", f"/events?cursor={text}",
                     f"/deliveries?state={text}&endpoint_id={text}", f"/find?q={text}", f"/send?type={text}",
                     f"/events/{text}", f"/endpoints/{text}", f"/event-types/{text}", f"/meters/{text}",
                     f"/keys?done={text}", f"/{text}"]:
            tab.page.goto(project.path + path)
            tab.origin = program.url
            found += faults(tab, f"hostile, {path[:40]}")
        for path, fields in {"/endpoints/new": {"url": name, "description": name, "tenant": name},
                             "/meters/new": {"name": name, "event_type": name, "value": name},
                             "/event-types/new": {"name": name, "description": name},
                             "/send": {"type": name, "tenant": name, "data": name}}.items():
            tab.go(project.path + path)
            for field, value in fields.items():
                place = tab.page.locator(f"main [name={field}]").first
                if place.count():
                    place.fill(value)
            with tab.page.expect_navigation():
                tab.page.locator("main form[method=post] button.primary").first.click()
            found += faults(tab, f"hostile, a refused form of {path}")
    tab.page.context.close()
    return found


def led_away(program, browser):
    """Signing in leads to a page of the console, whatever the address says."""
    found = []
    for place in ["https://planted.invalid/", "//planted.invalid/", "/\\planted.invalid", "javascript:alert(1)",
                  "/%09/planted.invalid", "https:planted.invalid"]:
        context = browser.context()
        tab = Tab(context)
        tab.go("/console/sign-in?next=" + urllib.parse.quote(place))
        tab.page.locator("input[name=key]").fill(program.admin_key)
        with tab.page.expect_navigation():
            tab.page.locator("form:has(input[name=key]) button").click()
        found += [f"hostile, next={place}: {each}" for each in tab.faults]
        if not tab.page.url.startswith(program.url + "/console"):
            found.append(f"hostile: next={place} led to {tab.page.url}")
        context.close()
    return found
