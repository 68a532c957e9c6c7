"""What makes a page come soon: plotly.js as it is sent, and margins that plotly needs not widen."""

from __future__ import annotations

import pytest

from dashboard.components import plotlyjs
from dashboard.figures.theme import LIGHT, figure

FORM = 'head {0}\n"use strict";var Plotly=(()=>{{ }})();\nreturn Plotly;\n{1}\n'
KNOWN = FORM.format(plotlyjs.BEGINS, plotlyjs.ENDS)


def test_the_function_that_is_plotly_stands_in_parentheses_and_nothing_else_is_changed():
    sent = plotlyjs.eager(KNOWN)
    begins = plotlyjs.BEGINS.replace("() =>", "(() =>")
    assert sent == FORM.format(begins, "})));")


@pytest.mark.parametrize("text", ["", "var Plotly;", KNOWN + "more();", KNOWN.replace("() =>", "function()")])
def test_plotly_of_another_form_stays_as_it_is(text):
    assert plotlyjs.eager(text) == text


def margin(**layout) -> dict[str, float]:
    return figure(LIGHT, [], **layout)["layout"]["margin"]


def test_margins_have_room_for_names_ticks_and_titles_and_are_never_less_than_asked():
    assert margin() == margin(xaxis={"showticklabels": False}, yaxis={"visible": False})
    ticks, titled = margin(xaxis={}), margin(xaxis={"title": {"text": "µs"}})
    assert margin()["b"] < ticks["b"] < titled["b"]
    short, long = (margin(yaxis={"categoryarray": names})["l"] for names in (["vec"], ["vec", "aic_fixpipe"]))
    assert margin()["l"] < short < long
    assert margin(yaxis={"ticktext": ["v<span style='color:#123'>ec</span>"]})["l"] == short
    assert margin(xaxis={}, margin={"b": 90, "t": 3}) == {**ticks, "b": 90, "t": 3}
