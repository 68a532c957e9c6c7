/* The ranges that are chosen on the axes of the parallel coordinates, which plotly tells nobody as a whole. */
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.sweep = {
  /* Which rows are written to which file: their keys alone, as all that is in them may be too much for a request. */
  wanted: function (csv, parquet, rows) {
    if (!csv && !parquet) return window.dash_clientside.no_update;
    var button = window.dash_clientside.callback_context.triggered_id;
    var keys = (rows || []).map(function (row) {
      return row.key;
    });
    return { button: button, keys: keys, at: Date.now() };
  },
  brushed: function (moved, before) {
    var drawn = document.querySelector("#sweep-parallel .js-plotly-plot");
    if (!moved || !drawn || !drawn.data || !drawn.data.length) return window.dash_clientside.no_update;
    var spans = {};
    (drawn.data[0].dimensions || []).forEach(function (axis) {
      var own = axis.constraintrange;
      if (own && own.length) spans[axis.name] = Array.isArray(own[0]) ? own : [own];
    });
    if (before && JSON.stringify(before.spans) === JSON.stringify(spans)) return window.dash_clientside.no_update;
    return Object.assign({ store: "", scales: {} }, before, { spans: spans });
  },
};
