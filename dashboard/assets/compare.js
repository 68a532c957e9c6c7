/* The tables of Compare hold hundreds of cells: they are drawn by the browser itself. */
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.compare = {
  /* rows: {section, note, span} or {label, help, cells: [{kind, parts: [{text, kind, title}]}]} */
  rows: function (rows, id) {
    var body = document.getElementById(id);
    if (!body || !rows) return window.dash_clientside.no_update;
    function add(parent, tag, kind, text) {
      var made = document.createElement(tag);
      if (kind) made.className = kind;
      if (text) made.textContent = text;
      parent.appendChild(made);
      return made;
    }
    var drawn = document.createDocumentFragment();
    rows.forEach(function (row) {
      var line = add(drawn, "tr", row.kind);
      var head = add(line, "th", "", row.section || row.label);
      head.scope = row.section ? "rowgroup" : "row";
      if (row.section) head.colSpan = row.span;
      if (row.note) add(head, "span", "dim", row.note);
      if (row.help) head.title = row.help;
      (row.cells || []).forEach(function (cell) {
        var box = add(add(line, "td", cell.kind), "div");
        cell.parts.forEach(function (part) {
          var said = add(box, "span", part.kind, part.text);
          if (part.title) said.title = part.title;
        });
      });
    });
    body.replaceChildren(drawn);
    return "filled";
  },
};
/* What a button of a card asks, once all that was typed before is told and answered, as that is meant for the
   configuration edited before; `at` tells two alike clicks apart. */
(function () {
  var last = Promise.resolve();
  async function act(asked, before) {
    await before;
    await window.npusim.settled();
    if (!document.getElementById("compare-heads")) return; // another page by now
    window.dash_clientside.set_props("compare-do", { data: asked });
    await new Promise((go) => window.setTimeout(go, 30)); // in which Dash asks
  }
  document.addEventListener("click", function (event) {
    var button = event.target.closest("#compare-heads [data-what]");
    if (!button) return;
    last = act({ what: button.dataset.what, place: Number(button.dataset.place), at: Date.now() }, last);
  });
})();
