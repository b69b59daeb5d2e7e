"""A client of Crucial in pure Python: shared objects of one server or of a cluster.

    import crucial

    with crucial.Client("127.0.0.1:7171") as client:
        hits = client.create("AtomicI64", "hits", value=40)
        print(hits.fetch_add(2))                                   # 40
        words = client.create("Map", "words", of={"K": "String", "V": "u64"}, entries=[])
        words.insert("a", 7)

It is written from docs/protocol.md alone, and numbers in comments are those of "What a client must do" there. A thread
of the client does all input and output; calls wait for it. Any number of threads may use one client.
"""

import collections
import collections.abc
import errno
import hashlib
import itertools
import json
import math
import operator
import os
import pathlib
import re
import secrets
import selectors
import socket
import struct
import threading
import time

VERSION = 2
MAGIC = b"CRUCIAL\0"
HELLO, CALL, OPEN, DELETE, CLEAR_POISON, CANCEL, PING, GOODBYE, IN_FLIGHT = range(1, 10)
CLEAR_NAMESPACE, KNOWN_ROUTES, INSPECT = 0x0C, 0x10, 0x11
WELCOME, RESULT, ERROR, REFUSED, ROUTES, MOVED = range(0x81, 0x87)
NO_PRIMARY = 0xFFFF
WELCOME_BYTES_MAX = 16 << 20

# In seconds. The page says which of these are a client's own choice.
CONNECT_TIMEOUT = 3.0
PAUSE_FIRST, PAUSE_LAST = 0.005, 0.5
MOVED_PAUSE_FIRST, MOVED_PAUSE_LAST = 0.005, 0.1
SILENCE = 0.25
SEEDS_AFTER = 0.5
GOODBYE_TIMEOUT = 2.0
CANCEL_TIMEOUT = 0.5
TICK = 0.05
PINGS_PER_LEASE = 3
# Duty 4: for so many leases a request may be sent again, and so many unanswered pings are remembered.
REPEAT_LEASES = 8
PINGS_REMEMBERED = 32
REPORT_AFTER = 1024
INSPECT_MAX = 10_000


# Errors

ERRORS = [
    ("Lost", [("object", "String")]),
    ("NotFound", [("type_name", "String"), ("key", "String")]),
    ("UnknownType", [("type_name", "String")]),
    ("UnknownMethod", [("type_name", "String"), ("method", "String"), ("known", "String")]),
    ("BadArguments", [("what", "String"), ("detail", "String")]),
    ("Encoding", [("what", "String"), ("detail", "String")]),
    ("Panicked", [("what", "String"), ("message", "String"), ("location", "String")]),
    ("Poisoned", [("what", "String"), ("message", "String"), ("location", "String")]),
    ("TimedOut", [("after", "Duration")]),
    ("Cancelled", []),
    ("LimitExceeded", [("limit", "String"), ("max", "u64"), ("detail", "String")]),
    ("Unavailable", [("address", "String"), ("reason", "String")]),
    ("SessionExpired", []),
    ("Protocol", [("detail", "String")]),
    ("Nested", []),
    ("WorkerDied", [("thread", "String"), ("reason", "String"), ("output", "Vec<String>")]),
    ("TimeLimit", [("thread", "String"), ("limit", "Duration")]),
    ("MemoryLimit", [("thread", "String"), ("limit_mb", "u32")]),
    ("Platform", [("thread", "String"), ("reason", "String")]),
    ("Config", [("detail", "String")]),
    ("Other", [("text", "String")]),
    ("OutOfBounds", [("index", "u64"), ("len", "u64")]),
    ("Broken", [("what", "String")]),
    ("LockLost", [("token", "u64")]),
    ("Fenced", []),
    ("Diverged", [("thread", "String"), ("position", "u64"), ("recorded", "String"), ("now", "String")]),
    ("Refused", [("reason", "String")]),
]


class Error(Exception):
    """A call failed. `kind` is the error's name in the protocol, `fields` is what it says."""

    def __init__(self, kind, **fields):
        self.kind = kind
        self.fields = fields
        said = ", ".join(f"{name} {value}" for name, value in fields.items())
        super().__init__(f"{kind}: {said}" if said else kind)

    def again(self):
        """The same error, to be raised once more: an exception has the stack of whoever raises it."""
        return Error(self.kind, **self.fields)


def decode_error(reader):
    number = reader.varint()
    if number >= len(ERRORS):
        return Error("Unknown", number=number)
    kind, fields = ERRORS[number]
    return Error(kind, **{name: decode(parse_type(text), reader) for name, text in fields})


# Types and values

Ok = collections.namedtuple("Ok", "value")
Err = collections.namedtuple("Err", "error")
WIDTHS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "usize": 64, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "isize": 64}
# How many types stand in the brackets of a type.
ARITIES = dict.fromkeys([*WIDTHS, "bool", "f32", "f64", "char", "String", "ByteBuf", "ID"], 0)
ARITIES |= {"Option": 1, "Vec": 1, "Result": 2}
BOOL = ("bool", ())


class Types:
    """The types that `crucial types --json` describes."""

    def __init__(self, description):
        self.types = {entry["name"]: entry for entry in description["types"]}
        self.named = {entry["name"]: entry for entry in description["named"]}

    @staticmethod
    def load(path=None):
        path = path or pathlib.Path(__file__).with_name("types.json")
        return Types(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))

    def find(self, name):
        entry = self.types.get(name) or self.types.get("crucial::" + name)
        if entry is None:
            raise Error("UnknownType", type_name=name)
        return entry


def parse_type(text, named=None, parameters=None):
    """A type, from Rust's text for it, as nested tuples: `("Vec", (("u64", ()),))`."""
    named = {**DURATION, **(named or {})}
    parameters = parameters or {}
    # The next one is the last.
    tokens = re.findall(r"[\w:]+|\S", text)[::-1]

    def several(close):
        items = []
        while tokens and tokens[-1] != close:
            items.append(one())
            if tokens and tokens[-1] == ",":
                tokens.pop()
            elif tokens and tokens[-1] != close:
                break
        if not tokens or tokens.pop() != close:
            raise ValueError(f"no type: {text!r}")
        return tuple(items)

    def one():
        name = tokens.pop() if tokens else ""
        if name == "(":
            return ("tuple", several(")"))
        inner = ()
        if tokens and tokens[-1] == "<":
            tokens.pop()
            inner = several(">")
        elif name in parameters:
            encoding, parameter = parameters[name]
            return (encoding, (parse_type(parameter, named),))
        elif name in named:
            entry = named[name]
            if "variants" in entry:
                return ("enum", tuple(entry["variants"]))
            fields = [(field["name"], parse_type(field["type"], named)) for field in entry["fields"]]
            return ("struct", tuple(fields))
        if ARITIES.get(name) != len(inner):
            raise ValueError(f"no type that is known here: {name!r} in {text!r}")
        return (name, inner)

    parsed = one()
    if tokens:
        raise ValueError(f"no type: {text!r}")
    return parsed


