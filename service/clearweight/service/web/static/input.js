// What goes into the model: a drawing or a picture, or a series. Values leave in the raw units of the manifest.

const INTEGERS = /^U?INT/;

// How the rows of an input look to a person: {kind, channels, height, width}.
export function layoutOf(shape) {
  const row = shape.slice(1);
  if (row.length === 3 && (row[0] === 1 || row[0] === 3)) {
    return { kind: "image", channels: row[0], height: row[1], width: row[2] };
  }
  const length = row.at(-1) ?? 1;
  const side = Math.sqrt(length);
  if (row.length === 1 && length >= 64 && Number.isInteger(side)) {
    return { kind: "image", channels: 1, height: side, width: side };
  }
  const channels = row.slice(0, -1).reduce((a, b) => a * b, 1);
  return { kind: "series", channels, height: channels, width: length };
}

export class Source {
  constructor(elements, onChange) {
    this.at = elements;
    this.onChange = onChange;
    this.context = elements.pad.getContext("2d", { willReadFrequently: true });
    this.cursor = null;
    elements.file.addEventListener("change", () => this.open(elements.file.files[0]));
    elements.clear.addEventListener("click", () => this.clear());
    this.#pointer();
    this.#keys();
    this.#drop();
  }

  // Get ready for a model.
  use(card) {
    this.card = card;
    this.spec = card.inputs[0];
    this.layout = layoutOf(this.spec.shape);
    const image = this.layout.kind === "image";
    this.at.box.hidden = !image;
    this.at.series.hidden = true;
    const { channels, height, width } = this.layout;
    this.at.file.accept = image ? "image/*" : ".csv,.txt,.json,text/*";
    this.at.hint.textContent = image
      ? `Draw, or open, drop or paste a picture: it is cut to a square of the model's ${width} x ${height} ` +
        `${channels === 1 ? "grey" : "colour"} pixels. Bright ink on black. ` +
        (card.raw.white === null ? `The model does not say what white is: ${this.#white()} is assumed.` : "")
      : `Open or paste ${channels * width} numbers, separated by commas, spaces or lines.`;
    if (image) {
      this.at.pad.width = width;
      this.at.pad.height = height;
    }
    this.clear();
  }

  clear() {
    this.values = null;
    this.at.file.value = "";
    if (this.layout.kind === "image") {
      this.context.fillStyle = "#000";
      this.context.fillRect(0, 0, this.layout.width, this.layout.height);
    }
    this.onChange(null);
  }

  async open(file) {
    if (!file) return;
    try {
      if (this.layout.kind === "image") {
        await this.#picture(await createImageBitmap(file));
      } else {
        this.#numbers(await file.text());
      }
    } catch (error) {
      this.onChange(null, `${file.name || "What was pasted"}: ${error.message}`);
    }
  }

