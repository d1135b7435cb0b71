// Building elements without markup in strings.

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

export const byId = (id) => document.getElementById(id);

// Three significant digits, with a true minus sign.
export function figures(value) {
  if (!Number.isFinite(value)) return "undefined";
  const small = value !== 0 && Math.abs(value) < 1e-3;
  const text = small ? value.toExponential(1) : Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  return text.replaceAll("-", "\u2212");
}

export const percent = (share) => (share === null || share === undefined ? "unknown" : `${(100 * share).toFixed(2)} %`);

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  const [value, unit] = count < 1e6 ? [count / 1e3, "kB"] : [count / 1e6, "MB"];
  return `${value.toPrecision(3)} ${unit}`;
}

export function tile(name, value, note = "") {
  const about = note ? [element("div", { class: "note" }, note)] : [];
  return element("div", { class: "tile" }, element("div", { class: "name" }, name),
    element("div", { class: "value" }, value), ...about);
}

const GOOD = new Set(["passed", "normal", "ready"]);
const BAD = new Set(["failed", "alarm", "not ready"]);

export function pill(state) {
  const kind = GOOD.has(state) ? "good" : BAD.has(state) ? "bad" : state === "warning" ? "warn" : "";
  return element("span", { class: `pill ${kind}` }, state);
}
