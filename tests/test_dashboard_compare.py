"""Compare without a browser: what a link carries, what configurations are called, the table's numbers and
differences, and the timelines."""

from __future__ import annotations

import json
import math

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.components import comparison as parts
from dashboard.figures import compare as drawn
from dashboard.figures.differences import difference, shown
from dashboard.figures.parts import Bars
from dashboard.figures.theme import DARK, LIGHT
from dashboard.pages import compare
from dashboard.service import Service
from dashboard.service.compare import Comparisons
from dashboard.service.configurations import LEAST, MOST, Slots, configurations
from dashboard.service.rows import error_section, setting_section, time_sections, unit_sections
from dashboard.state import State
from npusim.lower import lower
from npusim.settings import EngineSettings
from npusim.simulate import simulate

SIZES = {"seq_len": 1024, "heads": 4, "samples": 3}
MXR = State.of(SIZES)
MASKED = MXR.updated(algorithm="masked-neumann")
DOUBLING = MXR.updated(algorithm="doubling")
FLAGS = ("--seq-len", "1024", "--heads", "4", "--samples", "3")


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Service:
    return Service(folder=tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def comparisons(service) -> Comparisons:
    return Comparisons(service)


# --- links ---------------------------------------------------------------------------------------

STATES = st.sampled_from([
    State(), MXR, MASKED, State.of({"kernel": "matmul", "m": 512}),
    MXR.updated(set="core.flags.pairs.aic_mac->aic_fixpipe=12,clock_ghz=1.5", ideal="flags,launch"),
])  # fmt: skip


@st.composite
def slots_of(draw) -> Slots:
    states = tuple(draw(st.lists(STATES, min_size=LEAST, max_size=MOST)))
    place = st.integers(0, len(states) - 1)
    return Slots(states, draw(place), draw(place))


@given(slots_of())
def test_a_link_gives_back_the_configurations_that_it_was_made_of(found):
    page = State.of({"graph.op": 3, "compare.6": "kernel=softmax"})
    link = found.into(page).query
    assert Slots.of(State.from_query(link)) == found
    assert State.from_query(link).own("graph") == {"op": "3"}
    assert State.from_query(link).asked == found.states[found.edit]


@given(slots_of(), st.data())
def test_buttons_add_remove_and_choose(found, data):
    place = data.draw(st.integers(0, len(found.states) - 1))
    edited, based = found.states[found.edit], found.states[found.base]
    assert found.edited(place).states[found.edited(place).edit] == found.states[place]
    assert found.based(place).base == place
    more = found.added()
    if len(found.states) < MOST:
        assert more.states == (*found.states, edited) and more.edit == len(found.states)
        assert more.states[more.base] == based
        less = more.removed(len(found.states))
        assert less.states == found.states
    less = found.removed(place)
    if len(found.states) == LEAST:
        assert less == found
    else:
        assert less.states == (*found.states[:place], *found.states[place + 1 :])
        assert place == found.base or less.states[less.base] == based
        assert place == found.edit or less.states[less.edit] == edited


def test_who_comes_with_one_state_sees_it_beside_the_baseline_of_the_kernel(comparisons):
    found = comparisons.slots(MASKED.updated(order=4))
    assert found.states == (MASKED.updated(order=4), MXR.updated(algorithm="forward-substitution"))
    assert (found.edit, found.base) == (0, 0)
    beside = comparisons.slots(MXR.updated(algorithm="forward-substitution")).states[1]
    assert beside.get("algorithm") == "blocked-substitution"
    only = comparisons.slots(State.of({"kernel": "softmax"})).states[1]
    assert only.kernel == "softmax" and only.get("profile") not in ("", "ascend-910b2")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"compare.base": "9"}, "compare.base is '9', and there are 2 configurations"),
        ({"compare.base": "no"}, "compare.base is 'no'"),
        ({"compare.base": "²"}, "compare.base is '²'"),
        ({"compare.edit": "²"}, "compare.edit is '²'"),
        ({"compare.edit": "7"}, "compare.edit is '7'"),
        ({"compare.7": "kernel=matmul"}, "sets compare.7: 2 to 6 configurations"),
    ],
)
def test_a_wrong_link_is_told_and_the_rest_is_kept(comparisons, own, said):
    state = MXR.updated(**{"compare.2": DOUBLING.query, **own})
    found = comparisons.slots(state)
    assert said in " ".join(found.wrong)
    assert found.states == (MXR, DOUBLING) and (found.edit, found.base) == (0, 0)


