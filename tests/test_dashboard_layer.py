"""Layer without a browser: the settings of a link, the answers of the command line, figures and tables."""

from __future__ import annotations

import json
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from dashboard.components import layer as parts
from dashboard.figures import layer as drawn
from dashboard.figures.text import percent, spaced, time
from dashboard.figures.theme import DARK, LIGHT
from dashboard.pages import layer as page
from dashboard.service import Refused, Service
from dashboard.service.layer import LENGTHS, Layers
from dashboard.state import State

SMALL = State().viewed("layer", model="qwen3.5-0.8b", seq_len=256)
FLAGS = ("qwen3.5-0.8b", "--seq-len", "256")
TWO = SMALL.viewed("layer", inverse="forward-substitution,mxr")
EAGER = SMALL.viewed("layer", execution="eager", profile="ascend-950pr-9599")


@pytest.fixture(scope="module")
def layers(tmp_path_factory) -> Layers:
    return Layers(Service(folder=tmp_path_factory.mktemp("work")))


def as_json(layers: Layers, state: State) -> dict:
    """The answer as `npusim layer --json` gives it."""
    answer = layers.answer(state)
    return layers._forward(state)[0].to_json(answer.profile, answer.times)


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        (TWO, ("--inverse", "forward-substitution,mxr")),
        (EAGER, ("--execution", "eager", "--profile", "ascend-950pr-9599")),
        (
            SMALL.viewed("layer", execution="fused", batch=2, chunk=32),
            ("--execution", "fused", "--batch", 2, "--chunk", 32),
        ),
        (SMALL.viewed("layer", tensor_parallel=2, dtype="bf16"), ("--tensor-parallel", 2, "--dtype", "bf16")),
    ],
    ids=["inverses", "eager", "fused", "parallel"],
)  # fmt: skip
def test_an_answer_is_that_of_the_command(layers, cli, state, flags):
    told = json.loads(cli("layer", *FLAGS, *flags, "--json").out)
    del told["settings"]
    assert as_json(layers, state) == told
    answer = layers.answer(state)
    shown = answer.layer(answer.base)
    assert shown.time_us == told["time_us"] and answer.base.total_us == told["prefill_us"]
    figure = drawn.waterfall(answer, LIGHT)
    steps = [trace for trace in figure["data"] if trace.get("base") and trace["xaxis"] == "x"]
    scale = 1e3 if figure["layout"]["xaxis"]["title"]["text"] == "ms" else 1.0
    assert scale * sum(sum(trace["x"]) for trace in steps) == pytest.approx(told["time_us"])
    ends = max(base + x for trace in steps for base, x in zip(trace["base"], trace["x"], strict=True))
    assert scale * ends == pytest.approx(told["time_us"])
    cells = [row["cells"] for row in parts.kernel_rows(answer)]
    for own, row in zip(cells, told["breakdown"], strict=False):
        assert own[1]["parts"][0]["text"] == spaced(time(row["time_us"]))
        assert own[2]["parts"][0]["text"] == percent(row["share"])
    assert cells[-1][1]["parts"][0]["text"] == spaced(time(told["time_us"]))
    go.Figure(figure)


def test_decoding_asks_for_no_inverse_and_no_length(layers, cli):
    state = TWO.viewed("layer", decode="yes", context=512, batch=4)
    told = json.loads(cli("layer", FLAGS[0], "--decode", "--context", 512, "--batch", 4, "--json").out)
    del told["settings"]
    assert as_json(layers, state) == told
    spelled = SMALL.viewed("layer", decode="true", context=512, batch=4)
    assert layers.answer(spelled).base == layers.answer(state).base
    names = {one.name for one in layers.settings(state).fields}
    assert "context" in names and "chunk" not in names
    assert "decoding inverts nothing" in str(page.headlines(layers.answer(state)))


def test_the_waiting_for_the_host_is_where_it_is(layers):
    answer = layers.answer(EAGER)
    layer = answer.layer(answer.base)
    assert layer.waiting_us > 0 and layer.waiting_us == pytest.approx(sum(layer.waits))
    figure = drawn.waterfall(answer, LIGHT)
    waits = [trace for trace in figure["data"] if "waiting" in str(trace.get("hovertext", ""))]
    assert len(waits) == 1
    assert sum(waits[0]["x"]) == pytest.approx(layer.waiting_us)
    at = 0.0
    steps = next(trace for trace in figure["data"] if trace.get("base") and trace is not waits[0])
    for base, row, waited in zip(steps["base"], layer.rows, layer.waits, strict=True):
        assert base == pytest.approx(at + waited)
        at += waited + row.found.task_us


def test_the_inverse_stands_out(layers):
    answer = layers.answer(TWO)
    figure = drawn.waterfall(answer, LIGHT)
    for name, axis in zip(answer.times, ("x", "x2"), strict=True):
        steps = next(t for t in figure["data"] if t.get("base") and t["xaxis"] == axis)
        rows = answer.layer(answer.times[name]).rows
        warm = [
            row.call.label
            for row, c in zip(rows, steps["marker"]["color"], strict=True)
            if c == LIGHT.series[2]
        ]
        assert warm == [row.call.label for row in rows if row.call.inverse] != []
    axes = [figure["layout"][name] for name in ("xaxis", "xaxis2")]
    assert axes[0]["range"] == axes[1]["range"]
    assert axes[0]["domain"][1] - axes[0]["domain"][0] == pytest.approx(
        axes[1]["domain"][1] - axes[1]["domain"][0]
    )
    kinds = [row["label"] for row in parts.kernel_rows(answer) if row.get("kind") == "inverse"]
    assert kinds == ["inverse"]
    inside = layers.answer(SMALL.viewed("layer", execution="fused"))
    assert "part of gdn-fused" in str(page.headlines(inside))
    assert "/" in drawn.waterfall(inside, DARK)["data"][-2]["marker"]["pattern"]["shape"]


