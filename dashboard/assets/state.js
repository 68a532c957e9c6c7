/* Changes of the link are made one after the other. A callback answers with the whole link, made from the one it was
   asked with: of two that were asked with the same, the later answer would take back the other's change. So each that
   changes the link is asked once the one before is answered, and with the link as that left it. */
(function () {
  var APPLIED_MS = 1000;
  var real = window.fetch;
  var last = Promise.resolve();
  var newest = {}; // when each callback was asked last
  var laid = -1; // when the panel was laid anew last

  function link() {
    try {
      return window.dash_component_api.getLayout("state").props.data || "";
    } catch (error) {
      return null; // a page without one
    }
  }

  /* What is asked, where the answer changes the link. */
  function changing(url, options) {
    if (!String(url).includes("_dash-update-component") || typeof (options || {}).body !== "string") return null;
    var asked = JSON.parse(options.body);
    var outputs = asked.output.replace(/^\.\.|\.\.$/g, "").split("...");
    return outputs.some((one) => one.split("@")[0] === "state.data") ? asked : null;
  }

  function value(answer, id, property) {
    var own = ((answer || {}).response || {})[id] || {};
    var name = Object.keys(own).find((one) => one.split("@")[0] === property);
    return name === undefined ? undefined : own[name];
  }

  function pause(ms) {
    return new Promise((go) => window.setTimeout(go, ms));
  }

  /* Until Dash has made of the link what was answered, which it does not where it was asked again meanwhile. */
  async function applied(response, callback, at) {
    if (!response || response.status !== 200) return;
    var answer = await response.json();
    var changed = value(answer, "state", "data");
    if (typeof changed !== "string") return;
    var end = performance.now() + APPLIED_MS;
    while (link() !== changed && newest[callback] === at && performance.now() < end) await pause(4);
    if (link() === changed && value(answer, "panel-body", "children") !== undefined) laid = performance.now();
  }

  /* Whether a field tells its value that is gone: the panel was laid anew, for another configuration or kernel. */
  function gone(asked, at) {
    return at < laid && (asked.changedPropIds || []).some((one) => one.includes('"type":"setting"'));
  }

  window.fetch = function (url, options) {
    var asked = changing(url, options);
    if (!asked) return real.apply(window, arguments);
    var at = performance.now();
    newest[asked.output] = at;
    var copy = null;
    async function inTurn(before) {
      await before;
      if (gone(asked, at)) return new Response(null, { status: 204 }); // which changes nothing
      var now = link();
      (asked.state || []).forEach(function (one) {
        if (now !== null && one.id === "state" && one.property === "data") one.value = now;
      });
      var response = await real.call(window, url, { ...options, body: JSON.stringify(asked) });
      copy = response.clone();
      return response;
    }
    var answer = inTurn(last);
    last = answer.then(() => applied(copy, asked.output, at)).catch(() => {}); // Dash tells of it, not who waits
    return answer;
  };

  /* Once all changes that were asked for are made. */
  window.npusim = window.npusim || {};
  window.npusim.settled = async function () {
    for (var seen = null; seen !== last; ) {
      seen = last;
      await seen;
    }
  };
})();
