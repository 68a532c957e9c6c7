/* What a person did meanwhile stays: a callback answers with the link as it was when it was asked (`before`) and
   what it changed there (`after`). Where the link is another one by then (`now`), only that is changed in it. */
(function () {
  /* As dashboard/state.py has them. A value of another list, as sweep.vary, is a whole. */
  var PAGES = ["timeline", "compare", "layer", "sweep", "calibrate", "graph"];
  var LISTS = ["set", "paths", "ideal"];

  function quoted(text, plain) {
    var all = encodeURIComponent(text).replace(/[!'()*]/g, function (c) {
      return "%" + c.charCodeAt(0).toString(16).toUpperCase();
    });
    return plain ? all.replace(/%2C/g, ",").replace(/%3D/g, "=").replace(/%3A/g, ":") : all;
  }

  /* As the server writes a link: the kernel first, then by name. */
  function written(values) {
    var names = Array.from(values.keys()).sort(function (a, b) {
      return a === "kernel" ? -1 : b === "kernel" ? 1 : a < b ? -1 : 1;
    });
    return names
      .map(function (name) {
        return quoted(name) + "=" + quoted(values.get(name), true);
      })
      .join("&");
  }

  /* The names and values of a link, for which `chosen` holds. */
  function part(query, chosen) {
    var all = Array.from(new URLSearchParams(query || ""));
    return new Map(
      all.filter(function (pair) {
        return chosen(pair[0]);
      })
    );
  }

  function page(name) {
    var first = name.split(".")[0];
    return first !== name && PAGES.indexOf(first) >= 0 ? first : "";
  }

  /* What is set once one's changes, from `old` to `own`, are made where another's (`now`) are made already. */
  function both(old, own, now) {
    var found = new Map(now);
    new Set([...old.keys(), ...own.keys()]).forEach(function (name) {
      if (old.get(name) === own.get(name)) return;
      var value = own.get(name);
      if (LISTS.indexOf(name) >= 0 && now.get(name) !== old.get(name)) {
        var parts = both(parted(old.get(name)), parted(value), parted(now.get(name)));
        value = Array.from(parts.values()).join(",");
      }
      if (value) found.set(name, value);
      else found.delete(name);
    });
    return found;
  }

  /* The parts of a list, by what stands before their "=". */
  function parted(list) {
    var parts = (list || "").split(",").filter(Boolean);
    return new Map(
      parts.map(function (one) {
        return [one.split("=")[0], one];
      })
    );
  }

  /* What a kernel is asked; with `compare`, what Compare holds beside it. */
  function asked(query, compare) {
    return part(query, function (name) {
      return page(name) === "" || (compare && page(name) === "compare");
    });
  }

  /* A configuration as a value of a link, as dashboard/service/configurations.py has it. */
  function configuration(query) {
    return written(asked(query)) || "kernel=tri-inverse";
  }

  /* Whether others are compared, or another of them is the edited one. */
  function reordered(before, after) {
    var old = asked(before, true);
    var own = asked(after, true);
    return Array.from(new Set([...old.keys(), ...own.keys()])).some(function (name) {
      return page(name) === "compare" && name !== "compare.base" && old.get(name) !== own.get(name);
    });
  }

  function compared(values) {
    return Array.from(values.keys()).filter((name) => /^compare\.\d$/.test(name));
  }

  /* What is compared once it is reordered, with what another changed in the one that was edited before: where it
     is not among them any more, that goes with it. */
  function followed(order, before, after) {
    var found = asked(order, true);
    var old = asked(before, true);
    var more = compared(found).length > compared(old).length; // what is edited is a copy then
    if (!more && configuration(order) === configuration(before)) {
      var rest = Array.from(found).filter((pair) => page(pair[0]) !== "");
      return new Map([...asked(after), ...rest]);
    }
    var same = compared(found).filter((name) => found.get(name) === configuration(before));
    var edited = "compare." + (old.get("compare.edit") || "1");
    var place = same.indexOf(edited) >= 0 ? edited : same[0];
    if (place) found.set(place, configuration(after));
    return found;
  }

  /* Whether the settings are those of another kernel or profile. */
  function turned(before, after) {
    return ["kernel", "profile"].some(function (name) {
      return asked(before).get(name) !== asked(after).get(name);
    });
  }

  function configured(before, after, now) {
    if (reordered(before, now)) return reordered(before, after) ? asked(now, true) : followed(now, before, after);
    if (reordered(before, after)) return followed(after, before, now);
    var found = both(asked(before, true), asked(after, true), asked(now, true));
    var other = turned(before, now) ? now : turned(before, after) ? after : null;
    if (other === null) return found;
    return new Map([...asked(other), ...Array.from(found).filter((pair) => page(pair[0]) !== "")]);
  }

  function merged(before, after, now) {
    if (before === now) return after;
    var others = [before, after, now].map(function (query) {
      return part(query, (name) => page(name) !== "" && page(name) !== "compare");
    });
    return written(new Map([...configured(before, after, now), ...both(...others)]));
  }

  function given(payload) {
    return [...(payload.state || []), ...(payload.inputs || [])].find(function (one) {
      return one && one.id === "state" && one.property === "data";
    });
  }

  function answered(payload, response) {
    var told = given(payload);
    var own = response && response.state;
    var store = told && own && window.dash_component_api.getLayout("state");
    if (!store) return;
    Object.keys(own).forEach(function (name) {
      if (name.split("@")[0] !== "data" || typeof own[name] !== "string") return;
      own[name] = merged(told.value || "", own[name], store.props.data || "");
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
