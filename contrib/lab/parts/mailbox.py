"""What is in the mailboxes: over IMAP, and as a cross-check in the Maildir.

Contract
  read_imap(port, users, password)  -> {user: [Message]} of all folders, many
      users at once; a user who cannot be read raises
  read_maildir(path)                -> [Message] from the files
  Message.id is the X-Lab-Id header ("" without one), Message.delivered the
  time in seconds at which the server began to store it (Maildir only).
"""

import email.parser
import imaplib
import os
import re
from concurrent.futures import ThreadPoolExecutor

HEADERS = ("MESSAGE-ID X-LAB-ID FROM SUBJECT X-SLUICE-TRACE DELIVERED-TO "
           "RECEIVED AUTHENTICATION-RESULTS RECEIVED-SPF RETURN-PATH")


class Message:
    def __init__(self, folder, headers, delivered=None, path=None):
        self.folder = folder
        self.headers = headers
        self.delivered = delivered
        self.path = path

    @property
    def id(self):
        return (self.headers["X-Lab-Id"] or "").strip()

    @property
    def message_id(self):
        return (self.headers["Message-ID"] or "").strip()

    def __repr__(self):
        return f"Message({self.id or self.message_id!r} in {self.folder})"


def read_imap(port, users, password, workers=12):
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda user: _read_user(port, user, password), users)
        return dict(zip(users, found))


def _read_user(port, user, password):
    client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
    try:
        client.login(user, password)
        messages = []
        for folder in _folders(client):
            messages += _read_folder(client, folder)
        return messages
    finally:
        client.logout()


def _folders(client):
    _, lines = client.list()
    return [re.search(rb'"?([^" ]+)"?$', line).group(1).decode()
            for line in lines if line]


def _read_folder(client, folder):
    _, data = client.select(folder, readonly=True)
    if int(data[0]) == 0:
        return []
    code, parts = client.fetch(
        "1:*", f"(INTERNALDATE BODY.PEEK[HEADER.FIELDS ({HEADERS})])")
    if code != "OK":
        raise RuntimeError(f"FETCH of {folder}: {code} {parts}")
    return [Message(folder, _headers(part[1]))
            for part in parts if isinstance(part, tuple)]


def read_maildir(path):
    messages = []
    for directory, _, files in os.walk(path):
        if os.path.basename(directory) not in ("cur", "new"):
            continue
        folder = os.path.basename(os.path.dirname(directory)).lstrip(".")
        if os.path.dirname(directory) == path:
            folder = "INBOX"
        for name in files:
            file = os.path.join(directory, name)
            with open(file, "rb") as text:
                headers = _headers(text.read(65536))
            messages.append(Message(folder, headers, _stored_at(name), file))
    return messages


def _stored_at(name):
    """Dovecot's Maildir names begin SECONDS.MmicrosecondsP..."""
    found = re.match(r"(\d+)\.M(\d+)P", name)
    if not found:
        return float(name.partition(".")[0])
    return int(found.group(1)) + int(found.group(2)) / 1e6


def _headers(data):
    return email.parser.BytesHeaderParser().parsebytes(data)
