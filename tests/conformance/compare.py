"""Compares spans that arrived with what a program says that it recorded, field by field, for every field there is.

Both sides are ResourceSpans messages of one span each. The comparison walks protobuf's own descriptor, so it knows
no list of fields that could be incomplete, and a field that upstream adds tomorrow is compared, too.

    expected = read_recorded(lines)                   # What every_field and random_spans print.
    received = split(receiver.messages())             # What arrived, in upstream's decoder.
    assert differences(expected, received) == []
    assert never_set([span.message for span in expected]) == []   # Is each field there at all?

The order of attributes means nothing in OTLP and is not compared; everything else is, doubles by their bits.
"""
import collections
import dataclasses
import fnmatch
import json
import struct

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.trace.v1 import trace_pb2

KEY_VALUE = "opentelemetry.proto.common.v1.KeyValue"
# A time read from the client's clock may differ from system_clock's by what the conversion of ticks costs.
CLOCK_SLACK_NS = 5_000_000

# What no program can set through the client, and why. never_set() fails when one of them is set nevertheless.
OUT_OF_REACH = {
    "resource.dropped_attributes_count": "the client drops no attribute of a resource",
    "resource.entity_refs": "entities are in development",
    "resource.entity_refs.*": "entities are in development",
    "scope_spans.scope.dropped_attributes_count": "the client drops no attribute of a scope",
    "*_strindex": "belongs to profiles",
    "resource.attributes.value.bool_value": "resource attributes are text, as in OTEL_RESOURCE_ATTRIBUTES",
    "resource.attributes.value.double_value": "the same",
    "resource.attributes.value.bytes_value": "the same",
    "resource.attributes.value.array_value": "the same",
    "resource.attributes.value.array_value.*": "the same",
    "resource.attributes.value.kvlist_value": "the same",
    "resource.attributes.value.kvlist_value.*": "the same",
}


@dataclasses.dataclass
class Recorded:
    """One span as the program recorded it; `between` has the times that it could only enclose."""

    message: trace_pb2.ResourceSpans
    between: dict


def read_recorded(lines):
    spans = []
    for line in lines:
        document = json.loads(line)
        message = json_format.ParseDict(document["span"], trace_pb2.ResourceSpans())
        spans.append(Recorded(message, {k: tuple(map(int, v)) for k, v in document["between"].items()}))
    return spans


def split(requests):
    """Each span of these ExportTraceServiceRequests alone in a ResourceSpans."""
    out = []
    for request in requests:
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    one = trace_pb2.ResourceSpans(
                        resource=resource_spans.resource, schema_url=resource_spans.schema_url)  # fmt: skip
                    one.scope_spans.add(
                        scope=scope_spans.scope, schema_url=scope_spans.schema_url, spans=[span])  # fmt: skip
                    out.append(one)
    return out


def span_of(message):
    return message.scope_spans[0].spans[0]


def differences(expected, received):
    """Sentences about all that is missing, too much, or not equal."""
    found = []
    by_id = collections.defaultdict(list)
    for message in received:
        by_id[span_of(message).span_id].append(message)
    for span in expected:
        name = span_of(span.message).span_id.hex()
        arrived = by_id.pop(span_of(span.message).span_id, [])
        if len(arrived) != 1:
            found.append(f"span {name} arrived {len(arrived)} times")
            continue
        wanted = trace_pb2.ResourceSpans()
        wanted.CopyFrom(span.message)
        found += [f"span {name}: {text}" for text in take_times(wanted, arrived[0], span.between)]
        found += [f"span {name}: {text}" for text in unequal("", wanted, arrived[0])]
    return found + [f"span {span_id.hex()} arrived, but was not recorded" for span_id in by_id]


def take_times(wanted, arrived, between):
    """Times within their bounds are taken over into `wanted`; others are told."""
    for path, (first, last) in between.items():
        into, source, field = span_of(wanted), span_of(arrived), None
        *steps, field = path.split(".")
        try:
            while steps:
                name, index = steps.pop(0), int(steps.pop(0))
                into, source = getattr(into, name)[index], getattr(source, name)[index]
        except IndexError:
            continue  # unequal() says what is missing.
        name = next(f.name for f in into.DESCRIPTOR.fields if f.json_name == field)
        value = getattr(source, name)
        if not first - CLOCK_SLACK_NS <= value <= last + CLOCK_SLACK_NS:
            yield f"{path} is {value}, not between {first} and {last}"
        setattr(into, name, value)


