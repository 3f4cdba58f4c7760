"""Starts the emulator ministack, answering a little later than it could.

The AWS SDK for Go, and with it Terraform's provider, closes a request's body as
soon as the response begins. Where the answer arrives before its writing goroutine
is done, which on a loaded machine is often, that closes the connection and the
call fails after it has been carried out; repeated, it makes a second thing.

With --doubles, containers are those of doubles.py; otherwise there are none.
"""

import asyncio
import sys

import ministack.app as ministack

RESPONSE_DELAY_S = 0.02

emulator = ministack.app


async def app(scope, receive, send):
    async def later(message):
        if message["type"] == "http.response.start":
            await asyncio.sleep(RESPONSE_DELAY_S)
        await send(message)

    await emulator(scope, receive, later if scope["type"] == "http" else send)


ministack.app = app
if "--doubles" in sys.argv:
    sys.argv.remove("--doubles")
    import doubles

    doubles.install()
ministack.main()
