"""Pages that renew themselves: what comes, how often is asked, and when it is not."""
from browsing import Tab
from world import Mistake, Project, Receiver, until

EVERY_MS, SLOWEST_MS = 2000, 30000
# What of the page's own requests was a question for news, with when.
QUESTIONS = """performance.getEntriesByType("resource").filter((each) => each.initiatorType === "fetch")
  .map((each) => [each.startTime, each.responseEnd])"""
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def run(program, browser):
    receiver = Receiver(200)
    try:
        project = Project(program, "live")
        project.api("POST", "/v1/endpoints", {"url": receiver.url})
        for number in range(30):
            publish(project, number)
        comes(program, browser, project)
        waits(program, browser, project)
        changes(program, browser, project)
        is_bounded(program, browser, project)
        gives_up(program, browser, project)
        tells_signed_out(program, browser, project)
    finally:
        receiver.close()


def publish(project, number):
    return project.api("POST", "/v1/events", {"type": "user.created", "subject": f"user/{number}", "data": {}})["id"]


def opened(program, browser, project, path):
    """A page whose pointer is over nothing that is live; and a mark that a reload would lose."""
    tab = Tab(browser.signed_in(program.admin_key))
    tab.page.mouse.move(2, 2)
    tab.go(project.path + path)
    tab.page.evaluate("window.mark = 1")
    return tab


def closed(tab):
    if not tab.page.evaluate("window.mark"):
        raise Mistake(f"live: {tab.page.url} was loaded anew")
    tab.require_clean(f"live, {tab.page.url}")
    tab.page.context.close()


def row(tab, event):
    return tab.page.locator(f"tbody[data-live=rows] tr:has(a[href*={event}])")


def comes(program, browser, project):
    """A new event appears by itself, once, above the others."""
    tab = opened(program, browser, project, "/events")
    events = [publish(project, f"new-{number}") for number in range(2)]
    for event in events:
        row(tab, event).wait_for()
        if row(tab, event).count() != 1:
            raise Mistake(f"live: {event} is there {row(tab, event).count()} times")
    first = tab.page.locator("tbody[data-live=rows] tr").first
    if events[1] not in first.inner_html():
        raise Mistake("live: the newest event is not the first row")
    if "UTC" in first.locator("time").first.inner_text():
        raise Mistake("live: a new row's time is not local")
    ids = tab.page.evaluate("[...document.querySelectorAll('tr[id]')].map((row) => row.id)")
    if len(ids) != len(set(ids)):
        raise Mistake("live: a row is there twice")
    closed(tab)


def waits(program, browser, project):
    """Under the pointer nothing moves: rows wait behind a link that counts them."""
    tab = opened(program, browser, project, "/events")
    under = tab.page.locator("tbody[data-live=rows] tr").nth(3)
    under.hover()
    before = under.bounding_box()["y"]
    events = [publish(project, f"waiting-{number}") for number in range(3)]
    fresh = tab.page.locator(".fresh")
    until("three events wait", lambda: fresh.count() and fresh.inner_text().startswith("3 newer event"))
    after = under.bounding_box()["y"]
    if abs(after - before) > 1:
        raise Mistake(f"live: the row under the pointer moved by {after - before} px")
    if row(tab, events[0]).count():
        raise Mistake("live: a row came in under the pointer")
    fresh.click()
    row(tab, events[0]).wait_for()
    if fresh.count():
        raise Mistake("live: the link stays when nothing waits")
    closed(tab)


def changes(program, browser, project):
    """An event's page shows what becomes of it, and keeps open what was opened."""
    slow = Receiver(500)
    try:
        project.api("POST", "/v1/endpoints", {"url": slow.url, "event_types": ["order.*"]})
        event = project.api("POST", "/v1/events", {"type": "order.made", "data": {}})["id"]
        tab = opened(program, browser, project, f"/events/{event}")
        until("the event's page shows that it failed", lambda: "failed" in tab.page.locator("main").inner_text().lower())
        closed(tab)
    finally:
        slow.close()


