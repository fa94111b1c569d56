"""What yaml.js 0.2.10 to 0.3.0 (https://github.com/jeremyfa/yaml.js), webMUSHRA's parser, makes of a config.

Of blocks, quoted strings, plain scalars and one-line collections; also what it makes of YAML that it misreads.
Comments, block scalars, merge keys, dates and lists that are not indented are left out. `BadYaml` is what it throws.
"""

import re

QUOTED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\''
SEQUENCE_ITEM = re.compile(r"-(?:(?P<space>\s+)(?P<value>.+?))?\s*")
MAPPING_ITEM = re.compile(rf"(?P<key>{QUOTED}|[^ '\"\[{{].*?) *:(?:\s+(?P<value>.+?))?\s*")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", '"': '"', "\\": "\\", "/": "/", " ": " "}


class BadYaml(Exception):
    pass


def load(text):
    return Block(text, {}).read()


class Block:
    """Lines of equal or greater indentation than the first."""

    def __init__(self, text, anchors):
        lines = text.split("\n")
        least = min((indentation(line) for line in lines if line.strip()), default=0)
        self.lines = [line[least:] for line in lines]
        self.at = 0
        self.anchors = anchors

    def read(self):
        data = None
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip():
                self.at += 1
                continue
            if item := SEQUENCE_ITEM.fullmatch(line):
                data = [] if data is None else data
                if not isinstance(data, list):
                    raise BadYaml("a sequence item in a mapping")
                data.append(self.item(item))
            elif item := MAPPING_ITEM.fullmatch(line):
                data = {} if data is None else data
                if not isinstance(data, dict):
                    raise BadYaml("a mapping item in a sequence")
                key = str(scalar(item["key"]))  # JavaScript has string keys, a number as it prints it
                data.setdefault(key, self.anchored(item["value"], self.nested))
            elif len(self.lines) == 1 or (len(self.lines) == 2 and not self.lines[1].strip()):
                return inline(line.strip())
            else:
                raise BadYaml(f"Unable to parse {line!r}")
        return javascript_order(data)

    def item(self, item):
        value = item["value"]
        # `- key: value` opens a mapping; anything else after a dash is a scalar, also another dash.
        if value and MAPPING_ITEM.fullmatch(value) and not value.startswith("&"):
            lines = [value, *self.below()]
            indent = 1 + len(item["space"])
            return Block("\n".join([lines[0], *(line[indent:] for line in lines[1:])]), self.anchors).read()
        return self.anchored(value, self.nested)

    def anchored(self, value, nested):
        name = None
        if value and (anchor := re.fullmatch(r"&(\S+) *(.*)", value)):
            name, value = anchor.groups()
        result = nested(value)
        if name:
            self.anchors[name] = result
        return result

    def nested(self, value):
        if not value:
            below = self.below()
            return Block("\n".join(below), self.anchors).read() if below else None
        if value.startswith("*"):
            self.at += 1
            return self.anchors[value[1:]]
        if value[0] in "\"'[{":
            # What is not closed on this line goes on, trimmed, after a line break.
            while True:
                self.at += 1
                try:
                    return inline(value)
                except Unclosed:
                    if self.at >= len(self.lines):
                        raise BadYaml(f"Malformed inline YAML string {value!r}") from None
                    value += "\n" + self.lines[self.at].strip(" ")
        return inline("\n".join([value, *dedent(self.below())]))

    def below(self):
        """The lines under the present one, which is passed."""
        self.at += 1
        start = self.at
        while self.at < len(self.lines) and (not self.lines[self.at].strip() or indentation(self.lines[self.at]) > 0):
            self.at += 1
        found = self.lines[start : self.at]
        while found and not found[-1].strip():
            found.pop()
        return found


class Unclosed(BadYaml):
    pass


def indentation(line):
    return len(line) - len(line.lstrip(" "))


def dedent(lines):
    least = min((indentation(line) for line in lines if line.strip()), default=0)
    return [line[least:] for line in lines]


def inline(text):
    value, end = part(text, 0, "")
    if text[end:].strip():
        raise BadYaml(f"Unexpected characters near {text[end:]!r}")
    return value


def part(text, start, ends):
    """A value that starts at a place of the text, and where it ends."""
    if text[start] == "[":
        return collection(text, start, "]", [])
    if text[start] == "{":
        return collection(text, start, "}", {})
    if text[start] in "\"'":
        found = re.compile(QUOTED, re.DOTALL).match(text, start)
        if not found:
            raise Unclosed(text)
        return unquoted(found[0]), found.end()
    end = min((place for place in (text.find(each, start) for each in ends) if place >= 0), default=len(text))
    return scalar(text[start:end]), end


def collection(text, at, close, found):
    at += 1
    while at < len(text):
        if text[at] == close:
            return found, at + 1
        if text[at] in ", \n":
            at += 1
        elif isinstance(found, list):
            value, at = part(text, at, ",]")
            found.append(value)
        else:
            key = re.compile(rf"({QUOTED}|[^:\s]+?)\s*:\s*").match(text, at)
            if not key:
                raise Unclosed(text)
            name = unquoted(key[1]) if key[1][0] in "\"'" else key[1]
            value, at = part(text, key.end(), ",}")
            found.setdefault(name, value)
    raise Unclosed(text)


def unquoted(text):
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", escape, text[1:-1])


def escape(found):
    """An escape as bytes of UTF-8, each taken for a character: no umlaut survives."""
    name = found[1]
    if name[0] in "xuU" and len(name) > 1:
        return chr(int(name[1:], 16)).encode().decode("latin-1")
    return ESCAPES.get(name, found[0])


def scalar(text):
    """A plain word, or what JavaScript takes for a number."""
    text = text.strip()
    if text[:1] in "\"'" and text:
        return unquoted(text)
    constants = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text.lower() in constants:
        return constants[text.lower()]
    if re.fullmatch(r"0[0-9]+", text):
        return int(re.sub("[^0-7].*", "", text), 8)
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        number = float(text)
        return int(number) if number.is_integer() else number
    return text


def javascript_order(data):
    """Objects of JavaScript give their integer-like keys first."""
    if not isinstance(data, dict):
        return data
    return dict(
        sorted(data.items(), key=lambda item: int(item[0]) if re.fullmatch("0|[1-9][0-9]*", item[0]) else 2**53)
    )
