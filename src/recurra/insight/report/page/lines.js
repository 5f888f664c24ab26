// Lines over time: inputs, predictions, one unit's gates and states, norms, gradients.

class LineView extends TimeView {
  /**
   * lines: [{label, title, numbers, row(), channel(), start, colour, dash, swatch}] drawn together;
   * range: [low, high] that is always shown, or null; log: values are powers of ten;
   * runs() of padded steps.
   */
  constructor({ axis, height, label, lines, range = null, log = false, runs = () => [] }) {
    super({ axis, height, label, kind: "lines" });
    this.lines = lines.map((line) => ({ start: 0, hidden: false, ...line }));
    this.range = range;
    this.log = log;
    this.runs = runs;
    this.taken = null;
    this.keys = el("div", { class: "keys", role: "group", "aria-label": `Lines of ${label}` });
    this.lines.forEach((line, k) => this.keys.append(this.key(line, k)));
  }

  key(line, k) {
    line.output = el("output", { class: "value" });
    const stroke = el("span", { class: "stroke" });
    line.paint = () => {
      stroke.style.borderTopColor = LINES[state.theme][line.colour % LINES.light.length];
      stroke.style.borderTopStyle = line.dash ? "dashed" : "solid";
    };
    const node = el(
      "button",
      {
        type: "button",
        class: "key",
        "aria-pressed": "true",
        title: `${line.title || line.label}: show or hide`,
        onclick: () => {
          line.hidden = !line.hidden;
          node.setAttribute("aria-pressed", String(!line.hidden));
          this.invalidate();
        },
      },
      stroke,
      this.lines.length > 1 ? el("span", { text: line.label }) : "",
      line.output
    );
    line.paint();
    return node;
  }

  take() {
    if (!this.taken) {
      this.taken = this.lines.map((line) =>
        line.numbers.has(line.row()) ? line.numbers.line(line.row(), line.channel()) : null
      );
    }
    return this.taken;
  }

  forget() {
    this.taken = null;
    this.invalidate();
  }

  ends() {
    let [low, high] = this.range || [Infinity, -Infinity];
    this.take().forEach((taken, k) => {
      if (!taken || this.lines[k].hidden) return;
      for (const part of [taken.mean, taken.low, taken.high]) {
        if (!part) continue;
        for (const value of part) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    });
    if (!(low <= high)) return [0, 1];
    if (low === high) return [low - 0.5, high + 0.5];
    const air = this.range ? 0 : 0.06 * (high - low);
    return [low - air, high + air];
  }

  draw() {
    const context = this.begin();
    const [low, high] = this.ends();
    const top = 5;
    const room = this.height - 2 * top;
    const y = (value) => top + (1 - (value - low) / (high - low)) * room;
    this.drawGrid(context, low, high, y);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, this.inner, this.height);
    context.clip();
    this.hatch(context, this.runs());
    const taken = this.take();
    this.lines.forEach((line, k) => {
      line.paint();
      if (taken[k] && !line.hidden) this.drawLine(context, line, taken[k], y);
    });
    context.restore();
    this.drawSteps(context);
    context.strokeStyle = style("--line");
    context.strokeRect(GUTTER - 0.5, 0.5, this.inner, this.height - 0.5);
    this.plot.dataset.drawn = String((Number(this.plot.dataset.drawn) || 0) + 1);
    this.plot.dataset.ends = `${number(low)} ${number(high)}`;
  }

