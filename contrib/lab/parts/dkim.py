"""DKIM signatures (RFC 6376, 8463) for the lab's mail, made by openssl(1).

Contract
  key = DkimKey(directory, domain, selector="lab", algorithm="rsa-sha256")
      the key pair is made in the directory, or found there; bits=2048
  key.record           text of the TXT record at key.name
  key.name             selector._domainkey.domain
  key.sign(message)    the message (str or bytes, LF or CR LF lines) with a
      DKIM-Signature on top, as bytes with LF lines. Tags may be changed:
      sign(message, headers=(...), c="simple/simple", x=..., l=..., i=...)
  One or two openssl processes for each signature: fine for some dozen a second.
"""

import base64
import hashlib
import os
import re
import tempfile

from .process import run

HEADERS = ("From", "To", "Subject", "Date", "Message-ID")
ALGORITHMS = {"rsa-sha256": "sha256", "rsa-sha1": "sha1",
              "ed25519-sha256": "sha256"}


class DkimKey:
    def __init__(self, directory, domain, selector="lab",
                 algorithm="rsa-sha256", bits=2048):
        self.domain = domain
        self.selector = selector
        self.algorithm = algorithm
        self.path = os.path.join(directory, f"{selector}.{domain}.pem")
        self._directory = directory
        os.makedirs(directory, exist_ok=True)
        if not os.path.exists(self.path):
            self._generate(bits)
        self.public = base64.b64encode(self._public()).decode()

    @property
    def name(self):
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def _is_ed25519(self):
        return self.algorithm.startswith("ed25519")

    @property
    def record(self):
        kind = "ed25519" if self._is_ed25519 else "rsa"
        return f"v=DKIM1; k={kind}; p={self.public}"

    def _generate(self, bits):
        if self._is_ed25519:
            words = ["-algorithm", "ED25519"]
        else:
            words = ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}"]
        run(["openssl", "genpkey", *words, "-out", self.path])

    def _public(self):
        """SubjectPublicKeyInfo; of an Ed25519 key the 32 bytes alone."""
        path = self.path + ".der"
        run(["openssl", "pkey", "-in", self.path, "-pubout", "-outform", "DER",
             "-out", path])
        with open(path, "rb") as file:
            data = file.read()
        return data[-32:] if self._is_ed25519 else data

    # signatures

    def sign(self, message, headers=HEADERS, c="relaxed/relaxed", **tags):
        data = message.encode("latin-1") if isinstance(message, str) \
            else message
        data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        head, _, body = data.partition(b"\r\n\r\n")
        fields = _fields(head)
        head_canon, _, body_canon = c.partition("/")
        body = _body(body, body_canon or "simple")
        if "l" in tags:
            body = body[:int(tags["l"])]
        digest = hashlib.new(ALGORITHMS[self.algorithm], body).digest()
        values = {"v": "1", "a": self.algorithm, "c": c, "d": self.domain,
                  "s": self.selector, **tags, "h": ":".join(headers),
                  "bh": base64.b64encode(digest).decode(), "b": ""}
        value = ";\r\n\t".join(f"{tag}={text}" for tag, text in values.items()
                               if text is not None)
        signed = _selected(fields, headers, head_canon) + _canon(
            "DKIM-Signature", " " + value, head_canon).encode("latin-1")
        signature = base64.b64encode(self._raw(signed)).decode()
        folded = "\r\n\t ".join(signature[at:at + 70]
                                for at in range(0, len(signature), 70))
        field = f"DKIM-Signature: {value}{folded}\r\n".encode("latin-1")
        return (field + data).replace(b"\r\n", b"\n")

    def _raw(self, data):
        with tempfile.NamedTemporaryFile(dir=self._directory) as file:
            if self._is_ed25519:  # RFC 8463: over the SHA-256 of the data
                file.write(hashlib.sha256(data).digest())
                file.flush()
                words = ["pkeyutl", "-sign", "-rawin", "-inkey", self.path,
                         "-in", file.name]
            else:
                file.write(data)
                file.flush()
                words = ["dgst", "-" + ALGORITHMS[self.algorithm], "-sign",
                         self.path]
            with tempfile.NamedTemporaryFile(dir=self._directory) as out:
                words += ["-out", out.name]
                if not self._is_ed25519:
                    words.append(file.name)
                run(["openssl", *words])
                return out.read()


def _fields(head):
    """[(name, value as it stands, with its leading blank)]."""
    lines = re.sub(rb"\r\n(?=[ \t])", b"\0", head).split(b"\r\n")
    found = []
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        found.append((name, value.replace("\0", "\r\n")))
    return found


def _selected(fields, headers, canon):
    """The fields that h= names, each name's from the bottom up (RFC 6376
    5.4.2); one that is not there adds nothing."""
    left = list(fields)
    out = b""
    for wanted in headers:
        for at in range(len(left) - 1, -1, -1):
            if left[at][0].lower() == wanted.lower():
                name, value = left.pop(at)
                out += (_canon(name, value, canon) + "\r\n").encode("latin-1")
                break
    return out


def _canon(name, value, canon):
    if canon == "simple":
        return f"{name}:{value}"
    value = re.sub(r"[ \t]+", " ", value.replace("\r\n", "")).strip(" \t")
    return f"{name.strip().lower()}:{value}"


def _body(body, canon):
    if canon == "relaxed":
        body = re.sub(rb"[ \t]+", b" ", body)
        body = re.sub(rb" \r\n", b"\r\n", body)
    body = re.sub(rb"(\r\n)*\Z", b"", body)
    if canon == "relaxed" and not body:
        return b""
    return body + b"\r\n"