  // Raw values as they are, such as those of a probe.
  put(raw) {
    const { kind, channels, height, width } = this.layout;
    const white = kind === "image" ? this.#white() : 1 / this.card.raw.scale;
    const shown = Float32Array.from(raw, (v) => v / white);
    if (kind === "image") {
      const image = this.context.createImageData(width, height);
      const area = height * width;
      for (let i = 0; i < area; i += 1) {
        const colour = [0, 1, 2].map((c) => 255 * shown[channels === 3 ? c * area + i : i]);
        image.data.set([...colour, 255], 4 * i);
      }
      this.context.putImageData(image, 0, 0);
    }
    this.onChange({ tensor: this.#tensor(raw), layout: this.layout, shown });
  }

  async #picture(bitmap) {
    const { width, height } = this.layout;
    const factor = Math.max(width / bitmap.width, height / bitmap.height);
    const [w, h] = [bitmap.width * factor, bitmap.height * factor];
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
    this.#changed();
  }

  #numbers(text) {
    const values = (text.match(/[^\s,;[\]]+/g) ?? []).map(Number);
    const wanted = this.layout.channels * this.layout.width;
    const wrong = values.findIndex((v) => !Number.isFinite(v));
    if (wrong !== -1) throw new Error(`entry ${wrong + 1} is no number`);
    if (values.length !== wanted) throw new Error(`${values.length} numbers found, ${wanted} expected`);
    this.values = values;
    this.onChange({ tensor: this.#tensor(values), layout: this.layout, shown: values });
  }

  // The raw value of white. Where the artifact does not say, the hint does: the manifest's scale then brings it to 1.
  #white() {
    return this.card.raw.white ?? 1 / this.card.raw.scale;
  }

  // Pixels to raw values.
  #changed() {
    const { channels, height, width } = this.layout;
    const pixels = this.context.getImageData(0, 0, width, height).data;
    const area = height * width;
    const shown = new Float32Array(channels * area);
    for (let i = 0; i < area; i += 1) {
      const [r, g, b] = [pixels[4 * i] / 255, pixels[4 * i + 1] / 255, pixels[4 * i + 2] / 255];
      if (channels === 3) {
        shown[i] = r;
        shown[area + i] = g;
        shown[2 * area + i] = b;
      } else {
        shown[i] = 0.299 * r + 0.587 * g + 0.114 * b;
      }
    }
    const white = this.#white();
    const whole = INTEGERS.test(this.card.raw.datatype);
    const raw = Array.from(shown, (v) => (whole ? Math.round(v * white) : v * white));
    this.onChange({ tensor: this.#tensor(raw), layout: this.layout, shown });
  }

  #tensor(data) {
    return { name: this.spec.name, datatype: this.card.raw.datatype, shape: [1, ...this.spec.shape.slice(1)], data };
  }

  #dab(x, y) {
    const radius = Math.max(0.75, this.layout.width / 16);
    const ink = this.context.createRadialGradient(x, y, 0, x, y, 1.6 * radius);
    ink.addColorStop(0, "rgba(255,255,255,.95)");
    ink.addColorStop(0.5, "rgba(255,255,255,.6)");
    ink.addColorStop(1, "rgba(255,255,255,0)");
    this.context.fillStyle = ink;
    this.context.fillRect(x - 2 * radius, y - 2 * radius, 4 * radius, 4 * radius);
  }

  #pointer() {
    const pad = this.at.pad;
    let last = null;
    const place = (event) => {
      const box = pad.getBoundingClientRect();
      return [
        ((event.clientX - box.left) / box.width) * this.layout.width,
        ((event.clientY - box.top) / box.height) * this.layout.height,
      ];
    };
    const stroke = (event) => {
      const [x, y] = place(event);
      const [fromX, fromY] = last ?? [x, y];
      const steps = Math.max(1, Math.ceil(2 * Math.hypot(x - fromX, y - fromY)));
      for (let i = 1; i <= steps; i += 1) {
        this.#dab(fromX + ((x - fromX) * i) / steps, fromY + ((y - fromY) * i) / steps);
      }
      last = [x, y];
      this.#changed();
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      last = null;
      stroke(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) stroke(event);
    });
  }

  #keys() {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    this.at.pad.addEventListener("keydown", (event) => {
      const { width, height } = this.layout;
      const step = Math.max(1, Math.round(width / 28));
      const [x, y] = this.cursor ?? [width / 2, height / 2];
      if (moves[event.key]) {
        const [dx, dy] = moves[event.key];
        this.cursor = [
          Math.min(width - 0.5, Math.max(0.5, x + dx * step)),
          Math.min(height - 0.5, Math.max(0.5, y + dy * step)),
        ];
        if (event.shiftKey) this.#dab(...this.cursor), this.#changed();
        this.at.hint.textContent = `Column ${Math.ceil(this.cursor[0])}, row ${Math.ceil(this.cursor[1])}. ` +
          "Space draws here, shift and an arrow draw on the way.";
      } else if (event.key === " ") {
        this.#dab(x, y);
        this.#changed();
      } else if (event.key === "Delete") {
        this.clear();
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  #drop() {
    const box = this.at.drop;
    for (const kind of ["dragover", "dragleave", "drop"]) {
      box.addEventListener(kind, (event) => {
        event.preventDefault();
        box.classList.toggle("drop", kind === "dragover");
        if (kind === "drop") this.open(event.dataTransfer.files[0]);
      });
    }
    document.addEventListener("paste", (event) => {
      if (event.target instanceof HTMLInputElement) return;
      const file = event.clipboardData.files[0];
      const text = event.clipboardData.getData("text");
      if (file) this.open(file);
      else if (text && this.layout.kind === "series") this.open(new File([text], "What was pasted"));
    });
  }
}
