"""Callbacks of the dashboard asked as a browser asks them, without one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def ask(
    app, output: str, changed: str, said: Mapping[str, Any], before: Sequence[str] = ()
) -> dict[str, Any]:
    """What the callback answers that fills `output` and listens to `changed`, both 'id.property', by id and
    property; nothing where it changes nothing. `before`: what changed shortly before, of which a browser
    tells in the same request. `said`: values of what it takes, by 'id.property', None for others; of an id
    that means several ('{..ALL..}.property') a value by each id."""
    client = app.server.test_client()
    known = client.get("/_dash-dependencies").get_json()
    (one,) = (
        one for one in known
        if output in {part.partition("@")[0] for part in one["output"].strip(".").split("...")}
        and changed in {f"{own['id']}.{own['property']}" for own in one["inputs"]}
    )  # fmt: skip
    places = [part.rpartition(".") for part in one["output"].strip(".").split("...")]
    outputs = [{"id": name, "property": what} for name, _, what in places]

    def given(own: dict[str, str]) -> Any:
        value = said.get(f"{own['id']}.{own['property']}")
        if "ALL" not in own["id"]:
            return {**own, "value": value}
        return [{"id": json.loads(name), "property": own["property"], "value": each}
                for name, each in (value or {}).items()]  # fmt: skip

    asked = {
        "output": one["output"], "outputs": outputs if one["output"].startswith("..") else outputs[0],
        "inputs": list(map(given, one["inputs"])), "state": list(map(given, one["state"])),
        "changedPropIds": [*before, changed],
    }  # fmt: skip
    answer = client.post("/_dash-update-component", json=asked)
    assert answer.status_code in (200, 204), answer.get_data(as_text=True)
    found = {} if answer.status_code == 204 else answer.get_json()["response"]
    return {
        f"{name}.{what.partition('@')[0]}": value
        for name, own in found.items()
        for what, value in own.items()
    }
