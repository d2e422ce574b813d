"""A DNS server for what a real one cannot be made to do: late, never, garbage,
truncated, huge, looping, with a wrong id. UDP and TCP on one loopback port.

Contract
  with HostileDns(records) as dns
      dns.server           "127.0.0.1:PORT", for auth { servers = {...} }
      dns.records          may be changed while it runs; dns.put(name, type, value)
      dns.asked            Counter of (name, type): queries of either transport
      dns.delay            seconds added to every answer (default 0)
      dns.ttl              of every record (default 300)
      dns.default          what a name that is not known gets (default NXDOMAIN)
  records: {(name, type): value}; names in any case, without the final dot,
      bytes as latin-1, "\\." and "\\DDD" within a label; types are texts ("TXT").
      A type "*" stands for every type, a name "*.parent" for whatever is below
      parent and not there itself. value is one of
      a list of records   TXT: text or bytes (cut into strings of 255 bytes), or a
                          tuple of them (one string each); A, AAAA: an address;
                          MX: "10 host" or (10, "host"); PTR, NS, CNAME: a name;
                          any type: Rdata(bytes). A single record needs no list.
      a behaviour         NXDOMAIN NODATA SERVFAIL REFUSED FORMERR
                          SILENT               no answer at all
                          Late(seconds, value)
                          Truncated(value)     TC over UDP, the value over TCP
                          Oversize(value)      over UDP whole, whatever its size
                          WrongId(value)       an answer to another query
                          WrongName(value)     an answer about another name
                          Garbage(bytes)       these, behind the query's id
                          Bytes(bytes)         these and nothing else
                          Broken(value)        the answer cut off in its middle
                          Alternating([...])   one after the other, the last stays
      a function          (name, type, "udp" or "tcp") -> any of the above
  A CNAME is followed in these records, 20 deep, a loop once around. A name with
  other types or with names below it has NODATA, every other NXDOMAIN. Answers
  are AA and RA, so that it is good as a stub's server and as a forwarder.
  Serves thousands of queries a second from one thread; late answers wait in a
  queue and hold up nobody.

  with Twisting(upstream_port, mode, address=...) as dns
      a real server's answers, made wrong in one way: "" (not at all), "silent",
      "refused", "servfail", "truncated" (and by TCP: closed), "drip" (by TCP a
      byte now and then), "wrong-id", "wrong-question", "garbage", "lame" (not
      authoritative), "bad-mac" (of the TSIG), "huge", "cname-loop", "empty", "unsigned" (it says done,
      and does nothing). dns.mode may be changed while it runs; dns.meanwhile, a
      function, is called once, when an update has come and before it is passed on

As a program: dns_hostile.py ADDRESS:PORT UPSTREAM_PORT DELAY_MS passes every
query on to 127.0.0.1:UPSTREAM_PORT and each answer back so much later.
"""

import contextlib
import heapq
import itertools
import ipaddress
import re
import selectors
import socket
import struct
import sys
import threading
import time
from collections import Counter

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16,
         "AAAA": 28, "DNAME": 39, "DS": 43, "DNSKEY": 48, "SPF": 99, "ANY": 255}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
UDP_SIZE = 512
CNAME_DEPTH = 20
TCP_LIMIT_S = 10


class Code:
    """An answer without records: a response code, or none."""

    def __init__(self, name, rcode):
        self.name = name
        self.rcode = rcode

    def __repr__(self):
        return self.name


NODATA = Code("NODATA", 0)
FORMERR = Code("FORMERR", 1)
SERVFAIL = Code("SERVFAIL", 2)
NXDOMAIN = Code("NXDOMAIN", 3)
REFUSED = Code("REFUSED", 5)
SILENT = Code("SILENT", None)


class Behaviour:
    def __init__(self, value):
        self.value = value


class Truncated(Behaviour):
    pass


class Oversize(Behaviour):
    pass


class WrongId(Behaviour):
    pass


class WrongName(Behaviour):
    pass


class Garbage(Behaviour):
    pass


class Bytes(Behaviour):
    pass


class Broken(Behaviour):
    pass


class Rdata(Behaviour):
    pass


class Late(Behaviour):
    def __init__(self, seconds, value):
        super().__init__(value)
        self.seconds = seconds


class Alternating(Behaviour):
    """The values one after the other; the last one again and again."""

    def __init__(self, values):
        super().__init__(values)
        self._next = 0

    def take(self):
        value = self.value[min(self._next, len(self.value) - 1)]
        self._next += 1
        return value


# names and records in wire form

