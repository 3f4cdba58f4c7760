"""Ten thousand endpoints and a hundred thousand events behind the pages."""
import concurrent.futures
import statistics
import time

from browsing import HTML_BYTES_MAX, Tab
from world import Mistake, Project, Receiver

ENDPOINTS, EVENTS, BATCH = 10_000, 100_000, 100
ROUNDS = 11


def run(program, browser):
    receiver = Receiver(200)
    try:
        project = Project(program, "scale")
        began = time.monotonic()
        fill(project, receiver)
        print(f"       made in {time.monotonic() - began:.0f} s")
        context = browser.signed_in(program.admin_key)
        found = []
        for path in ["", "/events", "/deliveries", "/endpoints", "/send", "/meters", "/recoveries", "/find?q=tenant-17"]:
            found += measure(context, project.path + path)
        tab = Tab(context)
        for path in ["", "/events", "/endpoints"]:
            tab.go(project.path + path)
            found += tab.check(f"scale{path}")
        if found:
            raise Mistake("\n".join(found))
    finally:
        receiver.close()


def fill(project, receiver):
    # One takes all; ten thousand are for a tenant each, which has a few events.
    project.api("POST", "/v1/endpoints", {"url": receiver.url, "event_types": ["invoice.paid"]})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: project.api("POST", "/v1/endpoints", {
            "url": f"{receiver.url}/{number}", "tenant": f"tenant-{number}", "event_types": ["nothing.ever"],
        }), range(ENDPOINTS - 1)))
        list(pool.map(lambda first: project.api("POST", "/v1/events/batch", [
            {"type": "user.created", "tenant": f"tenant-{number % ENDPOINTS}", "data": {"number": number}}
            for number in range(first, first + BATCH)]), range(0, EVENTS, BATCH)))


def measure(context, address):
    """How long the first byte takes, in the median, and how much there is."""
    times, size = [], 0
    for _ in range(ROUNDS):
        began = time.monotonic()
        answer = context.request.get(address)
        times.append((time.monotonic() - began) * 1000)
        size = len(answer.body())
        if answer.status != 200:
            return [f"scale: {address}: {answer.status}"]
    print(f"       {address.split('/', 3)[-1][:60]:60} {statistics.median(times):6.0f} ms {size:7} bytes")
    return [f"scale: {address}: {size} bytes of HTML"] if size > HTML_BYTES_MAX else []
