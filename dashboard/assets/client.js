/* What happens in the browser alone: theme, address, clipboard. */
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.shell = {
  /* The theme's name: what is kept, else what the computer prefers; the button switches. */
  scheme: function (clicks, kept) {
    var prefers = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    var now = kept === "dark" || kept === "light" ? kept : prefers;
    if (!clicks) return now;
    return now === "dark" ? "light" : "dark";
  },
  /* The server is told, too, so that figures come in the right colours at once. */
  paint: function (scheme) {
    document.documentElement.dataset.scheme = scheme || "light";
    document.cookie = "scheme=" + (scheme || "light") + "; path=/; max-age=31536000; SameSite=Strict";
    return scheme || "light";
  },
  /* The address bar and the links to other pages carry the state. */
  address: function (query, links) {
    var kept = query === undefined || query === null;
    var search = kept ? window.location.search : query ? "?" + query : "";
    if (!kept && window.location.search !== search) {
      window.history.replaceState(window.history.state, "", window.location.pathname + search);
    }
    return links.map(function (link) {
      return "/" + link.page + search;
    });
  },
  copy: function () {
    var link = window.location.href;
    function old() {
      var field = document.createElement("textarea");
      field.value = link;
      document.body.appendChild(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    if (navigator.clipboard) navigator.clipboard.writeText(link).catch(old);
    else old();
    window.setTimeout(function () {
      var said = document.getElementById("copied");
      if (said) said.textContent = "Copy link";
    }, 4000);
    return "Copied";
  },
};
/* The page that is open is marked in the navigation. */
(function () {
  function mark() {
    var path = window.location.pathname;
    document.querySelectorAll("a.nav").forEach(function (link) {
      var own = link.pathname === path || (path === "/" && link.pathname === "/explore");
      if (own) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
  }
  new MutationObserver(mark).observe(document.documentElement, { childList: true, subtree: true });
})();
/* The panel is laid anew where a kernel takes other settings: who was in a field stays in it, with what was typed there
   while that was under way. */
(function () {
  var RECENT_MS = 3000;
  var last = null;
  var typed = { field: null, at: 0 };
  var write = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  document.addEventListener("input", function (event) {
    if (event.target.closest("#panel-body")) typed = { field: event.target, at: performance.now() };
  });
  document.addEventListener("focusin", function (event) {
    last = event.target.closest("#panel-body") ? event.target : null;
  });
  document.addEventListener("pointerdown", function (event) {
    if (!event.target.closest("#panel-body")) last = null;
  });
  new MutationObserver(function () {
    if (!last || last.isConnected || document.activeElement !== document.body) return;
    var same = last.id && document.getElementById(last.id);
    var own = typed.field === last && performance.now() < typed.at + RECENT_MS;
    var text = last.value;
    last = null;
    if (!same) return;
    same.focus();
    var other = document.getElementById("compare-heads"); // where it may be another configuration's
    if (!own || other || same.tagName !== "INPUT" || same.readOnly || same.value === text) return;
    write.call(same, text);
    same.dispatchEvent(new Event("input", { bubbles: true }));
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
