"""The panel of settings that pages about one kernel share, and the state that it makes.

A page puts `panel` into its layout; its own callbacks listen to the store STATE alone. What a control of one
kernel means nothing to another, the service takes away; the panel's controls are laid anew where the kernel
or the algorithm takes others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, dcc, html, no_update
from dash import State as Kept

from dashboard.components import numbers
from dashboard.components.ids import SETTING, STATE, setting
from dashboard.components.shell import icon
from dashboard.service import Control, Panel, Refused, Service
from dashboard.state import State, as_text

BODY, DEFAULTS = "panel-body", "panel-defaults"
COMMAND = "command"
DEBOUNCE_MS, TEXT_MS = 220, 500
"""after the last key, before a number counts, and before a text does"""
IDEALS = {
    "flags": "flags and barriers",
    "issue": "instruction issue",
    "contention": "sharing of HBM and L2",
    "launch": "launch",
    "latency": "latencies",
}


def panel(service: Service, state: State, head: Any = None) -> list[Any]:
    """The panel of a state, its store, and the drawer of numbers; `head`: what stands above the settings."""
    inside = [*([] if head is None else [head]), html.Div(body(service, state), id=BODY)]
    return [
        dcc.Store(id=STATE, data=state.query),
        html.Aside(inside, className="panel", **{"aria-label": "Settings"}),
        numbers.drawer(),
    ]


def body(service: Service, state: State) -> list[Any]:
    """The settings of a state."""
    try:
        return _body(service.panel(state))
    except Refused:  # an unknown kernel, which the page names; there is a panel to choose another
        return _body(replace(service.panel(State()), state=State(state.kernel)))


def _body(found: Panel) -> list[Any]:
    state = found.state
    kernel = [
        _select(
            "kernel",
            "Kernel",
            [(one.name, one.name) for one in found.kernels],
            state.kernel,
            _meaning(found.kernels, state.kernel),
        ),
        _select(
            "algorithm",
            "Algorithm",
            [(o.name, o.name) for o in found.algorithms],
            found.algorithm,
            _meaning(found.algorithms, found.algorithm),
        ),
    ]
    if len(found.variants) > 1:
        kernel.append(
            _select(
                "variant",
                "Variant",
                [(o.name, o.name) for o in found.variants],
                found.variant,
                _meaning(found.variants, found.variant),
            )
        )
    if found.baselines:
        kernel.append(
            _select("baseline", "Speed-up over", [(n, n) for n in found.baselines], found.baseline, "")
        )
    return [
        _section("Kernel", kernel),
        *([_section("Parameters", [_grid(found.options, state)])] if found.options else []),
        _section("Problem", [_grid(found.problem, state)]),
        _section("Machine", _machine(found)),
        _section(
            "Inputs",
            [
                _grid(found.numerics, state),
                _switch("numerics", "Compute the error", state.get("numerics") != "no"),
            ],
        ),
        html.Div(id=COMMAND),
        dcc.Store(
            id=DEFAULTS,
            data={one.name: one.default for one in _controls(found)} | {"variant": found.default_variant},
        ),
    ]


def _machine(found: Panel) -> list[Any]:
    state = found.state
    names = [(name, name) for name in dict.fromkeys([*found.profiles, found.profile])]
    return [
        _select("profile", "Profile", names, found.profile, ""),
        html.Button(
            [icon("numbers"), html.Span("Numbers"), html.Span(id=numbers.COUNT)],
            id=numbers.OPEN,
            className="wide-button",
            type="button",
        ),
        _grid(found.machine, state),
        _chips(
            "paths",
            "Paths inside a core",
            [(way.key, way.title, _why(way.own, way.donor)) for way in found.ways],
            [way.key for way in found.ways if way.on],
        ),
        _chips(
            "ideal",
            "What if these were free",
            [(name, name, IDEALS.get(name, name)) for name in found.ideals],
            list(state.listed("ideal")),
        ),
    ]


def _why(own: bool, donor: str) -> str:
    return "the profile has it" if own else f"the profile has it not; with the numbers of {donor}, assumed"


def _meaning(choices: Any, name: str) -> str:
    return next((one.meaning for one in choices if one.name == name), "")


def _section(title: str, children: list[Any]) -> html.Section:
    return html.Section([html.H2(title), *children], className="settings")


def _grid(controls: tuple[Control, ...], state: State) -> html.Div:
    made = [field(one, state.get(one.name), setting(one.name)) for one in controls]
    return html.Div(made, className="fields")


def _label(text: str, help_text: str) -> Any:
    """A label that says on hover what it means; the help is read to who cannot see it by the field itself."""
    return html.Span(text, title=help_text)


def _select(name: str, label: str, choices: list[tuple[str, str]], value: str, meaning: str) -> Any:
    data = [{"value": one, "label": text} for one, text in choices]
    return dmc.Select(
        id=setting(name),
        label=label,
        data=data,
        value=value,
        allowDeselect=False,
        searchable=len(data) > 6,
        description=meaning or None,
        inputWrapperOrder=["label", "input", "description", "error"],
        size="xs",
        comboboxProps={"width": 300, "position": "bottom-start"},
        maxDropdownHeight=380,
        nothingFoundMessage="none is called so",
    )


def field(one: Control, value: str, id_: dict[str, str]) -> Any:
    """The field of a control. What the kernel chooses itself stands as a grey default."""
    common: dict[str, Any] = {"id": id_, "label": _label(one.label, one.help), "size": "xs"}
    shown = value or one.default
    if one.kind == "choice":
        data = [{"value": choice, "label": text} for choice, text in one.choices]
        if not any(shown == choice for choice, _ in one.choices):
            return dmc.Select(**common, data=data, value=value or None, clearable=True, placeholder="auto")
        return dmc.Select(**common, data=data, value=shown, allowDeselect=False, searchable=len(data) > 8)
    if one.kind == "text":
        return dmc.TextInput(
            **common,
            value=value,
            placeholder="0,500,1200" if one.name == "cu_seqlens" else "",
            debounce=TEXT_MS,
        )
    number = _number(shown)
    return dmc.NumberInput(
        **common,
        value="" if number is None else number,
        min=one.minimum,
        max=one.maximum,
        step=one.step,
        allowDecimal=not one.whole,
        allowNegative=False,
        thousandSeparator=" ",
        debounce=DEBOUNCE_MS,
        placeholder="auto",
        clampBehavior="none",
        stepHoldDelay=400,
        stepHoldInterval=120,
        inputWrapperOrder=["label", "input"],
    )


def _number(text: str) -> float | int | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _chips(name: str, label: str, choices: list[tuple[str, str, str]], on: list[str]) -> html.Div:
    """Switches side by side, several of which may be on."""
    chips = [
        dmc.Tooltip(dmc.Chip(text, value=key, size="xs", variant="outline"), label=why, openDelay=400)
        for key, text, why in choices
    ]
    group = dmc.ChipGroup(dmc.Group(chips, gap=6), id=setting(name), multiple=True, value=on)
    return html.Div([html.Span(label, className="field-label"), group], role="group", **{"aria-label": label})


def _switch(name: str, label: str, on: bool) -> Any:
    return dmc.Switch(id=setting(name), label=label, checked=on, size="xs")


# --- what the controls say -----------------------------------------------------------------------


def moved(service: Service, before: State, values: dict[str, Any], defaults: dict[str, str]) -> State:
    """The state after controls moved: `values` are those of all controls, by name, `defaults` what they show
    where nothing is asked, which says nothing."""
    asked = {name: as_text(value) for name, value in values.items() if name != "paths"}
    values, on = {n: None if v == defaults.get(n) else v for n, v in asked.items()}, values.get("paths")
    after = service.cleaned(before.updated(**values))
    if after.get("profile") != before.get("profile"):
        return after.updated(paths=None, set=None, cores=None)
    return after if on is None else service.with_ways(after, on)


def _controls(found: Panel) -> list[Control]:
    return [*found.options, *found.problem, *found.machine, *found.numerics]


def _possible(service: Service, state: State) -> bool:
    """Whether there is a kernel for the state."""
    try:
        asked = service.request(state)
        service.kernel(asked, service.machine(asked.setup))
    except Refused:
        return False
    return True


def _stays(service: Service, before: State, after: State) -> bool:
    """Whether the panel of one state serves the other: it has the same controls with the same defaults, or
    there is no kernel yet whose defaults could stand there."""
    one, other = service.panel(before), service.panel(after)
    fields = ("kernels", "algorithm", "algorithms", "variant", "variants", "baselines", "profiles", "profile")
    chosen = before.kernel == after.kernel and all(getattr(one, f) == getattr(other, f) for f in fields)
    if not chosen:
        return False
    same = _controls(one) == _controls(other) and one.ways == other.ways
    return same or not _possible(service, after)


def register(app: Dash, service: Service) -> None:
    """The callbacks of the panel, for all pages that have it."""

    @app.callback(
        Output(STATE, "data"),
        Output(BODY, "children"),
        Input({"type": SETTING, "name": ALL}, "value"),
        Input(setting("numerics"), "checked"),
        Kept({"type": SETTING, "name": ALL}, "id"),
        Kept(DEFAULTS, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _moved(
        values: list[Any], numerics: bool, ids: list[dict[str, str]], defaults: dict[str, str], query: str
    ) -> Any:
        given = {own["name"]: value for own, value in zip(ids, values, strict=True)}
        given["numerics"] = None if numerics else "no"
        before = State.from_query(query or "")
        kernel = given["kernel"] = given.get("kernel") or before.kernel
        if kernel not in service.entries:
            return no_update, no_update
        known = before.kernel in service.entries
        after = moved(service, before if known else before.updated(kernel=kernel), given, defaults or {})
        if after == before:
            return no_update, no_update
        if known and _stays(service, before, after):
            return after.query, no_update
        return after.query, _body(service.panel(after))

    @app.callback(Output(COMMAND, "children"), Input(STATE, "data"))
    def _command(query: str) -> Any:
        text = service.command(State.from_query(query or ""))
        if not text:
            return html.P(
                "A machine with other paths has no command line: save it as a profile.", className="dim"
            )
        copy = dmc.CopyButton(
            value=text, children="Copy", copiedChildren="Copied", size="compact-xs", variant="subtle"
        )
        return [
            html.Div(
                [html.Span("The same on the command line", className="field-label"), copy], className="spread"
            ),
            html.Code(text),
        ]

    numbers.register(app, service)
