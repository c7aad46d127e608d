"""What a span costs the application: span, opentelemetry, lttng, detail, burst."""
import os
import shutil
import subprocess
import tempfile
import time

from common import BUILD, RESULTS, Daemon, Rings, Sink, clean_environment, json_lines, median, pipeline


def span(quick: bool) -> None:
    runs = 3 if quick else 7
    rows: dict[str, list[dict]] = {}
    for _ in range(runs):
        with Rings() as rings:
            for line in json_lines([BUILD / "bench/span_bench", "--drain"], rings.environment) + json_lines([BUILD / "bench/span_bench_noop"], clean_environment()):
                rows.setdefault(line["name"], []).append(line)
    floor = median(line["p10"] for line in rows["floor"])
    print(f"\nns per span, {runs} runs: quiet (p10) and median; x floor in the same run")
    table = {}
    for name, lines in rows.items():
        p10 = median(line["p10"] for line in lines)
        middle = median(line["median"] for line in lines)
        table[name] = {"p10": p10, "median": middle, "x_floor": p10 / floor}
        print(f"  {name:32} {p10:8.1f} {middle:8.1f}   {p10 / floor:5.2f} x")
    RESULTS["span"] = table


def opentelemetry(quick: bool) -> None:
    program = BUILD / "bench/opentelemetry_bench"
    if not program.exists():
        print("\nopentelemetry-cpp: not measured, find_package(opentelemetry-cpp) found no SDK")
        return
    rows: dict[str, list[dict]] = {}
    for _ in range(3 if quick else 7):
        with Rings() as rings, Sink("grpc") as sink:
            lines = json_lines([program, str(sink.port)], rings.environment)
        ours = next(line for line in lines if line["name"] == "header")
        for line in lines:
            rows.setdefault(line["name"], []).append(line | {"x_header": line["p10"] / ours["p10"]})
    print(f"\nspans with 5 attributes by opentelemetry-cpp, {len(rows['header'])} runs: ns on the calling thread, quiet (p10) and median; "
          "x a span through our headers;\nns of CPU in the whole process for each span that was delivered")  # fmt: skip
    table = {name: {key: median(line[key] for line in lines) for key in lines[0] if key != "name"} for name, lines in rows.items()}
    for name, row in table.items():
        print(f"  {name:34} {row['p10']:8.1f} {row['median']:8.1f}   {row['x_header']:6.2f} x   cpu {row['cpu']:8.1f}   delivered {row['delivered']:5.1f} %")
    RESULTS["opentelemetry"] = table


def detail(quick: bool) -> None:
    table = {}
    for reader in (False, True):
        rows: dict[str, list[dict]] = {}
        for _ in range(1 if quick else 7):
            with Daemon(pipeline("nop")) if reader else Rings() as rings:
                command = [BUILD / "bench/detail_bench", *([] if reader else ["--drain"])]
                for line in json_lines(command, rings.environment):
                    rows.setdefault(line.pop("name"), []).append(line)
        beside = "beside a daemon that drains" if reader else "no reader"
        print(f"\nsingle spans with 5 attributes, {beside}: medians of {len(rows['each span'])} runs; ns unless it says otherwise")
        table[beside] = {name: {key: median(line[key] for line in lines) for key in lines[0]} for name, lines in rows.items()}
        for name, figures in table[beside].items():
            print(f"  {name:36} " + "  ".join(f"{key} {value:g}" for key, value in figures.items()))
    with tempfile.NamedTemporaryFile() as bare:
        subprocess.run(["strip", "-o", bare.name, BUILD / "lib/liboteld.so"], check=True)
        table["library_bytes"] = os.stat(bare.name).st_size
    print(f"  liboteld.so without debug information: {table['library_bytes'] / 1024:.0f} KiB")
    RESULTS["detail"] = table


def lttng(quick: bool) -> None:
    program = BUILD / "bench/lttng_bench"
    if not program.exists() or shutil.which("lttng") is None:
        print("\nLTTng-UST: not measured, liblttng-ust-dev and lttng-tools are missing (./dev bench installs them)")
        return
    with tempfile.TemporaryDirectory(prefix="oteld-bench-") as home:
        environment = clean_environment(LTTNG_HOME=home)

        def lttng(*words: str) -> None:
            subprocess.run(words, env=environment, check=True, capture_output=True)

        daemon = subprocess.Popen(["lttng-sessiond", "--no-kernel"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while subprocess.run(["lttng", "list"], env=environment, capture_output=True).returncode != 0 and time.monotonic() < deadline:
                time.sleep(0.1)
            # A flight recorder: its ring overwrites itself, and nobody reads.
            lttng("lttng", "create", "bench", "--snapshot")
            lttng("lttng", "enable-event", "--userspace", "oteld_bench:span")
            lttng("lttng", "start")
            lines = [line for _ in range(3 if quick else 7) for line in json_lines([program], environment)]
            lttng("lttng", "destroy", "bench")
        finally:
            daemon.terminate()
            daemon.wait()
    figures = {key: median(line[key] for line in lines) for key in ("p10", "median")}
    print(f"\n{lines[0]['name']}: {figures['p10']:.1f} quiet (p10), {figures['median']:.1f} median, ns")
    RESULTS["lttng"] = figures


def burst(quick: bool) -> None:
    spans, bursts = 20000, 3
    print("\nbursts of 20,000 spans from idle: spans dropped, bells and growth steps, in the first burst and in later ones (lane grown)")
    table = []
    for hog in (False, True):
        for gap in (1000, 200, 0):
            first, later = [], []  # Of each run.
            for _ in range(1 if quick else 3):
                with Daemon(pipeline("nop")) as daemon:
                    busy = subprocess.Popen(["taskset", "-c", "0", "sh", "-c", "while :; do :; done"]) if hog else None
                    try:
                        if hog:
                            for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
                                os.sched_setaffinity(int(task), {0})
                        lines = json_lines(["taskset", "-c", "1", BUILD / "bench/burst_bench", str(spans), str(gap), "6000", str(bursts)], daemon.environment)
                    finally:
                        if busy:
                            busy.kill()
                            busy.wait()
                    counted = ("dropped", "bells", "growths")
                    first.append({name: lines[0][name] for name in counted})
                    later.append({name: max(line[name] for line in lines[1:]) for name in counted})
            table.append({"gap_ns": gap, "busy_cpu_beside_daemon": hog, "first": first, "later": later})
            beside = "a busy CPU beside the daemon" if hog else "a free CPU for the daemon"
            words = "; ".join(f"{when}: " + ", ".join(f"{name} {[run[name] for run in runs]}" for name in counted)
                              for when, runs in (("first", first), ("later", later)))
            print(f"  {gap:5} ns apart, {beside:30} {words}")
    RESULTS["burst"] = table
