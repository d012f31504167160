#!/usr/bin/env python3
"""Lets another implementation of Protocol Buffers, Python's, judge lib/pb.

differential.py PROGRAM DESCRIPTOR-SET

Random messages: what we unpack and pack again must be the same to it, and our
JSON the same as its own. Mutated ones: what we take, it must take, as the same
message; what it takes and we refuse must be one of the refusals that
pb/message.h announces. Exits 77, saying why, where there is no such Python. The
seed is printed; POSTERN_SEED=N repeats a run.
"""

import json
import os
import random
import subprocess
import sys

PYTHON = os.environ.get("POSTERN_PYTHON", "")
if PYTHON and os.path.exists(PYTHON) and "POSTERN_DIFFERENTIAL" not in os.environ:
    os.environ["POSTERN_DIFFERENTIAL"] = "1"
    os.execv(PYTHON, [PYTHON, *sys.argv])
try:
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory
except ImportError:
    print("skipped: no Python with protobuf (POSTERN_PYTHON)")
    sys.exit(77)

ROUND_TRIPS = 1500
MUTATIONS = 20000

# Refusals of ours that are not Python's, as pb/message.h has them.
OURS = (
    "another wire type",
    "occurs twice",
    "groups are not supported",
    "expected UTF-8 text without NUL",  # Python: NUL is fine, and proto2 strings are bytes
    "required, but missing",
    "its enum has no such value",
    "a packed bool is neither",
    "more than 64 bits",
    "nested deeper",
    "a length is truncated or too long",  # of more bytes than it needs
)


class Random(random.Random):
    def text(self):
        alphabet = ["a", "Z", " ", '"', "\\", "\n", "\x7f", "\x01", "é", "\u2028", "\ufeff", "𝄞", "true", "0"]
        return "".join(self.choice(alphabet) for _ in range(self.randrange(6)))

    def integer(self, low, high):
        edges = [low, high, 0 if low <= 0 else low, 1, min(high, 300)]
        return self.choice(edges) if self.random() < 0.5 else self.randint(low, high)

    def value(self, field):
        kind = field.type
        if kind == field.TYPE_STRING:
            return self.text()
        if kind == field.TYPE_BYTES:
            return self.randbytes(self.randrange(6))
        if kind == field.TYPE_BOOL:
            return self.random() < 0.5
        if kind == field.TYPE_ENUM:
            return self.choice([v.number for v in field.enum_type.values])
        if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            return self.choice([0.0, 1.5, -2.25, float("inf")])
        if kind in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_SFIXED32):
            return self.integer(-(2**31), 2**31 - 1)
        if kind in (field.TYPE_UINT32, field.TYPE_FIXED32):
            return self.integer(0, 2**32 - 1)
        if kind in (field.TYPE_INT64, field.TYPE_SINT64, field.TYPE_SFIXED64):
            return self.integer(-(2**63), 2**63 - 1)
        return self.integer(0, 2**64 - 1)

    def fill(self, msg, depth):
        if msg.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
            msg.seconds = self.integer(-62135596800, 253402300799)
            msg.nanos = self.choice([0, 5000000, 5000, 5, 999999999])
            return msg
        for field in msg.DESCRIPTOR.fields:
            is_message = field.type == field.TYPE_MESSAGE
            is_map = is_message and field.message_type.GetOptions().map_entry
            wanted = field.is_required or (self.random() < 0.35 and (depth > 0 or not is_message))
            if not wanted:
                continue
            if is_map:
                key, value = field.message_type.fields
                target = getattr(msg, field.name)
                for _ in range(self.randrange(4)):
                    name = self.value(key)
                    if value.type == value.TYPE_MESSAGE:
                        self.fill(target[name], depth - 1)
                    else:
                        target[name] = self.value(value)
            elif field.is_repeated:
                for _ in range(self.randrange(4)):
                    if is_message:
                        self.fill(getattr(msg, field.name).add(), depth - 1)
                    else:
                        getattr(msg, field.name).append(self.value(field))
            elif is_message:
                getattr(msg, field.name).SetInParent()
                self.fill(getattr(msg, field.name), depth - 1)
            else:
                setattr(msg, field.name, self.value(field))
        return msg

    def mutate(self, data):
        data = bytearray(data)
        for _ in range(self.randint(1, 3)):
            at = self.randrange(len(data) + 1)
            match self.randrange(5):
                case 0 if at < len(data):
                    data[at] ^= 1 << self.randrange(8)
                case 1:
                    data[at:at] = self.randbytes(self.randint(1, 3))
                case 2:
                    del data[at : at + self.randint(1, 3)]
                case 3:
                    del data[at:]
                case _:
                    begin = self.randrange(len(data) + 1)
                    data[at:at] = data[begin : begin + self.randrange(12)]
        return bytes(data)