DURATION = {"Duration": {"fields": [{"name": "seconds", "type": "u64"}, {"name": "nanoseconds", "type": "u32"}]}}


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ValueError("a value that ends too early")
        self.at += count
        return bytes(taken)

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def blob(self):
        return self.take(self.varint())

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at} bytes too many")


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def blob(data):
    return varint(len(data)) + bytes(data)


def text(value):
    return blob(value.encode())


def checked(ty, value):
    """The value as its type has it. An error, if the server would take what is written for another value."""
    name, inner = ty

    def expect(holds, what):
        if not holds:
            raise TypeError(f"{what} is expected, and not {value!r}")

    if name in WIDTHS:
        low = -(1 << (WIDTHS[name] - 1)) if name[0] == "i" else 0
        high = low + (1 << WIDTHS[name])
        value = operator.index(value)
        if not low <= value < high:
            raise ValueError(f"{value} is not in {low}..{high}, as {name} is")
    elif name == "bool":
        expect(isinstance(value, bool), "True or False")
    elif name in ("f32", "f64"):
        expect(not isinstance(value, (str, bytes, bytearray)), "a number")
        value = float(value)
    elif name in ("String", "char"):
        expect(isinstance(value, str) and (name == "String" or len(value) == 1), f"text ({name})")
    elif name in ("ByteBuf", "ID"):
        # Of a view with wider items, all bytes.
        value = memoryview(value).tobytes()
        expect(name == "ByteBuf" or len(value) == 16, "an id of 16 bytes")
    elif name == "Vec":
        unordered = (str, collections.abc.Mapping, collections.abc.Set)
        expect(not isinstance(value, unordered), "a list")
    elif name == "tuple":
        expect(isinstance(value, (tuple, list)) and len(value) == len(inner), f"a tuple of {len(inner)}")
    elif name == "struct":
        fields = [field for field, _ in inner]
        expect(isinstance(value, dict) and sorted(value) == sorted(fields), f"a dict with {fields}")
    elif name == "enum":
        expect(value in inner, f"one of {list(inner)}")
    elif name == "Result":
        expect(isinstance(value, (Ok, Err)), "Ok(..) or Err(..)")
    return value


def encode(ty, value):
    """A value in postcard."""
    name, inner = ty
    value = checked(ty, value)
    if name in ("u8", "i8"):
        return bytes([value & 0xFF])
    if name in WIDTHS:
        if name[0] == "i":
            value = value << 1 if value >= 0 else (-value << 1) - 1
        return varint(value)
    if name == "bool":
        return bytes([value])
    if name in ("f32", "f64"):
        return struct.pack("<f" if name == "f32" else "<d", value)
    if name in ("String", "char"):
        return text(value)
    if name == "ByteBuf":
        return blob(value)
    if name == "ID":
        return value
    if name == "Option":
        return b"\0" if value is None else b"\1" + encode(inner[0], value)
    if name == "Vec":
        return varint(len(value)) + b"".join(encode(inner[0], item) for item in value)
    if name == "tuple":
        return b"".join(encode(part, item) for part, item in zip(inner, value))
    if name == "struct":
        return b"".join(encode(part, value[field]) for field, part in inner)
    if name == "enum":
        return varint(inner.index(value))
    if name == "Result":
        return b"\0" + encode(inner[0], value.value) if isinstance(value, Ok) else b"\1" + encode(inner[1], value.error)
    if name == "sealed":
        return blob(encode(inner[0], value))
    return blob(encode_sorted(inner[0], value))


def decode(ty, reader):
    """And back."""
    name, inner = ty
    if name in ("u8", "i8"):
        return int.from_bytes(reader.take(1), "little", signed=name == "i8")
    if name in WIDTHS:
        value = reader.varint()
        return (value >> 1) ^ -(value & 1) if name[0] == "i" else value
    if name == "bool":
        return reader.take(1) == b"\1"
    if name in ("f32", "f64"):
        size = int(name[1:]) // 8
        return struct.unpack("<f" if name == "f32" else "<d", reader.take(size))[0]
    if name in ("String", "char"):
        return reader.blob().decode()
    if name == "ByteBuf":
        return reader.blob()
    if name == "ID":
        return reader.take(16)
    if name == "Option":
        return decode(inner[0], reader) if reader.take(1) == b"\1" else None
    if name == "Vec":
        return [decode(inner[0], reader) for _ in range(reader.varint())]
    if name == "tuple":
        return tuple(decode(part, reader) for part in inner)
    if name == "struct":
        return {field: decode(part, reader) for field, part in inner}
    if name == "enum":
        return inner[reader.varint()]
    if name == "Result":
        return Ok(decode(inner[0], reader)) if reader.varint() == 0 else Err(decode(inner[1], reader))
    if name == "sealed":
        return decode_whole(inner[0], reader.blob())
    sorted_reader = Reader(reader.blob())
    value = decode_sorted(inner[0], sorted_reader)
    sorted_reader.end()
    return value


def decode_whole(ty, data):
    reader = Reader(data)
    value = decode(ty, reader)
    reader.end()
    return value


