"""The comparer itself: whatever is changed in a span, it sees; whatever is left out, it names."""
import copy
import fnmatch
import json

import pytest
from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

import compare


def fill(message, levels, chain=()):
    """Sets every field of a message; what lies within itself is entered `levels` times."""
    chain += (message.DESCRIPTOR.full_name,)
    if chain.count(message.DESCRIPTOR.full_name) > levels:
        return
    for field in message.DESCRIPTOR.fields:
        if compare.is_repeated(field) and field.message_type:
            for choice in choices(field.message_type):
                fill_choice(getattr(message, field.name).add(), choice, levels, chain)
        elif compare.is_repeated(field):
            getattr(message, field.name).append(value_of(field))
        elif field.message_type:
            fill(getattr(message, field.name), levels, chain)
        else:
            setattr(message, field.name, value_of(field))


def choices(descriptor):
    """Lists of KeyValue or AnyValue get one item for each kind of value."""
    if descriptor.full_name == compare.KEY_VALUE:
        descriptor = descriptor.fields_by_name["value"].message_type
    return [field.name for field in descriptor.oneofs[0].fields] if descriptor.oneofs else [None]


def fill_choice(message, choice, levels, chain):
    if choice is None:
        return fill(message, levels, chain)
    value = message
    if message.DESCRIPTOR.full_name == compare.KEY_VALUE:
        message.key, message.key_strindex = f"key {choice}", 1
        value = message.value
        chain += (compare.KEY_VALUE,)
    chain += (value.DESCRIPTOR.full_name,)
    field = value.DESCRIPTOR.fields_by_name[choice]
    if field.message_type:
        getattr(value, choice).SetInParent()
        if max(map(chain.count, chain)) <= levels:
            fill(getattr(value, choice), levels, chain)
    else:
        setattr(value, choice, value_of(field))


def value_of(field):
    return {FieldDescriptor.CPPTYPE_STRING: b"12345678" if field.type == FieldDescriptor.TYPE_BYTES else "text",
            FieldDescriptor.CPPTYPE_BOOL: True, FieldDescriptor.CPPTYPE_DOUBLE: 0.5}.get(field.cpp_type, 1)  # fmt: skip


def filled(levels):
    message = trace_pb2.ResourceSpans(schema_url="text")
    message.scope_spans.add(schema_url="text").spans.add()
    for part in (message.resource, message.scope_spans[0].scope, compare.span_of(message)):
        fill(part, levels)
    return message


@pytest.fixture(scope="module")
def full():
    return filled(levels=1)


def leaves(message, path=""):
    """(path, how to change the leaf) of every scalar in a message."""
    for field, value in message.ListFields():
        place = f"{path}.{field.name}" if path else field.name
        if field.message_type:
            for number, item in enumerate(value if compare.is_repeated(field) else [value]):
                yield from leaves(item, f"{place}[{number}]")
        elif not compare.is_repeated(field):
            yield place, message, field


def recorded(message, between=None):
    return [compare.Recorded(message, between or {})]


def test_equal_spans_are_equal(full):
    assert compare.differences(recorded(full), [copy.deepcopy(full)]) == []


def test_a_change_of_any_field_is_seen(full):
    changed = copy.deepcopy(full)
    seen = 0
    for place, message, field in leaves(changed):
        if place == "scope_spans[0].spans[0].span_id":
            continue
        before = getattr(message, field.name)
        other = {bool: False, str: "other", bytes: b"87654321", float: 0.25}.get(type(before), 2)
        setattr(message, field.name, other)
        assert compare.differences(recorded(full), [changed]), f"a change of {place} was not seen"
        setattr(message, field.name, before)
        seen += 1
    assert seen > 100
    assert compare.differences(recorded(full), [changed]) == []


def test_a_missing_field_is_seen(full):
    lacking = copy.deepcopy(full)
    for place, message, field in list(leaves(lacking)):
        if place == "scope_spans[0].spans[0].span_id":
            continue
        before = getattr(message, field.name)
        message.ClearField(field.name)
        assert compare.differences(recorded(full), [lacking]), f"the lack of {place} was not seen"
        setattr(message, field.name, before)


