// Heat maps: channels (units, features) downwards, time to the right, values as colours.

const SMALL = 400_000; // codes that may be averaged while a frame waits

class HeatView extends TimeView {
  /**
   * source: numbers; scale ("diverging", ...); range ([low, high], or null: each channel's own);
   * row(), runs() of padded steps; order() of channels, name(place); start, the step of the first
   * column; onPick(place), picked() where channels can be picked; title and symbol for people.
   */
  constructor(source, { axis, height }) {
    super({ axis, height, label: source.label, kind: "heat" });
    this.source = source;
    source.numbers.fixed = source.range;
    this.marker = el("div", { class: "marker", hidden: true });
    this.over.append(this.marker);
    this.blank = el("div", { class: "blank", hidden: true });
    this.plot.append(this.blank);
  }

  get channels() {
    return this.source.numbers.channels;
  }

  /** The channel at a height, as a place among the channels. */
  channelAt(y) {
    const line = clamp(Math.floor((y / this.height) * this.channels), 0, this.channels - 1);
    return this.source.order()[line];
  }

  pick(y) {
    if (this.source.onPick) this.source.onPick(this.channelAt(y));
  }

  value(step, channel) {
    const { numbers, start = 0 } = this.source;
    return numbers.at(this.source.row(), channel, columnOf(numbers, step, start));
  }

  text(channel, value) {
    return this.source.numbers.text(this.source.row(), channel, value);
  }

  describe(step, y) {
    const { source } = this;
    const channel = this.channelAt(y);
    const { stride, time_steps } = axes[this.axis];
    const end = Math.min(step + stride, time_steps) - 1;
    const token = tokenAt(this.axis, state.row, step);
    const where = stride > 1 ? `steps ${count(step)}–${count(end)}` : `step ${count(step)}`;
    const padded = source.runs().some(([from, to]) => step >= from && step < to);
    const value = this.value(step, channel);
    return [
      `${where}${token ? ` · ${visible(token)}` : ""}`,
      padded ? "padded: no value" : `${source.symbol}[${source.name(channel)}] = ${this.text(channel, value)}`,
    ];
  }

  level() {
    const [low, high] = this.window;
    const { numbers } = this.source;
    const perPixel = (high - low) / numbers.stride / (this.inner * this.ratio);
    const deepest = Math.ceil(Math.log2(Math.max(1, numbers.columns)));
    return clamp(Math.floor(Math.log2(Math.max(1, perPixel))), 0, deepest);
  }

  draw() {
    const { numbers } = this.source;
    const row = this.source.row();
    this.blank.hidden = numbers.has(row);
    if (!numbers.has(row)) {
      this.blank.textContent = "Left out for this sample, to keep the file small.";
      this.begin();
      return;
    }
    const level = this.level();
    const ready =
      numbers.channels * numbers.columns <= SMALL ||
      (level === 0 && !numbers.floats(row)
        ? decoded.held.has(`${numbers.id}/data/${row}`)
        : decoded.held.has(`${numbers.id}/level ${level}/${row}`));
    jobs.cancel(`draw ${this.id}`);
    if (ready) {
      this.paint(level);
    } else {
      const view = this;
      jobs.add(
        `draw ${this.id}`,
        (function* () {
          yield* numbers.prepare(row, level);
          view.paint(view.level());
          view.place();
        })()
      );
    }
  }

  /** The level is that of `level()` for now; what it needs is there or quickly made. */
  paint(level) {
    const context = this.begin();
    const { source } = this;
    const { numbers, start = 0 } = source;
    const row = source.row();
    const { codes, columns } = numbers.level(row, level);
    const order = source.order();
    const channels = order.length;
    const width = Math.max(1, Math.round(this.inner * this.ratio));
    const height = Math.max(1, Math.round(this.height * this.ratio));
    const [low, high] = this.window;
    const places = new Int32Array(width);
    const stride = numbers.stride * 2 ** level;
    const end = start + numbers.columns * numbers.stride;
    for (let x = 0; x < width; x++) {
      const step = low + ((x + 0.5) / width) * (high - low);
      places[x] = step < start || step >= end ? -1 : Math.floor((step - start) / stride);
    }
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const kind = rampKind(source.scale);
    const own = source.range === null;
    const table = own
      ? lookup(state.theme, kind, [0, 1], [0, 1])
      : lookup(state.theme, kind, numbers.range(row, 0), source.range);
    let before = -1;
    for (let y = 0; y < height; y++) {
      const first = Math.floor((y * channels) / height);
      const last = Math.max(first + 1, Math.floor(((y + 1) * channels) / height));
      const to = y * width;
      if (first === before) {
        pixels.copyWithin(to, to - width, to);
        continue;
      }
      before = first;
      if (last - first === 1) {
        const from = order[first] * columns;
        for (let x = 0; x < width; x++) {
          if (places[x] < 0) continue;
          const code = codes[from + places[x]];
          pixels[to + x] = table[code];
        }
      } else {
        for (let x = 0; x < width; x++) {
          if (places[x] < 0) continue;
          let sum = 0;
          let n = 0;
          for (let k = first; k < last; k++) {
            const code = codes[order[k] * columns + places[x]];
            if (code !== MISSING) {
              sum += code;
              n++;
            }
          }
          pixels[to + x] = table[n ? Math.round(sum / n) : MISSING];
        }
      }
    }
    context.putImageData(image, Math.round(GUTTER * this.ratio), 0);
    this.hatch(context, source.runs());
    if (source.overlay) source.overlay(context, this);
    const missing = this.hasMissing(codes, columns, stride, start);
    this.plot.dataset.missing = missing;
    if (this.onMissing) this.onMissing(missing);
    this.drawNames(context, order);
    this.drawSteps(context);
    this.plot.dataset.drawn = `${row}/${level}`;
  }

