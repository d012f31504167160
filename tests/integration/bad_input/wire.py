"""Protocol Buffers by hand: what no library would write, and the google.rpc details of a status."""


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length(number, data):
    """A field of bytes, text or a message."""
    data = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(data)) + data


def number(field, value):
    return varint(field << 3) + varint(value)


def nested(field, depth):
    """A field in a field in a field …"""
    data = b""
    for _ in range(depth):
        data = length(field, data)
    return data


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """{number: [value, …]} of a message of varints and lengths."""
    found, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


def details(status):
    """Of a google.rpc.Status: (reason, domain, [violated field, …]). Its own code and message are
    those of the call, or it is an AssertionError."""
    reason = domain = ""
    violations = []
    for any_message in fields(status).get(3, []):
        parts = fields(any_message)
        kind, value = parts[1][0].decode(), fields(parts.get(2, [b""])[0])
        if kind == "type.googleapis.com/google.rpc.ErrorInfo":
            reason = value.get(1, [b""])[0].decode()
            domain = value[2][0].decode()
        elif kind == "type.googleapis.com/google.rpc.BadRequest":
            violations += [fields(one)[1][0].decode() for one in value[1]]
        else:
            raise AssertionError(f"a detail of type {kind}")
    return reason, domain, violations
