// The three questions, and the charts behind the third as they move.

import * as api from "./api.js";
import { byId, element, figures, pill, svg } from "./dom.js";

const KEPT = 300;
const EVERY = 2000;

export class Drift {
  constructor(onError) {
    this.onError = onError;
    this.history = new Map();
  }

  follow(name) {
    clearTimeout(this.timer);
    this.name = name;
    this.history.clear();
    this.#look();
  }

  async #look() {
    const name = this.name;
    try {
      const found = document.hidden ? null : await api.health(name);
      if (found && name === this.name) this.#show(found);
      this.onError(null);
    } catch (error) {
      this.onError(error);
    }
    if (name === this.name) this.timer = setTimeout(() => this.#look(), EVERY);
  }

  #show(health) {
    byId("ready").replaceWith(Object.assign(pill(health.ready ? "ready" : "not ready"), { id: "ready", title: health.reason }));
    byId("ready").setAttribute("role", "status");
    const { fidelity, integrity, drift } = health;
    byId("questions").replaceChildren(
      question("Fidelity", "Is the compressed explanation near the original?", fidelity?.state ?? "unknown", fidelity?.reason),
      question("Integrity", "Does this device answer as the artifact promises?", integrity?.state ?? "unknown", integrity?.reason),
      question("Drift", "Do live inputs pull the two models' maps apart?", drift.state,
        drift.reason || `${drift.compared.toLocaleString("en")} comparisons, ${drift.undefined} undefined, ${drift.dropped} dropped`),
    );
    const charts = drift.series.map((series) => this.#chart(series, drift));
    byId("charts").replaceChildren(...charts);
  }

  #chart(series, drift) {
    const key = [series.metric, series.detector, series.label].filter(Boolean).join(" · ");
    const past = this.history.get(key) ?? [];
    past.push(series.statistic);
    if (past.length > KEPT) past.shift();
    this.history.set(key, past);
    const top = 1.15 * Math.max(series.limit ?? 0, ...past, 1e-9);
    const y = (v) => 100 - (94 * v) / top;
    const points = past.map((v, i) => `${past.length === 1 ? 100 : (100 * i) / (past.length - 1)},${y(v)}`);
    const chart = svg("svg", { class: "chart", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img",
      "aria-label": `${key}: ${figures(series.statistic)}, limit ${series.limit === null ? "not set" : figures(series.limit)}` });
    chart.append(svg("line", { class: "axis", x1: 0, x2: 100, y1: 100, y2: 100 }));
    for (const [kind, value] of [["limit", series.limit], ["warning", series.warning_limit]]) {
      if (value !== null) chart.append(svg("line", { class: kind, x1: 0, x2: 100, y1: y(value), y2: y(value) }));
    }
    chart.append(svg("polyline", { class: "line", points: points.join(" ") }));
    const window = drift.window[series.metric];
    const mean = window?.mean;
    return element("figure", { class: "panel" },
      element("figcaption", {}, `${key.replaceAll("_", " ")} `, pill(series.state)),
      chart,
      element("p", { class: "quiet" },
        series.label ? `Inputs explained as ${series.label}. ` : "",
        `Now ${figures(series.statistic)}; alarm above ${series.limit === null ? "a limit not set yet" : figures(series.limit)}. `,
        mean === null || mean === undefined ? "" : `Mean of the last comparisons ${figures(mean)}. `,
        `${series.alarms} alarms since the start.`));
  }
}

function question(name, text, state, reason) {
  return element("div", { class: "tile" }, element("div", { class: "name" }, `${name}. ${text}`),
    element("div", { class: "value" }, pill(state)), element("div", { class: "note" }, reason || ""));
}

