// A diverging colour scale: blue for against, red for in favour, the panel's own grey for nothing.
// Straight lines in OKLab (Ottosson 2020), so that equal steps of the value are equal steps to the eye.

import { theme } from "./theme.js";

const ENDS = {
  light: { zero: [0.965, 0, 0.003], more: [0.53, 0.155, 0.085], less: [0.5, -0.045, -0.125] },
  dark: { zero: [0.27, 0, -0.008], more: [0.76, 0.13, 0.085], less: [0.74, -0.055, -0.11] },
};
const STEPS = 256;
const tables = {};

function fromLab([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((v) => {
    const c = Math.min(1, Math.max(0, v));
    return Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055));
  });
}

function table(name) {
  if (!tables[name]) {
    const { zero, more, less } = ENDS[name];
    const line = (end, t) => fromLab(zero.map((v, i) => v + t * (end[i] - v)));
    tables[name] = Array.from({ length: 2 * STEPS + 1 }, (_, i) => {
      const t = (i - STEPS) / STEPS;
      return line(t < 0 ? less : more, Math.abs(t));
    });
  }
  return tables[name];
}

// value in [-1, 1] -> [r, g, b]
export function diverging(value) {
  const bounded = Math.min(1, Math.max(-1, value));
  return table(theme())[STEPS + Math.round(bounded * STEPS)];
}
