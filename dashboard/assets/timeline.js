/* Timeline: what a person drags or scrolls to, keys, downloads, and handing a trace to Perfetto. */
window.dash_clientside = window.dash_clientside || {};
(function () {
  var REST_MS = 220; /* how long a figure is at rest before the server is asked */
  var PERFETTO = "https://ui.perfetto.dev", ASK_MS = 60, PATIENCE_MS = 30000;
  var waiting = null;

  /* The ends of the time axis that a figure was moved to; null where something else changed. */
  function ends(layout) {
    if (!layout) return null;
    if (layout["xaxis.range"]) return layout["xaxis.range"];
    if (layout["xaxis.range[0]"] === undefined) return null;
    return [layout["xaxis.range[0]"], layout["xaxis.range[1]"]];
  }

  function trace() {
    return "/timeline/trace.json" + window.location.search;
  }

  function download(href, name) {
    var link = document.createElement("a");
    link.href = href;
    link.download = name;
    document.body.appendChild(link);
    link.click();
    link.remove();
  }

  function picture(format) {
    var drawn = document.querySelector("#timeline-figure .js-plotly-plot");
    var card = getComputedStyle(document.documentElement).getPropertyValue("--card").trim();
    var layout = Object.assign({}, drawn.layout, { paper_bgcolor: card });
    var size = drawn.getBoundingClientRect();
    window.Plotly.downloadImage({ data: drawn.data, layout: layout }, {
      format: format, filename: "timeline", width: size.width, height: size.height, scale: format === "png" ? 2 : 1,
    });
  }

  function say(text) {
    var note = document.getElementById("timeline-traced");
    if (note) note.textContent = text;
  }

  /* Perfetto's window answers PONG once it can take a trace; until then it is asked. */
  function perfetto() {
    var other = window.open(PERFETTO);
    if (!other) {
      say("The browser let no tab open: download the trace, and open it in Perfetto.");
      return;
    }
    fetch(trace()).then(function (answer) {
      if (!answer.ok) return answer.text().then(function (text) { throw new Error(text); });
      return answer.arrayBuffer();
    }).then(function (buffer) {
      var began = Date.now();
      var asking = window.setInterval(function () {
        if (Date.now() - began > PATIENCE_MS) {
          done();
          say("Perfetto did not answer: download the trace, and open it there.");
        } else other.postMessage("PING", PERFETTO);
      }, ASK_MS);
      function done() {
        window.clearInterval(asking);
        window.removeEventListener("message", heard);
      }
      function heard(event) {
        if (event.origin !== PERFETTO || event.data !== "PONG") return;
        done();
        var what = { buffer: buffer, title: "npusim timeline", fileName: "timeline.json" };
        other.postMessage({ perfetto: what }, PERFETTO);
      }
      window.addEventListener("message", heard);
    }).catch(function (error) { say(error.message); });
  }

  window.dash_clientside.timeline = {
    seen: function (main, overview) {
      var by = window.dash_clientside.callback_context.triggered[0];
      var range = ends(by && by.prop_id.indexOf("timeline-overview") === 0 ? overview : main);
      if (!range) return;
      window.clearTimeout(waiting);
      waiting = window.setTimeout(function () {
        if (!document.getElementById("timeline-from")) return; // another page by now
        window.dash_clientside.set_props("timeline-seen", { data: range.map(Number) });
      }, REST_MS);
    },
    /* The fields say what the figure shows. */
    say: function (said) {
      ["timeline-cores", "timeline-from", "timeline-to"].forEach(function (id, place) {
        if (said && document.getElementById(id)) window.dash_clientside.set_props(id, { value: said[place] });
      });
    },
    save: function () {
      var by = window.dash_clientside.callback_context.triggered[0];
      var name = by ? by.prop_id.split(".")[0] : "";
      if (!by || !by.value) return;
      if (name === "timeline-trace") download(trace(), "timeline.json");
      else if (name === "timeline-perfetto") perfetto();
      else picture(name === "timeline-svg" ? "svg" : "png");
    },
  };

  var KEYS = {
    "+": "in", "=": "in", "-": "out", "ArrowLeft": "back", "ArrowRight": "on", "0": "all", "i": "one",
  };
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.closest("#timeline-stage")) return;
    var button = KEYS[event.key] && document.getElementById("timeline-" + KEYS[event.key]);
    if (!button) return;
    event.preventDefault();
    button.click();
  });
})();
