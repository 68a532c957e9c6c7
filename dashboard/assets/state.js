/* What a person did meanwhile stays: a callback answers with the link as it was when it was asked (`before`) and
   what it changed there (`after`). Where the link is another one by then (`now`), both changes are made. */
(function () {
  /* As dashboard/state.py has them. A value of another list, as sweep.vary, is a whole. */
  var PAGES = ["timeline", "compare", "layer", "sweep", "calibrate", "graph"];
  var LISTS = ["set", "paths", "ideal"];
  var KERNEL = "tri-inverse";
  /* What outlasts another kernel (npusim/settings.py, MachineSettings), and of that what does not outlast another
     profile (dashboard/components/panel.py, `moved`). */
  var MACHINE = ["profile", "cores", "set", "ideal", "evidence", "paths"];
  var PROFILE = ["paths", "set", "cores"];

  // --- links ---------------------------------------------------------------------------------------

  function quoted(text, plain) {
    var all = encodeURIComponent(text).replace(/[!'()*]/g, function (c) {
      return "%" + c.charCodeAt(0).toString(16).toUpperCase();
    });
    return plain ? all.replace(/%2C/g, ",").replace(/%3D/g, "=").replace(/%3A/g, ":") : all;
  }

  /* As the server writes settings: the kernel first, then by name. */
  function written(settings) {
    var names = Array.from(settings.keys()).sort(function (a, b) {
      return a === "kernel" ? -1 : b === "kernel" ? 1 : a < b ? -1 : 1;
    });
    return names
      .map(function (name) {
        return quoted(name) + "=" + quoted(settings.get(name), true);
      })
      .join("&");
  }

  function parsed(text) {
    var found = new Map(new URLSearchParams(text || ""));
    if (found.get("kernel") === KERNEL) found.delete("kernel");
    return found;
  }

  function page(name) {
    var first = name.split(".")[0];
    return first !== name && PAGES.indexOf(first) >= 0 ? first : "";
  }

  /* A link taken apart as dashboard/service/configurations.py does: the configurations in their order, places of
     the edited one and of the baseline among them, and what pages have of their own. */
  function taken(query) {
    var all = Array.from(parsed(query));
    var settings = new Map(all.filter((pair) => page(pair[0]) === ""));
    var pages = new Map(all.filter((pair) => page(pair[0]) !== ""));
    function out(name) {
      var value = pages.get(name);
      pages.delete(name);
      return value;
    }
    var numbers = [1, 2, 3, 4, 5, 6];
    var beside = numbers.filter((number) => pages.has("compare." + number));
    if (!beside.length) return { compared: [settings], edit: 0, base: 0, pages: pages };
    var compared = beside.map((number) => parsed(out("compare." + number)));
    var asked = Number(out("compare.edit"));
    var edited = numbers.indexOf(asked) < 0 ? 1 : asked;
    var edit = beside.filter((number) => number < edited).length;
    var base = Number(out("compare.base") || 1) - 1;
    if (settings.size || beside.indexOf(edited) < 0) compared.splice(edit, 0, settings);
    return { compared: compared, edit: edit, base: base, pages: pages };
  }

  function joined(link) {
    var found = new Map([...link.compared[link.edit], ...link.pages]);
    link.compared.forEach(function (one, place) {
      if (place !== link.edit) found.set("compare." + (place + 1), written(one) || "kernel=" + KERNEL);
    });
    if (link.edit) found.set("compare.edit", String(link.edit + 1));
    if (link.base) found.set("compare.base", String(link.base + 1));
    return written(found);
  }

  // --- changes -------------------------------------------------------------------------------------

  /* The parts of a list by what they are about: "a" of "a=1", and of "-a", which takes a path away. */
  function parted(list) {
    var parts = (list || "").split(",").filter(Boolean);
    return new Map(parts.map((one) => [one.split("=")[0].replace(/^-/, ""), one]));
  }

  /* `there` with the change from `old` to `own`. */
  function changed(old, own, there) {
    var found = new Map(there);
    new Set([...old.keys(), ...own.keys()]).forEach(function (name) {
      if (old.get(name) === own.get(name)) return;
      var value = own.get(name);
      if (LISTS.indexOf(name) >= 0) {
        var parts = changed(parted(old.get(name)), parted(value), parted(there.get(name)));
        value = Array.from(parts.values()).join(",");
      }
      found.delete(name); // what is changed of a list comes last, as on the server
      if (value) found.set(name, value);
    });
    return found;
  }

  /* Settings of a configuration once two have changed it. Where one turned to another kernel or profile, of the
     other's change only what that still has. */
  function settled(old, one, other) {
    function turned(own, name) {
      return own.get(name) !== old.get(name);
    }
    var turn = [other, one].find((own) => turned(own, "kernel") || turned(own, "profile")) || other;
    function holds(pair) {
      if (turned(turn, "kernel") && MACHINE.indexOf(pair[0]) < 0) return false;
      return !turned(turn, "profile") || PROFILE.indexOf(pair[0]) < 0;
    }
    function kept(own) {
      return new Map(Array.from(own).filter(holds));
    }
    return changed(kept(old), kept(turn === other ? one : other), turn);
  }

  function same(one, other) {
    return one !== undefined && other !== undefined && written(one) === written(other);
  }

  /* Whether configurations were added, removed, or another one is edited. */
  function reordered(old, own) {
    if (old.compared.length !== own.compared.length || old.edit !== own.edit) return true;
    return old.compared.some((one, place) => place !== old.edit && !same(one, own.compared[place]));
  }

  /* Places, in a reordered link, of the configuration that was edited: none where it was removed, and two where
     it was copied, as the panel that shows the change is that of the copy. */
  function places(old, own) {
    var edit = old.edit;
    var one = old.compared[edit];
    var count = old.compared.length;
    var last = own.compared.length - 1;
    if (last + 1 < count) {
      var gone = old.compared.map((_, place) => place).filter(function (place) {
        var left = old.compared.filter((_, other) => other !== place);
        function moved(other) {
          return Math.min(other - (other > place ? 1 : 0), last);
        }
        var based = old.base === place ? 0 : moved(old.base);
        if (moved(edit) !== own.edit || based !== own.base) return false;
        return left.every((kept, other) => same(kept, own.compared[other]));
      });
      var other = gone.find((place) => place !== edit); // of two alike the one that nobody changed
      return other === undefined ? [] : [edit - (edit > other ? 1 : 0)];
    }
    var added = last + 1 > count; // a copy, or what who comes to Compare finds beside theirs
    return [edit, ...(added ? [last] : [])].filter((place) => same(one, own.compared[place]));
  }

  function merged(before, after, now) {
    if (before === now) return after;
    var [old, own, there] = [before, after, now].map(taken);
    // two that reorder are one callback, of which Dash takes one answer; if not, who came first is heard
    var [order, other] = reordered(old, own) && !reordered(old, there) ? [own, there] : [there, own];
    var compared = order.compared.slice();
    var base = order.base;
    if (!reordered(old, other)) {
      var where = reordered(old, order) ? places(old, order) : [order.edit];
      where.forEach(function (place) {
        compared[place] = settled(old.compared[old.edit], other.compared[other.edit], order.compared[place]);
      });
      if (!reordered(old, order) && other.base !== old.base) base = other.base;
    }
    var pages = changed(old.pages, own.pages, there.pages);
    return joined({ compared: compared, edit: order.edit, base: base, pages: pages });
  }

  // --- answers -------------------------------------------------------------------------------------

  function answered(payload, response) {
    var asked = [...(payload.state || []), ...(payload.inputs || [])].find(function (one) {
      return one && one.id === "state" && one.property === "data";
    });
    var answer = response && response.state;
    if (!asked || !answer) return;
    var now;
    try {
      now = window.dash_component_api.getLayout("state").props.data || "";
    } catch (error) {
      return; // the page that asked is gone, and this one has no link
    }
    Object.keys(answer).forEach(function (name) {
      if (name.split("@")[0] !== "data" || typeof answer[name] !== "string") return;
      answer[name] = merged(asked.value || "", answer[name], now);
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
