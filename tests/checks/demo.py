"""The judge of ./dev run: did every finished span of both runs arrive, and does the ledger balance?

Used by ./dev run, which sets OTELD (the binary), DEMO (a directory with orders.out and progress), OTELD_DIR and
OTELD_STATE_DIR:
  demo.py wait-progress FILE SPANS PID   until the example has ended that many spans
  demo.py settled                        until nothing is in rings or daemon any more
  demo.py pick-traces                    prints two trace ids: one of the first run, one with an unfinished span
  demo.py verdict                        says what arrived; exit code 1 when anything is missing
"""
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

WATCHDOG_SECONDS = 60


def main(verb, *arguments):
    return {"wait-progress": wait_progress, "settled": settled, "pick-traces": pick_traces, "verdict": verdict}[verb](*arguments)


def wait_progress(file, spans, pid):
    path = pathlib.Path(file)
    for _ in until_watchdog():
        if path.exists() and ended_in(path) >= int(spans):
            return 0
        if not alive(int(pid)):
            print("The example ended before it was killed.", file=sys.stderr)
            return 1
    print(f"The example did not end {spans} spans within {WATCHDOG_SECONDS} s.", file=sys.stderr)
    return 1


def settled():
    why = []
    for _ in until_watchdog():
        why = unsettled(status())
        if not why:
            return 0
    print("\n".join([f"After {WATCHDOG_SECONDS} s spans are still on their way:", *why]), file=sys.stderr)
    return 1


def unsettled(report):
    """Sentences about what is still on its way; the killed process counts as alive until its death was seen."""
    why = []
    for it in report["applications"]:
        if it["life"] == "alive":
            why.append(f"{it['service']} {it['process']} counts as alive")
        if it["in_ring"] or it["open"]:
            why.append(f"{it['service']} {it['process']}: {it['in_ring']} in ring, {it['open']} open")
        why += [f"{it['service']} {it['process']}: {share['in_daemon']} in the daemon for {share['name']}"
                for share in it["exporters"] if share["in_daemon"]]
    return why


def pick_traces():
    found = traces()
    whole = [it for it in found if it["service"] == "orders" and not it["unfinished_count"]]
    # One that has something to show: an error, and a slow query if it can be had.
    first = max(whole, key=lambda it: (it["error_count"] > 0, it["duration_nano"]), default=None)
    second = max((it for it in found if it["unfinished_count"]), key=lambda it: it["span_count"], default=None)
    if first is None or second is None:
        print(f"{len(found)} traces arrived, {len(whole)} of them whole ones of the first run; one of these and one with an"
              " unfinished span were expected.", file=sys.stderr)
        return 1
    print(first["trace_id"], second["trace_id"])
    return 0


def verdict():
    demo = pathlib.Path(os.environ["DEMO"])
    ended = json.loads(demo.joinpath("orders.out").read_text().strip().splitlines()[-1])["ended"]
    killed = ended_in(demo / "progress")
    lines, faults = judge(status(), traces(), ended, killed)
    print("\n".join(lines + [f"MISSING: {fault}" for fault in faults]))
    return 1 if faults else 0


def judge(report, found, ended, killed):
    """What the numbers say, and what is wrong with them."""
    applications = report["applications"]
    started = sum(it["started"] for it in applications)
    recovered = sum(it["recovered_open"] for it in applications)
    delivered = sum(share["delivered"] for it in applications for share in it["exporters"])
    stored = sum(it["span_count"] for it in found)
    lines = [
        f"first run:   {ended} spans ended",
        f"killed run:  {killed} spans had ended, {recovered} were open: recovered as unfinished",
        f"arrived:     {stored} spans in {len(found)} traces",
    ]
    faults = []
    for it in applications:
        name = f"{it['service']} (process {it['process']})"
        faults += [f"{name} dropped {count} spans: {reason}" for reason, count in it["dropped"].items() if count]
        faults += [f"{it['lost']} spans of {name} were lost with the process"] * bool(it["lost"])
        for share in it["exporters"]:
            faults += [f"the ledger of {name} to {share['name']} is off by {share['balance']}"] * bool(share["balance"])
            faults += [f"{share['name']} rejected {count} spans of {name}: {reason}"
                       for reason, count in share["rejected"].items() if count]
    # end() may have returned once per thread without the example having noted it when it was killed.
    if delivered - recovered < ended + killed:
        faults.append(f"{ended + killed} spans had ended, only {delivered - recovered} of them were delivered")
    if stored != delivered:
        faults.append(f"{delivered} spans were delivered, but the store has {stored}")
    if sum(it["unfinished_count"] for it in found) != recovered:
        faults.append(f"{recovered} open spans were recovered, but the store has {sum(it['unfinished_count'] for it in found)}")
    if not faults:
        lines.append(f"ledger:      {started} started = {delivered} delivered; nothing lost, nothing twice")
    return lines, faults


def ended_in(progress):
    """The example's mapped counts of ended spans: 64-bit little-endian, one or several."""
    data = progress.read_bytes()
    return sum(struct.unpack(f"<{len(data) // 8}Q", data[:len(data) // 8 * 8]))


def status():
    return oteld_json("status", "--json")


def traces():
    found = oteld_json("traces", "--json", "--limit", "0")
    return found["traces"] if isinstance(found, dict) else found


def oteld_json(*arguments):
    done = subprocess.run([os.environ["OTELD"], *arguments], capture_output=True, text=True)
    if not done.stdout.strip():
        sys.exit(f"oteld {' '.join(arguments)} said nothing and ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def alive(pid):
    """A zombie that its parent has not waited for is dead, too."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_watchdog():
    deadline = time.monotonic() + WATCHDOG_SECONDS
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
