#!/usr/bin/env python3
"""Checks exported histories (docs/history.md), independently of the Rust checker: `check.py FILE..`.

Prints a line `OBJECT: linearizable` or `OBJECT: violation` for each object, and ends with 1 if there is a violation.
The search is that of Wing and Gong with the memory of Lowe: of the calls that no unplaced call precedes one is placed
next whose result fits, and two orders of the same calls with the same state are one.
"""

import json
import sys

IMPOSSIBLE = object()


def register(value, name, arguments):
    """The state after an operation, and its result."""
    if name == "load":
        return value, value
    if name == "store":
        return arguments[0], None
    if name == "swap":
        return arguments[0], value
    if name == "fetch_add":
        return (value + arguments[0] + 2**63) % 2**64 - 2**63, value
    if name == "compare_exchange":
        is_replaced = value == arguments[0]
        return (arguments[1] if is_replaced else value), [is_replaced, value]
    raise ValueError(f"a register has no operation {name!r}")


def queue(items, name, arguments):
    if name == "push":
        return items + (arguments[0],), None
    if name in ("pop", "try_pop"):
        if items:
            return items[1:], items[0]
        return (items, None) if name == "try_pop" else (items, IMPOSSIBLE)
    raise ValueError(f"a queue has no operation {name!r}")


def entry(value, name, arguments):
    if name == "get":
        return value, value
    if name == "insert":
        return arguments[0], value
    if name == "remove":
        return None, value
    if name == "compare_and_set":
        return (arguments[1], True) if value == arguments[0] else (value, False)
    raise ValueError(f"an entry has no operation {name!r}")


TYPES = {"register": (register, 0), "queue": (queue, ()), "entry": (entry, None)}


class Event:
    """The start or the end of a call, in a doubly linked list in the order of time."""

    def __init__(self, call, end=None):
        self.call, self.end, self.before, self.after = call, end, None, None

    def unlink(self):
        self.before.after = self.after
        if self.after:
            self.after.before = self.before

    def link(self):
        self.before.after = self
        if self.after:
            self.after.before = self


def events(calls):
    """The list's head. A call without an answer has no end: it may be placed anywhere behind its start, or nowhere."""
    timed = []
    for number, call in enumerate(calls):
        call["bit"] = 1 << number
        end = None if call["end"] is None else Event(call)
        timed.append((call["start"], 0, number, Event(call, end or True)))
        if end:
            timed.append((call["end"], 1, number, end))
    head = last = Event(None)
    # Of equal times the starts come first: such calls overlap.
    for *_, event in sorted(timed, key=lambda item: item[:3]):
        last.after, event.before, last = event, last, event
    return head


def is_linearizable(calls):
    step, state = TYPES[calls[0]["type"]]
    state = calls[0].get("initial", state)
    head = events(calls)
    unplaced = sum(call["end"] is not None for call in calls)
    placed, seen, stack = 0, set(), []
    event = head.after
    while unplaced:
        if event is not None and event.end is not None:
            call = event.call
            after, result = step(state, call["operation"], call["arguments"])
            fits = result is not IMPOSSIBLE and (call["end"] is None or result == call["result"])
            if fits and (placed | call["bit"], after) not in seen:
                placed |= call["bit"]
                seen.add((placed, after))
                stack.append((event, state))
                state = after
                event.unlink()
                if event.end is not True:
                    event.end.unlink()
                    unplaced -= 1
                event = head.after
            else:
                event = event.after
        elif stack:
            # An unplaced call ends before the next start, so the last placed one was the wrong one.
            event, state = stack.pop()
            placed ^= event.call["bit"]
            if event.end is not True:
                event.end.link()
                unplaced += 1
            event.link()
            event = event.after
        else:
            return False
    return True


def main(paths):
    objects = {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                call = json.loads(line)
                objects.setdefault(call["object"], []).append(call)
    violations = 0
    for name, calls in sorted(objects.items()):
        holds = is_linearizable(calls)
        violations += not holds
        print(f"{name}: {'linearizable' if holds else 'violation'}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
