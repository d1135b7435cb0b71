// Wires the page: which model, which input, which method; everything else is drawn by its own module.

import * as api from "./api.js";
import { showCard } from "./card.js";
import { byId, element, figures, percent, svg } from "./dom.js";
import { Drift } from "./drift.js";
import { Source } from "./input.js";
import { cosine, largest, minus, picture, planeOf, points, scaleBar } from "./maps.js";
import { followTheme } from "./theme.js";

const WAIT = 80; // ms without a change before the model is asked
const BARS = 5;
const state = { card: null, input: null, asked: 0, timer: 0, shown: null };

function problem(error) {
  const box = byId("problem");
  box.hidden = !error;
  box.textContent = error ? error.message : "";
  byId("access").hidden = !(error && (error.status === 401 || error.status === 403));
}

const drift = new Drift((error) => { if (error) problem(error); });

const source = new Source(
  { pad: byId("pad"), box: byId("pad-box"), series: byId("series"), file: byId("file"), clear: byId("clear"),
    hint: byId("hint"), drop: byId("source") },
  (input, wrong) => {
    state.input = input;
    problem(wrong ? new Error(wrong) : null);
    if (input?.layout.kind === "series") {
      byId("series").hidden = false;
      byId("series").setAttribute("viewBox", "0 0 100 100");
      byId("series").setAttribute("preserveAspectRatio", "none");
      byId("series").replaceChildren(svg("polyline", { class: "line", points: points(input.shown) }));
    }
    later();
  },
);

// What is shown belongs to the input as it was until this is false again.
const busy = (is) => byId("maps").setAttribute("aria-busy", is);

function later() {
  busy(true);
  clearTimeout(state.timer);
  state.timer = setTimeout(ask, WAIT);
}

async function ask() {
  const { card, input } = state;
  const number = (state.asked += 1);
  if (!input) return forget();
  try {
    if (!card.explainers.length) {
      const found = await api.infer(card.name, input.tensor);
      if (number === state.asked) showPrediction(found, card);
      return undefined;
    }
    const method = byId("method").value;
    const chosen = Number(byId("target").value);
    const own = await api.explain(card.name, input.tensor, { method, target: chosen });
    const target = own.outputs.target.data[0];
    const beside = card.reference_loaded
      ? await api.explain(card.name, input.tensor, { method, target, variant: "reference" })
      : null;
    if (number !== state.asked) return undefined; // another input came meanwhile
    state.shown = { own, beside, input, method };
    problem(null);
    showMaps();
    showPrediction(own, card, beside, target);
  } catch (error) {
    problem(error);
  } finally {
    if (number === state.asked) busy(false);
  }
  return undefined;
}

function forget() {
  busy(false);
  state.shown = null;
  byId("maps").replaceChildren(element("p", { class: "quiet" }, "Draw or open an input to see what the model makes of it."));
  byId("scale").hidden = true;
  byId("scores").replaceChildren();
  byId("prediction").replaceChildren(element("p", { class: "quiet" }, "Nothing yet."));
}

const labelOf = (card, index) => card.labels[index] ?? `class ${index}`;

