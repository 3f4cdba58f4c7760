"""The console in a browser: tests/browser/run says how to use it.

Each case has a project of its own in one program. What it sees that should not be is
told with the page, the element and a screenshot.
"""
import argparse
import sys
import time
import traceback

import hostile
import keys
import live
import pages
import scale
import story
from browsing import SCREENSHOTS, Chromium
from world import Mistake, Program

CASES = {
    "story": story.run,
    "plain": story.run_without_script,
    "pages": pages.run,
    "keys": keys.run,
    "hostile": hostile.run,
    "live": live.run,
}


def main():
    parser = argparse.ArgumentParser(prog="tests/browser/run")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--scale", action="store_true", help="ten thousand endpoints, a hundred thousand events")
    given = parser.parse_args()
    if given.list:
        print("\n".join(CASES))
        return 0
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    cases = {"scale": scale.run} if given.scale else {name: CASES[name] for name in given.cases or CASES}
    return run(cases)


def run(cases):
    program = Program()
    failed = []
    try:
        browser = Chromium(program.url)
        for name, case in cases.items():
            began = time.monotonic()
            try:
                case(program, browser)
                said = "ok    "
            except Exception as error:
                failed.append(name)
                said = "FAILED"
                # A page's own words are enough; anything else is told with where it was.
                print(error if isinstance(error, Mistake) else traceback.format_exc(), file=sys.stderr, flush=True)
                browser.picture_of_failure(name)
            print(f"{said} {name} {time.monotonic() - began:.1f} s", flush=True)
        browser.close()
    finally:
        program.close()
    print(f"screenshots: {SCREENSHOTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
