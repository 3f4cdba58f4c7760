"""The blocks of a Markdown file, and what is said of them.

A comment directly before a fenced block is for the runner and is not rendered:

    <!-- not run: REASON -->             the block is for reading alone
    <!-- file: NAME -->                  it is written to that file, not executed
    <!-- part of: PATH -->               the repository's file holds the same text
    <!-- answers: STATUS -->             what its curl answers, where that is no 2xx
    <!-- listens: PORT -->               it has something listen there, in the background
    <!-- printed at the start -->        what Millrace prints when it starts
    <!-- receiver: PORT [BY] [JSON] -->  it starts a receiver, see receivers.py

and one directly after it says what follows:

    <!-- within N s: /REGEX/ -->              what the session prints from the block on
    <!-- after M s and within N s: /REGEX/ -->  and not before
    <!-- run again: /REGEX/ -->              what it prints when it is run once more

In the expression `…` stands for any text in a line, and a line break for anything.
"""

import re
from dataclasses import dataclass, field

FENCE = re.compile(r"^(\s*)```\s*([\w+-]*)\s*$")
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.S)
DIRECTIVE = re.compile(
    r"(not run|file|part of|answers|listens|receiver): *(.*)|(printed at the start)", re.S
)
AGAIN = re.compile(r"run again: */(.*)/", re.S)
OUTCOME = re.compile(r"(?:after (\d+) s and )?within (\d+) s: */(.*)/", re.S)
# Languages that are executed as they stand.
EXECUTED = {"sh", "python", "js"}
# And those that nothing can be asked of.
TEXT = {"", "text"}


class Mistake(Exception):
    """Something in a document is not as it must be."""


@dataclass
class Outcome:
    after: int
    within: int
    pattern: str


@dataclass
class Block:
    document: str
    line: int
    language: str
    text: str
    # By their names above; what stands after the colon.
    directives: dict = field(default_factory=dict)
    outcomes: list = field(default_factory=list)
    # The expression, if it is run again.
    again: str = ""

    def __str__(self):
        return f"{self.document}:{self.line}"


def read_blocks(document, text):
    """The blocks of a Markdown text, in its order."""
    blocks = []
    directives, since_block = {}, None
    lines = iter(enumerate(text.split("\n"), 1))
    for number, line in lines:
        fence = FENCE.match(line)
        if fence:
            indent, language = fence.groups()
            inner = []
            for _, content in lines:
                if content.strip() == "```":
                    break
                inner.append(content.removeprefix(indent))
            else:
                raise Mistake(f"{document}:{number}: the block has no end")
            block = Block(document, number, language, "\n".join(inner) + "\n", directives)
            require_way_to_run(block)
            blocks.append(block)
            directives, since_block = {}, block
        elif line.strip().startswith("<!--"):
            comment = line
            while "-->" not in comment:
                number, more = next(lines, (number, None))
                if more is None:
                    raise Mistake(f"{document}:{number}: the comment has no end")
                comment += "\n" + more
            said = COMMENT.search(comment).group(1)
            outcome = OUTCOME.fullmatch(said)
            directive = DIRECTIVE.fullmatch(said)
            if outcome and since_block:
                after, within, pattern = outcome.groups()
                since_block.outcomes.append(Outcome(int(after or 0), int(within), pattern))
            elif (again := AGAIN.fullmatch(said)) and since_block:
                since_block.again = again.group(1)
            elif directive:
                name, value, bare = directive.groups()
                directives[name or bare] = value
            else:
                raise Mistake(f"{document}:{number}: no such comment: {said}")
        elif line.strip():
            if directives:
                raise Mistake(f"{document}:{number}: a comment before no block")
            since_block = None
    if directives:
        raise Mistake(f"{document}: a comment before no block")
    return blocks


def require_way_to_run(block):
    """Every block runs, or says why not."""
    if "not run" in block.directives:
        if not block.directives["not run"]:
            raise Mistake(f"{block}: not run, and no reason")
        return
    if block.language in EXECUTED | TEXT | {"json"} or {"file", "part of"} & set(block.directives):
        return
    raise Mistake(
        f"{block}: {block.language} is not executed here: "
        "say why in a comment before it, <!-- not run: REASON -->"
    )
