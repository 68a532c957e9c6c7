/* Files are measured before they are sent: what is too large stays here. */
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.calibrate = {
  sent: function (contents, names) {
    var none = window.dash_clientside.no_update;
    if (!contents) return [none, none];
    var limit = 10 * 1024 * 1024;
    var bytes = contents.reduce(function (sum, text) {
      return sum + (text.length * 3) / 4;
    }, 0);
    if (bytes > limit + 1024) return [{ large: names }, null];
    return [
      {
        files: names.map(function (name, place) {
          return [name, contents[place]];
        }),
        at: Date.now(),
      },
      null,
    ];
  },
};
