"""The commands of the served documentation page, as a reader copies them."""

import urllib.request
from html.parser import HTMLParser

from markdown import Block, Mistake

# What a reader replaces in the page's first block, and the curl that may be too late:
# a recovery that finds nothing to do is over before it is canceled.
PLACEHOLDERS = {
    "MILLRACE_KEY=mr_…": "MILLRACE_KEY={key}",
    "ADMIN_KEY=…": "ADMIN_KEY={admin_key}",
    "WEBHOOK_URL=https://example.com/webhooks": "WEBHOOK_URL=http://127.0.0.1:{port}/webhooks",
}
MAY_BE_TOO_LATE = ("/v1/recoveries/$RECOVERY_ID/cancel", "2..|409")


class Commands(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.inside = False

    def handle_starttag(self, tag, attrs):
        if tag == "pre" and not attrs:
            self.inside = True
            self.found.append("")

    def handle_endtag(self, tag):
        if tag == "pre":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.found[-1] += data


def read_page(server, port):
    """The page's commands as blocks, with what its reader fills in."""
    with urllib.request.urlopen(server.url + "/docs", timeout=30) as answer:
        html = answer.read().decode()
    commands = Commands()
    commands.feed(html)
    first, *others = commands.found
    if f"MILLRACE_URL={server.url}\n" not in first:
        raise Mistake(f"/docs: it does not name its address, {server.url}:\n{first}")
    for placeholder, filled in PLACEHOLDERS.items():
        if placeholder not in first:
            raise Mistake(f"/docs: {placeholder} is not in:\n{first}")
        filled = filled.format(key=server.key, admin_key=server.admin_key, port=port)
        first = first.replace(placeholder, filled)
    blocks = []
    for number, text in enumerate([first, *others], 1):
        if "…" in text or "example.com" in text:
            raise Mistake(f"/docs, command {number}: something is left to fill in:\n{text}")
        path, status = MAY_BE_TOO_LATE
        directives = {"answers": status} if path in text else {}
        blocks.append(Block("/docs", number, "sh", text + "\n", directives))
    if len(blocks) < 40:
        raise Mistake(f"/docs: {len(blocks)} commands only")
    return blocks