def test_missing_surplus_and_repeated_spans_are_seen(full):
    other = copy.deepcopy(full)
    compare.span_of(other).span_id = b"another1"
    assert compare.differences(recorded(full), []) == [f"span {b'12345678'.hex()} arrived 0 times"]
    assert compare.differences(recorded(full), [full, full]) == [f"span {b'12345678'.hex()} arrived 2 times"]
    assert compare.differences(recorded(full), [full, other]) == [f"span {b'another1'.hex()} arrived, but was not recorded"]


def test_fields_that_upstream_does_not_know_are_seen(full):
    strange = copy.deepcopy(full)
    span = compare.span_of(strange)
    span.ParseFromString(span.SerializeToString() + b"\xf8\x07\x01")  # Field 127.
    assert any("does not know" in text for text in compare.differences(recorded(full), [strange]))


def test_the_order_of_attributes_means_nothing_and_a_second_key_is_seen(full):
    turned = copy.deepcopy(full)
    attributes = compare.span_of(turned).attributes
    attributes.sort(key=lambda pair: pair.key, reverse=True)
    assert compare.differences(recorded(full), [turned]) == []
    attributes[0].key = attributes[1].key
    assert any("key twice" in text for text in compare.differences(recorded(full), [turned]))


def test_doubles_are_compared_by_their_bits(full):
    one, other = copy.deepcopy(full), copy.deepcopy(full)
    numbers = [next(pair.value for pair in compare.span_of(it).attributes if pair.value.HasField("double_value"))
               for it in (one, other)]  # fmt: skip
    numbers[0].double_value, numbers[1].double_value = 0.0, -0.0
    assert compare.differences(recorded(one), [other])
    numbers[0].double_value = numbers[1].double_value = float("nan")
    assert compare.differences(recorded(one), [other]) == []


def test_times_are_held_against_their_bounds(full):
    arrived = copy.deepcopy(full)
    compare.span_of(arrived).start_time_unix_nano = 10**18
    compare.span_of(arrived).events[0].time_unix_nano = 10**18
    fields = ("startTimeUnixNano", "events.0.timeUnixNano")
    around = {field: (10**18 - 1, 10**18 + 1) for field in fields}
    assert compare.differences(recorded(full, around), [arrived]) == []
    later = {field: (10**18 + 10**9, 10**18 + 2 * 10**9) for field in fields}
    assert len(compare.differences(recorded(full, later), [arrived])) == 2


def test_every_field_that_is_never_set_is_named():
    deep = filled(levels=2)
    # A field holds one value of an enum at a time.
    assert [text for text in compare.never_set([deep], {}) if "=" not in text] == []
    assert "scope_spans.spans.kind=SPAN_KIND_CONSUMER is never set" in compare.never_set([deep], {})
    for field in trace_pb2.Span.DESCRIPTOR.fields:
        lacking = copy.deepcopy(deep)
        compare.span_of(lacking).ClearField(field.name)
        assert f"scope_spans.spans.{field.name} is never set" in compare.never_set([lacking], {})
    assert "resource.dropped_attributes_count is set, although it is listed as out of reach" in compare.never_set([deep])


def test_each_exception_excuses_something():
    paths = list(compare.field_paths(trace_pb2.ResourceSpans.DESCRIPTOR))
    for pattern in compare.OUT_OF_REACH:
        assert any(fnmatch.fnmatchcase(path, pattern) for path in paths), f"{pattern} matches no field"


def test_what_programs_print_is_read():
    line = json.dumps({"span": {"scopeSpans": [{"spans": [{"spanId": "MTIzNDU2Nzg=", "name": "n", "startTimeUnixNano": "5"}]}]},
                       "between": {"endTimeUnixNano": ["1", "2"]}})
    recorded_span, = compare.read_recorded([line])
    assert compare.span_of(recorded_span.message).span_id == b"12345678" and recorded_span.between == {"endTimeUnixNano": (1, 2)}
    request = trace_service_pb2.ExportTraceServiceRequest(resource_spans=[recorded_span.message] * 2)
    one, other = compare.split([request])
    assert compare.span_of(one) == compare.span_of(other) == compare.span_of(recorded_span.message)
