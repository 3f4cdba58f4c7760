"""A load balancer as a target sees AWS's: it asks for health on an interval, sends to
what is healthy over connections it keeps, stops sending when told to deregister a
target, and answers 502 where a target broke off."""
import http.client
import http.server
import itertools
import threading

INTERVAL_S, HEALTHY, UNHEALTHY = 0.5, 2, 3


class Target:
    def __init__(self, address):
        self.address, self.passed, self.failed = address, 0, 0
        self.healthy = self.deregistered = False
        self.kept = threading.local()

    def observe(self, is_ready):
        self.passed, self.failed = (self.passed + 1, 0) if is_ready else (0, self.failed + 1)
        if self.passed >= HEALTHY:
            self.healthy = True
        elif self.failed >= UNHEALTHY:
            self.healthy = False

    def is_ready(self):
        try:
            return self.send("GET", "/health/ready", None, {}, timeout=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def send(self, method, path, body, headers, timeout=30):
        connection = getattr(self.kept, "connection", None)
        connection = connection or http.client.HTTPConnection(*self.address, timeout=timeout)
        self.kept.connection = None
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.will_close:
            connection.close()
        else:
            self.kept.connection = connection
        return answer.status, answer.getheader("content-type"), content


class Balancer(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Forward)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.targets, self.turn = [], itertools.count()
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while not self.ended.wait(INTERVAL_S):
            for target in self.targets:
                target.observe(target.is_ready())

    def register(self, address):
        self.targets.append(Target(address))
        return self.targets[-1]

    def next(self):
        there = [target for target in self.targets if target.healthy and not target.deregistered]
        return there[next(self.turn) % len(there)] if there else None


class Forward(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        headers["X-Forwarded-For"] = self.client_address[0]
        target = self.server.next()
        try:
            status, kind, content = target.send(self.command, self.path, body, headers) if target else (503, None, b"")
        except (OSError, http.client.HTTPException):
            status, kind, content = 502, None, b""
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    def log_message(self, *_):
        pass