def encode_sorted(ty, value):
    """A key of an OrderedMap: bytes that compare as the values do."""
    name, inner = ty
    value = checked(ty, value)
    if name in WIDTHS:
        bits = WIDTHS[name]
        low = -(1 << (bits - 1)) if name[0] == "i" else 0
        return (value - low).to_bytes(bits // 8, "big")
    if name == "bool":
        return bytes([value])
    if name == "char":
        return ord(value).to_bytes(4, "big")
    if name in ("f32", "f64"):
        size = int(name[1:]) // 8
        # There is one NaN, which is positive, and one zero.
        value = math.nan if math.isnan(value) else value + 0.0
        number = int.from_bytes(struct.pack(">f" if size == 4 else ">d", value), "big")
        sign = 1 << (8 * size - 1)
        return (number ^ (2 * sign - 1) if number & sign else number | sign).to_bytes(size, "big")
    if name in ("String", "ByteBuf"):
        data = value.encode() if name == "String" else value
        groups = [data[start : start + 8] for start in range(0, len(data), 8)]
        marks = [9] * (len(groups) - 1) + [len(groups[-1])] if groups else []
        pieces = (group.ljust(8, b"\0") + bytes([mark]) for group, mark in zip(groups, marks))
        return (b"\1" if data else b"\0") + b"".join(pieces)
    if name == "Option":
        return b"\0" if value is None else b"\1" + encode_sorted(inner[0], value)
    if name == "Vec":
        return b"".join(b"\1" + encode_sorted(inner[0], item) for item in value) + b"\0"
    if name == "tuple":
        return b"".join(encode_sorted(part, item) for part, item in zip(inner, value))
    if name == "struct":
        return b"".join(encode_sorted(part, value[field]) for field, part in inner)
    if name == "enum":
        return bytes([inner.index(value)])
    if name == "Result":
        is_ok = isinstance(value, Ok)
        return b"\0" + encode_sorted(inner[0], value.value) if is_ok else b"\1" + encode_sorted(inner[1], value.error)
    raise TypeError(f"{name} is no key of an ordered map here")


def decode_sorted(ty, reader):
    name, inner = ty
    if name in WIDTHS:
        bits = WIDTHS[name]
        low = -(1 << (bits - 1)) if name[0] == "i" else 0
        return int.from_bytes(reader.take(bits // 8), "big") + low
    if name == "bool":
        return reader.take(1) == b"\1"
    if name == "char":
        return chr(int.from_bytes(reader.take(4), "big"))
    if name in ("f32", "f64"):
        size = int(name[1:]) // 8
        number = int.from_bytes(reader.take(size), "big")
        sign = 1 << (8 * size - 1)
        number = number ^ sign if number & sign else number ^ (2 * sign - 1)
        return struct.unpack(">f" if size == 4 else ">d", number.to_bytes(size, "big"))[0]
    if name in ("String", "ByteBuf"):
        data = b""
        if reader.take(1) == b"\1":
            mark = 9
            while mark == 9:
                group = reader.take(8)
                mark = reader.take(1)[0]
                data += group[: min(mark, 8)]
        return data.decode() if name == "String" else data
    if name == "Option":
        return decode_sorted(inner[0], reader) if reader.take(1) == b"\1" else None
    if name == "Vec":
        items = []
        while reader.take(1) == b"\1":
            items.append(decode_sorted(inner[0], reader))
        return items
    if name == "tuple":
        return tuple(decode_sorted(part, reader) for part in inner)
    if name == "struct":
        return {field: decode_sorted(part, reader) for field, part in inner}
    if name == "enum":
        return inner[reader.take(1)[0]]
    if name == "Result":
        is_ok = reader.take(1) == b"\0"
        return Ok(decode_sorted(inner[0], reader)) if is_ok else Err(decode_sorted(inner[1], reader))
    raise TypeError(f"{name} is no key of an ordered map here")


# Ids and frames


def object_id(namespace, type_name, key):
    digest = hashlib.sha256()
    for part in (namespace, type_name, key):
        data = part.encode()
        digest.update(struct.pack("<Q", len(data)) + data)
    return digest.digest()[:16]


def method_number(name):
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return number


def frame(kind, body=b""):
    return struct.pack("<IB", 1 + len(body), kind) + body


def numbered(kind, sequence, acked, body=b""):
    return frame(kind, struct.pack("<QQ", sequence, acked) + body)


def hello(session, run, owner, namespace, routes):
    body = varint(session) + run + bytes([owner]) + text(namespace)
    # No cloud thread runs here, so there is no attempt and there are no fences.
    return frame(HELLO, MAGIC + struct.pack("<H", VERSION) + body + b"\0" + varint(routes) + b"\0")


# How deep servers look into a type.
KIND_DEPTH_MAX = 4
KINDS = {"usize": "u64", "isize": "i64", "ByteBuf": "Vec<u8>"}


def kind(ty, depth=0):
    """The kind of value that a type is: by it an object of other values is refused. A `_` inside is any."""
    name, inner = ty
    if name in ("struct", "enum", "ID"):
        # Their names are not known here.
        raise LookupError(name)
    if name == "Result" or not inner:
        return "()" if ty == ("tuple", ()) else KINDS.get(name, name)
    if depth == KIND_DEPTH_MAX:
        return "_"
    first = kind(inner[0], depth + 1)
    if name != "tuple":
        return f"{name}<{first}>"
    if len(inner) == 1:
        return f"({first},)"
    if len(inner) <= 4:
        return f"({first}{', _' * (len(inner) - 1)})"
    return f"({first}, ..{len(inner)})"


def full_name(entry, parameters, named):
    """The name of a type with the kinds of its parameters: `crucial::Map<String, u64>`."""
    if not parameters:
        return entry["name"]
    kinds = []
    for _, parameter in parameters.values():
        try:
            kinds.append(parameter if parameter in named else kind(parse_type(parameter, named)))
        except LookupError:
            kinds.append("_")
    return f"{entry['name']}<{', '.join(kinds)}>"


def call_body(object_, number, timeout_ms, arguments):
    return object_ + struct.pack("<II", number, timeout_ms) + arguments


def open_body(type_name, key, persistent, mode, replicas, state):
    options = encode(BOOL, persistent) + bytes([mode]) + encode(("u8", ()), replicas)
    return text(type_name) + text(key) + options + blob(state)


def cancel(sequence, object_):
    return frame(CANCEL, struct.pack("<Q", sequence) + object_)


def in_flight(last, waiting):
    return frame(IN_FLIGHT, varint(last) + varint(len(waiting)) + b"".join(map(varint, waiting)))


def known_routes(version):
    return frame(KNOWN_ROUTES, struct.pack("<Q", version))


RouteServer = collections.namedtuple("RouteServer", "node incarnation address")


class Routes:
    """Where the objects of a cluster are."""

    def __init__(self, cluster, version, servers, primaries):
        self.cluster = cluster
        self.version = version
        self.servers = servers
        self.primaries = primaries

    @staticmethod
    def read(reader):
        cluster, version = reader.varint(), reader.varint()
        servers = [
            RouteServer(reader.varint(), reader.varint(), reader.blob().decode()) for _ in range(reader.varint())
        ]
        return Routes(cluster, version, servers, [reader.varint() for _ in range(reader.varint())])

    def partition(self, object_):
        return int.from_bytes(object_[:2], "big") * len(self.primaries) >> 16

    def primary(self, object_):
        """The key of the server that answers for an object, if there is one now."""
        place = self.primaries[self.partition(object_)] if self.primaries else NO_PRIMARY
        if place >= len(self.servers):
            return None
        return self.servers[place].node, self.servers[place].incarnation

    def key_of(self, node):
        return next(((s.node, s.incarnation) for s in self.servers if s.node == node), None)


class Welcome:
    def __init__(self, reader):
        self.resumed = reader.take(1) == b"\1"
        self.lease = reader.varint() / 1000
        self.frame_bytes_max = reader.varint()
        self.features = reader.varint()
        self.node = reader.varint()
        self.routes = Routes.read(reader)
        reader.end()


# Connections


def split_address(address):
    """Host and port, or the path of a Unix socket and None."""
    if address.startswith("unix:") and len(address) > len("unix:"):
        path = address[len("unix:") :]
        # An abstract socket of Linux.
        return "\0" + path[1:] if path.startswith("@") else path, None
    host, _, port = address.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not host or ":" in host and not is_bracketed or not port.isdecimal() or int(port) >= 1 << 16:
        what = "HOST:PORT (an IPv6 address in brackets) or unix:PATH is expected"
        raise ValueError(f"{address!r} is no address: {what}")
    return host[1:-1] if is_bracketed else host, int(port)


def resolve(address, flags=0):
    """Where an address leads: each family of sockets, with what such a socket connects to."""
    host, port = split_address(address)
    if port is None:
        return [(socket.AF_UNIX, host)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, where) for family, _, _, _, where in found]


def open_socket(family, where):
    """A socket that connects, without waiting for it."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    status = sock.connect_ex(where)
    if status not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(status, os.strerror(status))
    return sock


class Connection:
    """A connection: on its way, or open and greeting, or in use by a server of the routes."""

    def __init__(self, address, server):
        self.address = address
        self.server = server
        # Where the address leads besides, and why it was not reached so far.
        self.targets = []
        self.failure = None
        self.sock = None
        self.is_open = self.is_welcome = self.is_closed = False
        self.routes_said = 0
        self.input = bytearray()
        self.output = bytearray()
        self.deadline = self.ping_every = self.ping_at = math.inf
        self.heard = 0.0
        # When pings were sent that have no answer, by their sequences; and the last that has one (duty 4).
        self.pings = {}
        self.vouched = 0.0


class Server:
    """A server in one of its incarnations. What one incarnation knew of a session, the next does not."""

    def __init__(self, key, address):
        self.key = key
        self.address = address
        self.connection = None
        # Why there is no connection.
        self.failure = None
        self.wanted = False
        self.retry_at = 0.0
        self.pause = PAUSE_FIRST

    @property
    def is_up(self):
        return self.connection is not None and self.connection.is_welcome


def awake_or_asleep():
    """A clock that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Pending:
    """A request that is not answered yet."""

    def __init__(self, client, kind, body, object_=None, server=None, read=None):
        self.client = client
        self.kind = kind
        self.body = body
        self.object = object_
        self.server_key = server
        self.read = read
        self.sequence = 0
        self.done = threading.Event()
        self.result = None
        self.error = None
        self.sent = None
        self.tried = False
        # When a server was last certain to keep its result (duty 4).
        self.vouched = 0.0
        self.since = time.monotonic()
        self.withdrawn = False

    def wait(self, timeout=None):
        """The result; raises the call's Error. After `timeout` seconds the call is withdrawn, and the error is TimedOut.
        If the server does not say soon that it has withdrawn the call, nobody knows whether the call has an effect."""
        is_late = False
        try:
            if not self.done.wait(timeout):
                is_late = True
                self.cancel()
                # An answer can be on its way.
                self.done.wait(CANCEL_TIMEOUT)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if is_late and (not self.done.is_set() or self.error is not None and self.error.kind == "Cancelled"):
            seconds, part = divmod(timeout, 1)
            raise Error("TimedOut", after={"seconds": int(seconds), "nanoseconds": int(1e9 * part)})
        if self.error is not None:
            raise self.error.again()
        return self.read(self.result) if self.read else self.result

    def cancel(self):
        """Withdraws the call, if it is parked."""
        self.client._cancel(self)


class Hold:
    """An object with a call that was answered "moved": nothing of the object is sent before it is due."""

    def __init__(self):
        self.due = None
        self.pause = MOVED_PAUSE_FIRST
        self.needs = 0


class Client:
    """A session with a server, or with the servers of a cluster.

    `addresses` names one server or several, with commas between. A client owns its run: the ephemeral objects go with
    it. To be a member of a run that another client owns, give its `run` (16 bytes, or their hexadecimal digits, as in
    `CRUCIAL_RUN`) and `owner=False`. `patience` is for how many seconds a call waits for a connection.
    """

    def __init__(self, addresses, *, run=None, owner=True, namespace="default", patience=30.0, types=None):
        # A mistake is the caller's, and must not come up in the client's thread.
        self.types = types or Types.load()
        self.seeds = [address.strip() for address in addresses.split(",")]
        for address in self.seeds:
            split_address(address)
        run = secrets.token_bytes(16) if run is None else run
        self.run = checked(("ID", ()), bytes.fromhex(run) if isinstance(run, str) else run)
        self.owner = checked(BOOL, owner)
        self.namespace = checked(("String", ()), namespace)
        self.patience = min(max(0.0, checked(("f64", ()), patience)), threading.TIMEOUT_MAX)
        # The shortest that was told.
        self.lease = math.inf
        # The highest bit marks the session of an exactly-once thread.
        self.session = secrets.randbits(63)
        self.routes = None
        self.servers = {}
        self.touched = set()
        self.frame_bytes_max = WELCOME_BYTES_MAX
        self.last = 0
        self.reported = 0
        self.in_flight = {}
        self.held = {}
        self.probes = []
        self.seeds_at = 0.0
        # Why each seed did not take this client when it was asked last, by its address.
        self.failures = {}
        self.look_at = 0.0
        self.ended = None
        self.anonymous = itertools.count()
        self.lock = threading.RLock()
        self.ready = threading.Event()
        self.selector = selectors.DefaultSelector()
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.woken.setblocking(False)
        self.selector.register(self.woken, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self._work, name="crucial", daemon=True)
        self.thread.start()
        self.ready.wait(self.patience)
        with self.lock:
            if self.routes is None and self.ended is None:
                self._end(self._no_seed())
            if self.routes is None:
                raise self.ended.again()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Objects

    def create(self, type_name, key=None, *, of=None, persistent=False, replicas=0, recreate=False, **fields):
        """Finds an object, or makes it with these fields of its state. Without a key it is a new one."""
        entry = self.types.find(type_name)
        parameters = bind(entry, of, self.types.named)
        if entry["state"] is None:
            how = "find an object that the program has made, or add its `state` to the description"
            raise TypeError(f"no description says what {entry['name']} consists of: {how}")
        state = b"".join(self._field(field, parameters, fields) for field in entry["state"])
        if fields:
            raise TypeError(f"{entry['name']} has no field {next(iter(fields))}")
        if key is None:
            key = f"#{self.session:016x}.{next(self.anonymous)}"
        return self._open(entry, key, parameters, persistent, 2 if recreate else 1, replicas, state)

    def find(self, type_name, key, *, of=None, persistent=False):
        """Finds an object; raises NotFound if there is none."""
        entry = self.types.find(type_name)
        return self._open(entry, key, bind(entry, of, self.types.named), persistent, 0, 0, b"")

    def _field(self, field, parameters, fields):
        ty = parse_type(field["type"], self.types.named, parameters)
        if field["name"] in fields:
            return encode(ty, fields.pop(field["name"]))
        initial = {"0": 0, "1": 1, "false": False, "None": None, "[]": []}
        if "initial" in field:
            return encode(ty, initial[field["initial"]])
        if field["type"].startswith("Option"):
            return encode(ty, None)
        raise TypeError(f"the field {field['name']} is missing")

    def _open(self, entry, key, parameters, persistent, mode, replicas, state):
        home = f"ns/{self.namespace}" if persistent else f"run/{self.run.hex()}"
        object_ = object_id(home, entry["name"], key)
        name = full_name(entry, parameters, self.types.named)
        body = open_body(name, key, persistent, mode, replicas, state)
        created = self._submit(Pending(self, OPEN, body, object_, read=read_bool)).wait()
        return Object(self, entry, key, object_, parameters, created)

    # Requests that are about no object

    def ping(self):
        """Makes a round trip to some server."""
        self._submit(Pending(self, PING, b"")).wait()

    def clear_namespace(self):
        """Removes the persistent objects of the namespace; how many there were."""
        return sum(self._everywhere(CLEAR_NAMESPACE, b"", lambda data: decode_whole(("u64", ()), data)))

    def cluster_infos(self):
        """What each server says of its cluster."""
        return self._everywhere(INSPECT, varint(0), lambda data: decode_whole(CLUSTER_INFO, data))

    def objects(self, limit=1000, key=None, after=None):
        """The first objects behind the id `after`, in the order of their ids; only those with this key, if there is
        one."""
        found = []
        only = b"\0" if key is None else b"\1" + text(key)
        while len(found) < limit:
            count = min(limit - len(found), INSPECT_MAX)
            body = varint(1) + encode(("Option", (("ID", ()),)), after) + varint(count) + only
            answers = self._everywhere(INSPECT, body, lambda data: decode_whole(OBJECT_INFOS, data))
            # An object that has just moved is there twice. Each server was asked for `count`, so none is left out.
            infos = {info["id"]: info for info in itertools.chain(*answers)}
            page = [infos[object_] for object_ in sorted(infos)[:count]]
            found += page
            if len(page) < count:
                break
            after = page[-1]["id"]
        return found

    def replicas(self, limit=1000):
        """What each server has of each object; at most 10 000 of each server."""
        read = lambda data: decode_whole(REPLICA_INFOS, data)
        return list(itertools.chain(*self._everywhere(INSPECT, varint(2) + varint(min(limit, INSPECT_MAX)), read)))

    def _everywhere(self, kind, body, read):
        """The answers of all servers, also of those that join meanwhile."""
        asked, answers = set(), []
        while True:
            with self.lock:
                keys = [key for key in self.servers if key not in asked]
                requests = [self._submit(Pending(self, kind, body, server=key, read=read)) for key in keys]
            if not requests:
                return answers
            asked.update(keys)
            for request in requests:
                try:
                    answers.append(request.wait())
                except Error:
                    # A server that is no member any more has nothing to say.
                    if request.server_key in self.servers or self.ended is not None:
                        raise

    def close(self):
        """Ends the session, and with an owner's its run."""
        with self.lock:
            if self.ended is None:
                up = [server.key for server in self.servers.values() if server.is_up]
                requests = [self._submit(Pending(self, GOODBYE, b"", server=key)) for key in up]
                self.ended = Error("Cancelled")
            else:
                requests = []
        until = time.monotonic() + GOODBYE_TIMEOUT
        for request in requests:
            request.done.wait(max(0.0, until - time.monotonic()))
        with self.lock:
            self._end(Error("Cancelled"))
        if threading.current_thread() is not self.thread:
            self.thread.join(GOODBYE_TIMEOUT)

    # Requests in flight

    def _submit(self, pending):
        with self.lock:
            if self.ended is not None:
                raise self.ended.again()
            size = 17 + len(pending.body)
            if size > self.frame_bytes_max:
                detail = f"a request of {size} bytes"
                raise Error("LimitExceeded", limit="frame_bytes_max", max=self.frame_bytes_max, detail=detail)
            self.last += 1
            pending.sequence = self.last
            self.in_flight[self.last] = pending
            if pending.object is not None:
                # The first bytes say which partition.
                self.touched.add(pending.object[:2])
            self._report()
            self._send_waiting([pending])
        self._wake()
        return pending

    def _cancel(self, pending):
        with self.lock:
            if pending.object is None or pending.done.is_set():
                return
            pending.withdrawn = True
            if pending.sent is not None:
                self._write(pending.sent, cancel(pending.sequence, pending.object))
        self._wake()

    def _complete(self, pending, result=None, error=None):
        self.in_flight.pop(pending.sequence, None)
        if pending.object in self.held and self.held[pending.object].due is None:
            del self.held[pending.object]
        pending.result, pending.error = result, error
        pending.done.set()

    def _fail(self, error, which):
        for pending in [pending for pending in self.in_flight.values() if which(pending)]:
            self._complete(pending, error=error)

    def _lowest(self):
        """The lowest sequence whose answer is waited for."""
        # A dict keeps the order in which sequences were given out.
        return next(iter(self.in_flight), self.last + 1)

    def _number_aside(self):
        """A sequence for a request whose answer nobody waits for."""
        self.last += 1
        return self.last, min(self._lowest(), self.last)

    def _report(self):
        """Duty 6: one call that waits for long holds `acked` up."""
        patience = max(REPORT_AFTER, 2 * len(self.in_flight))
        if self.last - self._lowest() < patience or self.last - self.reported < patience:
            return
        self.reported = self.last
        for server in self.servers.values():
            if server.is_up:
                self._write(server.connection, in_flight(self.last, list(self.in_flight)))

    def _server_of(self, pending):
        if self.routes is None:
            return None
        if pending.object is not None:
            return self.servers.get(self.routes.primary(pending.object))
        if pending.server_key is not None:
            return self.servers.get(pending.server_key)
        up = [server for server in self.servers.values() if server.is_up]
        return next(iter(up or self.servers.values()), None)

    def _is_held(self, pending):
        hold = self.held.get(pending.object)
        return hold is not None and hold.due is not None

    def _send_waiting(self, requests=None):
        """Sends what is not sent, in the order of the sequences."""
        for pending in list(self.in_flight.values()) if requests is None else requests:
            if pending.sent is not None or self._is_held(pending):
                continue
            server = self._server_of(pending)
            if server is None:
                continue
            server.wanted = True
            if server.is_up:
                self._send(pending, server)

    def _send(self, pending, server):
        if self._is_too_old(pending):
            return self._complete(pending, error=Error("SessionExpired"))
        connection = server.connection
        acked = self._lowest()
        self._write(connection, numbered(pending.kind, pending.sequence, acked, pending.body))
        if pending.withdrawn:
            self._write(connection, cancel(pending.sequence, pending.object))
        if not pending.tried:
            pending.vouched = awake_or_asleep()
        pending.sent, pending.tried = connection, True

    def _unsend(self, pending):
        if pending.sent is not None:
            pending.vouched = max(pending.vouched, pending.sent.vouched)
        pending.sent, pending.since = None, time.monotonic()

    def _is_too_old(self, pending):
        """Duty 4: the servers may have forgotten the result, and would execute the request again."""
        vouched = max(pending.vouched, pending.sent.vouched if pending.sent is not None else 0.0)
        return pending.tried and awake_or_asleep() - vouched > REPEAT_LEASES * self.lease

    # Answers

    def _on_frame(self, connection, kind, body):
        reader = Reader(body)
        if not connection.is_welcome:
            if kind == WELCOME:
                return self._on_welcome(connection, Welcome(reader))
            if kind == REFUSED:
                return self._on_refused(connection, decode_error(reader))
            raise ValueError("not a Crucial server")
        if kind in (RESULT, ERROR):
            # A call that was sent twice is answered twice. Where it was sent before, it may have found nothing to do
            # (duty 5). The answer of a ping says that the session lives there.
            sequence = reader.number(8)
            if sequence in connection.pings and kind == RESULT:
                connection.vouched = connection.pings[sequence]
                connection.pings = {later: at for later, at in connection.pings.items() if later > sequence}
            pending = self.in_flight.get(sequence)
            if pending is not None and pending.sent is not connection:
                pending = None
            if pending is not None and kind == RESULT:
                self._complete(pending, result=reader.rest())
            elif pending is not None:
                self._complete(pending, error=decode_error(reader))
        elif kind == ROUTES:
            self._take_routes(Routes.read(reader), connection)
        elif kind == MOVED:
            self._on_moved(connection, reader.number(8), reader.number(8))
        elif kind == REFUSED:
            self._on_refused(connection, decode_error(reader))
        else:
            raise ValueError(f"a frame of the unknown kind {kind}")

    def _on_welcome(self, connection, welcome):
        routes = welcome.routes
        if self.routes is not None and routes.cluster != self.routes.cluster:
            is_connected = any(server.is_up for server in self.servers.values())
            if is_connected or list(self.servers.values()) != [connection.server]:
                raise ValueError("a server of another cluster")
            # Duty 12: the only server was started again, as another cluster. It knows nothing of this session.
            self._fail(Error("SessionExpired"), lambda pending: pending.tried)
            self._forget_cluster(connection)
        self._take_routes(routes, connection)
        server = self.servers.get(self.routes.key_of(welcome.node))
        if server is None or (server.connection is not None and server.is_up):
            return self._close(connection)
        if server.connection is not None and server.connection is not connection:
            self._close(server.connection)
        if connection.server is not None and connection.server is not server:
            connection.server.connection = None
        now = time.monotonic()
        server.connection, connection.server = connection, server
        server.pause, server.wanted = PAUSE_FIRST, True
        connection.is_welcome, connection.heard = True, now
        self.lease = min(self.lease, welcome.lease)
        connection.ping_every = welcome.lease / PINGS_PER_LEASE
        connection.ping_at = now + connection.ping_every
        self.frame_bytes_max = welcome.frame_bytes_max
        if connection in self.probes:
            self.probes.remove(connection)
        if not welcome.resumed:
            # Duty 11: this server has ended the session; what it was sent may or may not have been executed.
            self._fail(Error("SessionExpired"), lambda p: p.tried and self._server_of(p) is server)
        if connection.routes_said != self.routes.version:
            self._write(connection, known_routes(self.routes.version))
        self.ready.set()
        # Duty 4: all that is not answered, in the order of its sequences, before anything new. A hold ends here, as all
        # calls of its object are sent.
        for object_ in [o for o in self.held if self.servers.get(self.routes.primary(o)) is server]:
            del self.held[object_]
        self._send_waiting()

    def _forget_cluster(self, but):
        for server in self.servers.values():
            if server.connection is not None and server.connection is not but:
                self._close(server.connection)
        but.server = None
        self.routes, self.servers = None, {}
        self.held.clear()

    def _on_refused(self, connection, error):
        connection.failure = error
        if error.kind == "Fenced":
            return self._end(error)
        if connection.is_welcome and error.kind != "Unavailable":
            # Duty 10: what was sent on this connection would be refused again.
            self._fail(error, lambda pending: pending.sent is connection)
        elif connection.server is not None and error.kind != "Unavailable":
            self._fail(error, lambda pending: self._server_of(pending) is connection.server)
        self._close(connection)

    def _take_routes(self, routes, connection):
        """Duty 7: takes newer routes up, and sends what they move."""
        old = self.routes
        if old is not None and routes.cluster != old.cluster:
            raise ValueError("routes of another cluster")
        if old is not None and routes.version <= old.version:
            return
        known, self.servers = self.servers, {}
        for entry in routes.servers:
            key = entry.node, entry.incarnation
            # An empty address means: where this connection goes.
            self.servers[key] = known.pop(key, None) or Server(key, entry.address or connection.address)
        self.routes = routes
        # By routes that were skipped a server can have lost an object and got it back, and with the object the order of
        # its calls: all are sent again, before new ones.
        has_skipped = old is not None and routes.version > old.version + 1
        for server in self.servers.values():
            if server.is_up:
                self._write(server.connection, known_routes(routes.version))
        for server in known.values():
            # The connection on which the news came is closed by its server.
            if server.connection is not None and server.connection is not connection:
                self._close(server.connection)
        gone = Error("Unavailable", address="the cluster", reason="the server is no member any more")
        self._fail(gone, lambda p: p.server_key is not None and p.server_key not in self.servers)
        released = {object_ for object_, hold in self.held.items() if hold.needs <= routes.version}
        for object_ in released:
            del self.held[object_]
        for pending in self.in_flight.values():
            if pending.object is None or pending.sent is None:
                continue
            server = self._server_of(pending)
            has_moved = server is None or pending.sent is not server.connection
            if has_skipped or has_moved or pending.object in released or self._is_held(pending):
                self._unsend(pending)
        # Duty 2: the session is kept alive where it may have something.
        for part in self.touched:
            server = self.servers.get(routes.primary(part))
            if server is not None:
                server.wanted = True
        if self.owner:
            for server in self.servers.values():
                server.wanted = True
        self._send_waiting()

    def _on_moved(self, connection, sequence, version):
        """Duty 8: the call was not executed, and is sent again."""
        pending = self.in_flight.get(sequence)
        if pending is None or pending.object is None or pending.sent is not connection:
            return
        self._unsend(pending)
        hold = self.held.setdefault(pending.object, Hold())
        hold.needs = max(hold.needs, version)
        if hold.due is None:
            pause = MOVED_PAUSE_LAST if version > self.routes.version else hold.pause
            hold.due = time.monotonic() + pause
            hold.pause = min(2 * pause, MOVED_PAUSE_LAST)

    # The thread

    def _work(self):
        try:
            self._serve()
        except BaseException as error:
            # A mistake of this client. Nobody must wait for a thread that is not there.
            with self.lock:
                self._end(Error("Other", text=f"the client's thread has failed: {error!r}"))
            raise
        finally:
            with self.lock:
                self.selector.close()
            self.waker.close()
            self.woken.close()

    def _serve(self):
        while True:
            with self.lock:
                if self.ended is not None and self.routes is None:
                    return
                if self.ended is None:
                    self._look_around(time.monotonic())
                timeout = self._timeout(time.monotonic())
            for key, events in self.selector.select(timeout):
                with self.lock:
                    if key.data is None:
                        self.woken.recv(4096)
                    elif key.data.sock is key.fileobj:
                        self._on_ready(key.data, events)

    def _timeout(self, now):
        """How long the thread may wait for its sockets."""
        if self.ended is not None:
            # Only answers to goodbyes are waited for.
            return TICK
        is_busy = self.in_flight or self.held or self.probes or self.routes is None
        is_whole = all(server.is_up or not server.wanted for server in self.servers.values())
        dues = [now + (TICK if is_busy or not is_whole else 4 * TICK)]
        dues += [hold.due for hold in self.held.values() if hold.due is not None]
        dues += [server.connection.ping_at for server in self.servers.values() if server.is_up]
        return max(0.0, min(dues) - now)

    def _wake(self):
        if threading.current_thread() is not self.thread:
            try:
                self.waker.send(b"\0")
            except OSError:
                pass

    def _on_ready(self, connection, events):
        try:
            if not connection.is_open:
                self._greet(connection)
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ:
                self._read(connection)
        except OSError as error:
            connection.failure = error
            self._close(connection) if connection.is_open else self._connect(connection)
        except (ValueError, LookupError, ArithmeticError, struct.error) as error:
            # Not what the page says: another program, say.
            connection.failure = Error("Protocol", detail=str(error))
            self._on_refused(connection, connection.failure) if connection.is_welcome else self._close(connection)

    def _read(self, connection):
        data = connection.sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError
        connection.heard = time.monotonic()
        connection.input += data
        while len(connection.input) >= 4 and not connection.is_closed:
            (length,) = struct.unpack_from("<I", connection.input)
            if length == 0 or not connection.is_welcome and length > WELCOME_BYTES_MAX:
                raise ValueError("not a Crucial server")
            if len(connection.input) < 4 + length:
                break
            whole = bytes(connection.input[4 : 4 + length])
            del connection.input[: 4 + length]
            self._on_frame(connection, whole[0], whole[1:])

    def _write(self, connection, data):
        connection.output += data
        if connection.is_welcome:
            self._flush(connection)

    def _flush(self, connection):
        try:
            while connection.output:
                sent = connection.sock.send(connection.output)
                del connection.output[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # The thread finds the end of the connection when it reads.
            connection.output.clear()
        try:
            write = selectors.EVENT_WRITE if connection.output else 0
            self.selector.modify(connection.sock, selectors.EVENT_READ | write, connection)
        except (KeyError, ValueError):
            pass

    def _dial(self, address, server):
        """Begins a connection to a server of the routes; to a seed, without one."""
        connection = Connection(address, server)
        if server is None:
            self.probes.append(connection)
        else:
            server.connection = connection
        try:
            connection.targets = resolve(address, socket.AI_NUMERICHOST)
        except socket.gaierror:
            # A name. To look it up can take long, and nobody is to wait for that.
            threading.Thread(target=self._look_up, args=(connection,), name="crucial-names", daemon=True).start()
        except (OSError, ValueError) as error:
            connection.failure = error
            self._close(connection)
        else:
            self._connect(connection)

    def _look_up(self, connection):
        try:
            targets = resolve(connection.address)
        except (OSError, ValueError) as error:
            targets, connection.failure = [], error
        with self.lock:
            if not connection.is_closed:
                connection.targets = targets
                self._connect(connection)
        self._wake()

    def _connect(self, connection):
        """Tries the next place where the address leads."""
        self._drop_socket(connection)
        while connection.targets and connection.sock is None:
            try:
                connection.sock = open_socket(*connection.targets.pop(0))
            except OSError as error:
                connection.failure = error
        if connection.sock is None:
            return self._close(connection)
        connection.deadline = time.monotonic() + CONNECT_TIMEOUT
        self.selector.register(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _greet(self, connection):
        status = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))
        connection.is_open = True
        connection.deadline = time.monotonic() + CONNECT_TIMEOUT
        connection.routes_said = self.routes.version if self.routes else 0
        connection.output += hello(self.session, self.run, self.owner, self.namespace, connection.routes_said)

    def _drop_socket(self, connection):
        if connection.sock is None:
            return
        try:
            self.selector.unregister(connection.sock)
        except (KeyError, ValueError):
            pass
        connection.sock.close()
        connection.sock = None

    def _close(self, connection):
        """The connection is of no use any more: its calls wait for another."""
        connection.is_closed = True
        self._drop_socket(connection)
        if connection in self.probes:
            self.probes.remove(connection)
            self.failures[connection.address] = connection.failure
        server = connection.server
        if server is not None and server.connection is connection:
            server.connection = None
            server.failure = connection.failure
            server.retry_at = time.monotonic() + server.pause
            server.pause = min(2 * server.pause, PAUSE_LAST)
        broken = [pending for pending in self.in_flight.values() if pending.sent is connection]
        for pending in broken:
            self._unsend(pending)
            if pending.kind == GOODBYE:
                # A server that cannot be reached sees that the session is silent.
                self._complete(pending, error=Error("Cancelled"))
        # A request that any server can answer goes to another one.
        self._send_waiting([p for p in broken if p.object is None and p.server_key is None])

    def _look_around(self, now):
        if self.routes is not None:
            self._send_held(now)
        # Duty 2: signs of life. The server need not answer.
        for server in self.servers.values():
            if server.is_up and now >= server.connection.ping_at:
                server.connection.ping_at = now + server.connection.ping_every
                sequence, acked = self._number_aside()
                if len(server.connection.pings) < PINGS_REMEMBERED:
                    server.connection.pings[sequence] = awake_or_asleep()
                self._write(server.connection, numbered(PING, sequence, acked))
        if now < self.look_at:
            return
        self.look_at = now + TICK
        connections = self.probes + [server.connection for server in self.servers.values()]
        for connection in connections:
            if connection is not None and not connection.is_welcome and now > connection.deadline:
                connection.failure = TimeoutError(f"no answer for {CONNECT_TIMEOUT} s")
                self._close(connection) if connection.is_open else self._connect(connection)
        for server in self.servers.values():
            # Duty 3: connect again, with pauses.
            if server.wanted and server.connection is None and now >= server.retry_at:
                self._dial(server.address, server)
        self._ask_seeds(now)
        self._ask_others(now)
        self._fail_stranded(now)

    def _ask_seeds(self, now):
        """Duty 9: while no server is connected, any of the seeds may know the present members."""
        if self.routes is None and not self.probes:
            refusals = [failure.kind for failure in self.failures.values() if isinstance(failure, Error)]
            if refusals and "Unavailable" not in refusals:
                # Whoever is there does not take this client, and will not.
                return self._end(self._no_seed())
        if any(server.is_up for server in self.servers.values()):
            self.seeds_at = now + SEEDS_AFTER
        elif now >= self.seeds_at and not self.probes:
            self.seeds_at = now + SEEDS_AFTER
            for address in self.seeds:
                # A server that is dialled by its address needs no probe.
                if not any(server.wanted and server.address == address for server in self.servers.values()):
                    self._dial(address, None)

    def _no_seed(self):
        """What one of the seeds has said; else, that none can be reached."""
        for failure in self.failures.values():
            if isinstance(failure, Error) and failure.kind != "Unavailable":
                return failure
        reasons = []
        for address in self.seeds:
            failure = self.failures.get(address) or "no answer"
            said = failure.fields.get("reason") if isinstance(failure, Error) else failure
            reasons.append(f"{address}: {said}")
        return Error("Unavailable", address=", ".join(self.seeds), reason="; ".join(reasons))

    def _ask_others(self, now):
        """Duty 9: where a server with calls is away or silent, others may have newer routes."""
        if self.routes is None or all(server.is_up for server in self.servers.values()):
            return
        for pending in self.in_flight.values():
            server = self._server_of(pending)
            if server is None or not server.is_up or now - server.connection.heard >= SILENCE:
                for other in self.servers.values():
                    other.wanted = True
                return

    def _send_held(self, now):
        for object_, hold in list(self.held.items()):
            if hold.due is None or now < hold.due:
                continue
            server = self.servers.get(self.routes.primary(object_))
            if hold.needs > self.routes.version:
                for other in self.servers.values():
                    other.wanted = True
            if server is None or not server.is_up:
                hold.due = now + MOVED_PAUSE_LAST
                continue
            hold.due = None
            # All calls of the object, so that they keep their order.
            for pending in self.in_flight.values():
                if pending.object == object_:
                    self._send(pending, server)

    def _fail_stranded(self, now):
        """Duty 9: requests that could not be sent for as long as the user has patience."""
        for pending in list(self.in_flight.values()):
            if pending.sent is not None:
                continue
            if self._is_too_old(pending):
                self._complete(pending, error=Error("SessionExpired"))
                continue
            server = self._server_of(pending)
            if server is not None and server.is_up and self._is_held(pending):
                # It has been sent, and is to be sent again.
                pending.since = now
            elif now - pending.since > self.patience:
                address = server.address if server else "the cluster"
                reason = f"no connection for {self.patience} s"
                if server is not None and server.failure is not None:
                    reason += f": {server.failure}"
                self._complete(pending, error=Error("Unavailable", address=address, reason=reason))

    def _end(self, error):
        if self.ended is None or self.ended.kind == "Cancelled":
            self.ended = error
        self._fail(error, lambda _: True)
        for connection in self.probes + [server.connection for server in self.servers.values()]:
            if connection is not None:
                self._close(connection)
        self.routes, self.servers = None, {}
        self.ready.set()
        self._wake()


def bind(entry, of, named):
    """The type parameters of a type, with what they stand for."""
    of = of or {}
    encodings = {parameter["name"]: parameter["encoding"] for parameter in entry["parameters"]}
    if sorted(encodings) != sorted(of):
        raise TypeError(f"{entry['name']} has the type parameters {list(encodings)}, and not {list(of)}")
    for name in encodings:
        parse_type(of[name], named)
    return {name: (encoding, of[name]) for name, encoding in encodings.items()}


def read_bool(data):
    return decode_whole(BOOL, data)


def inspect_types():
    """The results of inspect, as the page lists them."""
    named = {
        "Member": "node: u64, incarnation: u64, address: String, leaving: bool",
        "Partition": "epoch: u64, servers: Vec<(u8, u64)>, is_settled: bool, is_amnesic: bool",
        "Cluster": "cluster: u64, node: u64, view: u64, has_lease: bool, objects: u64, leader: Option<u64>, "
        "voters: Vec<u64>, members: Vec<Member>, partitions: Vec<Partition>",
        "Replica": "id: ID, version: (u64, u64), checksum: Option<u64>",
        "ObjectInfo": "id: ID, type_name: String, key: String, home: String, partition: u16, replicas: u8, "
        "servers: Vec<u64>, is_lost: bool, version: (u64, u64), parked: u64, records: u64",
    }
    fields = lambda text: [dict(zip(("name", "type"), part.split(": "))) for part in split_fields(text)]
    return {name: {"fields": fields(text)} for name, text in named.items()}


def split_fields(line):
    """Splits at the commas that are in no brackets."""
    parts, depth = [""], 0
    for character in line:
        depth += (character in "(<") - (character in ")>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


CLUSTER_INFO = parse_type("Cluster", inspect_types())
OBJECT_INFOS = parse_type("Vec<ObjectInfo>", inspect_types())
REPLICA_INFOS = parse_type("Vec<Replica>", inspect_types())


class Object:
    """A shared object. Its methods are those of its type: `hits.fetch_add(1)`, or `hits.start("fetch_add", 1)` for a
    Pending that is waited for later."""

    def __init__(self, client, entry, key, object_, parameters, created=False, timeout_ms=0):
        self.client = client
        self.entry = entry
        self.key = key
        self.id = object_
        self.parameters = parameters
        self.created = created
        self.timeout_ms = timeout_ms
        self.methods = {method["name"]: method for method in entry["methods"]}

    def with_timeout(self, seconds):
        """The same object, with calls that wait no longer than this in it, and then fail with TimedOut. None, or a time
        that is too long for the protocol, is no limit."""
        timeout_ms = 1000 * (math.inf if seconds is None else seconds)
        timeout_ms = 0 if timeout_ms > 0xFFFFFFFF else max(1, round(timeout_ms))
        return Object(self.client, self.entry, self.key, self.id, self.parameters, self.created, timeout_ms)

    def start(self, name, *arguments):
        """Sends a call, and returns its Pending at once."""
        method = self.methods.get(name)
        if method is None:
            known = ", ".join(self.methods)
            raise Error("UnknownMethod", type_name=self.entry["name"], method=name, known=known)
        parse = lambda type_text: parse_type(type_text, self.client.types.named, self.parameters)
        types = tuple(parse(argument["type"]) for argument in method["arguments"])
        body = call_body(self.id, method["number"], self.timeout_ms, encode(("tuple", types), arguments))
        result = parse("()" if method["result"] == "()" else method["result"])
        read = lambda data: None if method["result"] == "()" else decode_whole(result, data)
        return self.client._submit(Pending(self.client, CALL, body, self.id, read=read))

    def __getattr__(self, name):
        # Of an object that is being copied nothing is there yet.
        if name not in self.__dict__.get("methods", {}):
            raise AttributeError(f"no method {name} of {self.__dict__.get('entry', {}).get('name')}")
        return lambda *arguments: self.start(name, *arguments).wait()

    def delete(self):
        """Removes the object, for everybody; whether there was one."""
        return self.client._submit(Pending(self.client, DELETE, self.id, self.id, read=read_bool)).wait()

    def clear_poison(self):
        """Accepts the state that a method left when it panicked; whether the object was poisoned."""
        return self.client._submit(Pending(self.client, CLEAR_POISON, self.id, self.id, read=read_bool)).wait()