def test_settings_of_a_link_beside_a_configuration_of_their_number_take_the_next(comparisons):
    found = comparisons.slots(MXR.updated(**{"compare.1": DOUBLING.query, "compare.2": MASKED.query}))
    assert found.states == (DOUBLING, MASKED, MXR) and found.edit == 2 and not found.wrong
    assert Slots.of(found.into(State())) == found
    full = {f"compare.{number}": MASKED.query for number in range(1, MOST + 1)}
    found = comparisons.slots(MXR.updated(**full))
    assert found.states == (MXR, *[MASKED] * (MOST - 1)) and "compare.1 is left out" in found.wrong[0]
    bad = comparisons.slots(MXR.updated(**{"compare.2": "%", "compare.3": DOUBLING.query}))
    assert bad.states == (MXR, DOUBLING) and "compare.2 is '%', which is not the text" in bad.wrong[0]


# --- names ---------------------------------------------------------------------------------------


def names(service, *states: State) -> list[str]:
    return [one.name for one in configurations(service, Slots(states))[0]]


def test_a_name_is_made_of_what_differs(service):
    assert names(service, MXR, DOUBLING) == ["mxr", "doubling"]
    assert names(service, MXR, MXR.updated(chunk=32)) == ["C 64", "C 32"]
    other = DOUBLING.updated(profile="ascend-950pr-9599", chunk=32)
    assert names(service, MXR, other) == ["mxr · 910B2 · C 64", "doubling · 950PR-9599 · C 32"]
    changed = MXR.updated(set="core.cube.startup_cycles=40", paths="l0c_ub", ideal="flags")
    assert names(service, MXR, changed) == ["mxr", "cube.startup_cycles 40 · with L0C → UB · flags free"]
    assert names(service, MASKED, MASKED.updated(mask="no")) == ["mask", "no mask"]
    assert names(service, State(), State.of({"kernel": "matmul"})) == ["mxr", "matmul"]
    assert names(service, MXR, MXR, MXR) == ["mxr", "mxr · copy", "mxr · copy 2"]


def test_what_is_alike_is_said_once_and_what_differs_in_each(service):
    found, alike = configurations(service, Slots((MXR, MASKED.updated(order=5))))
    same = {one.label: one.value for one in alike.same}
    assert same["Sequence length"] == "1,024" and same["Profile"] == "ascend-910b2"
    assert "Algorithm" not in same and "Samples" not in same
    assert [(one.label, one.value) for one in found[0].differs] == [("Algorithm", "mxr")]
    assert ("Order N", "5") in [(one.label, one.value) for one in found[1].differs]
    rows = {row.label: row.values for row in setting_section(found, alike).rows}
    assert rows["Steps S"] == (None, "8") and rows["Algorithm"] == ("mxr", "masked-neumann")
    assert not set(rows) & set(same)


# --- numbers -------------------------------------------------------------------------------------


def values(sections) -> dict[tuple[str, str], tuple]:
    return {(section.title, row.label): row.values for section in sections for row in section.rows}


def test_numbers_are_those_of_the_command_compare(comparisons, cli):
    found = Slots((MXR, DOUBLING), base=0)
    rows = json.loads(cli("compare", "tri-inverse", "--algorithms", "mxr,doubling", *FLAGS, "--json").out)[
        "rows"
    ]
    timings = [one.timing for one in comparisons.compared(found).columns]
    table = values([*time_sections(timings, 0), error_section(comparisons.accuracies(found))])
    for label, name in {
        ("Time", "Time"): "time_us", ("Time", "Speed-up"): "speedup",
        ("Time", "Expected error"): "expected_error",
        ("Error", "Relative error"): "relative_error", ("Error", "SNR"): "snr_db",
        ("Error", "Worst relative error"): "worst_relative_error", ("Error", "Worst SNR"): "worst_snr_db",
        ("Error", "Not finite"): "nonfinite", ("Error", "Pieces compared"): "samples",
    }.items():  # fmt: skip
        assert table[label] == pytest.approx(tuple(row[name] for row in rows)), label
    bounds = [f"{row['bound']}, {row['dominant_unit']}" for row in rows]
    assert list(table["Time", "Bound"]) == bounds


