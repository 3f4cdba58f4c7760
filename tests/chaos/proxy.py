"""An HTTP proxy that makes faults: what a network and a service in trouble do."""
import asyncio
import json

import aiohttp
from aiohttp import web

THROTTLED = json.dumps({
    "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
    "message": "Rate exceeded",
}).encode()


class Proxy:
    """Hands requests on to `target` as its mode says.

    pass        as they are
    refuse      the connection is closed, nothing reaches the service
    throttle    answered 400 ThrottlingException, nothing reaches the service
    slow        handed on after `delay` seconds
    lose        handed on and carried out; the answer is lost with the connection
    """

    def __init__(self, target):
        self.target, self.mode, self.delay = target, "pass", 0.0
        # Of how many requests one is hit; the rest go through.
        self.one_in, self.count, self.hit = 1, 0, 0

    async def start(self):
        self.session = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def stop(self):
        await self.runner.cleanup()
        await self.session.close()

    def set(self, mode, one_in=1, delay=0.0):
        self.mode, self.one_in, self.delay, self.count, self.hit = mode, one_in, delay, 0, 0

    async def handle(self, request):
        body = await request.read()
        self.count += 1
        mode = self.mode if self.count % self.one_in == 0 else "pass"
        self.hit += mode != "pass"
        if mode == "refuse":
            return self.cut(request)
        if mode == "throttle":
            return web.Response(status=400, body=THROTTLED,
                                content_type="application/x-amz-json-1.0")
        if mode == "slow":
            await asyncio.sleep(self.delay)
        headers = {name: value for name, value in request.headers.items()
                   if name.lower() not in ("connection", "transfer-encoding", "content-length")}
        try:
            async with self.session.request(
                    request.method, self.target + request.raw_path, headers=headers, data=body) as answer:
                content = await answer.read()
                if mode == "lose":
                    return self.cut(request)
                kept = {name: value for name, value in answer.headers.items()
                        if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server")}
                return web.Response(status=answer.status, body=content, headers=kept)
        except aiohttp.ClientError:
            return self.cut(request)

    @staticmethod
    def cut(request):
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