def unequal(path, wanted, arrived):
    """Walks two messages of one type, field by field of their descriptor."""
    if len(UnknownFieldSet(arrived)) != 0:
        yield f"{path or 'it'} has fields that upstream does not know"
    for field in wanted.DESCRIPTOR.fields:
        place = f"{path}.{field.name}" if path else field.name
        if is_repeated(field):
            yield from unequal_lists(place, field, getattr(wanted, field.name), getattr(arrived, field.name))
        elif field.has_presence and wanted.HasField(field.name) != arrived.HasField(field.name):
            # An empty message and none mean the same, except where the choice is the value.
            if field.containing_oneof or not same_empty(field, wanted, arrived):
                yield f"{place} is {'there' if arrived.HasField(field.name) else 'not there'}"
        elif field.message_type:
            yield from unequal(place, getattr(wanted, field.name), getattr(arrived, field.name))
        elif not same(field, getattr(wanted, field.name), getattr(arrived, field.name)):
            yield f"{place} is {getattr(arrived, field.name)!r}, not {getattr(wanted, field.name)!r}"


def same_empty(field, wanted, arrived):
    return getattr(wanted, field.name).ByteSize() == getattr(arrived, field.name).ByteSize() == 0


def unequal_lists(place, field, wanted, arrived):
    if len(wanted) != len(arrived):
        yield f"{place} has {len(arrived)} items, not {len(wanted)}"
        return
    if field.message_type and field.message_type.full_name == KEY_VALUE:
        wanted, arrived = (sorted(pairs, key=lambda pair: pair.key) for pairs in (wanted, arrived))
        keys = [pair.key for pair in arrived]
        if len(set(keys)) != len(keys):
            yield f"{place} has a key twice"
    for number, (one, other) in enumerate(zip(wanted, arrived, strict=True)):
        if field.message_type:
            yield from unequal(f"{place}[{number}]", one, other)
        elif not same(field, one, other):
            yield f"{place}[{number}] is {other!r}, not {one!r}"


def same(field, one, other):
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        # By their bits, so that -0.0 is not 0.0; but every NaN is as good as another.
        return struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
    return one == other


def is_repeated(field):
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def never_set(messages, out_of_reach=OUT_OF_REACH):
    """Paths of fields that no message sets, values of enums that none has, and exceptions that are none."""
    wanted = set(field_paths(trace_pb2.ResourceSpans.DESCRIPTOR))
    seen = set()
    for message in messages:
        seen |= set(set_paths(message))
    excused = {path for path in wanted for pattern in out_of_reach if fnmatch.fnmatchcase(path, pattern)}
    found = [f"{path} is never set" for path in sorted(wanted - seen - excused)]
    return found + [f"{path} is set, although it is listed as out of reach" for path in sorted(seen & excused)]


def field_paths(descriptor, path="", chain=()):
    """Every field there is. A message within itself is entered once: arrays of arrays, maps of maps."""
    chain += (descriptor.full_name,)
    if chain.count(descriptor.full_name) > 2:
        return
    for field in descriptor.fields:
        place = f"{path}.{field.name}" if path else field.name
        yield place
        if field.message_type:
            yield from field_paths(field.message_type, place, chain)
        if field.enum_type:  # The first one, 0, says that nothing was said.
            yield from (f"{place}={value.name}" for value in field.enum_type.values if value.number != 0)


def set_paths(message, path="", chain=()):
    chain += (message.DESCRIPTOR.full_name,)
    if chain.count(message.DESCRIPTOR.full_name) > 2:
        return
    for field, value in message.ListFields():
        place = f"{path}.{field.name}" if path else field.name
        yield place
        for item in value if is_repeated(field) else [value]:
            if field.message_type:
                yield from set_paths(item, place, chain)
            if field.enum_type:
                known = field.enum_type.values_by_number.get(item)
                yield f"{place}={known.name if known else item}"