def labels_of(name):
    """The labels of a name as bytes; "\\." and "\\DDD" are one byte each."""
    if name in ("", "."):
        return []
    labels = [b""]
    for token in re.findall(r"\\\d{3}|\\.|.", name, re.DOTALL):
        if token == ".":
            labels.append(b"")
        elif len(token) == 4:
            labels[-1] += bytes([int(token[1:])])
        else:
            labels[-1] += token[-1].encode("latin-1")
    return labels[:-1] if labels[-1] == b"" else labels


def wire_name(name):
    return b"".join(bytes([len(label)]) + label
                    for label in labels_of(name)) + b"\0"


def text_name(labels):
    """As labels_of() reads it, in lower case."""
    return ".".join(label.decode("latin-1").replace("\\", "\\\\")
                    .replace(".", "\\.") for label in labels).lower()


def wire_record(kind, record):
    if isinstance(record, Rdata):
        return record.value
    if kind in ("TXT", "SPF"):
        strings = record if isinstance(record, tuple) else (record,)
        return b"".join(_strings(string) for string in strings)
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(record).packed
    if kind == "MX":
        preference, host = record.split(None, 1) \
            if isinstance(record, str) else record
        return struct.pack("!H", int(preference)) + wire_name(host)
    if kind in ("PTR", "NS", "CNAME", "DNAME"):
        return wire_name(record)
    raise ValueError(f"a record of type {kind} is to be given as Rdata(bytes)")


def _strings(text):
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    parts = [data[at:at + 255] for at in range(0, len(data), 255)] or [b""]
    return b"".join(bytes([len(part)]) + part for part in parts)


class Query:
    def __init__(self, data):
        (self.id, flags, questions, _, _, additional) = struct.unpack(
            "!6H", data[:12])
        if flags & 0x8000 or questions != 1:
            raise ValueError("not a query")
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]])
            at += 1 + data[at]
        number, _ = struct.unpack("!HH", data[at + 1:at + 5])
        self.question = data[12:at + 5]
        self.flags = flags & 0x0110  # RD, CD
        self.name = text_name(labels)
        self.type = TYPE_NAMES.get(number, str(number))
        self.edns = additional > 0 and data[at + 5:at + 8] == b"\0\0\x29"
        self.size = UDP_SIZE
        if self.edns:
            self.size = max(UDP_SIZE, struct.unpack(
                "!H", data[at + 8:at + 10])[0])


