"""Timeline without a browser: what is in view against the reference engine, the report and the trace."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest
from dash import no_update
from hypothesis import given
from hypothesis import strategies as st

from dashboard.app import create_app
from dashboard.components.chosen import details
from dashboard.figures import timeline as figures
from dashboard.figures.theme import DARK, LIGHT
from dashboard.pages import timeline as page
from dashboard.service import Refused, Service
from dashboard.service import run as run_module
from dashboard.service.run import ROWS, Window, heat_of, run_of
from dashboard.service.timeline import BARS, ENOUGH, TRACE, Timelines
from dashboard.state import State
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.timeline import Bound
from npusim.waits import waited_for

SMALL = State.of({"seq_len": 512, "heads": 4, "cores": 3})
"""300 operations or so on each of three core groups"""
MASKED = SMALL.updated(algorithm="masked-neumann")
LONG = State.of({"matrices": 1_400_000})
"""a hundred million operations"""


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Service:
    return Service(folder=tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def timelines(service) -> Timelines:
    return Timelines(service)


def at(state: State, start: float, end: float, cores: str = "0") -> State:
    return state.viewed("timeline", cores=cores, **{"from": start, "to": end})


def program_of(service, state):
    asked = service.request(state)
    machine = service.machine(asked.setup)
    return lower(service.kernel(asked, machine), machine)


# --- what is in view -------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", ["0", "1-2", "0,2"])
@pytest.mark.parametrize(
    "state", [SMALL, MASKED, State.of({"kernel": "softmax", "m": 4096, "n": 256, "cores": 3})]
)
def test_bars_are_the_operations_of_the_reference_engine(service, timelines, state, cores):
    known = simulate(program_of(service, state))
    scale = known.program.machine.cycles_per_us
    whole = known.makespan / scale
    view = timelines.view(at(state, 0.2 * whole, 0.6 * whole, cores))
    shown = view.bars
    lanes, want = known.lanes(), []
    for row in range(known.operations):
        phase = known.program.phases[known.phase[row]]
        key = phase.unit_of(int(known.stream[row]), int(lanes[row]))
        start, end, done = (column[row] / scale for column in (known.start, known.end, known.done))
        if key[1] in view.groups and start < view.window.end and done > view.window.start:
            name = phase.instances[known.instance[row]].name
            want.append((key, name, start, end, waited_for(known, row)))
    found = [
        ((lane.core, lane.group, lane.unit), fact.name, start, end, waited)
        for lane, fact, start, end, done, waited in zip(
            (view.lanes[number] for number in shown.lane),
            shown.facts, shown.start, shown.end, shown.done, shown.waited, strict=True,
        )
        if start < view.window.end and done > view.window.start
    ]  # fmt: skip
    assert view.exact and view.operations == len(want) == len(found) > 30
    for mine, theirs in zip(sorted(found), sorted(want), strict=True):
        assert mine[:2] == theirs[:2] and mine[4] == theirs[4]
        assert mine[2:4] == pytest.approx(theirs[2:4], abs=1e-7)


@pytest.mark.parametrize(
    "state", [MASKED.updated(cores=12), State.of({"kernel": "gdn-fused", "seq_len": 512})]
)
def test_the_heat_map_of_a_run_is_the_busy_time_of_the_report(service, timelines, state):
    report = service.timing(state).report
    view = timelines.view(at(state, 0, 1e9, "all"))
    assert len(view.run.lanes) > ROWS and view.bars is None
    spent: dict[str, list[float]] = {}
    for lane, share in zip(view.heat.lanes, view.heat.share, strict=True):
        spent.setdefault(lane.unit, []).append(float((share * np.diff(view.heat.edges)).sum()))
    groups = service.machine(service.request(state).setup).core.groups.value
    for unit, own in spent.items():
        mean = np.mean(own) * view.run.groups / groups
        assert mean == pytest.approx(report.units[unit].busy_us, rel=1e-6), unit
    assert view.run.makespan == pytest.approx(report.core_us)


@pytest.mark.parametrize("place", [0.0, 0.31, 0.77, 0.9999])
@pytest.mark.parametrize("cores", ["5", "0-1"])
def test_every_window_of_a_hundred_million_operations_is_that_of_its_trace(timelines, place, cores):
    run = timelines.run(LONG)
    assert run.operations > 100_000_000
    state = at(LONG, place * run.makespan, place * run.makespan + 20.0, cores)
    view = timelines.view(state)
    trace = json.loads(timelines.trace(state))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert trace["otherData"]["operations"] == run.operations
    assert len(slices) == view.operations > 100
    inside = (view.bars.start < view.window.end) & (view.bars.done > view.window.start)
    starts = np.sort(np.rint(view.bars.start[inside] * 1e3))
    assert np.abs(starts - np.sort([event["ts"] * 1e3 for event in slices])).max() <= 1
    names = sorted(fact.name for fact, one in zip(view.bars.facts, inside, strict=True) if one)
    assert names == sorted(event["name"] for event in slices)
    waits = sorted(text for text, one in zip(view.bars.waited, inside, strict=True) if one)
    assert waits == sorted(event["args"]["waited_for"] for event in slices)


def test_bars_give_way_to_a_heat_map_where_there_are_many(timelines):
    run = timelines.run(LONG)
    for width in (50.0, 140.0, 160.0, 4000.0, run.makespan):
        view = timelines.view(at(LONG, 1000.0, 1000.0 + width))
        assert (view.bars is None) == (view.operations > BARS)
        assert (view.bars is None) != (view.heat is None)
        if view.exact:  # a core group works evenly
            assert view.operations == pytest.approx(run.about(view.window, 1), rel=0.1)


def test_a_run_that_never_settles_is_answered_from_what_is_kept_of_it(monkeypatch, service, timelines):
    """The heat map of bins that are kept is that of the simulation, and the simulation is not asked."""
    state = MASKED.updated(seq_len=4096)
    plain = timelines.run(state)
    monkeypatch.setattr(run_module, "REPLAYED", 100)
    kept = run_of(plain.simulation)
    assert plain.fine is None and kept.fine is not None
    np.testing.assert_allclose(kept.overview.share, plain.overview.share, atol=1e-9)
    for start, end in ((0.0, 1.0), (0.31, 0.52), (0.9, 0.97)):
        window = Window(start * kept.makespan, end * kept.makespan)
        with monkeypatch.context() as patch:
            patch.setattr(kept.simulation, "busy", None)
            heat = heat_of(kept, window.zoomed(2.0).within(kept.makespan), window, kept.lanes)
        assert heat.edges[0] <= window.start and heat.edges[-1] >= window.end * (1 - 1e-9)
        known = kept.simulation.busy(heat.edges * kept.scale)
        for lane, share in zip(heat.lanes, heat.share, strict=True):
            own = known[(lane.core, lane.group, lane.unit)]
            np.testing.assert_allclose(share, own, atol=1e-6)
        inside = (heat.edges[:-1] >= window.start) & (heat.edges[1:] <= window.end)
        assert 120 < inside.sum() < 480


def test_the_first_look_holds_a_whole_iteration(timelines):
    for state in (LONG, LONG.updated(algorithm="masked-neumann")):
        view = timelines.view(state)
        (phase,) = view.run.program.phases
        inside = (view.bars.start >= view.window.start) & (view.bars.done <= view.window.end)
        seen = {fact.instance for fact, one in zip(view.bars.facts, inside, strict=True) if one}
        loop = max((node for node in phase.body if not isinstance(node, int)), key=lambda n: len(n.body))
        assert {node for node in loop.body if isinstance(node, int)} <= seen
        assert ENOUGH <= view.operations <= BARS
        assert 0.4 < (view.window.start + view.window.end) / 2 / view.run.makespan < 0.6
    assert timelines.view(SMALL.updated(seq_len=128)).window.start == 0, "all of a short run"


@pytest.mark.parametrize(
    "state",
    [
        State.of({"kernel": "add", "m": 1, "n": 1}), State.of({"kernel": "softmax", "m": 3, "n": 64}),
        State.of({"kernel": "moe-combine", "m": 5}), SMALL,
    ],
)  # fmt: skip
def test_core_groups_are_those_that_work_in_the_reference_engine(service, timelines, state):
    known = simulate(program_of(service, state))
    lanes, phases = known.lanes(), known.program.phases
    at_work = {
        phases[phase].unit_of(int(stream), int(lane))[1]
        for phase, stream, lane in zip(known.phase, known.stream, lanes, strict=True)
    }
    view = timelines.view(state.viewed("timeline", cores="all"))
    assert set(view.groups) == at_work == set(range(view.run.groups)) and not view.frame.wrong


def test_a_kernel_that_does_nothing_but_start_is_shown(timelines):
    view = timelines.view(State("empty"))
    assert view.operations == 1
    for theme in (LIGHT, DARK):
        go.Figure(figures.drawn(view, theme))
        go.Figure(figures.overview(view.run, view.window, theme))


# --- links ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"from": "abc"}, "timeline.from=abc: a time is a number of microseconds"),
        ({"to": "1e"}, "timeline.to=1e: a time is a number of microseconds"),
        ({"from": "9", "to": "3"}, "the end must be after the start"),
        ({"from": "nan", "to": "3"}, "the end must be after the start"),
        ({"from": "1e7", "to": "2e7"}, "nothing runs: the run takes"),
        ({"cores": "two"}, "timeline.cores=two: core groups are a number, a range as 0-3"),
        ({"cores": "3"}, "timeline.cores=3: the run has the core groups 0 to 2"),
        ({"cores": "0-99999999999"}, "the run has the core groups 0 to 2"),
        ({"cores": "2-1"}, "the run has the core groups 0 to 2"),
        ({"bogus": "1"}, "the link sets 'timeline.bogus', which is no setting"),
        ({"op": "0.0.²"}, "timeline.op=0.0.²: the run has no such operation"),
        ({"op": "1.2"}, "timeline.op=1.2: the run has no such operation"),
        ({"op": "7.0.0"}, "timeline.op=7.0.0: the run has no such operation"),
        ({"op": "0.0.99999999"}, "the run has no such operation"),
    ],
)
def test_nonsense_in_a_link_is_said_and_the_rest_is_shown(timelines, own, said):
    state = SMALL.viewed("timeline", **own)
    view = timelines.view(state)
    assert len(view.frame.wrong) == 1 and said in view.frame.wrong[0]
    assert view.bars is not None and view.operations > 0 and view.chosen is None
    go.Figure(figures.drawn(view, LIGHT))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5), st.floats(0.1, 1e4))
def test_a_window_is_brought_into_the_run(start, width, whole):
    found = Window(start, start + width).within(whole)
    assert found.start >= 0 and found.end <= whole * (1 + 1e-12)
    assert 0 < found.width <= width * (1 + 1e-6) + 0.02 + 1e-9


def test_controls_move_the_view_and_its_link(timelines):
    state = at(LONG, 1000.0, 1010.0)

    def window(control: str, value: object = 1) -> tuple[float, float]:
        after = page.moved(timelines, state, control, value)
        found = timelines.frame(after).window
        return found.start, found.end

    assert window("timeline-in") == (1002.5, 1007.5)
    assert window("timeline-out") == (995, 1015)
    assert window("timeline-on") == (1007.5, 1017.5)
    assert window("timeline-back") == (992.5, 1002.5)
    assert window(page.SEEN, [1003.0, 1001.0]) == (1001, 1003)
    assert window(page.FROM, 1005) == (1005, 1010)
    assert window(page.FROM, 2000) == (2000, 2010), "the other end goes along"
    assert window(page.TO, 500) == (490, 500)
    assert window("timeline-all") == pytest.approx((0, timelines.run(LONG).makespan))
    low, high = window("timeline-one")
    assert low < 1005 < high and timelines.frame(state).window.width < high - low < 40
    for control, value in ((page.FROM, 1000), (page.TO, 1010), (page.FROM, ""), (page.CORES, "0")):
        assert page.moved(timelines, state, control, value) == state
    assert page.moved(timelines, state, page.CORES, "all").own("timeline")["cores"] == "all"
    first = timelines.frame(LONG).window
    assert page.moved(timelines, LONG, page.FROM, page.shown(first)[0]) == LONG


def test_a_move_over_the_end_of_the_run_is_taken_back(timelines):
    state = at(LONG, 0.0, 30.0)
    for moves in ({page.SEEN: [-7.0, 23.0]}, {page.TO: 30.0000001}, {"timeline-back": 1}):
        link, again = page.followed(timelines, state.query, moves)
        assert link is no_update and isinstance(again, str)
        assert again != page.followed(timelines, state.query, moves)[1], "a second time, too"
    link, again = page.followed(timelines, state.query, {page.SEEN: [1.0, 31.0]})
    assert State.from_query(link) == at(LONG, 1.0, 31.0) and again is no_update
    for moves in ({}, {page.FROM: ""}):  # nothing was asked yet
        assert page.followed(timelines, state.query, moves) == (no_update, no_update)
    view = timelines.view(state)
    for one in (lambda again: figures.drawn(view, LIGHT, again),
                lambda again: figures.overview(view.run, view.window, LIGHT, again)):  # fmt: skip
        assert one("a")["layout"]["uirevision"] != one("b")["layout"]["uirevision"]


def test_core_group_0_is_shown_though_an_operation_of_another_is_chosen(timelines):
    state = MASKED.viewed("timeline", op="0.1.40")
    assert timelines.frame(state).groups == (1,)
    assert timelines.frame(page.moved(timelines, state, page.CORES, "0")).groups == (0,)
    assert timelines.frame(page.moved(timelines, state, page.CORES, "")).groups == (1,)


def test_a_trace_that_would_be_too_large_is_refused_in_one_sentence(timelines):
    view = timelines.view(at(LONG, 0, 1e9, "all"))
    assert not view.traceable
    with pytest.raises(Refused, match=f"at most {TRACE:,} operations.*about 102,200,.* zoom in"):
        timelines.trace(at(LONG, 0, 1e9, "all"))


def test_a_trace_is_to_be_had_by_its_link(tmp_path):
    client = create_app(folder=tmp_path).server.test_client()
    answer = client.get(f"/timeline/trace.json?{at(SMALL, 2.0, 5.0, 'all').query}")
    assert answer.status_code == 200 and answer.mimetype == "application/json"
    events = json.loads(answer.get_data(as_text=True))["traceEvents"]
    assert {event["pid"].partition(".")[0] for event in events} == {"core0", "core1", "core2"}
    refused = client.get("/timeline/trace.json?chunk=50")
    assert refused.status_code == 400 and "--chunk: mxr halves the matrix" in refused.get_data(as_text=True)


# --- a chosen operation ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 40, 150, 211])
def test_a_chosen_operation_is_that_of_the_reference_engine(service, timelines, number):
    known = simulate(program_of(service, MASKED))
    row = int(np.flatnonzero((known.stream == 1) & (known.number == number))[0])
    view = timelines.view(MASKED.viewed("timeline", op=f"0.1.{number}"))
    chosen = view.chosen
    times = chosen.issued, chosen.start, chosen.end, chosen.done
    assert times == pytest.approx(
        [c[row] for c in (known.issued, known.start, known.end, known.done)], abs=1e-3
    )
    assert chosen.unit[1] == 1 and view.groups == (1,), "its core group is shown"
    assert view.window.start <= chosen.start / chosen.scale <= view.window.end
    assert chosen.waited == waited_for(known, row)
    if known.bound[row] in (Bound.read, Bound.reuse):
        assert int(known.number[known.cause[row]]) in {one.place.number for one in chosen.before if one.last}
    for one in chosen.before:
        assert one.start <= chosen.start
    for one in chosen.after:
        assert chosen.place in {back.place for back in _before(timelines, one.place)}
    shown = service.graph(MASKED).phases[0]
    node = shown.nodes[shown.of[chosen.fact.instance]]
    assert (node.name, node.unit) == (chosen.fact.name, chosen.fact.unit)
    said = str(details(chosen, node, "/graph"))
    assert chosen.fact.text in said and all(one.name in said for one in chosen.before[:5])


def _before(timelines, place):
    return timelines.view(MASKED.viewed("timeline", op=str(place))).chosen.before


def test_choosing_an_operation_out_of_view_moves_the_view_there(timelines):
    state = at(LONG, 1000.0, 1010.0)
    bars = timelines.view(state).bars
    inside = int(np.flatnonzero((bars.start > 1001.0) & (bars.done < 1009.0))[0])
    near = page.picked(timelines, state, str(bars.places[inside]))
    assert timelines.frame(near).window == timelines.frame(state).window
    far = page.picked(timelines, state, "0.0.2000000")
    frame = timelines.frame(far)
    assert frame.window.start < frame.chosen.start / frame.chosen.scale < frame.window.end
    assert frame.window.width == pytest.approx(10, rel=1e-3)
    assert "op" not in page.picked(timelines, far, "").own("timeline")


# --- figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_figures_show_every_bar_and_every_dependence(timelines, theme):
    state = at(MASKED, 0, 1e9).viewed("timeline", op="0.0.60")
    view = timelines.view(state)
    drawn = go.Figure(figures.drawn(view, theme))
    (bars,) = (trace for trace in drawn.data if trace.type == "bar")
    assert len(bars.x) == view.operations == len(set(bars.customdata)) == len(bars.hovertext)
    np.testing.assert_allclose(np.array(bars.base) + np.array(bars.x), view.bars.end)
    arrows = [trace for trace in drawn.data if "markers" in (getattr(trace, "mode", None) or "")]
    assert len(arrows) == len(view.chosen.before) + len(view.chosen.after) > 0
    for arrow in arrows:
        start, end = (time / view.chosen.scale for time in (view.chosen.start, view.chosen.end))
        assert arrow.x[0] == pytest.approx(end) or arrow.x[1] == pytest.approx(start)
    names = dict(zip(drawn.layout.yaxis.tickvals, drawn.layout.yaxis.ticktext, strict=True))
    for y, hover, place in zip(bars.y, bars.hovertext, bars.customdata, strict=True):
        assert names[y] in hover and place.startswith("0.0.")
        assert "waited last for" in hover
    for hover, end, done in zip(bars.hovertext, view.bars.end, view.bars.done, strict=True):
        later = float(hover.partition("visible ")[2].partition(" later")[0].replace(",", ""))
        assert later == pytest.approx((done - end) * view.run.scale, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_heat_maps_have_a_row_for_each_unit_and_the_first_on_top(timelines, theme):
    view = timelines.view(at(LONG, 0, 3000.0, "0-1"))
    drawn = go.Figure(figures.drawn(view, theme))
    (heat,) = drawn.data
    assert np.shape(heat.z) == view.heat.share.shape == (len(view.lanes), len(heat.x) - 1)
    np.testing.assert_allclose(np.array(heat.z)[::-1], 100 * view.heat.share, atol=0.05 + 1e-9)
    assert (
        drawn.layout.yaxis.ticktext[0] == "0 · aic_scalar"
        and drawn.layout.yaxis.tickvals[0] == len(heat.z) - 1
    )
    over = go.Figure(figures.overview(view.run, view.window, theme))
    mark = over.layout.shapes[-1]
    assert (mark.x0 + mark.x1) / 2 == pytest.approx((view.window.start + view.window.end) / 2)
    assert mark.x1 - mark.x0 >= view.window.width


@pytest.mark.parametrize("width, places", [(0.02, 3), (1.5, 2), (15, 1), (150, 0), (1e6, 0)])
def test_times_have_the_digits_that_tell_them_apart(width, places):
    assert figures.decimals(width) == places
