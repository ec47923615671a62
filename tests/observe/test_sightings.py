"""The first status since a container's latest start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.model.observation import FormerAddress, FormerLink
from exporter.observe.sightings import Moment, Sightings

START = datetime(2026, 1, 1, tzinfo=UTC)


def moment(seconds: float, clock_set_by: float = 0.0) -> Moment:
    """Return the moment so many seconds later, on a wall clock that somebody has set."""
    return Moment(START + timedelta(seconds=seconds + clock_set_by), 1000.0 + seconds, 1000.0 + seconds - 0.01)


def running(status: str, *endpoints: str, identity: str = "a") -> dict[str, Any]:
    """Return a container of the list."""
    networks = {f"n{index}": {"EndpointID": endpoint} for index, endpoint in enumerate(endpoints)}
    return {"Id": identity, "Status": status, "NetworkSettings": {"Networks": networks}}


def test_the_first_status_is_kept_while_the_container_runs() -> None:
    """Later, coarser texts of one run do not replace the first precise one."""
    sightings = Sightings()
    first = sightings.see([running("Up 3 seconds", "e1")], moment(0))
    for seconds, status in (
        (15, "Up 18 seconds"),
        (90, "Up About a minute"),
        (9000, "Up 3 hours"),
        (9e5, "Up 10 days"),
    ):
        assert sightings.see([running(status, "e1")], moment(seconds)) == first


def test_an_uptime_that_fell_is_a_new_start() -> None:
    """A restarted container is sighted anew, with the text and the time of now."""
    sightings = Sightings()
    sightings.see([running("Up 2 hours")], moment(0))
    seen = sightings.see([running("Up 4 seconds")], moment(15))
    assert (seen["a"].status, seen["a"].at) == ("Up 4 seconds", START + timedelta(seconds=15))


def test_an_uptime_that_grew_too_little_is_a_new_start() -> None:
    """A restart just after the first sighting shows, although the uptime is higher than it was then."""
    sightings = Sightings()
    sightings.see([running("Up 1 second")], moment(0))
    assert sightings.see([running("Up 11 seconds")], moment(15))["a"].status == "Up 11 seconds"


def test_a_slow_answer_is_no_new_start() -> None:
    """The engine may have written the status any time between request and answer; that is not held against it."""
    sightings = Sightings()
    first = sightings.see([running("Up 1 second")], moment(0))
    late = Moment(START + timedelta(seconds=20), 1020.0, 1012.0)
    assert sightings.see([running("Up 13 seconds")], late) == first


def test_new_endpoints_are_a_new_start() -> None:
    """Every start makes new endpoints, so a container whose endpoints are all new was restarted."""
    sightings = Sightings()
    sightings.see([running("Up 2 hours", "e1", "e2")], moment(0))
    assert sightings.see([running("Up 2 hours", "e3", "e4")], moment(15))["a"].at == START + timedelta(seconds=15)


def test_a_connect_is_no_start() -> None:
    """Another network, or one less, leaves the sighting as it is."""
    sightings = Sightings()
    first = sightings.see([running("Up 3 seconds", "e1")], moment(0))
    assert sightings.see([running("Up 2 minutes", "e1", "e2")], moment(150)) == first
    assert sightings.see([running("Up 3 minutes", "e2")], moment(200)) == first


def test_pausing_and_health_are_no_start() -> None:
    """What stands in brackets behind the uptime does not matter."""
    sightings = Sightings()
    first = sightings.see([running("Up 3 seconds (health: starting)")], moment(0))
    assert sightings.see([running("Up 20 seconds (healthy)")], moment(17)) == first
    assert sightings.see([running("Up 30 seconds (Paused)")], moment(27)) == first


def test_a_status_without_an_uptime_that_changes_is_a_new_start() -> None:
    """Where a text tells no uptime, another text is the only sign there is."""
    sightings = Sightings()
    first = sightings.see([running("Restarting (1) 2 seconds ago")], moment(0))
    assert sightings.see([running("Restarting (1) 2 seconds ago")], moment(1)) == first
    assert sightings.see([running("Up 1 second")], moment(2))["a"].status == "Up 1 second"


def test_who_is_gone_is_forgotten() -> None:
    """A container that left the list and came back is sighted anew; nothing of the gone stays in memory."""
    sightings = Sightings()
    sightings.see([running("Up 3 seconds"), running("Up 1 second", identity="b")], moment(0))
    assert set(sightings.see([running("Up 1 second", identity="b")], moment(1))) == {"b"}
    assert sightings.see([running("Up 5 seconds")], moment(2))["a"].at == START + timedelta(seconds=2)


def test_sightings_follow_a_clock_that_was_set() -> None:
    """Starts are compared with each other, so what was written down moves along with the wall clock."""
    sightings = Sightings()
    sightings.see([running("Up 3 seconds")], moment(0))
    seen = sightings.see([running("Up 13 seconds")], moment(10, clock_set_by=-3600))
    assert seen["a"].at == START - timedelta(seconds=3600)
    seen = sightings.see([running("Up 23 seconds")], moment(20, clock_set_by=-3600))
    assert seen["a"].at == START - timedelta(seconds=3600)


def test_entries_without_an_id_or_status_are_passed_over() -> None:
    """An entry that says neither who nor how long has no sighting, and is no error here."""
    assert Sightings().see([{}, {"Id": 1, "Status": "Up 1 second"}, {"Id": "x", "Status": None}], moment(0)) == {}


def at(address: str, status: str = "Up 2 hours", *, endpoint: str = "e1") -> dict[str, Any]:
    """Return a container with an address on the default bridge; with the empty one, it is off the bridge."""
    bridge = {"bridge": {"EndpointID": endpoint, "IPAddress": address}} if address else {}
    return {"Id": "a", "Status": status, "NetworkSettings": {"Networks": bridge}}


def test_addresses_that_were_given_up_are_kept() -> None:
    """A container that came back to the default bridge by another address was at its first one until then."""
    sightings = Sightings()
    assert sightings.see([at("172.17.0.2")], moment(0))["a"].former == ()
    assert sightings.see([at("")], moment(15))["a"].former == ()
    seen = sightings.see([at("172.17.0.5")], moment(30))["a"]
    assert seen.former == (FormerAddress("172.17.0.2", START + timedelta(seconds=30)),)
    assert sightings.see([at("172.17.0.5")], moment(45))["a"] == seen


def test_the_same_address_is_nothing_given_up() -> None:
    """Who was off the bridge and has its address again has given up none; who returns to an earlier one has left it."""
    sightings = Sightings()
    for second, address in enumerate(("172.17.0.2", "", "172.17.0.2")):
        assert sightings.see([at(address)], moment(second))["a"].former == ()
    sightings.see([at("172.17.0.3")], moment(3))
    seen = sightings.see([at("172.17.0.2")], moment(4))["a"]
    assert seen.former == (FormerAddress("172.17.0.3", START + timedelta(seconds=4)),)


def test_addresses_are_kept_over_a_new_start() -> None:
    """The rules for them may be older than the container's latest start."""
    sightings = Sightings()
    sightings.see([at("172.17.0.2")], moment(0))
    seen = sightings.see([at("172.17.0.5", "Up 1 second", endpoint="e2")], moment(15))["a"]
    assert (seen.status, [item.address for item in seen.former]) == ("Up 1 second", ["172.17.0.2"])
    sightings.see([at("", "Restarting (1) 1 second ago")], moment(30))
    seen = sightings.see([at("172.17.0.6", endpoint="e3")], moment(45))["a"]
    assert [item.address for item in seen.former] == ["172.17.0.2", "172.17.0.5"]


