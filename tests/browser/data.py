"""A project with something on every page."""
from world import until

INVOICE = {
    "type": "object",
    "required": ["invoice", "total"],
    "additionalProperties": False,
    "properties": {
        "invoice": {"type": "string"},
        "total": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "GBP", "SEK"]},
    },
    "examples": [{"invoice": "20481", "total": 1249, "currency": "EUR"}],
}
TENANTS = ["quillmere", "vantorel", "pellworth"]


class Furnished:
    """What was made of it: ids, by what they stand for."""

    def __init__(self, project, well, failing):
        api, self.project = project.api, project
        api("POST", "/v1/event-types", {
            "name": "invoice.paid", "description": "An invoice is paid in full", "schema": INVOICE})
        api("POST", "/v1/event-types", {"name": "user.created", "description": "Somebody signed up"})
        self.well = api("POST", "/v1/endpoints", {
            "url": well.url + "/ledger", "description": "Ledger sync", "headers": {"x-shelf": "kept to ourselves"}})["id"]
        self.failing = api("POST", "/v1/endpoints", {
            "url": failing.url + "/webhooks/millrace", "description": "Quillmere production",
            "tenant": "quillmere", "event_types": ["invoice.*"], "rate_limit": 20})["id"]
        self.off = api("POST", "/v1/endpoints", {
            "url": well.url + "/old", "description": "Old importer", "tenant": "pellworth", "state": "disabled"})["id"]
        self.meter = api("POST", "/v1/meters", {
            "name": "Revenue", "event_type": "invoice.paid", "aggregation": "sum", "value": "/total",
            "group_by": ["/currency"]})["id"]
        api("POST", "/v1/meters", {"name": "Sign-ups", "event_type": "user.created", "aggregation": "count"})
        self.events = [self._publish(number) for number in range(60)]
        # One for nobody but the whole project; the failing endpoint has it not.
        until("the failing endpoint's attempts", lambda: len(
            project.deliveries(endpoint_id=self.failing, limit=50)) >= 10)
        self.delivery = project.deliveries(endpoint_id=self.failing, limit=1)[0]
        self.event = self.delivery["event_id"]
        until("an attempt that failed", lambda: api("GET", f"/v1/deliveries/{self.delivery['id']}")["attempts"])
        self.recovery = api("POST", f"/v1/endpoints/{self.well}/replay-missing", {"since": "2020-01-01T00:00:00Z"})["id"]

    def _publish(self, number):
        tenant = TENANTS[number % 3]
        if number % 2:
            event = {"type": "user.created", "data": {"name": f"user {number}"}}
        else:
            event = {"type": "invoice.paid", "subject": f"invoice/{20000 + number}",
                     "data": {"invoice": str(20000 + number), "total": 10 + number, "currency": "EUR"}}
        return self.project.api("POST", "/v1/events", {**event, "tenant": tenant})["id"]
