"""An MTA's side of the milter protocol (version 6), as much of it as a test
needs: one message on one connection.

Contract
  added(path, client, helo, sender, headers=..., body=..., recipient=...)
      the headers that the milter at this unix socket adds to the message, as
      [(name, value)], and what it says at its end ("c" continue, "r" reject...)
  Message(...) the same step by step, for a test that measures: .connect_to(path)
      .envelope() .content() .end() .close()
  helo, sender and headers are text (latin-1), whatever is in them but NUL.
"""

import ipaddress
import socket
import struct

VERSION = 6
ACTIONS = 0x1FF
# SMFIP_*: all but those that would leave out steps.
PROTOCOL = 0x1FFC80
# Steps whose answer the milter may do without, by its flag.
NO_REPLY = {"C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000,
            "N": 0x40000, "B": 0x80000, "L": 0x80}
HEADERS = (("From", " someone@senders.test"), ("Subject", " test"))
TIMEOUT_S = 60


class Message:
    def __init__(self, client, helo, sender, headers=HEADERS, body="The text.\r\n",
                 recipient="somebody@elsewhere.test"):
        self.client = ipaddress.ip_address(client)
        self.helo = helo
        self.sender = sender
        self.headers = headers
        self.body = body
        self.recipient = recipient
        self._socket = self._stream = None
        self._silent = 0

    def connect_to(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(path)
        self._stream = self._socket.makefile("rb")
        self._send("O", struct.pack("!III", VERSION, ACTIONS, PROTOCOL))
        code, data = self._receive()
        if code != "O":
            raise ConnectionError(f"no negotiation but {code!r}")
        self._silent = struct.unpack("!III", data[:12])[2]

    def envelope(self):
        """Up to the recipient."""
        family = "6" if self.client.version == 6 else "4"
        address = str(self.client)
        self._step("C", f"host.test\0{family}".encode() + struct.pack("!H", 1025)
                   + address.encode() + b"\0")
        self._step("H", self._text(self.helo))
        self._send("D", b"Mi\0" + self._text("4XTESTzTESTz1"))
        self._step("M", self._text(f"<{self.sender}>"))
        self._step("R", self._text(f"<{self.recipient}>"))

    def content(self):
        """Header and body."""
        self._step("T", b"")
        for name, value in self.headers:
            self._step("L", self._text(name) + self._text(value))
        self._step("N", b"")
        self._step("B", self.body.encode("latin-1"))

    def end(self):
        """(headers added, the milter's word)"""
        found = []
        self._send("E", b"")
        while True:
            code, data = self._receive()
            if code in "ih":
                at = 4 if code == "i" else 0
                name, value = data[at:].split(b"\0")[:2]
                found.append((name.decode("latin-1"), value.decode("latin-1")))
            elif code in "actrdyq":
                return found, code

    def close(self):
        if self._stream:
            self._stream.close()
        if self._socket:
            self._socket.close()

    @staticmethod
    def _text(text):
        return text.encode("latin-1") + b"\0"

    def _step(self, code, data):
        self._send(code, data)
        if not self._silent & NO_REPLY[code]:
            answer, _ = self._receive()
            if answer not in "cs":
                raise ConnectionError(f"{code} is answered {answer!r}")

    def _send(self, code, data):
        self._socket.sendall(struct.pack("!I", len(data) + 1) + code.encode()
                             + data)

    def _receive(self):
        head = self._stream.read(4)
        if len(head) < 4:
            raise ConnectionError("the milter has closed the connection")
        packet = self._stream.read(struct.unpack("!I", head)[0])
        return packet[:1].decode("latin-1"), packet[1:]


def added(path, *arguments, **options):
    message = Message(*arguments, **options)
    try:
        message.connect_to(path)
        message.envelope()
        message.content()
        return message.end()
    finally:
        message.close()
