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
      el("span", { text: line.label }),
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
    const every = tickStep(high - low, Math.max(2, this.height / 34));
    const step = this.log ? Math.max(1, Math.round(every)) : every;
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
    context.lineJoin = "round";
    context.setLineDash(line.dash ? DASHES[2] : DASHES[line.pattern || 0]);
    const perPixel = (last - first) / this.inner;
    if (perPixel > 2 || taken.low) this.drawBand(context, taken, first, last, at, y);
    context.beginPath();
    const skip = Math.max(1, Math.floor(perPixel / 2));
    let drawing = false;
    for (let k = first; k < last; k += skip) {
      const value = taken.mean[k];
      if (Number.isNaN(value)) {
        drawing = false;
        continue;
      }
      if (drawing) context.lineTo(at(k), y(value));
      else context.moveTo(at(k), y(value));
      const next = taken.mean[k + skip];
      if (!drawing && (next === undefined || Number.isNaN(next))) {
        context.fillRect(at(k) - 2, y(value) - 2, 4, 4);
      }
      drawing = true;
    }
    context.stroke();
    context.setLineDash([]);
  }

  /** Between the least and the greatest value of each pixel, where there are more than it shows. */
  drawBand(context, taken, first, last, at, y) {
    const step = Math.max(1, (last - first) / this.inner);
    context.globalAlpha = 0.28;
    for (let k = first; k < last; k += step) {
      let least = Infinity;
      let most = -Infinity;
      const to = Math.min(last, Math.max(Math.floor(k) + 1, Math.floor(k + step)));
      for (let i = Math.floor(k); i < to; i++) {
        const low = (taken.low || taken.mean)[i];
        const high = (taken.high || taken.mean)[i];
        if (low < least) least = low;
        if (high > most) most = high;
      }
      if (least > most) continue;
      const left = at(Math.floor(k) - 0.5);
      const wide = Math.max(1, at(to - 0.5) - left);
      context.fillRect(left, y(most), wide, Math.max(1, y(least) - y(most)));
    }
    context.globalAlpha = 1;
  }

  valueOf(k, step) {
    const line = this.lines[k];
    const column = columnOf(line.numbers, step, line.start);
    const taken = this.take()[k];
    return taken && column >= 0 ? taken.mean[column] : NaN;
  }

  text(value) {
    return this.log && !Number.isNaN(value) ? number(10 ** value) : number(value);
  }

  place() {
    super.place();
    const step = cursorOf(this.axis);
    this.lines.forEach((line, k) => {
      line.output.textContent = this.text(this.valueOf(k, step));
    });
  }

  describe(step) {
    const token = tokenAt(this.axis, state.row, step);
    return [
      `step ${count(step)}${token ? ` · ${visible(token)}` : ""}`,
      ...this.lines
        .map((line, k) => (line.hidden ? null : `${line.label} = ${this.text(this.valueOf(k, step))}`))
        .filter((text) => text !== null && !text.endsWith("= –"))
        .slice(0, 8),
    ];
  }
}

subscribe("row outer", () => {
  for (const view of views) if (view instanceof LineView) view.forget();
});
