"""Names that would be elements, attributes, scripts or another order of letters.

They stand in every field that people or programs may set and the console shows. In
the browser each attribute of each element is looked at.
"""
import contextlib
import urllib.parse

from browsing import Tab
from pages import PAGES
from world import Api, Mistake, Project, Receiver, until

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


# Pages of one thing, of which each name has its own; all others have all names.
OF_ONE = ("{event}", "{well}", "{failing}", "{off}", "{meter}", "{type}")


def run(program, browser):
    # What a receiver answers is shown too.
    failing = Receiver(500)
    try:
        project = Project(program, NAMES[0][:100])
        planted = [plant(program, project, name, number, failing) for number, name in enumerate(NAMES)]
        found = look(browser.signed_in(program.admin_key), project, planted)
        found += asked(program, browser)
        found += led_away(program, browser)
        if found:
            raise Mistake("\n".join(found))
    finally:
        failing.close()


def look(context, project, planted):
    paths = [path.replace("invoice.paid", "{type}") for path in PAGES.values()]
    addresses = [project.path + path.format(**made) for made in planted for path in paths
                 if made is planted[0] or any(part in path for part in OF_ONE)]
    tab, found, seen = Tab(context), [], ""
    for address in [*addresses, "/console/projects"]:
        tab.page.set_viewport_size({"width": 1280, "height": 800})
        tab.go(address)
        found += faults(tab, f"hostile, {address}")
        seen += tab.page.locator("body").inner_text()
        tab.page.set_viewport_size({"width": 390, "height": 844})
        found += [f"hostile, {address}, narrow: wider than the window: {each}" for each in tab.over()]
    context.close()
    # As they were written: neither lost nor written twice in HTML's words.
    return found + [f"hostile: {name!r} stands on no page as it is" for name in NAMES if name not in seen]


def faults(tab, where):
    found = tab.page.evaluate(LOOK)
    found += tab.page.evaluate("window.refusals")
    found += tab.faults
    tab.faults.clear()
    return [f"{where}: {each}" for each in found + [f"wider than the window: {each}" for each in tab.over()]]


def plant(program, project, name, number, failing):
    """The name in all that the API lets be called so; where it is, by what it is."""
    api, admin = project.api, Api(program.url, program.admin_key)
    made = {"type": f"planted.{number}"}

    def longest(write):
        """The longest of it that is taken; a name that is refused at any length has no place there."""
        for length in LENGTHS:
            with contextlib.suppress(Mistake):
                return write((name + " " + "w" * length)[:length])
        return None

    def endpoint(text, **more):
        return api("POST", "/v1/endpoints", {
            "url": failing.url + "/" + urllib.parse.quote(name), "description": text, **more})["id"]
    made["failing"] = longest(endpoint)
    made["well"] = longest(lambda text: endpoint(name, metadata={name[:40]: text}, headers={"x-planted": "1"}))
    made["off"] = longest(lambda text: endpoint(name, tenant=text, state="disabled")) or endpoint(name, state="disabled")
    longest(lambda text: endpoint(name, event_types=[text]))
    longest(lambda text: api("POST", "/v1/event-types", {
        "name": made["type"], "description": text, "metadata": {name[:40]: name}, "validate": "warn",
        "schema": {"title": name, "required": ["x"], "properties": {name: {"description": text, "examples": [text]}}}}))
    made["meter"] = longest(lambda text: api("POST", "/v1/meters", {
        "name": f"{number} {text}"[:len(text)], "description": name, "event_type": "*", "aggregation": "count",
        "group_by": ["/group"]}))["id"]
    longest(lambda text: admin("POST", f"/v1/projects/{project.id}/keys", {"name": text, "scopes": ["events:read"]}))
    if number:
        longest(lambda text: admin("POST", "/v1/projects", {"name": text}))

    def event(**attributes):
        body = {"type": made["type"], "data": {name: name, "group": name, "long": name + "w" * 10_000}}
        return api("POST", "/v1/events", {**body, **attributes})["id"]
    made["event"] = event(subject=name)
    for attribute in ("subject", "tenant", "source", "id", "type"):
        longest(lambda text: event(**{attribute: text}))
    made["recovery"] = api("POST", f"/v1/endpoints/{made['well']}/replay-missing", {"since": "2020-01-01T00:00:00Z"})["id"]
    until("an attempt that failed", lambda: failing.arrived(made["event"], 500))
    return made


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