def test_numbers_are_those_of_the_command_run(comparisons, cli):
    run = json.loads(cli("run", "tri-inverse", "--algorithm", "masked-neumann", *FLAGS, "--json").out)
    found = Slots((MXR, MASKED), base=1)
    timings = [one.timing for one in comparisons.compared(found).columns]
    sections = [*time_sections(timings, 1), *unit_sections(timings)]
    table = {key: own[1] for key, own in values(sections).items()}
    assert table["Time", "Core time"] == run["times"]["core_us"]
    assert table["Time", "Speed-up"] == 1.0
    assert table["Time", "Cores"] == f"{run['cores']} core groups"
    units = {name: unit for name, unit in run["units"].items() if "unused" not in run["waiting"][name]}
    for name, unit in units.items():
        assert table["Utilisation", name] == unit["utilisation"]
        assert table["Busy", name] == unit["busy_us"]
        shown_waits = {cause: us for (title, cause), us in table.items() if title == f"{name} waits" and us}
        left_out = sum(run["waiting"][name].values()) - sum(shown_waits.values())
        assert shown_waits.items() <= run["waiting"][name].items()
        assert left_out <= 0.005 * run["times"]["core_us"] * len(run["waiting"][name])
    for name, label in (("hbm_read", "HBM read"), ("l2_written", "L2 written")):
        assert table["Bytes", label] == run["bytes"][name]
    for level, peak in run["peak_bytes"].items():
        assert table.get(("Buffers", level), 0) == peak
    for kind, share in run["evidence"].items():
        assert table["Evidence", kind.capitalize()] == share
    assert table["Work", "Operations"] == run["engine"]["operations"]


@pytest.mark.parametrize(
    ("values", "cores"),
    [
        ({"kernel": "add"}, "48 vector cores"), ({"kernel": "add", "m": 1, "n": 1}, "1 vector core"),
        ({}, "24 core groups"), ({**SIZES, "cores": 1}, "1 core group"),
    ],
)  # fmt: skip
def test_cores_are_said_with_their_kind(service, values, cores):
    """The 910B2 has 24 core groups, each of one cube and two vector cores."""
    assert service.timing(State.of(values)).cores == cores


def test_texts_of_a_kernel_are_no_tags_in_a_figure():
    bars = Bars({0: "a<b>"}, 1.0)
    bars._add(("operations", 0), 0, 1.0, "x<y")
    (trace,) = bars.traces(LIGHT)
    assert trace["text"] == ["x&lt;y"] and trace["hovertext"][0].startswith("<b>a&lt;b&gt;</b><br>x&lt;y: ")