  drawGrid(context, low, high, y) {
    const every = tickStep(high - low, Math.max(2, this.height / 24));
    const step = this.log ? Math.max(1, Math.ceil((high - low) / 4)) : every;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.lineWidth = 1;
    for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) {
      const value = k * step;
      const at = Math.round(y(value)) + 0.5;
      context.strokeStyle = style(value === 0 && !this.log ? "--line-strong" : "--line");
      context.beginPath();
      context.moveTo(GUTTER, at);
      context.lineTo(this.width, at);
      context.stroke();
      context.fillStyle = style("--muted");
      const text = this.log ? `1e${value}` : number(Math.abs(value) < 1e-9 * step ? 0 : value);
      context.fillText(text, GUTTER - 6, clamp(at, 6, this.height - 6));
    }
    context.textAlign = "left";
  }

  drawLine(context, line, taken, y) {
    const [low, high] = this.window;
    const { stride, columns } = line.numbers;
    const first = clamp(Math.floor((low - line.start) / stride) - 1, 0, columns);
    const last = clamp(Math.ceil((high - line.start) / stride) + 1, 0, columns);
    const at = (column) => GUTTER + this.x(line.start + (column + 0.5) * stride);
    const colour = LINES[state.theme][line.colour % LINES.light.length];
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = line.colour === 0 ? 1.8 : 1.4;
    context.lineJoin = "bevel";
    context.setLineDash(line.dash ? DASHES[2] : DASHES[line.pattern || 0]);
    const bins = binned(taken, first, last, Math.max(1, (1.5 * (last - first)) / this.inner));
    if (bins.mean.length > 300) {
      // Dashes and widths are lost among so many steps, and take most of the time of drawing.
      context.setLineDash([]);
      context.lineWidth = 1;
    }
    if (bins.size > 2 || taken.low) this.drawBand(context, bins, at, y);
    context.beginPath();
    let before = false;
    bins.mean.forEach((value, k) => {
      const known = !Number.isNaN(value);
      const x = at(bins.middle(k));
      if (known && before) context.lineTo(x, y(value));
      else if (known) context.moveTo(x, y(value));
      const next = bins.mean[k + 1];
      // A step alone between missing ones would have no line: it gets a point.
      if (known && !before && !(next === next && next !== undefined)) {
        context.fillRect(x - 2, y(value) - 2, 4, 4);
      }
      before = known;
    });
    context.stroke();
    context.setLineDash([]);
  }

  /** Between the least and the greatest value of each pixel, where it holds several steps. */
  drawBand(context, bins, at, y) {
    context.globalAlpha = 0.18;
    context.beginPath();
    bins.low.forEach((low, k) => {
      if (low > bins.high[k]) return;
      const left = Math.round(at(bins.middle(k) - bins.size / 2));
      const wide = Math.round(at(bins.middle(k) + bins.size / 2)) - left;
      context.rect(left, y(bins.high[k]), Math.max(1, wide), Math.max(1, y(low) - y(bins.high[k])));
    });
    context.fill();
    context.globalAlpha = 1;
  }

  valueOf(k, step) {
    const line = this.lines[k];
    const column = columnOf(line.numbers, step, line.start);
    const taken = this.take()[k];
    return (taken && taken.mean[column]) ?? NaN;
  }

  text(k, value) {
    if (this.log && !Number.isNaN(value)) return number(10 ** value);
    const line = this.lines[k];
    return line.numbers.text(line.row(), line.channel(), value);
  }

  place() {
    super.place();
    const step = cursorOf(this.axis);
    this.lines.forEach((line, k) => {
      line.output.textContent = this.text(k, this.valueOf(k, step));
    });
  }

  describe(step) {
    const token = tokenAt(this.axis, state.row, step);
    return [
      `step ${count(step)}${token ? ` · ${visible(token)}` : ""}`,
      ...this.lines
        .map((line, k) => (line.hidden ? null : `${line.label} = ${this.text(k, this.valueOf(k, step))}`))
        .filter((text) => text !== null && !text.endsWith("= –"))
        .slice(0, 8),
    ];
  }
}

subscribe("row outer", () => {
  for (const view of views) if (view instanceof LineView) view.forget();
});

/** Columns [first, last) in bins of `size`: their means, least and greatest values. */
function binned(taken, first, last, size) {
  const n = Math.ceil((last - first) / size);
  const mean = new Float64Array(n).fill(NaN);
  const low = new Float64Array(n).fill(Infinity);
  const high = new Float64Array(n).fill(-Infinity);
  for (let k = 0; k < n; k++) {
    const from = first + Math.floor(k * size);
    const to = Math.min(last, Math.max(from + 1, first + Math.floor((k + 1) * size)));
    let sum = 0;
    let seen = 0;
    for (let i = from; i < to; i++) {
      const value = taken.mean[i];
      if (!Number.isNaN(value)) [sum, seen] = [sum + value, seen + 1];
      const least = (taken.low || taken.mean)[i];
      const most = (taken.high || taken.mean)[i];
      if (least < low[k]) low[k] = least;
      if (most > high[k]) high[k] = most;
    }
    if (seen) mean[k] = sum / seen;
  }
  return { mean, low, high, size, middle: (k) => first + (k + 0.5) * size - 0.5 };
}
