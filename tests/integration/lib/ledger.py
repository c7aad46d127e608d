"""The ledger in `oteld status --json`: promise 2 of the design, to the span, per application and exporter.

    started = unsampled + open + lost + dropped + in ring + filtered + in daemon + delivered + rejected
"""
import json

from conftest import eventually


def accounted(application, share):
    """All that became of an application's spans on the way to one exporter."""
    return (
        application["unsampled"] + application["open"] + application["lost"] + sum(application["dropped"].values())
        + application["in_ring"] + sum(share["filtered"].values()) + share["in_daemon"] + share["delivered"]
        + sum(share["rejected"].values())
    )  # fmt: skip


def rows_of(status, service):
    return [row for row in status["applications"] if row["service"] == service]


def total(rows, field):
    """The sum of a count, or of a table of counts by reason."""
    return sum(sum(row[field].values()) if isinstance(row[field], dict) else row[field] for row in rows)


def shares(rows, exporter):
    return [share for row in rows for share in row["exporters"] if share["name"] == exporter]


def assert_balanced(status, expected=None):
    """Each row balances. `expected`: {service: what `oteld load` printed}; started, dropped and open must be equal, and
    what ended (or was open at the end) must be all that any exporter has to deal with."""
    assert status["applications"] or not expected, "there are no applications"
    for row in status["applications"]:
        for share in row["exporters"]:
            what = f"{row['service']} (process {row['process']}) to {share['name']}"
            assert row["started"] == accounted(row, share), f"{what}: {json.dumps([row, share])}"
            assert share["balance"] == 0, what
    for service, printed in (expected or {}).items():
        rows = rows_of(status, service)
        assert total(rows, "started") == printed["started"], (service, printed, rows)
        assert total(rows, "dropped") == printed["dropped"], (service, printed, rows)
        assert total(rows, "lost") == 0, (service, rows)
        assert total(rows, "open") + total(rows, "recovered_open") == printed["open"], (service, printed, rows)
        for name in {share["name"] for row in rows for share in row["exporters"]}:
            handled = sum(share["in_daemon"] + share["delivered"] + sum(share["rejected"].values())
                          + sum(share["filtered"].values()) for share in shares(rows, name))  # fmt: skip
            assert handled + total(rows, "in_ring") == printed["ended"] + total(rows, "recovered_open"), (service, name)


def at_rest(status, services, exporters=None):
    """Whether all processes of these services are gone and nothing is on its way to these exporters (None: to any)."""
    for service in services:
        rows = rows_of(status, service)
        if not rows or any(row["life"] == "alive" or row["in_ring"] or row["open"] for row in rows):
            return False
        if any(share["in_daemon"] for row in rows for share in row["exporters"]
               if exporters is None or share["name"] in exporters):  # fmt: skip
            return False
    return True


def wait_at_rest(daemon, *services, exporters=None, seconds=120):
    """Waits until at_rest(); returns that status."""
    last = {}

    def quiet():
        nonlocal last
        last = daemon.status()
        return at_rest(last, services, exporters)

    try:
        eventually(quiet, f"all spans of {', '.join(services)} are settled", seconds)
    except BaseException:
        print(json.dumps(last, indent=1)[:20000])
        raise
    return last
