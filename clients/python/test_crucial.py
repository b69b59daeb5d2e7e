"""The Python client against docs/protocol.md, and against real servers.

    cd clients/python && CRUCIAL_BIN=../../target/debug/crucial python3 -m unittest -v test_crucial

Without CRUCIAL_BIN only the tests run that need no server.
"""

import array
import copy
import json
import math
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from unittest import mock

import crucial
from crucial import Client, Err, Error, Ok

BINARY = os.environ.get("CRUCIAL_BIN")
PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
HITS = crucial.object_id("ns/default", "crucial::AtomicI64", "hits")
READY_TIMEOUT = 60
WHOLE_TIMEOUT = 90


def plain(text):
    """A type text without parameters and named types."""
    return crucial.parse_type(text)


class Page(unittest.TestCase):
    """What the page shows is what the client makes and reads."""

    def assert_on_page(self, data):
        shown = {re.sub(r"\s", "", code) for code in re.findall(r"`([0-9a-f ]+)`", PAGE)}
        self.assertIn(data.hex(), shown)

    def test_the_session_in_hexadecimal(self):
        i64 = plain("i64")
        for data in [
            crucial.hello(300, b"\x11" * 16, True, "default", 0),
            crucial.numbered(
                crucial.OPEN, 1, 1, crucial.open_body("crucial::AtomicI64", "hits", True, 1, 0, crucial.encode(i64, 40))
            ),
            crucial.numbered(
                crucial.CALL,
                2,
                2,
                crucial.call_body(HITS, crucial.method_number("fetch_add"), 0, crucial.encode(i64, 2)),
            ),
            crucial.numbered(crucial.DELETE, 3, 3, HITS),
            crucial.numbered(crucial.CLEAR_POISON, 4, 3, HITS),
            crucial.cancel(5, HITS),
            crucial.in_flight(300, [5, 299]),
            crucial.known_routes(300),
            crucial.numbered(crucial.PING, 6, 6),
            crucial.numbered(crucial.GOODBYE, 7, 7),
        ]:
            self.assert_on_page(data)

    def test_a_welcome(self):
        line = re.search(r"`([0-9a-f]+ 81 [0-9a-f ]+)`", PAGE).group(1)
        data = bytes.fromhex(line.replace(" ", ""))
        welcome = crucial.Welcome(crucial.Reader(data[5:]))
        self.assertEqual(welcome.lease, 10)
        self.assertEqual(welcome.frame_bytes_max, 1 << 28)
        self.assertEqual([server.address for server in welcome.routes.servers], [""])
        self.assertEqual(welcome.routes.key_of(welcome.node), welcome.routes.primary(HITS))

    def test_routes(self):
        line = re.search(r"`([0-9a-f]+ 85 [0-9a-f ]+)`", PAGE).group(1)
        data = bytes.fromhex(line.replace(" ", ""))
        routes = crucial.Routes.read(crucial.Reader(data[5:]))
        self.assertEqual((routes.cluster, routes.version), (1, 300))
        self.assertEqual(routes.primary(b"\x7f" * 16), (2, 3))
        self.assertIsNone(routes.primary(b"\x80" * 16))

    def test_the_errors(self):
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE)
        self.assertEqual([(int(number), name) for number, name, _ in rows], list(enumerate(dict(crucial.ERRORS))))
        for (_, name, fields), (_, known) in zip(rows, crucial.ERRORS):
            names = [field.split()[0] for field in fields.split(",") if field.strip() != "–"]
            self.assertEqual(names, [field for field, _ in known], name)

    def test_method_numbers(self):
        for name, number in re.findall(r"^\| `(\w+)` \| `(0x[0-9a-f]{8})` \|", PAGE, re.MULTILINE):
            self.assertEqual(crucial.method_number(name), int(number, 16))
        for entry in crucial.Types.load().types.values():
            for method in entry["methods"]:
                self.assertEqual(crucial.method_number(method["name"]), method["number"])

    def test_ids(self):
        self.assertIn(HITS.hex(), PAGE)
        self.assertIn(crucial.object_id("run/" + "11" * 16, "crucial::AtomicI64", "hits").hex(), PAGE)

    def test_sorted_keys(self):
        rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([0-9a-f]+)` \|$", PAGE, re.MULTILINE)
        self.assertGreater(len(rows), 10)
        for text, value, expected in rows:
            ty = plain(text)
            value = eval(value, {"nan": math.nan})
            encoded = crucial.encode_sorted(ty, value)
            self.assertEqual(encoded.hex(), expected, (text, value))
            decoded = crucial.decode_sorted(ty, crucial.Reader(encoded))
            self.assertTrue(decoded == value or math.isnan(value), (text, value))


class Values(unittest.TestCase):
    def test_values_read_as_they_were_written(self):
        for text, value in [
            ("u64", 300),
            ("u64", (1 << 64) - 1),
            ("i64", -(1 << 63)),
            ("i8", -128),
            ("bool", True),
            ("f64", -0.5),
            ("String", "ä"),
            ("ByteBuf", b"\0\xff"),
            ("Option<u8>", None),
            ("Vec<(String, Option<u64>)>", [("a", 1), ("b", None)]),
            ("Result<u64, String>", Ok(7)),
            ("Result<u64, String>", Err("no")),
            ("()", ()),
            ("(ID, Option<String>)", (HITS, "hits")),
            ("char", "ä"),
            ("Duration", {"seconds": 1, "nanoseconds": 5}),
        ]:
            encoded = crucial.encode(plain(text), value)
            self.assertEqual(crucial.decode_whole(plain(text), encoded), value, text)

    def test_keys_read_as_they_were_written(self):
        named = {"Way": {"variants": ["In", "Out"]}}
        for text, value in [
            ("char", "ä"),
            ("ByteBuf", b"\0" * 9),
            ("(bool, Vec<i16>, Option<String>)", (True, [-1, 2], "a")),
            ("Duration", {"seconds": 1, "nanoseconds": 5}),
            ("Way", "Out"),
            ("Result<u8, Way>", Err("In")),
        ]:
            ty = crucial.parse_type(text, named)
            reader = crucial.Reader(crucial.encode_sorted(ty, value))
            self.assertEqual(crucial.decode_sorted(ty, reader), value, text)
            reader.end()

    def test_what_a_server_would_take_for_another_value_is_refused(self):
        named = {"Way": {"variants": ["In", "Out"]}}
        for text, value in [
            ("bool", 2),
            ("bool", "false"),
            ("u8", 256),
            ("u64", -1),
            ("u64", 1.5),
            ("i16", 1 << 15),
            ("f64", "1.5"),
            ("String", b"a"),
            ("char", "ab"),
            ("ByteBuf", 5),
            ("ByteBuf", "a"),
            ("Vec<String>", "ab"),
            ("Vec<u8>", {1: 2}),
            ("Vec<u8>", {1, 2}),
            ("(u8, u8)", (1, 2, 3)),
            ("(String, String)", "ab"),
            ("Duration", {"seconds": 1}),
            ("Duration", {"seconds": 1, "nanoseconds": 5, "days": 2}),
            ("Way", "Up"),
            ("Result<u8, u8>", 1),
        ]:
            ty = crucial.parse_type(text, named)
            for encode in [crucial.encode, crucial.encode_sorted]:
                with self.assertRaises((TypeError, ValueError), msg=(text, value)):
                    encode(ty, value)
        with self.assertRaisesRegex(TypeError, "16 bytes"):
            crucial.encode(plain("ID"), b"short")
        with self.assertRaisesRegex(TypeError, "True or False"):
            crucial.open_body("crucial::Counter", "c", 2, 1, 0, b"")

    def test_all_bytes_of_a_buffer_are_written(self):
        wide = array.array("H", [1, 2])
        for value in [wide, memoryview(wide)]:
            self.assertEqual(crucial.encode(plain("ByteBuf"), value), b"\4" + wide.tobytes())

    def test_texts_that_are_no_types(self):
        for text in ["", "(", "(u8", "Vec<", "Vec<u8", "Vec", "Vec<u8, u8>", "u8>", "u8 u8", "(u8 u8)", "HashMap<u8, u8>"]:
            with self.assertRaises(ValueError, msg=text):
                plain(text)
        self.assertEqual(plain(" ( u8,Vec< bool >, ) "), ("tuple", (("u8", ()), ("Vec", (("bool", ()),)))))

    def test_type_parameters_are_checked_before_anything_is_sent(self):
        types = crucial.Types.load()
        entry = types.find("Map")
        for of in [None, {"K": "u8"}, {"K": "u8", "V": "int"}, {"K": "u8", "V": 7}]:
            with self.assertRaises((TypeError, ValueError), msg=of):
                crucial.bind(entry, of, types.named)

    def test_sealed_values(self):
        parameters = {"K": ("sealed", "String"), "V": ("sealed", "u8")}
        types = tuple(crucial.parse_type(name, None, parameters) for name in "KV")
        self.assertEqual(crucial.encode(("tuple", types), ("a", 7)).hex(), "0201610107")

    def test_sorted_keys_are_in_the_order_of_their_values(self):
        for text, values in [
            ("i64", [-(1 << 63), -300, -1, 0, 1, 300]),
            ("f64", [-math.inf, -1.5, 0.0, 1e-300, 2.0, math.inf, math.nan]),
            ("String", ["", "a", "a\0", "abcdefgh", "abcdefghi", "b"]),
            ("(Option<u8>, Vec<u16>)", [(None, []), (None, [1]), (0, []), (0, [0, 5]), (0, [1])]),
        ]:
            encoded = [crucial.encode_sorted(plain(text), value) for value in values]
            self.assertEqual(encoded, sorted(encoded), text)


def routes(version, servers, primaries, cluster=3):
    """Routes, as they are in frames. A server is (node, incarnation, address)."""
    listed = [crucial.varint(node) + crucial.varint(incarnation) + crucial.text(at) for node, incarnation, at in servers]
    places = [crucial.varint(place) for place in primaries]
    numbers = map(crucial.varint, [cluster, version, len(listed)])
    return b"".join([*numbers, *listed, crucial.varint(len(places)), *places])


class Peer:
    """A connection of the client, at the end of the test."""

    def __init__(self, sock):
        self.sock = sock
        self.file = sock.makefile("rb")
        kind, body = self.read()
        assert kind == crucial.HELLO
        reader = crucial.Reader(body[len(crucial.MAGIC) + 2 :])
        self.session, self.run = reader.varint(), reader.take(16)
        self.owner, self.namespace = reader.take(1) == b"\1", reader.blob().decode()

    def read(self):
        head = self.file.read(5)
        if len(head) < 5:
            raise EOFError
        length, kind = struct.unpack("<IB", head)
        return kind, self.file.read(length - 1)

    def request(self):
        """The next frame but pings and known routes: its kind, its sequence, and the rest of its body."""
        kind = crucial.PING
        while kind in (crucial.PING, crucial.KNOWN_ROUTES):
            kind, body = self.read()
        return kind, int.from_bytes(body[:8], "little"), body[8 if kind == crucial.CANCEL else 16 :]

    def send(self, kind, body):
        self.sock.sendall(crucial.frame(kind, body))

    def welcome(self, routes, node=2, resumed=True, lease_ms=60_000, frame_bytes_max=1 << 20):
        numbers = b"".join(map(crucial.varint, [lease_ms, frame_bytes_max, 0, node]))
        self.send(crucial.WELCOME, bytes([resumed]) + numbers + routes)
        return self

    def answer(self, sequence, result=b""):
        self.send(crucial.RESULT, struct.pack("<Q", sequence) + result)

    def moved(self, sequence, version):
        self.send(crucial.MOVED, struct.pack("<QQ", sequence, version))

    def refuse(self, number, *texts):
        self.send(crucial.REFUSED, crucial.varint(number) + b"".join(map(crucial.text, texts)))
        self.close()

    def close(self):
        self.sock.close()
        self.file.close()


class Fake:
    """A server that does what the test says."""

    def __init__(self, test, family=socket.AF_INET, where=("127.0.0.1", 0)):
        self.test = test
        self.listener = socket.socket(family)
        self.listener.settimeout(READY_TIMEOUT)
        self.listener.bind(where)
        self.listener.listen()
        test.addCleanup(self.listener.close)
        if family == socket.AF_UNIX:
            self.address = f"unix:{where}"
        else:
            self.port = self.listener.getsockname()[1]
            self.address = f"[::1]:{self.port}" if family == socket.AF_INET6 else f"127.0.0.1:{self.port}"

    def accept(self):
        sock, _ = self.listener.accept()
        sock.settimeout(READY_TIMEOUT)
        peer = Peer(sock)
        self.test.addCleanup(peer.close)
        return peer


class Later:
    """Something that blocks, in a thread."""

    def __init__(self, call, *arguments, **options):
        self.result = self.error = None
        self.thread = threading.Thread(target=self.run, args=(call, arguments, options), daemon=True)
        self.thread.start()

    def run(self, call, arguments, options):
        try:
            self.result = call(*arguments, **options)
        except Exception as error:
            self.error = error

    def wait(self):
        self.thread.join(READY_TIMEOUT)
        assert not self.thread.is_alive(), "this call hangs"
        if self.error is not None:
            raise self.error
        return self.result


class Case(unittest.TestCase):
    def assert_fails(self, kind, call, *arguments, **options):
        with self.assertRaises(Error) as failed:
            call(*arguments, **options)
        self.assertEqual(failed.exception.kind, kind)
        return failed.exception

    def wait_until(self, holds, message="this does not come"):
        until = time.monotonic() + WHOLE_TIMEOUT
        while not holds():
            self.assertLess(time.monotonic(), until, message)
            time.sleep(0.01)


class Scripted(Case):
    """The client against servers that the test plays."""

    def client(self, addresses, **options):
        """A client that connects; `connected` gives it."""
        return Later(Client, addresses, **options)

    def connected(self, later):
        client = later.wait()
        # What the test plays says no goodbye.
        self.addCleanup(client._end, Error("Cancelled"))
        return client

    def alone(self, **options):
        """A client of a server that is alone, the server, and their connection."""
        fake = Fake(self)
        later = self.client(fake.address, **options)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        return self.connected(later), fake, peer

    def start(self, client, peer, key="c", **options):
        """A call of a counter, sent; and its sequence. Open is answered without a word of it."""
        later = Later(client.create, "Counter", key, value=1, **options)
        kind, sequence, _ = peer.request()
        self.assertEqual(kind, crucial.OPEN)
        peer.answer(sequence, b"\1")
        counter = later.wait()
        call = counter.start("get")
        kind, sequence, _ = peer.request()
        self.assertEqual((kind, sequence), (crucial.CALL, call.sequence))
        return call

    def test_mistakes_in_the_arguments_are_the_callers(self):
        for address in ["", "localhost", "a:1,", "a:x", "a:65536", ":1", "::1:7171", "unix:", "a:-1"]:
            with self.assertRaisesRegex(ValueError, "no address", msg=address):
                Client(address)
        for options in [
            {"run": "11"},
            {"run": "no hexadecimal digits"},
            {"run": b"short"},
            {"owner": "x"},
            {"namespace": None},
            {"patience": None},
            {"patience": "1"},
        ]:
            with self.assertRaises((TypeError, ValueError), msg=options):
                Client("127.0.0.1:1", **options)

    def test_a_run_in_hexadecimal(self):
        fake = Fake(self)
        later = self.client(fake.address, run="11" * 16, owner=False, namespace="n", patience=math.inf)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        self.assertEqual((peer.run, peer.owner, peer.namespace), (b"\x11" * 16, False, "n"))
        self.assertEqual(self.connected(later).run, peer.run)

    def test_all_places_where_a_name_leads_are_tried(self):
        fake = Fake(self)
        with socket.socket() as unused:
            # Bound, and nobody listens there.
            unused.bind(("127.0.0.1", 0))
            places = [unused.getsockname(), ("127.0.0.1", fake.port)]
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
            ask = socket.getaddrinfo

            def look_up(host, *arguments, **options):
                if host != "several.test":
                    return ask(host, *arguments, **options)
                if options["flags"] & socket.AI_NUMERICHOST:
                    raise socket.gaierror
                # Whoever looks a name up holds nobody up.
                self.assertNotEqual(threading.current_thread().name, "crucial")
                return found

            with mock.patch.object(socket, "getaddrinfo", look_up):
                later = self.client(f"several.test:{fake.port}")
                peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
                self.connected(later)

    def test_localhost(self):
        fake = Fake(self)
        later = self.client(f"localhost:{fake.port}")
        fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        self.connected(later)

    def test_a_name_that_leads_nowhere(self):
        with mock.patch.object(socket, "getaddrinfo", side_effect=socket.gaierror):
            self.assert_fails("Unavailable", Client, "nowhere.test:1", patience=0.2)

    def test_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as directory:
            fake = Fake(self, socket.AF_UNIX, os.path.join(directory, "socket"))
            later = self.client(fake.address)
            fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
            self.connected(later)

    def test_ipv6(self):
        self.assertEqual(crucial.split_address("[::1]:7171"), ("::1", 7171))
        try:
            fake = Fake(self, socket.AF_INET6, ("::1", 0))
        except OSError:
            # There is no IPv6 here.
            return
        later = self.client(fake.address)
        fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        self.connected(later)

    def test_all_calls_are_sent_again_when_routes_were_skipped(self):
        client, _, peer = self.alone()
        calls = [self.start(client, peer, "a"), self.start(client, peer, "b")]
        # The next version: what was sent has arrived.
        peer.send(crucial.ROUTES, routes(2, [(2, 1, "")], [0]))
        calls.append(self.start(client, peer, "c"))
        peer.send(crucial.ROUTES, routes(4, [(2, 1, "")], [0]))
        for call in calls:
            self.assertEqual(peer.request()[:2], (crucial.CALL, call.sequence))
        # What is older, or known, changes nothing.
        peer.send(crucial.ROUTES, routes(2, [(2, 1, "")], [0]))
        peer.send(crucial.ROUTES, routes(4, [(2, 1, "")], [0]))
        self.start(client, peer, "d")

    def test_calls_of_an_object_that_is_held_wait_for_its_routes(self):
        client, _, peer = self.alone()
        with mock.patch.object(crucial, "MOVED_PAUSE_LAST", 3600):
            held, other = self.start(client, peer, "a"), self.start(client, peer, "b")
            peer.moved(held.sequence, 9)
            peer.send(crucial.ROUTES, routes(5, [(2, 1, "")], [0]))
            self.assertEqual(peer.request()[:2], (crucial.CALL, other.sequence))
            peer.send(crucial.ROUTES, routes(9, [(2, 1, "")], [0]))
            for call in [held, other]:
                self.assertEqual(peer.request()[:2], (crucial.CALL, call.sequence))
            peer.answer(held.sequence, crucial.encode(plain("i64"), 7))
            self.assertEqual(held.wait(), 7)

    def test_patience_ends_when_the_servers_are_gone(self):
        client, fake, peer = self.alone(patience=0.3)
        # A call that was sent, and one that was held.
        sent, held = self.start(client, peer, "a"), self.start(client, peer, "b")
        peer.moved(held.sequence, 9)
        # What comes behind it on the connection has been read when this is answered.
        ping = Later(client.ping)
        peer.answer(self.read_ping(peer, client.in_flight.__contains__))
        ping.wait()
        fake.listener.close()
        peer.close()
        for call in [sent, held]:
            error = self.assert_fails("Unavailable", Later(call.wait).wait)
            self.assertEqual(error.fields["address"], fake.address)
            self.assertRegex(error.fields["reason"], "0.3 s: .*refused")
        client.close()

    def test_a_call_that_is_held_at_a_connected_server_has_all_the_time(self):
        client, _, peer = self.alone(patience=0.1)
        with mock.patch.object(crucial, "MOVED_PAUSE_LAST", 1.0):
            held = self.start(client, peer)
            peer.moved(held.sequence, 9)
            self.assertEqual(peer.request()[:2], (crucial.CALL, held.sequence))
        peer.answer(held.sequence, crucial.encode(plain("i64"), 7))
        self.assertEqual(held.wait(), 7)

    def refusing(self, number, *texts):
        """The error of a client of which one server refuses the hello, and two are not there."""
        fake, others = Fake(self), free_addresses(2)
        later = self.client(",".join([others[0], fake.address, others[1]]), patience=0.5)
        fake.accept().refuse(number, *texts)
        fake.listener.close()
        return fake, self.assert_fails(crucial.ERRORS[number][0], later.wait)

    def test_one_refusal_counts_more_than_servers_that_are_not_there(self):
        _, error = self.refusing(19, "another owner")
        self.assertEqual(error.fields, {"detail": "another owner"})

    def test_each_server_that_is_not_there_has_a_reason(self):
        # Not ready says nothing of the others.
        fake, error = self.refusing(11, "", "it starts")
        self.assertEqual(len(error.fields["reason"].split("; ")), 3)
        self.assertIn("refused", error.fields["reason"])
        fake = Fake(self)
        later = self.client(fake.address, patience=0.5)
        fake.accept().refuse(11, "", "it starts")
        # The next attempts are accepted by nobody.
        error = self.assert_fails("Unavailable", later.wait)
        self.assertIn(f"{fake.address}: it starts", error.fields["reason"])

    def test_another_program_is_no_server(self):
        fake = Fake(self)
        later = self.client(fake.address)
        fake.accept().sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assert_fails("Protocol", later.wait)

    def test_a_welcome_of_a_stranger_changes_nothing(self):
        fakes = [Fake(self), Fake(self)]
        later = self.client(",".join(fake.address for fake in fakes))
        # Two servers that are alone. All seeds are asked at once; the first that answers is the client's.
        peers = [fake.accept() for fake in fakes]
        peers[0].welcome(routes(1, [(2, 1, "")], [0], cluster=3))
        client = self.connected(later)
        peers[1].welcome(routes(1, [(2, 1, "")], [0], cluster=4))
        self.assertRaises(EOFError, peers[1].read)
        call = self.start(client, peers[0])
        # While the client looks for its server, it asks the seeds again.
        peers[0].close()
        fakes[0].listener.close()
        stranger = fakes[1].accept().welcome(routes(1, [(2, 1, "")], [0], cluster=4))
        self.assertRaises(EOFError, stranger.read)
        self.assertFalse(call.done.is_set())
        self.assertEqual(client.routes.cluster, 3)

    def test_the_only_server_that_is_another_cluster_was_started_again(self):
        client, fake, peer = self.alone()
        call = self.start(client, peer)
        peer.close()
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0], cluster=4))
        self.assert_fails("SessionExpired", call.wait)
        self.start(client, peer)

    def test_a_session_that_a_server_has_ended_begins_anew(self):
        client, fake, peer = self.alone()
        call = self.start(client, peer)
        peer.close()
        peer = fake.accept()
        peer.welcome(routes(1, [(2, 1, "")], [0]), resumed=False)
        self.assert_fails("SessionExpired", call.wait)
        self.start(client, peer)

    def test_a_request_is_not_sent_again_when_its_result_may_be_forgotten(self):
        lease_ms = 50
        fake = Fake(self)
        later = self.client(fake.address, patience=60)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]), lease_ms=lease_ms)
        client = self.connected(later)
        call = self.start(client, peer)
        peer.close()
        # No server is there for more than eight leases, and the user has patience.
        self.assert_fails("SessionExpired", call.wait)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]), lease_ms=lease_ms)
        self.start(client, peer)

    def test_the_answers_of_pings_keep_a_request_young(self):
        fake = Fake(self)
        later = self.client(fake.address, patience=60)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]), lease_ms=60)
        client = self.connected(later)
        call = self.start(client, peer)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            kind, body = peer.read()
            if kind == crucial.PING:
                peer.answer(int.from_bytes(body[:8], "little"))
        peer.close()
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]), lease_ms=60)
        self.assertEqual(peer.request()[:2], (crucial.CALL, call.sequence))

    def test_a_wait_ends_after_its_timeout(self):
        client, _, peer = self.alone()
        call = self.start(client, peer)
        with mock.patch.object(crucial, "CANCEL_TIMEOUT", 0.01):
            error = self.assert_fails("TimedOut", call.wait, 0.02)
        self.assertEqual(error.fields["after"], {"seconds": 0, "nanoseconds": 20_000_000})
        self.assertEqual(peer.request()[:2], (crucial.CANCEL, call.sequence))
        # It has been withdrawn, and the answer can come all the same.
        peer.answer(call.sequence, crucial.encode(plain("i64"), 7))
        self.assertEqual(call.wait(60), 7)

    def test_a_call_that_is_withdrawn_in_time(self):
        client, _, peer = self.alone()
        call = self.start(client, peer)
        with mock.patch.object(crucial, "CANCEL_TIMEOUT", READY_TIMEOUT):
            waits = Later(call.wait, 0.01)
            self.assertEqual(peer.request()[:2], (crucial.CANCEL, call.sequence))
            peer.send(crucial.ERROR, struct.pack("<Q", call.sequence) + b"\x09")
            self.assert_fails("TimedOut", waits.wait)
        # To others it was cancelled. Each has an exception of its own.
        first, second = (self.assert_fails("Cancelled", call.wait) for _ in range(2))
        self.assertIsNot(first, second)

    def test_a_withdrawn_call_that_is_repeated_is_withdrawn_again(self):
        client, fake, peer = self.alone()
        call, other = self.start(client, peer, "a"), self.start(client, peer, "b")
        call.cancel()
        self.assertEqual(peer.request()[:2], (crucial.CANCEL, call.sequence))
        peer.close()
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        for expected in [(crucial.CALL, call), (crucial.CANCEL, call), (crucial.CALL, other)]:
            self.assertEqual(peer.request()[:2], (expected[0], expected[1].sequence))

    def test_a_refusal_in_mid_connection_fails_what_was_sent(self):
        client, fake, peer = self.alone()
        calls = [self.start(client, peer, key) for key in "ab"]
        peer.refuse(13, "that was no frame")
        for call in calls:
            self.assertEqual(self.assert_fails("Protocol", call.wait).fields, {"detail": "that was no frame"})
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        call = self.start(client, peer)
        # Not ready: as if the connection was lost.
        peer.refuse(11, "", "no lease")
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]))
        self.assertEqual(peer.request()[:2], (crucial.CALL, call.sequence))
        peer.refuse(24)
        self.assert_fails("Fenced", call.wait)
        self.assert_fails("Fenced", client.ping)

    def several(self, count):
        """A client of several servers, and its connections. Each partition has a server."""
        fakes = [Fake(self) for _ in range(count)]
        servers = [(place + 2, 1, fake.address) for place, fake in enumerate(fakes)]
        later = self.client(fakes[0].address)
        known = routes(1, servers, range(count))
        # The owner of a run is connected to all servers of the routes.
        peers = [fake.accept().welcome(known, node=place + 2) for place, fake in enumerate(fakes)]
        client = self.connected(later)
        self.wait_until(lambda: all(server.is_up for server in client.servers.values()))
        return client, fakes, peers

    def read_ping(self, peer, is_meant):
        """The sequence of a ping that somebody waits for."""
        while True:
            kind, body = peer.read()
            sequence = int.from_bytes(body[:8], "little")
            if kind == crucial.PING and is_meant(sequence):
                return sequence

    def test_what_any_server_can_answer_goes_to_another_when_one_dies(self):
        client, fakes, peers = self.several(2)
        ping = Later(client.ping)
        sequence = self.read_ping(peers[0], client.in_flight.__contains__)
        fakes[0].listener.close()
        peers[0].close()
        self.assertEqual(self.read_ping(peers[1], client.in_flight.__contains__), sequence)
        peers[1].answer(sequence)
        ping.wait()

    def test_servers_that_join_meanwhile_are_asked_too(self):
        client, fakes, peers = self.several(1)
        later = Later(client.clear_namespace)
        kind, sequence, _ = peers[0].request()
        self.assertEqual(kind, crucial.CLEAR_NAMESPACE)
        joined = Fake(self)
        known = routes(2, [(2, 1, fakes[0].address), (3, 1, joined.address)], [0])
        peers[0].send(crucial.ROUTES, known)
        peers[0].answer(sequence, b"\5")
        peers.append(joined.accept().welcome(known, node=3))
        kind, sequence, _ = peers[1].request()
        self.assertEqual(kind, crucial.CLEAR_NAMESPACE)
        peers[1].answer(sequence, b"\2")
        self.assertEqual(later.wait(), 7)

    def test_close_waits_only_a_moment_for_servers_that_are_silent_or_dead(self):
        client, _, peer = self.alone()
        call = self.start(client, peer)
        with mock.patch.object(crucial, "GOODBYE_TIMEOUT", 0.1):
            Later(client.close).wait()
        self.assert_fails("Cancelled", call.wait)
        self.assertEqual(peer.request()[0], crucial.GOODBYE)
        client, _, peer = self.alone()
        with mock.patch.object(crucial, "GOODBYE_TIMEOUT", 3600):
            closes = Later(client.close)
            self.assertEqual(peer.request()[0], crucial.GOODBYE)
            peer.close()
            closes.wait()
        client, fake, peer = self.alone()
        fake.listener.close()
        peer.close()
        Later(client.close).wait()

    def test_signs_of_life_are_given_three_times_in_a_short_lease(self):
        fake = Fake(self)
        later = self.client(fake.address)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]), lease_ms=30)
        client = self.connected(later)
        with client.lock:
            self.assertLessEqual(client._timeout(time.monotonic()), 0.01)
            [server] = client.servers.values()
            due = server.connection.ping_at
            # When it is due it is given, however shortly ago the client has looked for anything else.
            client.look_at = math.inf
            client._look_around(due)
            self.assertAlmostEqual(server.connection.ping_at, due + 0.01)
        kinds = {peer.read()[0] for _ in range(10)}
        self.assertLessEqual(kinds, {crucial.PING, crucial.KNOWN_ROUTES})

    def test_many_objects_are_listed_in_parts(self):
        client, _, peers = self.several(2)

        def info(number):
            fields = [bytes(15) + bytes([number]), crucial.text("crucial::Counter"), crucial.text("k"), crucial.text("ns/n")]
            return b"".join(fields) + bytes(8)

        # At which server each is. While they are listed one moves, and is at both.
        places = [{1, 3, 4}, {2, 3, 5, 6}]
        with mock.patch.object(crucial, "INSPECT_MAX", 2):
            listed = Later(client.objects, 5, after=bytes(16))
            for after, count in [(0, 2), (2, 2), (4, 1)]:
                for peer, numbers in zip(peers, places):
                    kind, sequence, body = peer.request()
                    self.assertEqual((kind, body), (crucial.INSPECT, b"\1\1" + bytes(15) + bytes([after, count, 0])))
                    shown = sorted(number for number in numbers if number > after)[:count]
                    peer.answer(sequence, bytes([len(shown)]) + b"".join(map(info, shown)))
            self.assertEqual([found["id"][-1] for found in listed.wait()], [1, 2, 3, 4, 5])

    def test_objects_are_python_objects(self):
        client, _, peer = self.alone()
        latch = crucial.Object(client, client.types.find("Latch"), "l", HITS, {})
        self.assertEqual(copy.copy(latch).id, HITS)
        self.assertFalse(hasattr(latch, "push"))
        self.assertFalse(hasattr(latch, "_wait"))
        error = self.assert_fails("UnknownMethod", latch.start, "push")
        self.assertIn("count_down", error.fields["known"])
        for seconds, timeout_ms in [(math.inf, 0), (None, 0), (1e9, 0), (0, 1), (-1, 1), (1.5, 1500)]:
            self.assertEqual(latch.with_timeout(seconds).timeout_ms, timeout_ms)

    def test_an_object_of_a_programs_own_type(self):
        method = {"name": "cells", "number": 1, "arguments": [], "result": "Vec<u8>"}
        entry = {"name": "app::Board", "parameters": [], "state": None, "methods": [method]}
        types = crucial.Types({"types": [entry], "named": []})
        client, _, peer = self.alone(types=types)
        with self.assertRaisesRegex(TypeError, "app::Board"):
            client.create("app::Board", cells=[1])
        # What the protocol needs can be said by hand.
        types.find("app::Board")["state"] = [{"name": "cells", "type": "Vec<u8>"}]
        for call in [Later(client.find, "app::Board", "b"), Later(client.create, "app::Board", "b", cells=[7])]:
            _, sequence, body = peer.request()
            self.assertIn(b"app::Board", body)
            peer.answer(sequence, b"\0")
            board = call.wait()
        self.assertEqual(body[-2:], b"\1\7")
        cells = Later(board.cells)
        peer.answer(peer.request()[1], b"\1\7")
        self.assertEqual(cells.wait(), [7])

    def test_a_poison_is_cleared(self):
        client, _, peer = self.alone()
        counter = crucial.Object(client, client.types.find("Counter"), "c", HITS, {})
        for answer in [True, False]:
            clears = Later(counter.clear_poison)
            kind, sequence, body = peer.request()
            self.assertEqual((kind, body), (crucial.CLEAR_POISON, HITS))
            peer.answer(sequence, bytes([answer]))
            self.assertEqual(clears.wait(), answer)

    def test_a_request_that_is_too_long_is_not_sent(self):
        fake = Fake(self)
        later = self.client(fake.address)
        peer = fake.accept().welcome(routes(1, [(2, 1, "")], [0]), frame_bytes_max=1000)
        client = self.connected(later)
        error = self.assert_fails("LimitExceeded", client.create, "Blob", bytes=bytes(1000))
        self.assertEqual((error.fields["limit"], error.fields["max"]), ("frame_bytes_max", 1000))
        self.start(client, peer)

    def test_a_failure_in_the_clients_thread_ends_the_client(self):
        client, _, peer = self.alone()
        call = self.start(client, peer)
        reported = []
        with mock.patch.object(threading, "excepthook", reported.append):
            with mock.patch.object(client, "_look_around", side_effect=KeyError("a bug")):
                error = self.assert_fails("Other", call.wait)
                client.thread.join()
        self.assertIn("a bug", error.fields["text"])
        self.assertEqual(len(reported), 1)
        self.assert_fails("Other", client.ping)
        client.close()


class Process:
    """A server process."""

    def __init__(self, arguments, address="127.0.0.1:0"):
        self.arguments = [BINARY, "server", "--listen", address, "--threads", "1", "--spin-us", "0", *arguments]
        self.process = self.drain = None

    def start(self):
        environment = {name: value for name, value in os.environ.items() if name != "CRUCIAL_CLUSTER"}
        self.process = subprocess.Popen(
            self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
        )

    def wait_ready(self):
        timer = threading.Timer(READY_TIMEOUT, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        match = re.match(r"crucial server ready at (\S+)", line)
        if match is None:
            raise AssertionError(f"the server is not ready: {line!r}")
        # What it prints later must go somewhere.
        self.drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.drain.start()
        return match.group(1)

    def kill(self):
        self.process.kill()
        self.process.wait()
        if self.drain is not None:
            self.drain.join()
        self.process.stdout.close()
        self.process = self.drain = None

    def stop(self):
        if self.process is not None:
            self.kill()


@unittest.skipUnless(BINARY, "CRUCIAL_BIN names no server")
class Alone(Case):
    """One server."""

    def setUp(self):
        self.server = Process(["--lease-ms", "1500"])
        self.server.start()
        self.address = self.server.wait_ready()
        self.addCleanup(self.server.stop)
        self.client = Client(self.address)
        self.addCleanup(self.client.close)

    def other(self, **options):
        client = Client(self.address, **options)
        self.addCleanup(client.close)
        return client

    def test_the_executable_has_the_types_of_this_client(self):
        printed = subprocess.run([BINARY, "types", "--json"], check=True, capture_output=True, text=True).stdout
        known = pathlib.Path(crucial.__file__).with_name("types.json").read_text(encoding="utf-8")
        self.assertEqual(json.loads(printed), json.loads(known))

    def test_atomics(self):
        hits = self.client.create("AtomicI64", "hits", value=40)
        self.assertTrue(hits.created)
        self.assertEqual(hits.fetch_add(2), 40)
        self.assertEqual(hits.load(), 42)
        self.assertEqual(hits.compare_exchange(42, -1), Ok(42))
        self.assertEqual(hits.compare_exchange(42, 0), Err(-1))
        again = self.client.create("AtomicI64", "hits", value=0)
        self.assertFalse(again.created)
        self.assertEqual(again.load(), -1)
        self.assertFalse(hits.clear_poison())
        self.assertTrue(self.client.create("AtomicI64", "hits", value=3, recreate=True).created)
        self.assertEqual(hits.load(), 3)
        error = self.assert_fails("LimitExceeded", self.client.create, "AtomicI64", "many", value=0, replicas=4)
        self.assertEqual(error.fields["max"], 3)
        self.assertIsNone(hits.store(7))
        self.assertTrue(hits.delete())
        self.assert_fails("Lost", hits.load)
        self.assert_fails("NotFound", self.client.find, "AtomicI64", "hits")

    def test_collections(self):
        words = self.client.create("Map", of={"K": "String", "V": "u64"}, entries=[("a", 1)])
        self.assertIsNone(words.insert("b", 2))
        self.assertEqual(words.get("a"), 1)
        by = {"how": "Sum", "kind": "U64"}
        words.merge_by([("a", 5), ("c", 9)], by)
        self.assertEqual(words.top_by(2, "U64"), [("c", 9), ("a", 6)])
        self.assertEqual(sorted(words.entries()), [("a", 6), ("b", 2), ("c", 9)])
        error = self.assert_fails("Refused", self.client.find, "Map", words.key, of={"K": "String", "V": "f64"})
        for name in ["crucial::Map<String, u64>", "crucial::Map<String, f64>"]:
            self.assertIn(name, error.fields["reason"])
        same = self.client.find("Map", words.key, of={"K": "String", "V": "usize"})
        self.assertEqual(same.get("a"), 6)
        items = self.client.create("List", of={"T": "Option<i16>"}, items=[None, -5])
        self.assertEqual(items.to_vec(), [None, -5])
        error = self.assert_fails("OutOfBounds", items.remove, 9)
        self.assertEqual(error.fields, {"index": 9, "len": 2})
        ordered = self.client.create("OrderedMap", of={"K": "(f64, String)", "V": "bool"}, entries=[])
        for key in [(2.0, "b"), (-1.0, "z"), (2.0, "a")]:
            ordered.insert(key, True)
        self.assertEqual([key for key, _ in ordered.entries()], [(-1.0, "z"), (2.0, "a"), (2.0, "b")])
        self.assertEqual(ordered.range((0.0, ""), None, 1), [((2.0, "a"), True)])
        matrix = self.client.create("Matrix", columns=2, values=[1.0, 2.0, 3.0, 4.0])
        self.assertEqual(matrix.reduce_rows("Mean"), [1.5, 3.5])
        blob = self.client.create("Blob", bytes=b"abc")
        self.assertEqual(blob.append(b"\0" * 100_000), 3)
        self.assertEqual(blob.len(), 100_003)
        self.assertEqual(blob.read_at(1, 3), b"bc\0")

    def test_calls_that_wait(self):
        queue = self.client.create("Queue", of={"T": "String"}, items=[], capacity=1)
        popped = queue.start("pop")
        queue.push("a")
        self.assertEqual(popped.wait(), "a")
        self.assert_fails("TimedOut", queue.with_timeout(0.05).pop)
        waits = queue.start("pop")
        # The server does not answer a cancel of a call that is not parked, so this one must be by now.
        self.assertEqual(queue.len(), 0)
        waits.cancel()
        self.assert_fails("Cancelled", waits.wait)
        queue.close()
        self.assertIsNone(queue.pop())
        self.assert_fails("Other", queue.push, "b")

    def test_a_barrier_of_threads(self):
        barrier = self.client.create("Barrier", parties=4)
        leaders = []
        run = lambda: leaders.append(barrier.wait()["leader"])
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(leaders), [False, False, False, True])

    def test_what_a_session_holds_comes_back_when_it_ends(self):
        gpu = self.client.create("Semaphore", "gpu", permits=1, persistent=True)
        member = self.other(run=self.client.run, owner=False)
        self.assertGreater(member.find("Semaphore", "gpu", persistent=True).acquire(), 0)
        waits = gpu.start("acquire")
        self.assertEqual(gpu.available_permits(), 0)
        member.close()
        self.assertGreater(waits.wait(), 0)

    def test_runs_do_not_see_each_other(self):
        self.client.create("Counter", "mine", value=1)
        self.assert_fails("NotFound", self.other().find, "Counter", "mine")
        member = self.other(run=self.client.run, owner=False)
        self.assertEqual(member.find("Counter", "mine").get(), 1)
        # A run that is not there can still come, for all that some servers know.
        with self.assertRaises(Error) as failed:
            Client(self.address, run=b"\x77" * 16, owner=False, patience=1)
        self.assertIn(failed.exception.kind, ["Lost", "Unavailable"])

    def test_namespaces_are_cleared(self):
        client = self.other(namespace="to clear")
        for key in "abc":
            client.create("Counter", key, value=0, persistent=True)
        self.assertEqual(client.clear_namespace(), 3)
        self.assertEqual(client.clear_namespace(), 0)

    def test_a_silent_client_lives(self):
        counter = self.client.create("Counter", value=5)
        # More than two leases.
        time.sleep(3.5)
        self.assertEqual(counter.get(), 5)

    def test_one_long_wait_holds_nothing_up(self):
        latch = self.client.create("Latch", count=1)
        waits = latch.start("wait")
        counter = self.client.create("AtomicU64", value=0)
        for _ in range(3):
            for request in [counter.start("fetch_add", 1) for _ in range(1000)]:
                request.wait()
        self.assertGreater(self.client.reported, 0)
        latch.count_down()
        waits.wait()
        self.assertEqual(counter.load(), 3000)

    def test_many_threads_and_broken_connections(self):
        counter = self.client.create("AtomicU64", value=0)
        done = [0] * 4
        stop = threading.Event()

        def run(place):
            while not stop.is_set():
                counter.fetch_add(1)
                done[place] += 1

        threads = [Later(run, place) for place in range(len(done))]
        [server] = self.client.servers.values()
        broken = set()
        while len(broken) < 20:
            connection, before = server.connection, sum(done)
            if not server.is_up or connection in broken:
                time.sleep(0.001)
                continue
            # As a network would, in the middle of calls.
            connection.sock.shutdown(socket.SHUT_RDWR)
            broken.add(connection)
            self.wait_until(lambda: sum(done) != before)
        stop.set()
        for thread in threads:
            thread.wait()
        self.wait_until(lambda: all(connection.is_closed for connection in broken))
        self.assertGreaterEqual(sum(done), 20)
        self.assertEqual(counter.load(), sum(done))

    def test_a_server_that_starts_again_has_forgotten_the_session(self):
        address = self.address
        counter = self.client.create("Counter", "c", value=1, persistent=True)
        latch = self.client.create("Latch", count=1)
        waits = latch.start("wait")
        self.assertEqual(counter.get(), 1)
        self.server.kill()
        self.server.arguments[self.server.arguments.index("127.0.0.1:0")] = address
        self.server.start()
        self.server.wait_ready()
        self.assert_fails("SessionExpired", waits.wait)
        self.assert_fails("Lost", counter.get)
        self.assertTrue(self.client.create("Counter", "c", value=2, persistent=True).created)

    def test_nobody_is_there(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = "127.0.0.1:{}".format(taken.getsockname()[1])
            self.assert_fails("Unavailable", Client, address, patience=0.5)

    def test_another_version_is_refused(self):
        with socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2]))) as sock:
            sock.sendall(crucial.frame(crucial.HELLO, crucial.MAGIC + b"\xff\xff"))
            data = sock.makefile("rb").read()
        self.assertEqual(data[4], crucial.REFUSED)
        self.assertEqual(crucial.decode_error(crucial.Reader(data[5:])).kind, "Protocol")


def free_addresses(count):
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    addresses = ["127.0.0.1:{}".format(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return addresses


@unittest.skipUnless(BINARY, "CRUCIAL_BIN names no server")
class Three(Case):
    """Three servers."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        addresses = free_addresses(3)
        self.addresses = ",".join(addresses)
        self.servers = []
        for number, address in enumerate(addresses):
            data = os.path.join(directory.name, str(number))
            arguments = ["--join", self.addresses, "--data", data, "--server-lease-ms", "1000"]
            self.servers.append(Process(arguments, address))
        for server in self.servers:
            server.start()
            self.addCleanup(server.stop)
        for server in self.servers:
            server.wait_ready()
        self.client = Client(self.addresses, patience=60)
        self.addCleanup(self.client.close)
        self.wait_whole()

    def wait_whole(self):
        """Waits until all servers are members, and each partition is where it should be."""
        self.wait_until(self.is_whole, "the cluster is not whole")

    def is_whole(self):
        infos = self.client.cluster_infos()
        return len(infos) == 3 and all(
            info["has_lease"]
            and len(info["members"]) == 3
            and info["view"] == infos[0]["view"]
            and all(partition["is_settled"] for partition in info["partitions"])
            for info in infos
        )

    def test_objects_are_spread_and_inspected(self):
        keys = [f"k{number}" for number in range(30)]
        for key in keys:
            self.client.create("Counter", key, value=1, replicas=2, persistent=True)
        infos = [info for info in self.client.objects(key=None) if info["key"] in keys]
        self.assertEqual(len(infos), 30)
        self.assertEqual({len(info["servers"]) for info in infos}, {2})
        self.assertEqual(len({info["servers"][0] for info in infos}), 3)
        [found] = self.client.objects(key="k7")
        self.assertEqual(found["key"], "k7")
        self.assertEqual(found["id"], crucial.object_id("ns/default", "crucial::Counter", "k7"))
        replicas = [info for info in self.client.replicas() if info["id"] == found["id"]]
        whole = [info for info in replicas if info["checksum"] is not None]
        self.assertEqual(len(whole), 2)
        self.assertEqual(whole[0], whole[1])
        self.assertEqual(self.client.clear_namespace(), 30)

    def test_waits_across_servers(self):
        member = Client(self.addresses, run=self.client.run, owner=False, patience=60)
        self.addCleanup(member.close)
        for number in range(6):
            queue = self.client.create("Queue", f"q{number}", of={"T": "u64"}, items=[], capacity=10)
            popped = queue.start("pop")
            member.find("Queue", f"q{number}", of={"T": "u64"}).push(number)
            self.assertEqual(popped.wait(), number)

    def test_increments_are_exact_while_servers_are_killed(self):
        counters = [self.client.create("AtomicU64", f"c{n}", value=0, replicas=2) for n in range(12)]
        latch = self.client.create("Latch", count=1, replicas=2)
        waits = latch.start("wait")
        done = [0] * len(counters)
        failures = []
        stop = threading.Event()

        def run(first):
            try:
                while not stop.is_set():
                    for place in range(first, len(counters), 4):
                        counters[place].fetch_add(1)
                        done[place] += 1
            except Error as error:
                failures.append(error)

        def pipeline():
            """Many calls of one object in flight; they are executed in their order."""
            order = self.client.create("List", of={"T": "u64"}, items=[], replicas=2)
            count = 0
            try:
                while not stop.is_set():
                    requests = [order.start("push", count + n) for n in range(20)]
                    count += len(requests)
                    for request in requests:
                        request.wait()
                self.assertEqual(order.to_vec(), list(range(count)))
            except (Error, AssertionError) as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(first,)) for first in range(4)]
        threads.append(threading.Thread(target=pipeline))
        for thread in threads:
            thread.start()
        try:
            for victim in [0, 2, 1]:
                before = sum(done)
                self.servers[victim].kill()
                self.wait_for_progress(done, before + 100)
                self.servers[victim].start()
                self.servers[victim].wait_ready()
                self.wait_whole()
            # A server that is stopped, and goes on when another has taken over.
            self.servers[0].process.send_signal(signal.SIGSTOP)
            self.wait_for_progress(done, sum(done) + 100)
            time.sleep(2)
            self.servers[0].process.send_signal(signal.SIGCONT)
            self.wait_whole()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        latch.count_down()
        waits.wait()
        self.assertEqual([counter.load() for counter in counters], done)

    def wait_for_progress(self, done, target):
        self.wait_until(lambda: sum(done) >= target, "calls do not go on")


if __name__ == "__main__":
    unittest.main()