@pytest.mark.parametrize(
    ("kind", "value", "base", "text"),
    [
        ("time", 125.0, 100.0, "+25.0 µs · +25 %"), ("time", 300.0, 100.0, "+200 µs · 3.00 ×"),
        ("time", 50.0, 100.0, "−50.0 µs · −50 %"), ("time", 5.0, 0.0, "+5.00 µs"),
        ("share", 0.75, 0.5, "+25.0 pts"), ("db", 61.5, 77.0, "−15.5 dB"), ("ratio", 1.5, 1.0, "+50 %"),
        ("error", 1e-6, 1e-3, "1,000 × less"), ("error", 5e-2, 1e-3, "50.0 × more"),
        ("error", 0.9, 1.0, "−10 %"),
        ("bytes", 2048.0, 1024.0, "+1.00 KiB · 2.00 ×"), ("count", 5, 4, "+1 · +25 %"),
        ("time", 100.02, 100.0, "+0.0200 µs · +0.02 %"),
        ("time", 7.0, 7.0, "="), ("text", "a", "b", ""), ("time", None, 7.0, ""), ("db", math.inf, 50.0, ""),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_its_unit_and_in_percent(kind, value, base, text):
    assert difference(kind, value, base).text == text


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_a_difference_has_the_sign_of_the_numbers(value, base):
    found = difference("time", value, base)
    assert found.alike == bool(np.isclose(value, base, rtol=1e-9, atol=1e-15))
    assert found.alike or found.sign == np.sign(value - base)
    assert found.alike or found.text.startswith("+" if value > base else "−")


def cells(rows) -> dict[str, list]:
    return {row["label"]: [cell["parts"] for cell in row["cells"]] for row in rows if "label" in row}


def test_better_is_green_worse_is_red_and_the_same_is_grey(comparisons):
    found = comparisons.compared(Slots((MXR, DOUBLING, MXR)))
    timings = [one.timing for one in found.columns]
    rows = cells(parts.table_rows([*time_sections(timings, 0), *unit_sections(timings)], 0, 3))
    time, again = (cell[1] for cell in rows["Time"][1:])
    assert time["kind"] == "difference better" and again["kind"] == "difference same"
    us = [one.report.task_us for one in timings]
    assert time["text"] == f"−{us[0] - us[1]:.2f} µs · −{100 * (1 - us[1] / us[0]):.0f} %"
    assert rows["Speed-up"][1][1]["kind"] == "difference better"
    assert rows["Operations"][1][1]["kind"] == "difference plain"
    assert len(rows["Time"][0]) == 1  # the baseline differs from nothing


def test_a_configuration_that_cannot_be_says_so_and_the_others_stay(comparisons):
    found = Slots((MXR.updated(chunk=50), MXR, State("nonsense")), base=0)
    seen = comparisons.compared(found)
    assert "--chunk: mxr halves the matrix" in seen.columns[0].reason
    assert "no kernel 'nonsense'" in seen.columns[2].reason
    assert seen.columns[1].timing is not None
    width, strips = comparisons.strips(seen)
    assert [strip is None for strip in strips] == [True, False, True] and width > 0
    view = compare.time_view(seen, LIGHT)
    cards = view[1]
    assert "mxr halves" in str(cards[0]) and "mxr halves" not in str(cards[1])
    time = cells(view[4])["Time"]
    assert [cell[0]["text"] == "—" for cell in time] == [True, False, True]
    errors = str(compare.error_view(seen, comparisons.accuracies(found)))
    assert "mxr halves" not in errors  # the card has said it
    go.Figure(drawn.breakdown(seen, DARK)), go.Figure(drawn.over_time(seen, strips, DARK))
    none = comparisons.compared(Slots((State("nonsense"), State("nothing"))))
    assert comparisons.strips(none) == (0.0, (None, None))
    for figure in (drawn.breakdown(none, LIGHT), drawn.timelines(0.0, (None, None), LIGHT)):
        assert "none of them" in figure["layout"]["annotations"][0]["text"]


# --- timelines -----------------------------------------------------------------------------------


def test_timelines_hold_what_core_0_does_from_the_start_of_a_trip(comparisons, service):
    found = comparisons.compared(Slots((MXR.updated(seq_len=8192), DOUBLING.updated(seq_len=8192))))
    width, strips = comparisons.strips(found)
    for one, strip in zip(found.columns, strips, strict=True):
        timing, steady = one.timing, strip.steady
        sim = simulate(lower(timing.kernel, timing.machine), EngineSettings(exact=True))
        every = sim.between(0, sim.makespan)
        phase = every.program.phases[0]
        scale = timing.machine.cycles_per_us
        own = every.stream == 0
        first = {
            unit: next(n for n, lane in enumerate(phase.lanes) if lane.unit == unit) for unit in steady.units
        }
        at = steady.at_us * scale
        wanted = sorted(
            (phase.lanes[lane].unit, phase.instances[number].name, (start - at) / scale)
            for lane, number, start, done in zip(
                every.lanes()[own], every.instance[own], every.start[own], every.done[own], strict=True
            )
            if start < at + width * scale and done > max(at, start)
            and lane == first.get(phase.lanes[lane].unit)
        )  # fmt: skip
        bars = sorted((bar.unit, bar.name, bar.start) for bar in steady.bars)
        assert [bar[:2] for bar in bars] == [bar[:2] for bar in wanted]
        assert [bar[2] for bar in bars] == pytest.approx([bar[2] for bar in wanted], abs=1e-6)
        assert min(abs(bar.start) for bar in steady.bars) < 1e-9  # a trip begins at 0
        loop = next(node for node in phase.body if not isinstance(node, int))
        assert steady.trips == loop.count[0]
        assert steady.period_us * steady.trips == pytest.approx(strip.core_us, rel=0.15)


def outermost(nodes, at=0):
    """Of core 0, unrolled: how many operations there are, and the first of each trip of the outermost loops
    that have three or more, each time that one is gone through."""
    begins = []
    for node in nodes:
        if isinstance(node, int):
            at += 1
            continue
        assert not node.per_item and not node.resumes
        own, inner = [], []
        for _ in range(int(node.count[0])):
            own.append(at)
            at, found = outermost(node.body, at)
            inner += found
        begins += [own] if len(own) > 2 else inner
    return at, begins


@pytest.mark.parametrize("values", [{"kernel": "matmul", "variant": "textbook"}, {"kernel": "gdn-fused"}])
def test_trips_are_those_of_the_outermost_loop_of_the_longest_phase(comparisons, values):
    state = State.of({**values, "seq_len": 1024} if values["kernel"] == "gdn-fused" else values)
    found = comparisons.compared(Slots((state, MXR)))
    width, strips = comparisons.strips(found)
    timing, shown = found.columns[0].timing, strips[0].steady
    every = simulate(lower(timing.kernel, timing.machine), EngineSettings(exact=True))
    rows, phases = every.between(0, every.makespan), every.program.phases
    spent = [rows.done[rows.phase == n].max() - rows.start[rows.phase == n].min() for n in range(len(phases))]
    longest = int(np.argmax(spent))
    assert shown.phase == (phases[longest].name if len(phases) > 1 else "")
    assert shown.phase in str(drawn.timelines(width, strips, LIGHT)["layout"]["annotations"])
    own = (rows.phase == longest) & (rows.stream == 0)
    start = dict(zip(rows.number[own].tolist(), rows.start[own] / timing.machine.cycles_per_us, strict=True))
    loops = [[start[number] for number in loop] for loop in outermost(phases[longest].body)[1]]
    (loop,) = (one for one in loops if np.isclose(one, shown.at_us).any())
    assert shown.trips == len(loop) > 2 and shown.period_us is not None
    steps = np.diff(loop)
    assert steps.min() <= shown.period_us * (1 + 1e-9) and shown.period_us <= steps.max() * (1 + 1e-9)
    begins = [at for at in loop if shown.at_us * (1 - 1e-9) <= at <= shown.at_us + width]
    assert [shown.at_us + at for at in shown.begins] == pytest.approx(begins, rel=1e-6)


def test_utilisation_over_the_run_comes_to_that_of_the_report(comparisons):
    found = comparisons.compared(Slots((MXR, MASKED)))
    _, strips = comparisons.strips(found)
    for one, strip in zip(found.columns, strips, strict=True):
        report = one.timing.report
        assert strip.core_us == pytest.approx(report.core_us)
        for name, shares in strip.busy.items():
            units = report.cores if name.startswith("aic") else None
            if units == one.timing.machine.core.groups.value:
                assert np.mean(shares) == pytest.approx(report.units[name].utilisation, rel=1e-6)


def test_figures_have_one_scale_and_a_name_for_each(comparisons):
    found = comparisons.compared(Slots((MXR, MASKED, DOUBLING)))
    width, strips = comparisons.strips(found)
    lines = drawn.timelines(width, strips, LIGHT)
    said = [note["text"] for note in lines["layout"]["annotations"]]
    assert [f"<b>{one.configuration.name}</b>" in said for one in found.columns] == [True] * 3
    assert lines["layout"]["xaxis"]["range"][1] == pytest.approx(width)
    longest = max(one.timing.report.core_us for one in found.columns)
    over = drawn.over_time(found, strips, LIGHT)
    assert over["layout"]["xaxis"]["range"][1] == pytest.approx(longest)
    bars = drawn.breakdown(found, LIGHT)
    totals: dict[float, float] = {}
    for trace in bars["data"]:
        for y, x in zip(trace["y"], trace["x"], strict=True):
            totals[y] = totals.get(y, 0.0) + x
    cores = {one.configuration.name: one.timing.report.core_us for one in found.columns}
    ticks = bars["layout"]["yaxis"]
    for y, name in zip(ticks["tickvals"], ticks["ticktext"], strict=True):
        assert totals[y] == pytest.approx(cores[name])
    for figure in (lines, over, bars):
        go.Figure(figure)


def test_a_kernel_without_a_loop_is_shown_from_its_start(comparisons):
    found = comparisons.compared(Slots((State.of({"kernel": "softmax", "m": 256}), MXR)))
    _, strips = comparisons.strips(found)
    assert strips[0].steady.period_us is None and strips[0].steady.at_us == 0.0
    assert "no loop repeats" in str(drawn.timelines(1.0, strips, LIGHT)["layout"]["annotations"])


def test_numbers_are_written_with_their_units():
    assert shown("time", 1500.0) == "1.50 ms" and shown("bytes", 1024) == "1.00 KiB"
    assert shown("db", math.inf) == "∞" and shown("count", None) == "—" and shown("ratio", 1.25) == "1.25 ×"
