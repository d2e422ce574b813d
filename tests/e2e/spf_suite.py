"""Reads SPF test suites in the form of the public RFC 7208 suite.

Contract
  read_suite(path)      [Scenario]: the documents of the file
  Scenario              .name, .cases [Case], .zone (zonedata as it stands)
  Case                  .name .helo .host .sender .results (any of them is
                        right) .explanation (None: not tested)
  dns_records(zone)     the zone for dns_hostile.HostileDns

The YAML is the subset that those suites use: documents, mappings and lists by
indentation, plain, quoted and block scalars, and lists in brackets; no anchors,
no tags, every scalar is text. What the reader does not know is an error.

Zone data: SPF entries stand for TXT records too where a name has no TXT entry
of its own (RFC 7208 has no type SPF); "NONE" as data is no record; a list of
texts is one record of several strings; a name with TIMEOUT gets no answer for
the types that it does not have.
"""

import re

from dns_hostile import SILENT


# ---- YAML -----------------------------------------------------------------

ESCAPES = {"0": "\0", "n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\",
           "/": "/", " ": " "}


class Flow:
    """A quoted scalar or a list in brackets, at the start of a text."""

    def __init__(self, text):
        self.text = text
        self.at = 0

    def value(self):
        self._space()
        char = self.text[self.at:self.at + 1]
        if char == "[":
            return self._list()
        if char == '"':
            return self._double()
        if char == "'":
            return self._single()
        found = re.compile(r"[^,\[\]]*").match(self.text, self.at)
        self.at = found.end()
        return found.group().strip()

    def end(self):
        self._space()
        if self.text[self.at:self.at + 1] not in ("", "#"):
            raise ValueError(f"text after a value: {self.text!r}")

    def _space(self):
        while self.text[self.at:self.at + 1] in (" ", "\n"):
            self.at += 1

    def _list(self):
        values = []
        self.at += 1
        self._space()
        while self.text[self.at] != "]":
            values.append(self.value())
            self._space()
            if self.text[self.at] == ",":
                self.at += 1
                self._space()
            elif self.text[self.at] != "]":
                raise ValueError(f"a list without end: {self.text!r}")
        self.at += 1
        return values

    def _single(self):
        end = re.compile(r"'((?:[^']|'')*)'").match(self.text, self.at)
        self.at = end.end()
        return end.group(1).replace("''", "'")

    def _double(self):
        out = []
        self.at += 1
        while self.text[self.at] != '"':
            char = self.text[self.at]
            self.at += 1
            if char == "\\":
                char = self.text[self.at]
                self.at += 1
                if char == "x":
                    char = chr(int(self.text[self.at:self.at + 2], 16))
                    self.at += 2
                else:
                    char = ESCAPES[char]
            out.append(char)
        self.at += 1
        return "".join(out)


class Reader:
    """One document."""

    def __init__(self, lines):
        self.lines = lines
        self.at = 0

    def document(self):
        value = self._node(0)
        self._skip_blank()
        if self.at < len(self.lines):
            raise ValueError(f"not understood: {self.lines[self.at]!r}")
        return value

    def _skip_blank(self):
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1

    def _indent(self):
        """Of the next line that is not blank; -1: there is none."""
        self._skip_blank()
        if self.at == len(self.lines):
            return -1
        line = self.lines[self.at]
        return len(line) - len(line.lstrip(" "))

    def _node(self, indent):
        """What begins at the next line: a list or a mapping."""
        found = self._indent()
        if found < indent:
            return None
        if self.lines[self.at].lstrip(" ").startswith("-"):
            return self._items(found)
        return self._mapping(found)

    def _items(self, indent):
        items = []
        while self._indent() == indent and \
                self.lines[self.at].lstrip(" ").startswith("-"):
            text = self.lines[self.at].strip()[1:].strip()
            key = self._key(text)
            self.at += 1
            items.append({key[0]: self._value(key[1], indent)} if key
                         else self._value(text, indent))
        return items

    def _mapping(self, indent):
        values = {}
        while self._indent() == indent:
            key = self._key(self.lines[self.at].strip())
            if key is None:
                raise ValueError(f"no key: {self.lines[self.at]!r}")
            self.at += 1
            values[key[0]] = self._value(key[1], indent)
        return values

    @staticmethod
    def _key(text):
        """(key, rest), or None when the text is not of that form."""
        if text.startswith('"'):
            flow = Flow(text)
            key, rest = flow.value(), text[flow.at:]
            if not re.match(r":( |$)", rest):
                return None
            return key, rest[1:].strip()
        found = re.match(r"([^\[{'].*?):(?: +|$)", text)
        return (found.group(1), text[found.end():].strip()) if found else None

    def _value(self, text, indent):
        """What follows a key or a dash on a line of this indentation."""
        if text in (">", ">-", "|", "|-"):
            return self._block(indent)
        if text == "":
            # A list may stand as deep as the key that it belongs to.
            return self._node(indent if self._is_list(indent) else indent + 1)
        while self._indent() > indent:  # a scalar goes on
            text += " " + self.lines[self.at].strip()
            self.at += 1
        if text[0] in "[\"'":
            flow = Flow(text)
            value = flow.value()
            flow.end()
            return value
        return re.split(r" #", text)[0].strip()

    def _is_list(self, indent):
        return self._indent() == indent and \
            self.lines[self.at].lstrip(" ").startswith("- ")

    def _block(self, indent):
        lines = []
        while self._indent() > indent:
            lines.append(self.lines[self.at].strip())
            self.at += 1
        return " ".join(lines)


def read_yaml(text):
    """The documents of a text."""
    documents, lines = [], []
    for line in text.splitlines() + ["---"]:
        if line == "---":
            if any(found.strip() for found in lines):
                documents.append(Reader(lines).document())
            lines = []
        elif not line.lstrip().startswith("#"):
            lines.append(line.rstrip())
    return documents


# ---- suites ---------------------------------------------------------------

class Case:
    def __init__(self, name, fields):
        self.name = name
        self.helo = fields["helo"]
        self.host = fields["host"]
        self.sender = fields["mailfrom"] or ""
        results = fields["result"]
        self.results = results if isinstance(results, list) else [results]
        self.explanation = fields.get("explanation")


class Scenario:
    def __init__(self, document):
        self.name = document["description"]
        self.cases = [Case(name, fields)
                      for name, fields in document["tests"].items()]
        self.zone = document["zonedata"]


def read_suite(path):
    with open(path, encoding="utf-8") as file:
        return [Scenario(document) for document in read_yaml(file.read())]


# ---- zones ----------------------------------------------------------------

def dns_records(zone):
    """The zone as HostileDns takes it."""
    found = {}
    for name, entries in zone.items():
        name = name.replace("\\", "\\\\")
        own_txt = any("TXT" in entry for entry in entries
                      if isinstance(entry, dict))
        for entry in entries:
            if entry == "TIMEOUT":
                found[name, "*"] = SILENT
                continue
            (kind, value), = entry.items()
            if value == "NONE":
                continue
            kinds = ["SPF"] if kind == "SPF" and own_txt else \
                ["SPF", "TXT"] if kind == "SPF" else [kind]
            for each in kinds:
                found.setdefault((name, each), []).append(
                    _data(each, value))
    return found


def _data(kind, value):
    if kind in ("TXT", "SPF") and isinstance(value, list):
        return tuple(value) or ("",)  # a record has at least one string
    return tuple(value) if kind == "MX" else value
