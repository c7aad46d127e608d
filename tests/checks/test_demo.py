"""The judge of ./dev run notices each way in which a span can go missing."""
import copy

import pytest

import demo

# 100 spans ended in the first run, at least 40 in the killed one, 3 were open when it died.
REPORT = {"applications": [
    {"service": "orders", "process": 1, "life": "ended", "started": 100, "open": 0, "lost": 0, "dropped": {}, "in_ring": 0,
     "recovered_open": 0,
     "exporters": [{"name": "trace_store", "in_daemon": 0, "delivered": 100, "rejected": {}, "balance": 0}]},
    {"service": "orders", "process": 2, "life": "crashed", "started": 44, "open": 0, "lost": 0, "dropped": {}, "in_ring": 0,
     "recovered_open": 3,
     "exporters": [{"name": "trace_store", "in_daemon": 0, "delivered": 44, "rejected": {}, "balance": 0}]},
]}
TRACES = [{"trace_id": "aa", "span_count": 100, "error_count": 1, "unfinished_count": 0},
          {"trace_id": "bb", "span_count": 44, "error_count": 3, "unfinished_count": 3}]


def faults(change=lambda report, traces: None, ended=100, killed=40):
    report, traces = copy.deepcopy(REPORT), copy.deepcopy(TRACES)
    change(report["applications"][1], traces[1])
    return demo.judge(report, traces, ended, killed)[1]


def share(application):
    return application["exporters"][0]


def test_all_is_well():
    # One span more than was noted: its end() had returned when the process was killed.
    assert not faults()


@pytest.mark.parametrize("change", [
    lambda application, trace: application.update(dropped={"ring_full": 1}),
    lambda application, trace: application.update(lost=1),
    lambda application, trace: share(application).update(balance=-1),
    lambda application, trace: share(application).update(rejected={"refused": 1}),
    lambda application, trace: share(application).update(delivered=42),
    lambda application, trace: trace.update(span_count=43),
    lambda application, trace: trace.update(span_count=45),   # Twice.
    lambda application, trace: trace.update(unfinished_count=2),
])
def test_a_fault_is_named(change):
    assert faults(change)


def test_a_span_that_ended_and_did_not_arrive_is_missed():
    assert faults(killed=42)


@pytest.mark.parametrize("change", [
    {"in_ring": 1}, {"open": 1}, {"life": "alive"},
    {"exporters": [{"name": "trace_store", "in_daemon": 1, "delivered": 43, "rejected": {}, "balance": 0}]}])
def test_what_is_on_its_way_is_waited_for(change):
    report = copy.deepcopy(REPORT)
    assert not demo.unsettled(report)
    report["applications"][1].update(change)
    assert demo.unsettled(report)
