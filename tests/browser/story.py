"""What somebody does who has never read the API's documentation.

They sign in, make an endpoint and a meter, send an event, see it fail and be retried,
find out why, mend the endpoint, recover what was missed and read a customer's usage.
"""
import re

from browsing import Tab
from data import INVOICE
from world import Mistake, Project, Receiver, until

TENANT = "quillmere"


def run(program, browser):
    """By the link that the start printed."""
    link = program.sign_in_link
    context = browser.context()
    tab = Tab(context)
    tab.go(link)
    # Programs that look at links in advance use none up: a person does.
    by_link(tab)
    if "/console/sign-in" in tab.page.url:
        raise Mistake(f"story: not signed in by the link: {tab.page.locator('main').inner_text()}")
    again = browser.context()
    other = Tab(again)
    other.go(link)
    other.expected.add(401)
    by_link(other)
    if not other.page.locator("[role=alert]").count():
        raise Mistake(f"story: the link works twice: {other.page.url}")
    again.close()
    tell(program, tab, Project(program, "story"), scripted=True)
    sign_out(tab)
    context.close()


def run_without_script(program, browser):
    """The same with script switched off, by the admin key."""
    context = browser.context(java_script_enabled=False)
    tab = Tab(context)
    tab.go("/console/sign-in")
    tab.page.locator("input[name=key]").fill(program.admin_key)
    tab.page.locator("form:has(input[name=key]) button").click()
    tell(program, tab, Project(program, "plain"), scripted=False)
    context.close()


def by_link(tab):
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Sign in with this link").click()


def tell(program, tab, project, scripted):
    broken, mended = Receiver(500), Receiver(200)
    try:
        project.api("POST", "/v1/event-types", {"name": "invoice.paid", "schema": INVOICE})
        tab.go("/console/projects")
        tab.page.get_by_role("link", name=re.compile(f"^{'story' if scripted else 'plain'}$")).click()
        endpoint = make_endpoint(tab, project, broken)
        make_meter(tab, project)
        event = send(tab, project)
        fails(tab, project, event, broken, scripted)
        mend(tab, project, endpoint, mended)
        recover(tab, project, endpoint)
        seen(tab, f"{project.path}/events/{event}", "Delivered", scripted)
        if not mended.arrived(event, 200):
            raise Mistake(f"{event} is shown as delivered and did not arrive")
        usage(tab, project, scripted)
        if scripted:
            tab.require_clean("story")
        elif tab.faults:
            raise Mistake("\n".join(tab.faults))
    finally:
        broken.close()
        mended.close()


def submit(tab, name):
    """Sends the form whose button is called so, and waits for the page it leads to."""
    button = tab.page.locator("main").get_by_role("button", name=name)
    with tab.page.expect_navigation():
        button.first.click()


def make_endpoint(tab, project, receiver):
    tab.go(project.path + "/endpoints/new")
    tab.page.locator("[name=url]").fill(receiver.url + "/hook")
    tab.page.locator("[name=event_types]").first.fill("invoice.*")
    tab.page.locator("[name=tenant]").fill(TENANT)
    submit(tab, re.compile("Create|Add"))
    return project.api("GET", "/v1/endpoints")["data"][0]["id"]


def make_meter(tab, project):
    tab.go(project.path + "/meters/new")
    tab.page.locator("[name=name]").fill("Revenue")
    tab.page.locator("[name=event_type]").fill("invoice.paid")
    if tab.page.locator("select[name=aggregation]").count():
        tab.page.locator("select[name=aggregation]").select_option("sum")
    else:
        tab.page.locator("[name=aggregation][value=sum]").check(force=True)
    tab.page.locator("[name=value]").fill("/total")
    submit(tab, re.compile("Create|Add"))


