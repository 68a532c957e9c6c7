/* The slider of the sequence length says tokens, not places. */
window.dashMantineFunctions = window.dashMantineFunctions || {};
window.dashMantineFunctions.tokens = function (place, options) {
  return options.lengths[place].toLocaleString("en") + " tokens";
};