def test_savings_are_against_the_first_inverse(layers):
    told = as_json(layers, TWO)["inverses"][1]
    said = str(page.headlines(layers.answer(TWO))[-1])
    sign = "" if told["saving"] >= 0 else "−"
    assert f"{sign}{percent(abs(told['saving']))}" in said and "mxr instead of forward-substitution" in said


def test_ways_to_execute_share_what_they_have_in_common(layers):
    found = layers.executions(SMALL)
    times = {name: one.layer(one.base) for name, one in found.items()}
    assert times["eager"].time_us - times["eager"].waiting_us == pytest.approx(times["graph"].time_us)
    figure = drawn.executions(found, LIGHT)
    totals = [sum(xs) for xs in zip(*(trace["x"] for trace in figure["data"]), strict=True)]
    assert totals == pytest.approx([one.time_us for one in times.values()])
    decoded = layers.executions(SMALL.viewed("layer", decode="yes"))
    assert "nothing is fused in decoding" in decoded["fused"]
    figure = go.Figure(drawn.executions(decoded, DARK))
    (why,) = (note for note in figure.layout.annotations if note.y == "fused")
    assert "nothing is fused in decoding" in why.text and why.hovertext == decoded["fused"]
    assert set(figure.layout.yaxis.categoryarray) == set(decoded)


def test_the_rate_of_several_devices_is_said_to_be_theirs(layers):
    one, two = (
        str(page.headlines(layers.answer(SMALL.viewed("layer", tensor_parallel=count)))[2])
        for count in (1, 2)
    )
    assert "a second on the device" in one and "devices" not in one
    assert "a second on 2 devices, communication not counted" in two


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "nonsense"}, "no model 'nonsense'"),
        ({"model": "/etc/passwd.json"}, "no model"),
        ({"tensor_parallel": 3}, "cannot be divided by 3"),
        ({"tensor_parallel": "no"}, "tensor-parallel"),
        ({"seq_len": 0}, "--seq-len"),
        ({"inverse": "none"}, "--inverse: tri-inverse has no 'none'"),
        ({"inverse": "mxr,doubling,mxr:textbook,newton-schulz,column-sweep"}, "up to 4 stand side by side"),
        ({"decode": "yes", "execution": "fused"}, "nothing is fused in decoding"),
        ({"kind": "convolution"}, "qwen3.5-0.8b has no layer 'convolution'; known: delta, attention, head"),
        ({"profile": "/etc/passwd"}, "profile"),
        ({"nonsense": 1}, "sets 'layer.nonsense', which is no setting"),
        ({"chunk": 50}, "50"),
        ({"seq_len": "²"}, "--seq-len"),
        ({"seq_len": "9" * 5000}, "--seq-len"),
        ({"inverse": ","}, "--inverse: ',' names none"),
        ({"decode": "perhaps"}, "--decode"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_controls(layers, values, said):
    state = SMALL.viewed("layer", **values)
    with pytest.raises(Refused) as error:
        layers.answer(state)
    assert said in str(error.value)
    assert page.layout(layers, **{"kernel": state.kernel, **dict(state.values)}).to_plotly_json()


def test_every_model_has_its_layers_to_choose(layers):
    found = layers.settings(State())
    names = [name for _, group in found.models for name in group]
    assert len(names) == len(set(names)) and found.model in names
    for name in names:
        own = layers.settings(State().viewed("layer", model=name))
        assert own.kind in own.kinds and own.kind.startswith("delta")
        assert ("skew" in {one.name for one in own.fields}) == ("experts" in own.meaning)


def test_the_slider_goes_from_a_thousand_tokens_to_a_million():
    assert (LENGTHS[0], LENGTHS[-1]) == (1024, 1048576)
    assert all(1.3 < b / a < 1.6 for a, b in pairwise(LENGTHS))
    assert [parts.nearest(length) for length in LENGTHS] == list(range(len(LENGTHS)))
    assert parts.nearest(8000) == LENGTHS.index(8192)


def test_controls_make_a_link_that_says_no_defaults(layers):
    plain = {"model": "qwen3.5-9b", "execution": "graph", "inverse": ["mxr"], "profile": "ascend-910b2"}
    plain |= {"kind": "delta", "batch": 1, "tensor_parallel": 1, "dtype": "fp16", "chunk": 64, "context": ""}
    assert page.moved(layers, State(), plain) == State()
    two = page.moved(
        layers, State(), {**plain, "inverse": ["doubling", "mxr"], "seq_len": 65536, "kind": "attention"}
    )
    assert two.own("layer") == {"inverse": "doubling,mxr", "seq_len": "65536", "kind": "attention"}
    other = page.moved(layers, two, {**plain, "model": "kimi-linear-48b-a3b", "kind": "attention"})
    assert other.own("layer") == {"model": "kimi-linear-48b-a3b", "seq_len": "65536"}