def send(tab, project):
    """An event from the editor: what does not satisfy the schema is told by its path."""
    tab.go(project.path + "/send?type=invoice.paid")
    tab.page.locator("[name=tenant]").fill(TENANT)
    tab.page.locator("[name=data]").fill('{"invoice": "20515",\n "total": "much"}')
    tab.expected |= {400, 422}
    submit(tab, re.compile("^Send event"))
    refused = tab.page.locator("main").inner_text()
    if "total" not in refused or tab.page.locator("[name=data]").input_value().count("much") != 1:
        raise Mistake(f"send: the page does not name data/total, or has lost what was typed: {refused[:600]}")
    if not tab.page.locator("[role=alert]").count():
        raise Mistake("send: nothing tells that it was refused")
    tab.page.locator("[name=data]").fill('{"invoice": "20515", "total": 1249, "currency": "EUR"}')
    submit(tab, re.compile("^Send event"))
    return until("the event is published", lambda: project.api("GET", "/v1/events?type=invoice.paid")["data"])[0]["id"]


def seen(tab, address, text, scripted):
    """A page comes to show a text: by itself with script, else when it is asked for anew."""
    tab.go(address)
    main = tab.page.locator("main")
    if scripted:
        until(f"{address} comes to show {text!r}", lambda: text.lower() in main.inner_text().lower())
    else:
        def shown():
            return text.lower() in main.inner_text().lower() or (tab.go(address) and False)
        until(f"{address} shows {text!r}", shown, every=0.5)


def fails(tab, project, event, broken, scripted):
    seen(tab, f"{project.path}/events/{event}", "500", scripted)
    # It was tried again.
    until("a second attempt", lambda: broken.arrived(event, 500) >= 2)
    seen(tab, f"{project.path}/events/{event}", "Failed", scripted)
    why = tab.page.locator(".why").first.inner_text()
    if "500" not in why or "the shelf is full" not in why:
        raise Mistake(f"event: why it failed is not told: {why!r}")
    # The evidence: answer and request, without a secret in it.
    tries = tab.page.locator(".tries").first
    if not tries.locator("details").first.evaluate("details => details.open"):
        tries.locator("summary").first.click()
    evidence = tries.inner_text()
    if "webhook-id" not in evidence.lower() or "the shelf is full" not in evidence:
        raise Mistake(f"event: answer and request of the attempt are not shown: {evidence[:800]!r}")


def mend(tab, project, endpoint, mended):
    tab.go(f"{project.path}/endpoints/{endpoint}/edit")
    tab.page.locator("[name=url]").fill(mended.url + "/hook")
    submit(tab, re.compile("Save"))
    if project.api("GET", f"/v1/endpoints/{endpoint}")["url"] != mended.url + "/hook":
        raise Mistake("endpoint: the new address was not kept")


def recover(tab, project, endpoint):
    """The preview's number is in the button, and that many are sent."""
    tab.go(f"{project.path}/endpoints/{endpoint}/recover")
    button = tab.page.locator("main").get_by_role("button", name=re.compile(r"\d"))
    if not button.count():
        # Somebody asks first how many they are.
        submit(tab, re.compile("Preview|Count|How many|Look", re.I))
    number = int(re.search(r"\d[\d,]*", button.first.inner_text())[0].replace(",", ""))
    missed = len(project.deliveries(endpoint_id=endpoint, state="failed"))
    if number != missed:
        raise Mistake(f"recover: the button says {number}, and {missed} failed")
    with tab.page.expect_navigation():
        button.first.click()


def usage(tab, project, scripted):
    meter = project.api("GET", "/v1/meters")["data"][0]["id"]
    seen(tab, f"{project.path}/meters/{meter}?tenant={TENANT}", "1,249", scripted)
    tab.go(f"{project.path}/meters/{meter}?tenant=nobody")
    if "1,249" in tab.page.locator("main").inner_text():
        raise Mistake("meter: another customer's usage is shown")


def sign_out(tab):
    tab.go("/console/projects")
    tab.page.locator(".foot .menu > summary").click()
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Sign out", exact=True).click()
    tab.go("/console/projects")
    if "/console/sign-in" not in tab.page.url:
        raise Mistake(f"sign out: {tab.page.url} can still be seen")
