"""A page that opens without a network: plotly.js, styles and data stand in it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #5a6472;
  --line: #d9dee5; --grid: rgba(110,120,135,.22); }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --panel: #1c2026; --ink: #e6e9ed;
  --soft: #9aa5b3; --line: #333a44; --grid: rgba(160,170,185,.20); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 6px; }
p { margin: 4px 0 10px; max-width: 85ch; } .soft { color: var(--soft); }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 12px 0 20px; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 24px; font-weight: 600; line-height: 1.25; }
.tile span { color: var(--soft); font-size: 13px; }
.plot { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 6px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; background: var(--panel); color: var(--soft); font-weight: 600; cursor: pointer;
  white-space: nowrap; } th, td { padding: 5px 10px; border-bottom: 1px solid var(--line);
  vertical-align: top; } tr:last-child td { border-bottom: 0; } td { overflow-wrap: break-word; }
td:nth-child(-n+2) { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
"""

SCRIPT = """
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colours = layout => {
  const set = {'font.color': style('--ink'), 'legend.font.color': style('--ink')};
  for (const axis of Object.keys(layout).filter(key => /^[xy]axis\\d*$/.test(key)))
    set[axis + '.gridcolor'] = style('--grid');
  return set;
};
const plots = [...document.querySelectorAll('.plot')].map(place => {
  const figure = JSON.parse(place.nextElementSibling.textContent);
  Plotly.newPlot(place, figure.data, figure.layout, {responsive: true, displaylogo: false,
    modeBarButtons: [['toImage', 'zoom2d', 'pan2d', 'zoomIn2d', 'zoomOut2d', 'resetScale2d']]})
    .then(() => Plotly.relayout(place, colours(figure.layout)));
  return place;
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () =>
  plots.forEach(place => Plotly.relayout(place, colours(place.layout))));
document.querySelectorAll('th').forEach(head => head.addEventListener('click', () => {
  const body = head.closest('table').tBodies[0], at = head.cellIndex;
  const down = head.dataset.down = head.dataset.down === '1' ? '' : '1';
  const value = row => { const cell = row.cells[at];
    return 'value' in cell.dataset ? Number(cell.dataset.value) : cell.textContent; };
  const order = (a, b) => typeof a === 'number' && typeof b === 'number' ? a - b :
    String(a).localeCompare(String(b), undefined, {numeric: true});
  [...body.rows].sort((a, b) => (down ? 1 : -1) * order(value(a), value(b))).forEach(row => body.append(row));
}));
"""

Cell = str | tuple[str, float]
"""text, or a number as it is shown and as it is sorted by"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole file."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n<script>{get_plotlyjs()}</script>\n"
        f"</head>\n<body>\n<main>\n<h1>{html.escape(title)}</h1>\n{''.join(parts)}</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def heading(title: str, text: str = "") -> str:
    said = f'<p class="soft">{html.escape(text)}</p>\n' if text else ""
    return f"<h2>{html.escape(title)}</h2>\n{said}"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    lines = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in pairs)
    return f'<dl class="facts">{"".join(lines)}</dl>\n'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Headline numbers, each with what it is."""
    shown = (
        f'<div class="tile"><b>{html.escape(number)}</b><span>{html.escape(what)}</span></div>'
        for number, what in pairs
    )
    return f'<div class="tiles">{"".join(shown)}</div>\n'


def plot(figure: go.Figure) -> str:
    """A figure, drawn when the page opens."""
    data = json.dumps(json.loads(figure.to_json())).replace("<", "\\u003c")  # no </script> in the data
    return f'<div class="plot"></div><script type="application/json">{data}</script>\n'


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: Iterable[int] = ()) -> str:
    """A table that sorts by the column that is clicked; those in `numbers` are aligned right."""
    right = set(numbers)

    def cell(tag: str, index: int, content: Cell) -> str:
        text, value = content if isinstance(content, tuple) else (content, None)
        kind = ' class="number"' if index in right else ""
        data = "" if value is None else f' data-value="{value!r}"'
        return f"<{tag}{kind}{data}>{html.escape(text)}</{tag}>"

    head = "".join(cell("th", index, name) for index, name in enumerate(columns))
    lines = ("".join(cell("td", i, content) for i, content in enumerate(row)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    start = '<div class="scroll"><table><thead><tr>'
    return f"{start}{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>\n"