def is_bounded(program, browser, project):
    """One question at a time, two seconds after the last; none while hidden or paused."""
    tab = opened(program, browser, project, "/events")
    until("four questions", lambda: len(tab.page.evaluate(QUESTIONS)) >= 4)
    asked = tab.page.evaluate(QUESTIONS)
    for (_, end), (start, _) in zip(asked, asked[1:]):
        if start - end < EVERY_MS - 50:
            raise Mistake(f"live: asked again after {start - end:.0f} ms")
    tab.page.context.close()

    # The clock is the test's from here on, so that minutes take none.
    tab = Tab(browser.signed_in(program.admin_key))
    tab.page.clock.install()
    tab.go(project.path + "/events")
    tab.page.evaluate("window.mark = 1")
    asks(tab, EVERY_MS)
    tab.page.evaluate(HIDE, True)
    asks_nothing(tab, "in a hidden tab")
    with tab.page.expect_request(lambda request: "part=" in request.url):
        tab.page.evaluate(HIDE, False)
        tab.page.clock.run_for(EVERY_MS)
    asks(tab, EVERY_MS)
    tab.page.keyboard.press("l")
    live = tab.page.locator("main .head .live")
    if "is-off" not in live.get_attribute("class"):
        raise Mistake(f"live: paused, and it says {live.inner_text()!r}")
    asks_nothing(tab, "paused")
    tab.page.keyboard.press("l")
    asks(tab, EVERY_MS)
    closed(tab)


def asks(tab, after_ms):
    """A question is asked and answered when that much time has gone by."""
    with tab.page.expect_response(lambda response: "part=" in response.url):
        tab.page.clock.run_for(after_ms + 100)
    settle(tab)


def settle(tab):
    """An answer that came before this has been taken in after it."""
    tab.page.evaluate("fetch('/health').then((answer) => answer.text())")


def questions(tab):
    return [request.url for request in tab.requests if "part=" in request.url]


def asks_nothing(tab, when):
    before = len(questions(tab))
    tab.page.clock.run_for(10 * SLOWEST_MS)
    settle(tab)
    if new := questions(tab)[before:]:
        raise Mistake(f"live: asks {when}: {new}")


def gives_up(program, browser, project):
    """After three failures the age shows and the wait doubles; then it comes back."""
    tab = Tab(browser.signed_in(program.admin_key))
    tab.page.clock.install()
    tab.go(project.path + "/events")
    tab.expected |= {503}
    tab.page.route("**/*part=*", lambda route: route.fulfill(status=503, body=""))
    live = tab.page.locator("main .head .live")
    for wait in [EVERY_MS, EVERY_MS]:
        asks(tab, wait)
    if "is-warn" in live.get_attribute("class"):
        raise Mistake("live: two failures show")
    asks(tab, EVERY_MS)
    until("the age shows", lambda: "is-warn" in live.get_attribute("class"))
    if "ago" not in live.inner_text():
        raise Mistake(f"live: stale, and it says {live.inner_text()!r}")
    for wait in [4000, 8000, 16000, SLOWEST_MS, SLOWEST_MS]:
        before = len(questions(tab))
        tab.page.clock.run_for(wait - 500)
        settle(tab)
        if len(questions(tab)) != before:
            raise Mistake(f"live: asked again before {wait} ms were over")
        asks(tab, 500)
    tab.page.unroute("**/*part=*")
    asks(tab, SLOWEST_MS)
    until("it is live again", lambda: "is-warn" not in live.get_attribute("class"))
    asks(tab, EVERY_MS)
    tab.page.context.close()


def tells_signed_out(program, browser, project):
    """Who is signed out is told, once, and nothing is asked any more."""
    tab = Tab(browser.signed_in(program.admin_key))
    tab.page.clock.install()
    tab.go(project.path + "/events")
    tab.page.context.clear_cookies()
    tab.page.clock.run_for(EVERY_MS + 100)
    note = tab.page.locator("main [role=alert]")
    note.wait_for()
    if "signed out" not in note.inner_text():
        raise Mistake(f"live: signed out, and it says {note.inner_text()!r}")
    asks_nothing(tab, "signed out")
    if note.count() != 1:
        raise Mistake("live: it says more than once that one is signed out")
    tab.page.context.close()
