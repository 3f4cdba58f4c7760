"""Every page at both widths, light and dark."""
import re

from browsing import HTML_BYTES_MAX, RULES, Tab, shape
from data import Furnished
from world import Mistake, Project, Receiver

# Those that the console cannot be without; all others are found by their links.
PAGES = {
    "overview": "", "events": "/events", "event": "/events/{event}", "send": "/send",
    "send-invoice": "/send?type=invoice.paid", "deliveries": "/deliveries", "endpoints": "/endpoints",
    "endpoint": "/endpoints/{failing}", "endpoint-off": "/endpoints/{off}", "endpoint-new": "/endpoints/new",
    "endpoint-edit": "/endpoints/{well}/edit", "recover": "/endpoints/{failing}/recover",
    "event-types": "/event-types", "event-type": "/event-types/invoice.paid", "event-type-new": "/event-types/new",
    "meters": "/meters", "meter": "/meters/{meter}", "meter-new": "/meters/new", "recoveries": "/recoveries",
    "recovery": "/recoveries/{recovery}", "keys": "/keys", "key-new": "/keys/new", "audit-log": "/audit-log",
    "settings": "/settings",
}
EMPTY = ["", "/events", "/deliveries", "/endpoints", "/event-types", "/meters", "/recoveries"]
# A page that is found by a link beyond these is looked at too, once.
FOUND_MAX = 60
ASSETS_BYTES_MAX = 40_000


def run(program, browser):
    well, failing = Receiver(200), Receiver(503)
    try:
        project = Project(program, "pages")
        made = Furnished(project, well, failing)
        addresses = {name: project.path + path.format(**vars(made)) for name, path in PAGES.items()}
        bare = Project(program, "pages, empty")
        addresses |= {"empty" + path.replace("/", "-"): bare.path + path for path in EMPTY}
        addresses |= {"projects": "/console/projects"}
        found = []
        for size in ("wide", "narrow"):
            context = browser.signed_in(program.admin_key, size)
            for name, address in addresses.items():
                found += look(context, name, address, size)
            found += gone(context, project, size)
            context.close()
        found += sign_in(browser)
        found += linked(browser.signed_in(program.admin_key), addresses, project)
        found += assets(browser.signed_in(program.admin_key), project)
        if found:
            raise Mistake("\n".join(found))
    finally:
        well.close()
        failing.close()


def look(context, name, address, size):
    """One page at one width, in light and in dark."""
    tab = Tab(context)
    try:
        answer = tab.go(address)
        found = []
        if size == "wide" and len(answer.body()) > HTML_BYTES_MAX:
            found.append(f"{name}: {len(answer.body())} bytes of HTML, over {HTML_BYTES_MAX}")
        tab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
        found += noted(tab, name, size, "light", RULES)
        tab.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        # Structure is as it was; colours are not.
        return found + noted(tab, name, size, "dark", ["color-contrast"])
    except Mistake as mistake:
        return [f"{name}, {size}: {mistake}"]
    finally:
        tab.close()


def noted(tab, name, size, colours, rules):
    picture = tab.picture(f"{name}-{size}-{colours}")
    return [f"{each} ({picture})" for each in tab.check(f"{name}, {size}, {colours}", rules)]


def gone(context, project, size):
    """A page that is not there says so in the console's own frame."""
    tab = Tab(context)
    try:
        tab.go(f"{project.path}/events/evt_{'0' * 32}", status=404)
        return noted(tab, "not-found", size, "light", RULES)
    except Mistake as mistake:
        return [f"not-found: {mistake}"]
    finally:
        tab.close()


def sign_in(browser):
    found = []
    for size in ("wide", "narrow"):
        context = browser.context(size)
        found += look(context, "sign-in", "/console/sign-in", size)
        context.close()
    return found


def linked(context, addresses, project):
    """Every link leads somewhere; of addresses that differ in ids alone, one is tried."""
    tab, found = Tab(context), []
    seen = {shape(address) for address in addresses.values()}
    waiting = list(addresses.values())
    tried = 0
    while waiting and tried < len(addresses) + FOUND_MAX:
        address = waiting.pop(0)
        tried += 1
        if ".csv" in address:
            answer = context.request.get(address)
            if answer.status != 200 or "csv" not in answer.headers["content-type"]:
                found.append(f"{address}: {answer.status} {answer.headers.get('content-type')}")
            continue
        answer = context.request.get(address)
        if answer.status != 200:
            found.append(f"{address}: a link leads to it, and it answers {answer.status}")
            continue
        if not answer.url.endswith(address.split("?")[0]) and "/deliveries/" not in address:
            found.append(f"{address}: a link leads to it, and it leads on to {answer.url}")
        for link in re.findall(r'href="(/[^"#]*)', answer.text()):
            link = link.replace("&amp;", "&")
            # What leaves the console is not its page.
            if link.startswith("/console/") and shape(link) not in seen:
                seen.add(shape(link))
                waiting.append(link)
    tab.close()
    context.close()
    return found


def assets(context, project):
    """What every page brings: script and style, as they are sent."""
    tab, sizes = Tab(context), {}
    tab.page.on("requestfinished", lambda request: sizes.update({request.url: request.sizes()["responseBodySize"]})
                if "/assets/" in request.url else None)
    tab.go(project.path)
    tab.page.wait_for_load_state("networkidle")
    context.close()
    total = sum(sizes.values())
    if not any(".js" in url for url in sizes) or not any(".css" in url for url in sizes):
        return [f"assets: script and style are not asked for: {sizes}"]
    return [f"assets: {total} bytes, over {ASSETS_BYTES_MAX}: {sizes}"] if total > ASSETS_BYTES_MAX else []