def test_former_addresses_follow_a_clock_that_was_set() -> None:
    """They are compared with starts."""
    sightings = Sightings()
    sightings.see([at("172.17.0.2")], moment(0))
    sightings.see([at("172.17.0.5")], moment(10))
    seen = sightings.see([at("172.17.0.5")], moment(20, clock_set_by=-3600))["a"]
    assert seen.former[0].until == START - timedelta(seconds=3590)


def linked(identity: str, address: str, *names: str, port: int = 0, status: str = "Up 2 hours") -> dict[str, Any]:
    """Return a container with names on the default bridge, and an exposed port."""
    bridge = {"EndpointID": f"{identity}{status}", "IPAddress": address}
    ports = [{"PrivatePort": port, "Type": "tcp"}] if port else []
    settings = {"Networks": {"bridge": bridge}}
    return {"Id": identity, "Names": [*names], "Status": status, "Ports": ports, "NetworkSettings": settings}


WEB = linked("w", "172.17.0.3", "/web")
DB = linked("d", "172.17.0.2", "/db", "/web/data", "/db", port=5432)


def test_links_outlive_their_containers() -> None:
    """Who held a link keeps the address that it led to, until it starts anew."""
    sightings = Sightings()
    assert sightings.see([WEB, DB], moment(0))["w"].left == ()
    for second in (15, 30):
        assert sightings.see([WEB], moment(second))["w"].left == (FormerLink("172.17.0.2", ("5432/tcp",)),)
    assert sightings.see([linked("w", "172.17.0.3", "/web", status="Up 1 second")], moment(45))["w"].left == ()


def test_only_links_outlive_their_containers() -> None:
    """Nobody keeps the address of a container that it held no link to, nor one from before its own start."""
    sightings = Sightings()
    other = linked("o", "172.17.0.4", "/other")
    sightings.see([WEB, DB, other], moment(0))
    seen = sightings.see([linked("w", "172.17.0.3", "/web", status="Up 1 second"), other], moment(15))
    assert (seen["w"].left, seen["o"].left) == ((), ())


def test_a_link_to_a_container_that_moved_has_outlived_all_of_its_addresses() -> None:
    """The engine wrote rules for the first one."""
    sightings = Sightings()
    sightings.see([WEB, DB], moment(0))
    sightings.see([WEB, {**DB, "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.9"}}}}], moment(15))
    left = sightings.see([WEB], moment(30))["w"].left
    assert {item.address for item in left} == {"172.17.0.2", "172.17.0.9"}