class HostileDns:
    def __init__(self, records=(), delay=0, ttl=300, default=NXDOMAIN, port=0,
                 address="127.0.0.1"):
        self.records = {}
        self._known = Counter()
        for (name, kind), value in dict(records).items():
            self.put(name, kind, value)
        self.delay = delay
        self.ttl = ttl
        self.default = default
        self.asked = Counter()
        self.port = port
        self.address = address
        self._udp = self._tcp = self._thread = None
        self._late = []
        self._order = itertools.count()
        self._wake, self._woken = None, None

    @property
    def server(self):
        return f"{self.address}:{self.port}"

    def put(self, name, kind, value):
        """Adds or changes; the names above it exist from now on."""
        key = (text_name(labels_of(name)), kind.upper())
        if key not in self.records:
            labels = labels_of(key[0])
            for at in range(len(labels)):
                self._known[text_name(labels[at:])] += 1
        self.records[key] = value

    def forget(self):
        """No records any more."""
        self.records, self._known = {}, Counter()

    # life

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        for _ in range(100):
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._udp.bind((self.address, self.port))
                self._tcp.bind(self._udp.getsockname())
                break
            except OSError:
                self._udp.close()
                self._tcp.close()
        else:
            raise OSError("no port is free for both UDP and TCP")
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._udp.setblocking(False)
        self._tcp.setblocking(False)
        self._tcp.listen(128)
        self.port = self._udp.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self):
        """From now on the port is closed; the records stay for a start()."""
        if self._thread is None:
            return
        self._wake.send(b"x")
        self._thread.join(20)
        self._thread = None
        for each in (self._udp, self._tcp, self._wake, self._woken):
            each.close()

    # answers

    def answer(self, data, transport):
        """(seconds to wait, packet or None) for one query."""
        try:
            query = Query(data)
        except (ValueError, IndexError, struct.error):
            return 0, None
        self.asked[query.name, query.type] += 1
        wait = self.delay
        value = self._find(query.name, query.type)
        while True:
            if callable(value):
                value = value(query.name, query.type, transport)
            elif isinstance(value, Alternating):
                value = value.take()
            elif isinstance(value, Late):
                wait += value.seconds
                value = value.value
            else:
                break
        return wait, self._packet(query, value, transport)

    def _find(self, name, kind):
        for key in ((name, kind), (name, "*"), (name, "CNAME")):
            if key in self.records:
                return self.records[key]
        if name in self._known or name == "":
            return NODATA
        labels = labels_of(name)
        for at in range(1, len(labels) + 1):
            parent = text_name([b"*"] + labels[at:])
            for key in ((parent, kind), (parent, "*"), (parent, "CNAME")):
                if key in self.records:
                    return self.records[key]
            if parent in self._known:
                return NODATA
        return self.default

    def _packet(self, query, value, transport):
        if value is SILENT:
            return None
        if isinstance(value, Bytes):
            return value.value
        if isinstance(value, Garbage):
            return struct.pack("!H", query.id) + value.value
        id, question, whole, cut = query.id, query.question, False, False
        while isinstance(value, Behaviour) and not isinstance(value, Rdata):
            if isinstance(value, Truncated) and transport == "udp":
                return _message(query, id, question, 0, [], truncated=True)
            if isinstance(value, WrongId):
                id ^= 0x5555
            elif isinstance(value, WrongName):
                question = wire_name("another.invalid") + question[-4:]
            whole |= isinstance(value, Oversize)
            cut |= isinstance(value, Broken)
            value = value.value
        if value is SILENT:
            return None
        if isinstance(value, Code):
            packet = _message(query, id, question, value.rcode, [])
        else:
            rcode, answers = self._resolve(query, value)
            packet = _message(query, id, question, rcode, answers)
        if cut:
            return packet[:max(13, len(packet) * 2 // 3)]
        if transport == "udp" and len(packet) > query.size and not whole:
            return _message(query, id, question, 0, [], truncated=True)
        return packet

    def _resolve(self, query, value):
        """Response code and records, CNAMEs followed in what is here."""
        answers, name, seen = [], query.name, set()
        while not isinstance(value, (Behaviour, Code)) or \
                isinstance(value, Rdata):
            direct = any((name, kind) in self.records
                         for kind in (query.type, "*"))
            alias = self._is_alias(name, query.type) and not direct
            kind = "CNAME" if alias else query.type
            records = value if isinstance(value, list) else [value]
            answers += [self._record(name, kind, record) for record in records]
            if not alias or name in seen or len(seen) >= CNAME_DEPTH:
                return 0, answers
            seen.add(name)
            name = text_name(labels_of(records[0]))
            value = self._find(name, query.type)
            while callable(value) or isinstance(value, Alternating):
                value = value.take() if isinstance(value, Alternating) \
                    else value(name, query.type, "udp")
        rcode = value.rcode if isinstance(value, Code) else 2
        return rcode or 0, answers

    def _is_alias(self, name, kind):
        if kind == "CNAME" or (name, "CNAME") in self.records:
            return True
        if name in self._known:
            return False
        labels = labels_of(name)
        for at in range(1, len(labels) + 1):
            parent = text_name([b"*"] + labels[at:])
            if parent in self._known:
                return (parent, "CNAME") in self.records and \
                    (parent, kind) not in self.records
        return False

    def _record(self, name, kind, record):
        data = wire_record(kind, record)
        return wire_name(name) + struct.pack(
            "!HHIH", TYPES.get(kind) or int(kind), 1, self.ttl,
            len(data)) + data

    # service

    def _serve(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._udp, selectors.EVENT_READ, self._take_udp)
            selector.register(self._tcp, selectors.EVENT_READ, self._take_tcp)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                wait = self._late[0][0] - time.monotonic() \
                    if self._late else None
                for key, _ in selector.select(wait):
                    if key.fileobj is self._woken:
                        return
                    key.data()
                while self._late and self._late[0][0] <= time.monotonic():
                    _, _, packet, peer = heapq.heappop(self._late)
                    self._send(packet, peer)

    def _take_udp(self):
        for _ in range(64):
            try:
                data, peer = self._udp.recvfrom(65535)
            except OSError:  # nothing more, or an ICMP error of an answer
                return
            wait, packet = self.answer(data, "udp")
            if packet is None:
                continue
            if wait:
                heapq.heappush(self._late, (time.monotonic() + wait,
                                            next(self._order), packet, peer))
            else:
                self._send(packet, peer)

    def _send(self, packet, peer):
        try:
            self._udp.sendto(packet, peer)
        except OSError:  # it is gone, or this is too much for UDP
            pass

    def _take_tcp(self):
        try:
            connection, _ = self._tcp.accept()
        except OSError:
            return
        threading.Thread(target=self._converse, args=(connection,),
                         daemon=True).start()

    def _converse(self, connection):
        connection.settimeout(TCP_LIMIT_S)
        with connection, connection.makefile("rb") as stream:
            try:
                while len(head := stream.read(2)) == 2:
                    wait, packet = self.answer(
                        stream.read(struct.unpack("!H", head)[0]), "tcp")
                    time.sleep(wait)
                    if packet is not None:
                        connection.sendall(
                            struct.pack("!H", len(packet)) + packet)
            except OSError:
                return


def _message(query, id, question, rcode, answers, truncated=False):
    """At most 64 KB: a record that does not fit is left out."""
    room = 65535 - 12 - len(question) - 11
    body, count = b"", 0
    for answer in answers:
        if len(body) + len(answer) > room:
            break
        body += answer
        count += 1
    flags = 0x8480 | query.flags | (0x0200 if truncated else 0) | rcode
    edns = b"\0\0\x29\x10\0\0\0\0\0\0\0" if query.edns else b""
    return struct.pack("!6H", id, flags, 1, count, 0, 1 if edns else 0) \
        + question + body + edns


class Delaying(HostileDns):
    """Passes every query on to a real server, and its answers back later."""

    def __init__(self, upstream_port, delay, **options):
        super().__init__(delay=delay, **options)
        self._upstream = ("127.0.0.1", upstream_port)
        self._to_upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to_upstream.connect(self._upstream)
        self._to_upstream.settimeout(2)
        self._lock = threading.Lock()

    def answer(self, data, transport):
        try:
            query = Query(data)
        except (ValueError, IndexError, struct.error):
            return 0, None
        self.asked[query.name, query.type] += 1
        if transport == "tcp":
            with socket.create_connection(self._upstream, 2) as connection:
                connection.sendall(struct.pack("!H", len(data)) + data)
                with connection.makefile("rb") as stream:
                    size = struct.unpack("!H", stream.read(2))[0]
                    return self.delay, stream.read(size)
        with self._lock:
            self._to_upstream.send(data)
            while True:
                try:
                    packet = self._to_upstream.recv(65535)
                except OSError:
                    return 0, None
                if packet[:2] == data[:2]:
                    return self.delay, packet


class Twisting(Delaying):
    DRIP_S = 0.05
    CODES = {"refused": 5, "servfail": 2, "unsigned": 0, "empty": 0}
    UNHEARD = ("silent", *CODES)  # these never reach the real server

    def __init__(self, upstream_port, mode="", **options):
        super().__init__(upstream_port, 0, **options)
        self.mode = mode
        self.meanwhile = None

    def answer(self, data, transport):
        mode = self.mode
        if self.meanwhile and len(data) > 2 and data[2] & 0x78 == 0x28:
            self.meanwhile, meanwhile = None, self.meanwhile
            meanwhile()
        if mode == "silent":
            return 0, None
        try:
            query = Query(data)
        except (ValueError, IndexError, struct.error):
            return 0, None
        opcode = data[2] & 0x78
        if mode in self.CODES:
            packet = _message(query, query.id, query.question,
                              self.CODES[mode], [])
            return 0, packet[:2] + bytes([packet[2] | opcode]) + packet[3:]
        wait, packet = super().answer(data, transport)
        if packet is None or not mode:
            return wait, packet
        return wait, self._twist(mode, query, packet, transport)

    @staticmethod
    def _twist(mode, query, packet, transport):
        if mode in ("truncated", "drip") and transport == "udp":
            return _message(query, query.id, query.question, 0, [],
                            truncated=True)
        if mode == "bad-mac":  # its last byte, before id, error and length
            return packet[:-7] + bytes([packet[-7] ^ 1]) + packet[-6:]
        if mode == "wrong-id":
            return bytes([packet[0] ^ 0x55]) + packet[1:]
        if mode == "wrong-question":
            return _message(query, query.id, wire_name("another.invalid")
                            + query.question[-4:], 0, [])
        if mode == "garbage":
            return packet[:2] + b"\xff" * 60
        if mode == "lame":
            return packet[:2] + bytes([packet[2] & ~4]) + packet[3:]
        owner = wire_name(query.name)
        if mode == "huge":
            return _message(query, query.id, query.question, 0, [
                owner + struct.pack("!HHIHHH", TYPES["A"], 1, 60, 4, 0, n)
                for n in range(2000)], truncated=transport == "udp")
        if mode == "cname-loop":
            return _message(query, query.id, query.question, 0, [
                owner + struct.pack("!HHIH", TYPES["CNAME"], 1, 60,
                                    len(owner)) + owner])
        return packet

    def _converse(self, connection):
        if self.mode == "truncated":
            connection.close()
        elif self.mode == "drip":
            self._drip(connection)
        else:
            super()._converse(connection)

    def _drip(self, connection):
        """A message of 1,000 bytes is announced; each byte is late."""
        with connection, contextlib.suppress(OSError):
            connection.sendall(struct.pack("!H", 1000))
            for _ in range(200):
                connection.sendall(b"\0")
                time.sleep(self.DRIP_S)


def main():
    address, _, port = sys.argv[1].partition(":")
    dns = Delaying(int(sys.argv[2]), int(sys.argv[3]) / 1000,
                   address=address, port=int(port))
    dns.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