  /** Whether a value is missing at a step that isn't padded. One channel tells: NaN spreads. */
  hasMissing(codes, columns, stride, start) {
    const runs = this.source.runs();
    let next = 0;
    for (let i = 0; i < columns; i++) {
      const step = start + i * stride;
      while (next < runs.length && runs[next][1] <= step) next++;
      if (next < runs.length && step + stride > runs[next][0]) continue;
      for (let c = 0; c < this.channels; c += Math.max(1, this.channels >> 3)) {
        if (codes[c * columns + i] === MISSING) return true;
      }
    }
    return false;
  }

  drawNames(context, order) {
    const room = this.height / order.length;
    const every = room >= 11 ? 1 : 0;
    context.fillStyle = style("--muted");
    context.textAlign = "right";
    const put = (line, y, baseline) => {
      context.textBaseline = baseline;
      context.fillText(fitted(context, this.source.name(order[line]), GUTTER - 8), GUTTER - 6, y);
    };
    if (every) {
      for (let line = 0; line < order.length; line++) put(line, (line + 0.5) * room, "middle");
    } else {
      put(0, 0, "top");
      put(order.length - 1, this.height, "bottom");
    }
    context.textAlign = "left";
    context.strokeStyle = style("--line");
    context.lineWidth = 1;
    context.strokeRect(GUTTER - 0.5, 0.5, this.inner, this.height - 0.5);
  }

  place() {
    super.place();
    const picked = this.source.picked ? this.source.picked() : null;
    this.marker.hidden = picked === null;
    if (picked === null) return;
    const line = this.source.order().indexOf(picked);
    const room = this.height / this.channels;
    const tall = Math.max(3, room);
    const top = clamp((line + 0.5) * room - tall / 2, 0, this.height - tall);
    this.marker.style.transform = `translateY(${top.toFixed(2)}px)`;
    this.marker.style.height = `${tall.toFixed(2)}px`;
    this.marker.dataset.channel = this.source.name(picked);
  }

  /** Up and down go through the channels as they are drawn. */
  vertical(by) {
    if (!this.source.onPick) return false;
    const order = this.source.order();
    const line = order.indexOf(this.source.picked() ?? order[0]);
    this.source.onPick(order[clamp(line + by, 0, order.length - 1)]);
    return true;
  }
}

function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`${short}…`).width > room) short = short.slice(0, -1);
  return `${short}…`;
}

/** The legend of a palette: its ends, and what stands for padding and for no value. */
function legend(scale, range, { padded = false } = {}) {
  const kind = rampKind(scale);
  const [low, high] = range || ["low", "high"];
  const show = (value) => (typeof value === "number" ? number(value) : value);
  const bar = el("span", { class: "ramp", "data-kind": kind });
  bar.style.background = gradientCss(state.theme, kind);
  const node = el(
    "span",
    { class: "legend" },
    el("span", { text: show(low) }),
    bar,
    el("span", { text: show(high) }),
    typeof high === "number" && scale !== "diverging" && scale !== "unit"
      ? el("span", { class: "own", title: "These ends are the array's own", text: "own scale" })
      : null,
    padded ? el("span", { class: "swatch hatched" }) : null,
    padded ? el("span", { text: "padded" }) : null,
    el("span", { class: "swatch missing", hidden: true }),
    el("span", { class: "missing-word", hidden: true, text: "no value (NaN, ∞)" })
  );
  node.showMissing = (missing) => {
    node.querySelector(".swatch.missing").hidden = !missing;
    node.querySelector(".missing-word").hidden = !missing;
  };
  return node;
}

subscribe("theme", () => {
  for (const bar of document.querySelectorAll(".ramp")) {
    bar.style.background = gradientCss(state.theme, bar.dataset.kind);
  }
});

subscribe("unit order", (now) => {
  for (const view of views) {
    if (!(view instanceof HeatView)) continue;
    if (now.has("order")) view.invalidate();
    else if (!view.stale) view.place();
  }
});
