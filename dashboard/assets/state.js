/* Changes of the link are made one after the other. A callback answers with the whole link, made from the one it was
   asked with: of two that were asked with the same, the later answer would take back the other's change. So each that
   changes the link is asked once the one before is answered, and with the link as that left it. */
(function () {
  var FIELD_MS = 550; // longer than a field waits for another key (components/panel.py)
  var PATIENCE_MS = 10000; // for an answer; one that never comes holds up nobody for longer
  var APPLIED_MS = 1000;
  var real = window.fetch;
  var last = Promise.resolve();
  var waiting = 0;
  var newest = {}; // when each callback was asked last
  var laid = -1; // when the answer came with which the panel was laid anew last
  var touched = -Infinity; // when a field was

  function link() {
    try {
      return window.dash_component_api.getLayout("state").props.data || "";
    } catch (error) {
      return null; // a page without one
    }
  }

  function pause(ms) {
    return new Promise((go) => window.setTimeout(go, Math.max(0, ms)));
  }

  /* What is asked, where the answer changes the link. */
  function changing(url, options) {
    var body = (options || {}).body;
    if (!String(url).includes("_dash-update-component") || typeof body !== "string") return null;
    if (!body.includes("state.data")) return null;
    var asked = JSON.parse(body);
    var outputs = asked.output.replace(/^\.\.|\.\.$/g, "").split("...");
    return outputs.some((one) => one.split("@")[0] === "state.data") ? asked : null;
  }

  function value(answer, id, property) {
    var own = ((answer || {}).response || {})[id] || {};
    var name = Object.keys(own).find((one) => one.split("@")[0] === property);
    return name === undefined ? undefined : own[name];
  }

  /* Whether it tells the values of all fields of a panel, whichever was changed. */
  function whole(asked) {
    return (asked.changedPropIds || []).some((one) => /"type":"(layer-)?setting"/.test(one));
  }

  /* Until the link is what was answered. Dash drops the answer to a callback that was asked again meanwhile: then it
     is made here what it was answered to be, as the other may tell of something else. */
  async function applied(asked, at, response, came) {
    if (!response || response.status !== 200) return;
    var answer = await response.json();
    var changed = value(answer, "state", "data");
    if (typeof changed !== "string") return;
    while (link() !== changed && link() !== null && performance.now() < came + APPLIED_MS) {
      if (newest[asked.output] !== at) {
        if (whole(asked)) return;
        window.dash_clientside.set_props("state", { data: changed });
      }
      await pause(4);
    }
    if (link() === changed && value(answer, "panel-body", "children") !== undefined) laid = came;
  }

  window.fetch = function (url, options) {
    var asked = changing(url, options);
    if (!asked) return real.apply(window, arguments);
    var at = performance.now();
    newest[asked.output] = at;
    async function inTurn(before) {
      await Promise.race([before, pause(PATIENCE_MS)]);
      // fields of a panel that is gone, as of the configuration edited before, and what is told again
      if (whole(asked) && (at < laid || newest[asked.output] !== at))
        return { shown: new Response(null, { status: 204 }) }; // which changes nothing
      var now = link();
      (asked.state || []).forEach(function (one) {
        if (now !== null && one.id === "state" && one.property === "data") one.value = now;
      });
      var response = await real.call(window, url, { ...options, body: JSON.stringify(asked) });
      return { shown: response, copy: response.clone(), came: performance.now() };
    }
    var turn = inTurn(last);
    waiting += 1;
    last = turn
      .then((one) => applied(asked, at, one.copy, one.came))
      .catch(() => {}) // Dash tells of it, not who waits
      .then(() => {
        waiting -= 1;
      });
    return turn.then((one) => one.shown);
  };

  // --- whoever has to wait -------------------------------------------------------------------------

  ["input", "keydown", "click"].forEach(function (kind) {
    document.addEventListener(kind, function (event) {
      if (event.target.closest("#panel-body, input, textarea")) touched = performance.now();
    });
  });

  /* Once fields have told what was typed, and all changes that were asked for are made. */
  async function settled() {
    await pause(touched + FIELD_MS - performance.now());
    for (var seen = null; seen !== last; ) {
      seen = last;
      await Promise.race([seen, pause(PATIENCE_MS)]);
    }
  }

  window.npusim = window.npusim || {};
  window.npusim.settled = settled;

  /* Until a link to a page has learnt of the changes. */
  async function told(what) {
    var end = performance.now() + APPLIED_MS;
    while (what.search !== undefined && what.search.slice(1) !== link() && performance.now() < end) await pause(10);
  }

  /* A page that is left takes its changes along, and so does a row of a sweep. The last click counts. */
  var wanted = null;
  document.addEventListener(
    "click",
    function (event) {
      var what = event.target.closest("a.nav, .away");
      var plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
      var idle = waiting === 0 && performance.now() > touched + FIELD_MS;
      if (!what || !plain || (idle && wanted === null) || wanted === "now") return;
      event.preventDefault();
      event.stopPropagation();
      wanted = what;
      settled()
        .then(() => told(what))
        .then(function () {
          if (wanted !== what) return;
          wanted = "now";
          (document.getElementById(what.id) || what).click(); // it may have been laid anew
          wanted = null;
        });
    },
    true
  );
})();
