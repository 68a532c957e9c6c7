/* Dash asks for a plotly.js of its own where none is there when the first figure is. The one that comes with the
   page may still be under way then: until it is there, a promise of it stands in its place, for which Dash waits. */
(function () {
  var tag = document.querySelector('script[src^="/plotly.js"]');
  if (!tag || window.Plotly) return;
  window.Plotly = new Promise(function (found, lost) {
    function there() {
      found(window.Plotly);
    }
    tag.addEventListener("load", there);
    tag.addEventListener("error", function () {
      var other = document.createElement("script");
      other.src = "/_dash-component-suites/plotly/package_data/plotly.min.js";
      other.addEventListener("load", there);
      other.addEventListener("error", lost);
      document.head.appendChild(other);
    });
  });
})();
