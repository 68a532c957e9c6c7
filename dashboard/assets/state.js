/* What a person did meanwhile stays: a callback answers with the state as it was when it was asked and what it
   changed there. Where the state is another one now, only that is changed in it. */
(function () {
  function pairs(query) {
    return new URLSearchParams(query || "");
  }

  /* As the server writes a link: the kernel first, then by name. */
  function written(values) {
    function quoted(text, plain) {
      var all = encodeURIComponent(text).replace(/[!'()*]/g, function (c) {
        return "%" + c.charCodeAt(0).toString(16).toUpperCase();
      });
      return plain ? all.replace(/%2C/g, ",").replace(/%3D/g, "=").replace(/%3A/g, ":") : all;
    }
    var names = Array.from(values.keys()).sort(function (a, b) {
      return a === "kernel" ? -1 : b === "kernel" ? 1 : a < b ? -1 : 1;
    });
    return names
      .map(function (name) {
        return quoted(name) + "=" + quoted(values.get(name), true);
      })
      .join("&");
  }

  function merged(before, after, now) {
    if (before === now) return after;
    var old = pairs(before);
    var changed = pairs(after);
    var found = pairs(now);
    Array.from(new Set([...old.keys(), ...changed.keys()])).forEach(function (name) {
      if (old.get(name) === changed.get(name)) return;
      if (changed.has(name)) found.set(name, changed.get(name));
      else found.delete(name);
    });
    return written(found);
  }

  function given(payload) {
    return [...(payload.state || []), ...(payload.inputs || [])].find(function (one) {
      return one && one.id === "state" && one.property === "data";
    });
  }

  function answered(payload, response) {
    var asked = given(payload);
    var own = response && response.state;
    if (!asked || !own) return;
    var now = window.dash_component_api.getLayout("state").props.data || "";
    Object.keys(own).forEach(function (name) {
      if (name.split("@")[0] !== "data" || typeof own[name] !== "string") return;
      own[name] = merged(asked.value || "", own[name], now);
    });
  }

  /* Dash wants all of them named. */
  window.npusim = window.npusim || {};
  window.npusim.hooks = {
    layout_pre: null,
    layout_post: null,
    request_pre: null,
    request_post: answered,
    callback_resolved: null,
    request_refresh_jwt: null,
  };
})();
