"""An HTTP proxy that makes faults: what a network and a service in trouble do."""
import asyncio
import collections
import itertools
import json

import aiohttp
from aiohttp import web

JSON = "application/x-amz-json-1.0"
# AWS closes a connection that nothing was asked over for about as long.
KEEP_ALIVE_S = 20
# What changes items, and so what a partition that takes no more writes refuses.
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
# A table's own throttles and the account's, as DynamoDB spells them.
THROTTLES = itertools.cycle(["ProvisionedThroughputExceededException", "ThrottlingException"])


def throttled(operation, body):
    """Status and body with which DynamoDB throttles a call: a transaction by its
    reasons, a batch by handing it back."""
    asked = json.loads(body)
    if operation == "BatchWriteItem":
        return 200, {"UnprocessedItems": asked["RequestItems"]}
    if operation == "BatchGetItem":
        return 200, {"Responses": {}, "UnprocessedKeys": asked["RequestItems"]}
    if operation in ("TransactWriteItems", "TransactGetItems"):
        # One item is throttled; of the others nothing is said.
        reasons = [{"Code": "None"} for _ in asked["TransactItems"]]
        reasons[-1] = {"Code": "ThrottlingError", "Message": "Throughput exceeds the current capacity"}
        codes = ", ".join(reason["Code"] for reason in reasons)
        return 400, {
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "Message": "Transaction cancelled, please refer cancellation reasons for specific "
                       f"reasons [{codes}]",
            "CancellationReasons": reasons,
        }
    return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{next(THROTTLES)}",
                 "message": "Throughput exceeds the current capacity"}


class Proxy:
    """Hands requests on to `target` as its mode says.

    pass        as they are
    refuse      the connection is closed, nothing reaches the service
    throttle    refused as DynamoDB throttles, nothing reaches the service
    throttle_writes  the same, of what writes
    slow        handed on after `delay` seconds
    lose        handed on and carried out; the answer is lost with the connection
    """

    def __init__(self, target):
        self.target, self.mode, self.delay = target, "pass", 0.0
        # Of `of` requests the last `hits` are hit; the rest go through.
        self.hits, self.of, self.count, self.hit = 1, 1, 0, 0
        # What was asked, by operation.
        self.operations = collections.Counter()
        # A copy of a table, as it was a while ago, which answers for its indexes.
        self.replica = None

    async def start(self):
        self.session = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def stop(self):
        await self.runner.cleanup()
        await self.session.close()

    def set(self, mode, hits=1, of=1, delay=0.0):
        self.mode, self.hits, self.of, self.delay, self.count, self.hit = mode, hits, of, delay, 0, 0

    async def handle(self, request):
        body = await request.read()
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.operations[operation] += 1
        mode = self.mode_of(operation)
        if mode == "refuse":
            return self.cut(request)
        if mode.startswith("throttle"):
            status, answer = throttled(operation, body)
            return web.json_response(answer, status=status, content_type=JSON)
        if mode == "slow":
            await asyncio.sleep(self.delay)
        if self.replica is not None:
            body = self.replica.redirect(operation, body)
        answer = await self.forward(request, body, is_lost=mode == "lose")
        if self.replica is not None:
            await self.replica.follow(operation, body)
        return answer

    def mode_of(self, operation):
        """What becomes of this request, which is counted."""
        if self.mode == "pass" or (self.mode == "throttle_writes" and operation not in WRITES):
            return "pass"
        self.count += 1
        is_hit = (self.count - 1) % self.of >= self.of - self.hits
        self.hit += is_hit
        return self.mode if is_hit else "pass"

    async def forward(self, request, body, is_lost):
        headers = {name: value for name, value in request.headers.items()
                   if name.lower() not in ("connection", "transfer-encoding", "content-length")}
        try:
            async with self.session.request(
                    request.method, self.target + request.raw_path, headers=headers, data=body) as answer:
                content = await answer.read()
                if is_lost:
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


class Replica:
    """A table whose indexes show what it held `lag` seconds ago.

    DynamoDB's indexes follow their table after a while, of which it promises
    nothing. The items of a write are read once it is done, and written to a second
    table when the lag is over; queries and scans of an index go to that one.
    """

    def __init__(self, store, table, lag):
        self.store, self.table, self.copy, self.lag = store, table, f"{table}-lagging", lag
        # Images of items, with when the indexes show them.
        self.images = collections.deque()
        self.shown = 0
        description = store.describe_table(TableName=table)["Table"]
        indexes = [{name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
                   for index in description["GlobalSecondaryIndexes"]]
        store.create_table(
            TableName=self.copy, BillingMode="PAY_PER_REQUEST", KeySchema=description["KeySchema"],
            AttributeDefinitions=description["AttributeDefinitions"], GlobalSecondaryIndexes=indexes)
        self.task = asyncio.create_task(self.run())

    def redirect(self, operation, body):
        if operation not in ("Query", "Scan"):
            return body
        asked = json.loads(body)
        if asked.get("TableName") != self.table or "IndexName" not in asked:
            return body
        return json.dumps({**asked, "TableName": self.copy}).encode()

    async def follow(self, operation, body):
        for key in keys(operation, json.loads(body or b"{}"), self.table):
            found = await asyncio.to_thread(
                self.store.get_item, TableName=self.table, Key=key, ConsistentRead=True)
            self.images.append((asyncio.get_running_loop().time() + self.lag, key, found.get("Item")))

    async def run(self):
        while True:
            while self.images and self.images[0][0] <= asyncio.get_running_loop().time():
                _, key, item = self.images.popleft()
                write = ({"PutRequest": {"Item": item}} if item else {"DeleteRequest": {"Key": key}})
                await asyncio.to_thread(
                    self.store.batch_write_item, RequestItems={self.copy: [write]})
                self.shown += 1
            await asyncio.sleep(0.05)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def keys(operation, asked, table):
    """The keys of the items of `table` that a request changes, if it goes through."""
    if operation == "BatchWriteItem":
        writes = asked["RequestItems"].get(table, [])
    elif operation == "TransactWriteItems":
        writes = [change for change in asked["TransactItems"] if "ConditionCheck" not in change]
        writes = [change for change in writes if next(iter(change.values()))["TableName"] == table]
    elif operation in ("PutItem", "UpdateItem", "DeleteItem"):
        writes = [{operation: asked}] if asked["TableName"] == table else []
    else:
        return []
    found = []
    for write in writes:
        change = next(iter(write.values()))
        item = change.get("Key") or change["Item"]
        found.append({"pk": item["pk"], "sk": item["sk"]})
    return found
