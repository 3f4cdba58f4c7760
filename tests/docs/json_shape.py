"""Whether JSON that a document shows is what really came."""

import re

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def difference(shown, real, path="$"):
    """Where the two differ, in words; None if they do not.

    Both have the same members, whatever their order, and the same values. A shown
    text stands for others where it has an ellipsis, `ep_…`; a time for any time.
    """
    if isinstance(shown, dict) and isinstance(real, dict):
        for name in shown.keys() | real.keys():
            if name not in real:
                return f"{path}.{name} is shown and did not come"
            if name not in shown:
                return f"{path}.{name} came and is not shown"
        members = ((f"{path}.{name}", shown[name], real[name]) for name in shown)
    elif isinstance(shown, list) and isinstance(real, list):
        if len(shown) != len(real):
            return f"{path} has {len(shown)} elements, and {len(real)} came"
        pairs = zip(shown, real)
        members = ((f"{path}[{n}]", *pair) for n, pair in enumerate(pairs))
    elif isinstance(shown, str) and isinstance(real, str):
        if TIME.fullmatch(shown):
            same = TIME.fullmatch(real)
        else:
            same = re.fullmatch(re.escape(shown).replace("…", ".*"), real, re.S)
        return None if same else f"{path} is shown as {shown!r}, and {real!r} came"
    else:
        # 1 and 1.0 are one number; true is none.
        same = shown == real and isinstance(shown, bool) == isinstance(real, bool)
        return None if same else f"{path} is shown as {shown!r}, and {real!r} came"
    found = (difference(shown, real, path) for path, shown, real in members)
    return next(filter(None, found), None)
