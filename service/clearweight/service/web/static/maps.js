// Attribution maps as pictures: signed, on one scale for all, summed over channels.

import { diverging } from "./colour.js";
import { element, figures, svg } from "./dom.js";

// Output tensor [1, ..., h, w] -> {height, width, values}, channels summed; flat maps take the input's layout.
export function planeOf(output, layout) {
  const [height, width] = layout.kind === "series"
    ? [1, output.shape.at(-1)]
    : output.shape.length >= 4 ? output.shape.slice(-2) : [layout.height, layout.width];
  const area = height * width;
  const values = new Float32Array(area);
  output.data.forEach((v, i) => { values[i % area] += v; });
  return { height, width, values };
}

export function cosine(a, b) {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : NaN;
}

export const largest = (...planes) => Math.max(...planes.map((p) => p.values.reduce((m, v) => Math.max(m, Math.abs(v)), 0)));

export const minus = (a, b) => ({ ...a, values: a.values.map((v, i) => v - b.values[i]) });

// One captioned picture of a map.
export function picture(plane, scale, caption, input, overlay) {
  const about = `${caption}: values from ${figures(Math.min(...plane.values))} to ${figures(Math.max(...plane.values))}`;
  const drawn = input.layout.kind === "series" ? strip(plane, scale, about, input) : heat(plane, scale, about, input, overlay);
  return element("figure", {}, drawn, element("figcaption", {}, caption));
}

function heat(plane, scale, about, input, overlay) {
  const { layout, shown } = input;
  const [height, width] = overlay ? [layout.height, layout.width] : [plane.height, plane.width];
  const canvas = element("canvas", { width, height, role: "img", "aria-label": about });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const area = layout.height * layout.width;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = y * width + x;
      const row = Math.floor((y * plane.height) / height);
      const column = Math.floor((x * plane.width) / width);
      const value = scale > 0 ? plane.values[row * plane.width + column] / scale : 0;
      const colour = diverging(value);
      const share = overlay ? Math.min(1, Math.abs(value) * 1.6) : 1;
      for (let c = 0; c < 3; c += 1) {
        const under = 255 * shown[layout.channels === 3 ? c * area + at : at];
        image.data[4 * at + c] = share * colour[c] + (1 - share) * (overlay ? under : 0);
      }
      image.data[4 * at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// A series over a band of colour: what each sample contributes stands behind it.
function strip(plane, scale, about, input) {
  const box = svg("svg", { class: "chart", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": about });
  const wide = 100 / plane.width;
  plane.values.forEach((v, i) => {
    const [r, g, b] = diverging(scale > 0 ? v / scale : 0);
    box.append(svg("rect", { x: i * wide, y: 0, width: wide * 1.05, height: 100, fill: `rgb(${r},${g},${b})` }));
  });
  box.append(svg("polyline", { class: "line", points: points(input.shown.slice(0, input.layout.width)) }));
  return box;
}

export function points(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = high - low || 1;
  return Array.from(values, (v, i) => `${((i + 0.5) * 100) / values.length},${92 - (84 * (v - low)) / span}`).join(" ");
}

// The scale below the pictures.
export function scaleBar(box, scale, units) {
  const canvas = element("canvas", { width: 201, height: 1, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(201, 1);
  for (let i = 0; i < 201; i += 1) image.data.set([...diverging((i - 100) / 100), 255], 4 * i);
  context.putImageData(image, 0, 0);
  box.replaceChildren(element("span", {}, `${figures(-scale)} against`), canvas,
    element("span", {}, `${figures(scale)} in favour (${units})`));
  box.hidden = false;
}