def python_parse(cls, data):
    """The message without what is unknown, or None."""
    try:
        msg = cls.FromString(data)
    except message.DecodeError:
        return None
    msg.DiscardUnknownFields()
    # protobuf-c packs no -0.0 where 0.0 is the default; to the standard they differ.
    for field, value in msg.ListFields():
        if value == 0.0 and isinstance(value, float) and not field.has_presence:
            msg.ClearField(field.name)
    return msg


def canonical(msg):
    return msg.SerializePartialToString(deterministic=True)


def main():
    program, set_path = sys.argv[1:]
    seed = int(os.environ.get("POSTERN_SEED", random.SystemRandom().randrange(2**32)))
    print(f"seed {seed}: POSTERN_SEED={seed} repeats this")
    rng = Random(seed)
    pool = descriptor_pool.DescriptorPool()
    with open(set_path, "rb") as file:
        for proto in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
            pool.Add(proto)
    classes = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pbtest.{name}"))
        for name in ("Three", "Two", "Real", "Merge")
    ]
    peer = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(cls, data):
        peer.stdin.write(f"{cls.DESCRIPTOR.name} {data.hex()}\n")
        peer.stdin.flush()
        line = peer.stdout.readline().rstrip("\n")
        assert line, f"died of {cls.DESCRIPTOR.name} {data.hex()}"
        return line

    for _ in range(ROUND_TRIPS):
        cls = rng.choice(classes)
        msg = rng.fill(cls(), 3)
        data = msg.SerializeToString()
        answer = ask(cls, data)
        assert answer.startswith("ok "), f"{cls.DESCRIPTOR.name} {data.hex()}: {answer}"
        _, packed, text = answer.split(" ", 2)
        assert canonical(cls.FromString(bytes.fromhex(packed))) == canonical(msg), f"packed: {data.hex()}"
        if text != "-":
            theirs = json_format.MessageToDict(msg, always_print_fields_with_no_presence=True)
            assert json.loads(text) == theirs, f"JSON: {data.hex()}\n{text}\n{json.dumps(theirs)}"

    taken = refused = stricter = 0
    for _ in range(MUTATIONS):
        cls = rng.choice(classes)
        data = rng.mutate(rng.fill(cls(), 2).SerializeToString())
        answer, theirs = ask(cls, data), python_parse(cls, data)
        told = f"{cls.DESCRIPTOR.name} {data.hex()}: {answer}"
        if answer.startswith("ok "):
            taken += 1
            assert theirs is not None, f"Python refuses {told}"
            ours = python_parse(cls, bytes.fromhex(answer.split(" ", 2)[1]))
            assert ours is not None and canonical(ours) == canonical(theirs), f"another message: {told}"
        elif theirs is None:
            refused += 1
        else:
            stricter += 1
            assert any(reason in answer for reason in OURS), f"Python takes {told}"
    print(f"{ROUND_TRIPS} round trips; of {MUTATIONS} mutated {taken} taken by both, ", end="")
    print(f"{refused} refused by both, {stricter} by us alone, as announced")
    assert min(taken, refused, stricter) > 0
    peer.stdin.close()
    assert peer.wait() == 0


main()
