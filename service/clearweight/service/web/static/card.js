// The model card: what compression kept and what it cost.

import { bytes, byId, element, figures, percent, pill, tile } from "./dom.js";

export function showCard(card) {
  const { reference, packed, device } = card.bytes;
  const { quality, fidelity } = card;
  const similarity = fidelity?.similarity.pooled_cosine;
  byId("tiles").replaceChildren(
    tile("Weights", bytes(packed), `${compared(reference, packed)} than ${bytes(reference)}`),
    tile("All a device needs", bytes(device), `${compared(reference, device)}, explanations included`),
    tile("Accuracy", percent(quality.compressed.accuracy), `${percent(quality.reference.accuracy)} uncompressed`),
    tile("Same explanation", similarity === undefined ? "unknown" : similarity.toFixed(3),
      fidelity ? `pooled cosine of ${fidelity.explainer}, ${fidelity.samples} samples` : "not measured"),
  );
  showSimilarity(byId("similarity"), fidelity);
  showLedger(byId("ledger"), card);
  byId("digest").textContent = `Manifest ${card.sha256.slice(0, 16)}…`;
}

// Graphs outweigh a tiny network.
function compared(reference, own) {
  return own <= reference ? `${(reference / own).toFixed(1)} times smaller` : `${(own / reference).toFixed(1)} times larger`;
}

// Where the similarity stands between what another training gives and the same map.
function showSimilarity(box, fidelity) {
  box.replaceChildren(element("figcaption", {}, "How much of the explanation is kept"));
  if (!fidelity) {
    box.append(element("p", { class: "quiet" }, "This artifact was built without a comparison."));
    return;
  }
  const value = fidelity.similarity.pooled_cosine;
  const low = Math.max(0, Math.min(value, fidelity.floor ?? 1, fidelity.budget) - 0.1);
  const at = (v) => `${(100 * (v - low)) / (1 - low)}%`;
  const gauge = element("div", { class: "gauge", role: "img",
    "aria-label": `Similarity ${figures(value)} of 1; budget ${figures(fidelity.budget)}` +
      (fidelity.floor === null ? "" : `; another training gives ${figures(fidelity.floor)}`) });
  const full = element("i");
  full.style.width = at(value);
  gauge.append(full);
  for (const [side, name, v] of [["below", "budget", fidelity.budget], ["above", "another training", fidelity.floor]]) {
    if (v === null) continue;
    const mark = element("span", { class: side }, element("b", {}, `${name} ${figures(v)}`));
    mark.style.left = at(v);
    gauge.append(mark);
  }
  const notes = element("p", { class: "quiet" },
    `${figures(value)} on a scale from ${figures(low)} to 1. `,
    fidelity.floor === null ? "" : `A second network trained from another seed reaches ${figures(fidelity.floor)}. `,
    fidelity.gap_closed === null ? "" : `Of the gap between another training and the same map, ${percent(fidelity.gap_closed)} is closed. `,
    `Predictions agree on ${percent(fidelity.agreement)}.`);
  box.append(gauge, notes, pill(fidelity.passed ? "passed" : "failed"));
}

function showLedger(box, card) {
  const largest = Math.max(...card.ledger.map((row) => row.bytes));
  const shown = card.ledger.slice(0, 8);
  const bars = element("dl", { class: "bars" });
  for (const row of shown) {
    const fillBar = element("i");
    fillBar.style.width = `${(100 * row.bytes) / largest}%`;
    bars.append(element("dt", { title: row.name }, row.name), element("dd", { class: "bar" }, fillBar),
      element("dd", {}, bytes(row.bytes)));
  }
  const head = ["Tensor", "Weights", "Kept", "Bytes", "Bits per weight"];
  const rows = card.ledger.map((row) => element("tr", {},
    ...[row.name, row.parameters.toLocaleString("en"),
      row.parameters ? percent(row.nonzero / row.parameters) : "",
      row.bytes.toLocaleString("en"), row.bits_per_weight === null ? "" : row.bits_per_weight.toFixed(2),
    ].map((text) => element("td", {}, text))));
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows));
  box.replaceChildren(element("figcaption", {}, "Where the bytes are"), bars,
    element("details", {}, element("summary", {}, "Every tensor"), table));
}