function showMaps() {
  if (!state.shown) return;
  const { own, beside, input, method } = state.shown;
  const overlay = byId("overlay").checked;
  const about = state.card.explainers.find((one) => one.method === method);
  const mine = planeOf(own.outputs.explain, input.layout);
  const planes = [[mine, "compressed"]];
  if (beside) {
    const theirs = planeOf(beside.outputs.explain, input.layout);
    planes.unshift([theirs, "reference"]);
    planes.push([minus(mine, theirs), "difference"]);
  }
  const scale = largest(...planes.slice(0, 2).map(([plane]) => plane));
  byId("maps").replaceChildren(...planes.map(([plane, name]) => picture(plane, scale, name, input, overlay)));
  if (!beside) {
    byId("maps").append(element("p", { class: "quiet" }, "The reference is not loaded here, so there is nothing to compare with. " +
      "Start the service with shadow comparison, and the reference's map stands beside this one."));
  }
  scaleBar(byId("scale"), scale, about.units);
  const scores = [["Answered in", `${own.milliseconds.toFixed(0)} ms`]];
  if (beside) scores.unshift(["Cosine to the reference", figures(cosine(mine.values, planes[0][0].values))]);
  const missing = own.outputs.completeness_error?.data[0];
  if (missing !== undefined) scores.push(["Completeness error", figures(missing)]);
  byId("scores").replaceChildren(...scores.map(([name, value]) => element("span", {}, `${name} `, element("b", {}, value))));
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((v) => Math.exp(v - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
}

const logitsOf = (found) =>
  Object.entries(found.outputs).find(([name]) => !["explain", "target", "completeness_error"].includes(name))[1].data;

function showPrediction(own, card, beside, target) {
  const shares = softmax(logitsOf(own));
  const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]).slice(0, BARS);
  const bars = element("dl", { class: "bars" });
  for (const index of order) {
    const fillBar = element("i");
    fillBar.style.width = `${100 * shares[index]}%`;
    bars.append(element("dt", { title: labelOf(card, index) }, labelOf(card, index)),
      element("dd", { class: "bar" }, fillBar), element("dd", {}, percent(shares[index])));
  }
  const notes = [bars];
  if (target !== undefined) notes.push(element("p", { class: "quiet" }, `Explained: ${labelOf(card, target)}.`));
  if (beside) {
    const theirs = logitsOf(beside);
    const best = theirs.indexOf(Math.max(...theirs));
    notes.push(element("p", { class: "quiet" }, best === order[0]
      ? "The uncompressed model says the same."
      : `The uncompressed model says ${labelOf(card, best)}.`));
  }
  byId("prediction").replaceChildren(...notes);
}

function showMethods(card) {
  const options = card.explainers.map((one) =>
    element("option", { value: one.method, selected: one.method === card.default_explainer }, one.method.replaceAll("_", " ")));
  byId("method").replaceChildren(...options);
  const classes = card.labels.map((label, index) => element("option", { value: index }, label));
  byId("target").replaceChildren(element("option", { value: -1 }, "the predicted one"), ...classes);
  aboutMethod();
}

function aboutMethod() {
  const one = state.card.explainers.find((candidate) => candidate.method === byId("method").value);
  byId("about-method").textContent = one
    ? `${one.sign}, in units of the ${one.units}, baseline ${one.baseline}, ` +
      (one.resolution === "input" ? "at the input's resolution" : `at the resolution of layer ${one.layer}`) +
      (one.steps > 1 ? `, ${one.steps} steps` : "") + (one.gradient_ste ? ", straight through quantization" : "") + "."
    : "";
}

async function offerCanaries(name) {
  const { inputs } = await api.canaries(name);
  byId("canary-row").hidden = inputs.length === 0;
  byId("canary").replaceChildren(element("option", { value: "" }, "none"),
    ...inputs.map((_, index) => element("option", { value: index }, `${index + 1}`)));
  byId("canary").onchange = () => {
    const chosen = inputs[byId("canary").value];
    if (chosen) source.put(chosen);
  };
}

async function use(name) {
  try {
    const card = await api.card(name);
    state.card = card;
    document.title = `${card.name} · clearweight`;
    showCard(card);
    showMethods(card);
    source.use(card);
    await offerCanaries(name);
    problem(null);
  } catch (error) {
    problem(error);
  }
  drift.follow(name);
}

async function start() {
  try {
    const names = await api.models();
    byId("model").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    if (names.length) await use(names[0]);
    else problem(new Error("No model is loaded."));
  } catch (error) {
    problem(error);
  }
}

byId("theme").addEventListener("click", followTheme(showMaps));
byId("model").addEventListener("change", () => use(byId("model").value));
byId("method").addEventListener("change", () => { aboutMethod(); ask(); });
byId("target").addEventListener("change", ask);
byId("overlay").addEventListener("change", showMaps);
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  api.setToken(byId("token").value);
  start();
});
start();
