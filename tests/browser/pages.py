"""Every page at both widths, light and dark."""
import html
import re

from browsing import CONTRAST, HTML_BYTES_MAX, RULES, WIDTHS, Tab, shape
from data import Furnished
from world import Mistake, Project, Receiver

# Those that the console cannot be without; others are found by their links.
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
# Kinds of addresses, far more than there are.
SHAPES_MAX = 300
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
        context = browser.signed_in(program.admin_key)
        more, found = linked(context, addresses)
        for name, address in {**addresses, **more}.items():
            found += look(context, name, address)
        # What is not there says so on a page of its own.
        found += look(context, "not-found", f"{project.path}/events/evt_{'0' * 32}", status=404)
        context.close()
        context = browser.context()
        found += look(context, "sign-in", "/console/sign-in")
        context.close()
        found += assets(browser.signed_in(program.admin_key), project)
        if found:
            raise Mistake("\n".join(found))
    finally:
        well.close()
        failing.close()


def look(context, name, address, status=200):
    """One page at each width, in light and in dark."""
    tab = Tab(context)
    try:
        size = len(tab.go(address, status).body())
        found = [f"{name}: {size} bytes of HTML, over {HTML_BYTES_MAX}"] if size > HTML_BYTES_MAX else []
        for size, (width, height) in WIDTHS.items():
            tab.page.set_viewport_size({"width": width, "height": height})
            for colours in ("light", "dark"):
                tab.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
                # Structure is in the dark as it is in the light; colours are not.
                found += noted(tab, f"{name}-{size}-{colours}", RULES if colours == "light" else CONTRAST)
        return found
    except Mistake as mistake:
        return [f"{name}: {mistake}"]
    finally:
        tab.close()


def noted(tab, name, rules):
    picture = tab.picture(name)
    return [f"{each} ({picture})" for each in tab.check(name, rules)]


def linked(context, addresses):
    """The pages that links lead to beside these, and links that lead nowhere.

    Of addresses that differ in ids alone, one is tried."""
    more, found = {}, []
    seen = {shape(address) for address in addresses.values()}
    waiting = list(addresses.values())
    for address in waiting:
        answer = context.request.get(address)
        kind = answer.headers.get("content-type", "")
        if answer.status != 200 or ("csv" if ".csv" in address else "text/html") not in kind:
            found.append(f"{address}: answers {answer.status}, {kind}, and a link leads to it")
            continue
        for link in re.findall(r'href="(/[^"#]*)', answer.text()):
            link = html.unescape(link)
            # What leaves the console is not its page.
            if not link.startswith("/console/") or shape(link) in seen:
                continue
            if len(seen) > SHAPES_MAX:
                return more, [*found, f"over {SHAPES_MAX} kinds of addresses, as {link}"]
            seen.add(shape(link))
            waiting.append(link)
            if "?" not in link and ".csv" not in link:
                more[shape(link).removeprefix("/console/").replace("*", "").strip("/").replace("/", "-")] = link
    return more, found


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
