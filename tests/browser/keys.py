"""The keyboard: rows, filters, pages and the list of keys; and where the focus is."""
from browsing import Tab
from data import Furnished
from world import Mistake, Project, Receiver

# Whether what has the focus can be told from what has not.
MARKED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return "nothing has the focus";
  const marks = (each) => { const style = getComputedStyle(each);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2; };
  for (let each = element, up = 0; each && up < 4; each = each.parentElement, up++) if (marks(each)) return "";
  const label = element.id && document.querySelector(`label[for="${element.id}"]`);
  return label && marks(label) ? "" : element.outerHTML.slice(0, 200);
}"""
# By Tab from the top of the page.
STEPS = 30


def run(program, browser):
    well, failing = Receiver(200), Receiver(503)
    try:
        project = Project(program, "keys")
        Furnished(project, well, failing)
        tab = Tab(browser.signed_in(program.admin_key))
        moves(tab, project)
        goes(tab, project)
        lists(tab, project)
        writes(tab, project)
        stops(tab, project)
        focus(tab, project)
        tab.require_clean("keys")
        tab.page.context.close()
    finally:
        well.close()
        failing.close()


def moves(tab, project):
    """`j` and `k` move the focus itself, and Enter opens what has it."""
    tab.go(project.path + "/events")
    row = lambda: tab.page.evaluate(
        "[...document.querySelectorAll('[data-rows] .row')].indexOf(document.activeElement)")
    for key, expected in [("j", 0), ("j", 1), ("j", 2), ("k", 1)]:
        tab.page.keyboard.press(key)
        if row() != expected:
            raise Mistake(f"keys: after {key} row {row()} has the focus, not {expected}")
    require_marked(tab, "a row")
    href = tab.page.evaluate("document.activeElement.href")
    with tab.page.expect_navigation():
        tab.page.keyboard.press("Enter")
    if tab.page.url.split("#")[0] != href.split("#")[0]:
        raise Mistake(f"keys: Enter led to {tab.page.url}, not {href}")


def goes(tab, project):
    """`g` and a letter lead to a page; `s` to sending."""
    for letter, rest in [("o", ""), ("e", "/events"), ("d", "/deliveries"), ("n", "/endpoints"),
                         ("t", "/event-types"), ("m", "/meters"), ("r", "/recoveries"), ("k", "/keys"),
                         ("a", "/audit-log"), ("s", "/settings")]:
        tab.go(project.path + ("/events" if letter == "o" else ""))
        with tab.page.expect_navigation():
            tab.page.keyboard.press("g")
            tab.page.keyboard.press(letter)
        if not tab.page.url.endswith(project.path + rest):
            raise Mistake(f"keys: g {letter} led to {tab.page.url}")
    tab.go(project.path + "/events")
    with tab.page.expect_navigation():
        tab.page.keyboard.press("s")
    if not tab.page.url.split("?")[0].endswith("/send"):
        raise Mistake(f"keys: s led to {tab.page.url}")


def lists(tab, project):
    """`?` opens the list, Escape closes it; in it the keys can be turned off, which lasts."""
    tab.go(project.path + "/events")
    tab.page.keyboard.press("?")
    dialog = tab.page.locator("dialog[open]")
    dialog.wait_for()
    if found := tab.axe(["wcag2a", "wcag2aa", "wcag22aa", "best-practice"]):
        raise Mistake("keys: the list of keys: " + "\n".join(found))
    tab.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    tab.page.keyboard.press("?")
    tab.page.locator("dialog[open] [data-keys]").click()
    tab.page.keyboard.press("Escape")
    tab.go(project.path + "/events")
    tab.page.keyboard.press("j")
    if tab.page.evaluate("document.activeElement.matches('.row')"):
        raise Mistake("keys: they were turned off, and j moves")
    tab.page.context.clear_cookies(name="keys")


def writes(tab, project):
    """`/` goes to the search field and `f` to the first filter; there letters are letters."""
    tab.go(project.path + "/events")
    tab.page.keyboard.press("/")
    require_marked(tab, "the search field")
    tab.page.keyboard.type("gej?")
    if tab.page.evaluate("document.activeElement.value") != "gej?":
        raise Mistake("keys: what was typed in the search field did not stay there")
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("f")
    if not tab.page.evaluate("document.activeElement.matches('[data-first-filter]')"):
        raise Mistake("keys: f did not lead to the first filter")


def stops(tab, project):
    """With a modifier a key is the browser's."""
    tab.go(project.path + "/events")
    tab.page.keyboard.press("Control+j")
    if tab.page.evaluate("document.activeElement.matches('.row')"):
        raise Mistake("keys: Control and j moved")


def focus(tab, project):
    """Tab leads through a page, and each stop can be seen; the first skips to what is there."""
    for path in ["/events", "/endpoints", "/send"]:
        tab.go(project.path + path)
        tab.page.keyboard.press("Tab")
        if not tab.page.evaluate("document.activeElement.matches('.skip')"):
            raise Mistake(f"keys: the first stop of {path} does not skip the navigation")
        for _ in range(STEPS):
            tab.page.keyboard.press("Tab")
            # Behind the last stop there is the browser's own.
            if tab.page.evaluate("document.activeElement === document.body"):
                break
            require_marked(tab, path)


def require_marked(tab, what):
    if unmarked := tab.page.evaluate(MARKED):
        raise Mistake(f"keys: the focus at {what} cannot be seen: {unmarked} ({tab.picture('keys-focus')})")
