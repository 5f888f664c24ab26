// The bar that stays on top: the whole time axis in small, what part of it is shown, and in words
// what is under the cursor.

class Timeline {
  constructor() {
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.left = el("span", { class: "grip" });
    this.right = el("span", { class: "grip" });
    this.frame = el("div", { class: "frame" }, this.left, this.right);
    this.mark = el("div", { class: "mark" });
    this.band = el("div", { class: "band", hidden: true });
    this.strip = el("div", { class: "strip" }, this.canvas, this.band, this.mark, this.frame);
    this.readout = el("output", { class: "readout" });
    const axis = () => theAxis().index;
    this.whole = button("All", "Show all steps (0)", () => setWindow(axis(), 0, theAxis().extent));
    this.toRange = button("To range", "Zoom to the range (z)", zoomToRange, { class: "to-range" });
    this.clear = button("Clear", "Clear the range (Escape)", clearRange, { class: "clear" });
    this.ranging = button(
      "Drag: cursor",
      "What dragging a finger does: move the cursor, or take a range",
      () => {
        state.drag = state.drag === "range" ? "cursor" : "range";
        this.showDrag();
      },
      { class: "touch-only" }
    );
    state.drag = "cursor";
    this.node = el(
      "div",
      { class: "timeline", role: "region", "aria-label": "Time" },
      this.readout,
      el(
        "div",
        { class: "zooms", role: "group", "aria-label": "Zoom along time" },
        button("Inspect", "Numbers at the cursor, the unit, the range", toggleInspector, {
          class: "inspect",
          "aria-controls": "inspector",
          "aria-expanded": "false",
        }),
        this.ranging,
        button("−", "Zoom out (−)", () => zoom(axis(), 2), { class: "zoom-out" }),
        button("+", "Zoom in (+)", () => zoom(axis(), 0.5), { class: "zoom-in" }),
        this.whole,
        this.toRange,
        this.clear
      ),
      this.strip
    );
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.strip);
    subscribe("row outer layer theme order", () => this.draw());
    subscribe("window range layer row", () => this.place());
    subscribe("cursor unit row layer outer", () => this.tell());
    this.showDrag();
  }

  showDrag() {
    this.ranging.textContent = state.drag === "range" ? "Drag: range" : "Drag: cursor";
    this.ranging.setAttribute("aria-pressed", String(state.drag === "range"));
  }

  x(step) {
    return (step / theAxis().extent) * this.strip.clientWidth;
  }

  step(x) {
    return (x / this.strip.clientWidth) * theAxis().extent;
  }

  /** How far the hidden state is from zero, as an area: where something happens. */
  draw() {
    const width = this.strip.clientWidth;
    const height = this.strip.clientHeight;
    if (!width || !theLayer()) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const layer = theLayer();
    const row = blobRow(layer);
    const { numbers } = layer.hidden;
    if (!numbers.has(row)) return;
    const level = coarse(numbers);
    const paint = (sizes) => {
      const context = this.canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      const known = sizes.filter((size) => !Number.isNaN(size));
      const [least, most] = [Math.min(...known), Math.max(...known)];
      const wide = this.x(numbers.stride * 2 ** level);
      context.fillStyle = style("--area");
      sizes.forEach((size, k) => {
        if (Number.isNaN(size)) return;
        // Not from zero: this is to find places by, and small changes should show.
        const tall = (0.15 + 0.85 * ((size - least) / (most - least || 1))) * (height - 4);
        const left = Math.floor(k * wide);
        context.fillRect(left, height - tall, Math.ceil((k + 1) * wide) - left, tall);
      });
      const pattern = hatching(context);
      for (const [from, to] of paddedRuns(layer, row)) {
        context.fillStyle = pattern;
        context.fillRect(this.x(from), 0, this.x(to) - this.x(from), height);
      }
    };
    jobs.add(
      "timeline",
      (function* () {
        yield* numbers.prepare(row, 0);
        paint(yield* activity(layer, row, level));
      })()
    );
    this.place();
  }

  place() {
    if (!theLayer()) return;
    const axis = theAxis();
    const [low, high] = state.windows[axis.index];
    const whole = high - low >= axis.extent;
    this.frame.style.left = `${this.x(low)}px`;
    this.frame.style.width = `${this.x(high) - this.x(low)}px`;
    this.frame.classList.toggle("whole", whole);
    this.whole.disabled = whole;
    this.strip.dataset.window = `${Math.round(low)}-${Math.round(high)}`;
    const range = state.range && state.range.axis === axis.index ? state.range : null;
    this.band.hidden = !range;
    this.toRange.disabled = this.clear.disabled = !range;
    if (range) {
      this.band.style.left = `${this.x(range.from)}px`;
      this.band.style.width = `${Math.max(2, this.x(range.to + 1) - this.x(range.from))}px`;
    }
    this.tell();
  }

  tell() {
    const layer = theLayer();
    if (!layer) return;
    const step = cursorOf(layer.axis);
    this.mark.style.transform = `translateX(${this.x(step + 0.5)}px)`;
    const token = tokenAt(layer.axis, state.row, step);
    const { numbers } = layer.hidden;
    const value = numbers.at(blobRow(layer), state.unit, columnOf(numbers, step));
    const symbol = `${layer.hidden.symbol}[${unitName(layer, state.unit)}]`;
    const after = step >= axes[layer.axis].time_steps;
    const [first, last] = stepsAt(layer.axis, step);
    const pooled = last > first; // their mean is what there is
    const steps = pooled ? `${count(first)}–${count(last)}` : count(step);
    this.readout.replaceChildren(
      el("span", { class: "at" }, pooled ? "steps " : "step ", el("b", { text: steps })),
      token ? el("span", { class: "token", text: visible(token) }) : "",
      el(
        "span",
        { class: "value" },
        after
          ? "after the input: forecast"
          : isPadded(layer, blobRow(layer), step)
            ? "padded"
            : `${pooled ? "mean " : ""}${symbol} = ${numbers.text(blobRow(layer), state.unit, value, true)}`
      ),
      el("span", { class: "of", text: layer.path })
    );
  }

  listen() {
    let drag = null;
    const at = (event) => event.clientX - this.strip.getBoundingClientRect().left;
    this.strip.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const axis = theAxis().index;
      const [low, high] = state.windows[axis];
      const x = at(event);
      const near = (step) => Math.abs(this.x(step) - x) < 8;
      const whole = high - low >= axes[axis].extent;
      const what = near(low) ? "low" : near(high) ? "high" : "body";
      const inside = x > this.x(low) && x < this.x(high);
      drag = { axis, x, low, high, what: what === "body" && (whole || !inside) ? "new" : what };
      this.strip.setPointerCapture(event.pointerId);
    });
    // Else the browser drags a piece of the page once some of it is selected.
    this.strip.addEventListener("dragstart", (event) => event.preventDefault());
    this.strip.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const x = at(event);
      if (Math.abs(x - drag.x) < 3 && !drag.moved) return;
      drag.moved = true;
      const by = this.step(x) - this.step(drag.x);
      const { low, high } = drag;
      if (drag.what === "body") {
        const shift = clamp(by, -low, axes[drag.axis].extent - high);
        setWindow(drag.axis, low + shift, high + shift);
      } else if (drag.what === "low") setWindow(drag.axis, Math.min(low + by, high - 1), high);
      else if (drag.what === "high") setWindow(drag.axis, low, Math.max(high + by, low + 1));
      else setWindow(drag.axis, ...[this.step(drag.x), this.step(x)].sort((a, b) => a - b));
    });
    const end = (event) => {
      if (drag && !drag.moved && event.type === "pointerup") {
        const step = this.step(at(event));
        putCursor(drag.axis, Math.floor(step));
        reveal(drag.axis, Math.floor(step));
      }
      drag = null;
    };
    this.strip.addEventListener("pointerup", end);
    this.strip.addEventListener("pointercancel", end);
    this.strip.addEventListener("dblclick", () =>
      setWindow(theAxis().index, 0, theAxis().extent)
    );
  }
}

function zoomToRange() {
  if (!state.range) return;
  const { axis, from, to } = state.range;
  const air = Math.max(2, 0.15 * (to - from + 1));
  setWindow(axis, from - air, to + 1 + air);
}

/** The mean |h| over units and 2 ** level columns; NaN where nothing is. */
function* activity(layer, row, level) {
  const { numbers } = layer.hidden;
  const { codes, columns } = numbers.level(row, 0);
  const sums = new Float64Array(Math.ceil(columns / 2 ** level));
  const seen = new Float64Array(sums.length);
  for (let unit = 0; unit < numbers.channels; unit++) {
    const [low, high] = numbers.range(row, unit);
    const step = (high - low) / 254;
    for (let i = 0; i < columns; i++) {
      const code = codes[unit * columns + i];
      if (code === MISSING) continue;
      sums[i >> level] += Math.abs(low + code * step);
      seen[i >> level]++;
    }
    if (unit % 16 === 15) yield;
  }
  return Array.from(sums, (sum, i) => (seen[i] ? sum / seen[i] : NaN));
}
