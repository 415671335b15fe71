"""What devices share: kept as long as one of them uses it, and no longer."""

from edge_opcua.drivers.lines import Lines


def test_devices_of_one_key_have_one_line() -> None:
    lines = Lines()
    first = lines.used_by("a").get("bus", object)
    assert lines.used_by("b").get("bus", object) is first
    assert lines.get("bus", object) is first


def test_a_line_goes_with_the_last_device_and_the_next_one_sets_it_up_anew() -> None:
    lines = Lines()
    first = lines.used_by("a").get("bus", object)
    lines.used_by("b").get("bus", object)
    lines.leave("a")
    assert lines.used_by("c").get("bus", object) is first
    lines.leave("b")
    lines.leave("c")
    assert lines.used_by("c").get("bus", object) is not first


def test_a_device_that_leaves_twice_or_never_came_takes_nothing_along() -> None:
    lines = Lines()
    first = lines.used_by("a").get("bus", object)
    lines.leave("b")
    lines.leave("b")
    assert lines.used_by("a").get("bus", object) is first
