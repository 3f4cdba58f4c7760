"""What somebody writes against the client that openapi-python-client generates, run
against the program at MILLRACE_URL."""

import os
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from millrace_client import AuthenticatedClient
from millrace_client.api.deliveries import list_deliveries
from millrace_client.api.endpoints import (
    create_endpoint,
    get_endpoint_stats,
    rotate_endpoint_secret,
    update_endpoint,
)
from millrace_client.api.event_types import create_event_type, get_event_type
from millrace_client.api.events import get_event, list_events, publish_event, publish_event_batch
from millrace_client.api.meters import create_meter, get_meter_usage
from millrace_client.api.projects import create_api_key, create_project
from millrace_client.models import (
    AcceptedEvent,
    Aggregation,
    ApiKeyCreate,
    BreakerState,
    DeliveryState,
    EndpointCreate,
    EndpointUpdate,
    ErrorCode,
    EventPublish,
    EventTypeCreate,
    EventTypeCreateSchemaType0,
    MeterCreate,
    MeterFilter,
    Problem,
    ProjectCreate,
    RefusedEvent,
    Scope,
    UsageWindow,
    ValidationMode,
)
from millrace_client.types import UNSET

URL = os.environ["MILLRACE_URL"]
received = []


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def client(key):
    # What the document does not describe raises.
    return AuthenticatedClient(base_url=URL, token=key, raise_on_unexpected_status=True)


def expect(answer):
    assert answer is not None and not isinstance(answer, Problem), answer
    return answer


def until(what, look):
    for _ in range(200):
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within 20 s: {what}")


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()

# A project and a key of it.
admin = client(os.environ["MILLRACE_ADMIN_KEY"])
project = expect(create_project.sync(client=admin, body=ProjectCreate(name="python")))
assert project.created_at.tzinfo is not None
new_key = ApiKeyCreate(name="program", scopes=list(Scope))
key = expect(create_api_key.sync(project.id, client=admin, body=new_key))
api = client(key.key)

# An endpoint, changed and looked at.
url = f"http://127.0.0.1:{server.server_port}/"
new_endpoint = EndpointCreate(url=url, event_types=["order.*"], tenant="acme")
endpoint = expect(create_endpoint.sync(client=api, body=new_endpoint))
assert endpoint.secret.startswith("whsec_") and endpoint.url == url
changes = EndpointUpdate(tenant=None, rate_limit=100)
changed = expect(update_endpoint.sync(endpoint.id, client=api, body=changes))
assert changed.tenant is None and changed.rate_limit == 100
stats = expect(get_endpoint_stats.sync(endpoint.id, client=api))
assert stats.breaker.state is BreakerState.CLOSED and stats.failing_since is None

# An event type with a schema, and a meter.
schema = EventTypeCreateSchemaType0.from_dict({"type": "object", "required": ["total"]})
new_type = EventTypeCreate(name="order.refused", schema=schema)
assert expect(create_event_type.sync(client=api, body=new_type)).schema_version == 1
event_type = expect(get_event_type.sync("order.refused", client=api))
assert event_type.validate is ValidationMode.REJECT
assert event_type.schema.to_dict() == schema.to_dict()
new_meter = MeterCreate(
    name="orders",
    event_type="order.*",
    aggregation=Aggregation.COUNT,
    filters=[MeterFilter(pointer="/test", exists=False)],
)
meter = expect(create_meter.sync(client=api, body=new_meter))
assert meter.value is None and meter.filters[0].equals is UNSET

# Events with every kind of data.
ids = []
for data in [{"total": 12.5, "lines": [{"sku": "a"}]}, [1, "two", None], "text", None]:
    event = EventPublish(
        type_="order.placed", tenant="acme", data=data, time=datetime.now(timezone.utc)
    )
    accepted = expect(publish_event.sync(client=api, body=event))
    assert not accepted.duplicate
    ids.append(accepted.id)
    detail = expect(get_event.sync(accepted.id, client=api))
    assert detail.event.type_ == "order.placed" and detail.event.tenant == "acme"
    assert detail.event.data == data, detail.event


def delivered(event_id):
    state = DeliveryState.DELIVERED
    return expect(list_deliveries.sync(client=api, event_id=event_id, state=state)).data


for event_id in ids:
    [delivery] = until("a delivery", lambda: delivered(event_id))
    assert delivery.endpoint_id == endpoint.id and delivery.next_attempt_at is None
    assert delivery.attempts[0].status == 204 and delivery.attempts[0].error is UNSET
assert len(received) >= len(ids)

# A batch: of each event what became of it.
whole = EventPublish(type_="order.placed", specversion="1.0", id="1", source="/s")
whole["shop"] = "berlin"
refused = EventPublish(type_="order.refused", data={})
batch = expect(publish_event_batch.sync(client=api, body=[whole, refused]))
assert isinstance(batch.data[0], AcceptedEvent) and isinstance(batch.data[1], RefusedEvent)
assert batch.data[1].error.code is ErrorCode.INVALID
assert expect(get_event.sync(batch.data[0].id, client=api)).event["shop"] == "berlin"

# Pages, to the last.
listed, cursor = [], UNSET
while cursor is not None:
    page = expect(list_events.sync(client=api, limit=2, type_="order.placed", cursor=cursor))
    listed += page.data
    cursor = page.next_cursor
assert len(listed) == len(ids) + 1
assert listed[0].subject is None


# Usage.
def usage():
    since = datetime.now(timezone.utc) - timedelta(hours=1)
    window = UsageWindow.MONTH
    page = expect(get_meter_usage.sync(meter.id, client=api, from_=since, window=window))
    return page.data if sum(row.value for row in page.data) == len(listed) else None


assert until("usage", usage)[0].tenant is None

# A body of which nothing is required may be left out.
assert expect(rotate_endpoint_secret.sync(endpoint.id, client=api)).secret != endpoint.secret

# Problems, told by their codes.
again = create_meter.sync(client=api, body=new_meter)
assert isinstance(again, Problem) and again.code is ErrorCode.CONFLICT and again.status == 409
wrong = create_endpoint.sync(client=api, body=EndpointCreate(url="nonsense"))
assert isinstance(wrong, Problem) and wrong.code is ErrorCode.INVALID and wrong.field == "url"
foreign = list_events.sync(client=client("mr_nobody"))
assert isinstance(foreign, Problem) and foreign.code is ErrorCode.UNAUTHENTICATED

server.shutdown()
print(f"Python: {len(received)} webhooks, {len(listed)} events, all as typed")
