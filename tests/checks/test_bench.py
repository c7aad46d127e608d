"""The parts of tests/bench that can be wrong without anybody seeing it in the figures."""
import sys

import sources
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

sys.path.append(str(sources.ROOT / "tests/bench"))
import beside  # noqa: E402
import run  # noqa: E402
import sender  # noqa: E402
import sink  # noqa: E402


def request(*end_times: int) -> bytes:
    message = trace_service_pb2.ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    for end in end_times:
        spans.add(end_time_unix_nano=end)
    return message.SerializeToString()


def test_latency_is_from_the_end_of_each_span_to_the_arrival_of_its_request():
    second = 1_000_000_000
    found = sink.summary([(3 * second, request(1 * second, 2 * second)), (5 * second, request(4 * second))])
    assert (found["spans"], found["requests"]) == (3, 2)
    assert (found["first_ns"], found["last_ns"]) == (3 * second, 5 * second)
    assert found["latency_ms"] == {"p50": 1000, "p99": 1000, "max": 2000}


def test_nothing_arrived():
    assert sink.summary([]) == {"spans": 0, "requests": 0, "bytes": 0}


def test_a_request_that_goes_out_before_it_is_full_is_the_beginning_of_the_full_one():
    assert sender.shortened(request(1, 2, 3), 2) == request(1, 2)


def test_ratios_compare_runs_of_the_same_round(capsys):
    def runs(*us: float) -> list[dict]:
        return [{"us_per_span": value, "application_us_per_span": 1, "own_mib": 1, "sent": 10, "arrived": 9} for value in us]

    ours, theirs = beside.rows(1000, {"oteld": runs(1, 2, 4), "other": runs(3, 4, 4)})
    assert (ours["x_oteld"], theirs["x_oteld"]) == (1, 2)
    assert "3 of 30 spans did not arrive" in capsys.readouterr().out


def test_every_bench_is_in_the_readme():
    readme = (sources.ROOT / "tests/bench/README.md").read_text()
    assert [name for name in run.BENCHES if f"| `{name}` |" not in readme] == []
