// What all views along time have in common: a canvas with a gutter on the left and steps below,
// the shared cursor and range on top of it, the pointer, and being drawn only when seen.

const FOOT = 18;
const GUTTER = gutter();
const views = new Set();
let viewsMade = 0;

/** Room on the left, the same for all views so that they stand under each other. */
function gutter() {
  const names = [...series, ...layers.flatMap((layer) => layer.arrays)]
    .filter((one) => one.numbers.channels > 1)
    .flatMap((one) => one.names || one.channel_names || []);
  const context = document.createElement("canvas").getContext("2d");
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const widths = names.map((name) => context.measureText(name).width);
  const wide = clamp(Math.ceil(Math.max(0, ...widths)) + 14, 50, innerWidth < 600 ? 64 : 92);
  document.documentElement.style.setProperty("--gutter", `${wide}px`);
  return wide;
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const view = entry.target.view;
      view.visible = entry.isIntersecting;
      if (view.visible) view.refresh();
    }
  },
  { rootMargin: "200px" }
);

const sized = new ResizeObserver((entries) => {
  for (const entry of entries) entry.target.view.resized();
});

const styles = new Map();

/** A value of the style sheet, for what is drawn on canvases. */
function style(name) {
  if (!styles.has(name)) {
    const all = getComputedStyle(document.documentElement);
    styles.set(name, all.getPropertyValue(name).trim());
  }
  return styles.get(name);
}
subscribe("theme", () => styles.clear());

class TimeView {
  /** axis: its number; height: of the plot, in CSS pixels; label: for who cannot see it. */
  constructor({ axis, height, label, kind }) {
    this.id = viewsMade++;
    this.axis = axis;
    this.kind = kind;
    this.height = height;
    this.visible = false;
    this.stale = true;
    this.width = 0;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.cursorLine = el("div", { class: "cursor" });
    this.band = el("div", { class: "band", hidden: true });
    this.over = el("div", { class: "over" }, this.band, this.cursorLine);
    this.plot = el(
      "div",
      {
        class: `plot ${kind}`,
        tabindex: "0",
        role: "group",
        "aria-roledescription": kind === "heat" ? "heat map over time" : "chart over time",
        "aria-label": label,
        "aria-describedby": "keys-hint",
      },
      this.canvas,
      this.over
    );
    this.plot.view = this;
    views.add(this);
    this.setHeight(height);
    listenToPointer(this);
    seen.observe(this.plot);
    sized.observe(this.plot);
  }

  remove() {
    views.delete(this);
    jobs.cancel(`draw ${this.id}`);
    seen.unobserve(this.plot);
    sized.unobserve(this.plot);
  }

  setHeight(height) {
    this.height = height;
    this.plot.style.height = `${height + FOOT}px`;
    this.invalidate();
  }

  resized() {
    if (this.plot.clientWidth === this.width) return;
    this.width = this.plot.clientWidth;
    this.invalidate();
  }

  get window() {
    return state.windows[this.axis];
  }

  get inner() {
    return Math.max(1, this.width - GUTTER);
  }

  /** Where a step begins, in CSS pixels from the gutter. */
  x(step) {
    const [low, high] = this.window;
    return ((step - low) / (high - low)) * this.inner;
  }

  stepAt(x) {
    const [low, high] = this.window;
    const { stride, extent } = axes[this.axis];
    const step = low + (x / this.inner) * (high - low);
    return clamp(Math.floor(step / stride) * stride, 0, extent - 1);
  }

  invalidate() {
    this.stale = true;
    this.refresh();
  }

  /** Draws it, if it needs that and can be seen. */
  refresh(anyway = false) {
    if (!this.stale || (!this.visible && !anyway) || !this.plot.isConnected) return;
    this.width = this.plot.clientWidth;
    if (this.width <= GUTTER) return;
    this.stale = false;
    const ratio = Math.min(window.devicePixelRatio || 1, 2.5);
    const width = Math.round(this.width * ratio);
    const height = Math.round((this.height + FOOT) * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.ratio = ratio;
    this.draw();
    this.place();
  }

  begin() {
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height + FOOT);
    context.font = `11px ${style("--font")}`;
    return context;
  }

  /** Steps below the plot, and a line where the input ends and a forecast begins. */
  drawSteps(context) {
    const [low, high] = this.window;
    const axis = axes[this.axis];
    const every = Math.max(1, tickStep(high - low, this.inner / 76));
    context.fillStyle = style("--muted");
    context.strokeStyle = style("--line");
    context.textBaseline = "top";
    context.lineWidth = 1;
    const half = (0.5 * Math.min(axis.stride, high - low) * this.inner) / (high - low);
    for (let step = Math.ceil(low / every) * every; step < high; step += every) {
      const x = GUTTER + this.x(step) + (axis.stride === 1 ? half : 0);
      if (x > this.width - 4) break;
      context.beginPath();
      context.moveTo(Math.round(x) + 0.5, this.height);
      context.lineTo(Math.round(x) + 0.5, this.height + 4);
      context.stroke();
      const text = count(step);
      const wide = context.measureText(text).width;
      const left = clamp(x - wide / 2, GUTTER - 8, this.width - wide);
      context.fillText(text, left, this.height + 6);
    }
    if (axis.extent > axis.time_steps && high > axis.time_steps) {
      const x = Math.round(GUTTER + this.x(axis.time_steps)) + 0.5;
      context.setLineDash([2, 3]);
      context.strokeStyle = style("--muted");
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, this.height);
      context.stroke();
      context.setLineDash([]);
    }
  }

  hatch(context, runs) {
    const [low, high] = this.window;
    const pattern = hatching(context);
    for (const [from, to] of runs) {
      if (to <= low || from >= high) continue;
      const x = GUTTER + this.x(Math.max(from, low));
      const wide = Math.max(1, this.x(Math.min(to, high)) - this.x(Math.max(from, low)));
      context.fillStyle = style("--paper");
      context.fillRect(x, 0, wide, this.height);
      context.fillStyle = pattern;
      context.fillRect(x, 0, wide, this.height);
    }
  }

  /** Puts the cursor and the range where they belong: no drawing, so it can follow the pointer. */
  place() {
    const axis = axes[this.axis];
    const step = Math.floor(cursorOf(this.axis) / axis.stride) * axis.stride;
    // A column of a heat map is framed, if it is wide enough; on lines its middle is meant.
    const thin = this.kind === "lines";
    const column = this.x(step + axis.stride) - this.x(step);
    const slim = thin || column < 6;
    const wide = slim ? 1.5 : column;
    const left = slim ? this.x(step + axis.stride / 2) - 0.75 : this.x(step);
    const out = left + wide < 0 || left > this.inner;
    this.cursorLine.hidden = out;
    if (!out) {
      this.cursorLine.style.transform = `translateX(${left.toFixed(2)}px)`;
      this.cursorLine.style.width = `${wide.toFixed(2)}px`;
      this.cursorLine.classList.toggle("slim", slim);
      this.cursorLine.dataset.step = step;
    }
    const range = state.range && state.range.axis === this.axis ? state.range : null;
    this.band.hidden = !range;
    if (range) {
      const end = Math.ceil((range.to + 1) / axis.stride) * axis.stride;
      this.band.style.transform = `translateX(${this.x(range.from).toFixed(2)}px)`;
      this.band.style.width = `${Math.max(2, this.x(end) - this.x(range.from)).toFixed(2)}px`;
    }
  }

  // For those who know what lies at a place of the plot.
  pick() {}
  describe(step) {
    return [`step ${count(step)}`];
  }
  vertical() {
    return false;
  }
}

/** Diagonal lines for padded steps: they hold no numbers. */
function hatching(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const brush = tile.getContext("2d");
  brush.strokeStyle = style("--hatch");
  brush.lineWidth = 1.2;
  brush.beginPath();
  for (const offset of [-8, 0, 8]) {
    brush.moveTo(offset, 8);
    brush.lineTo(offset + 8, 0);
  }
  brush.stroke();
  return context.createPattern(tile, "repeat");
}

const tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });

function showTip(view, event) {
  const box = view.over.getBoundingClientRect();
  const lines = view.describe(view.stepAt(event.clientX - box.left), event.clientY - box.top);
  tip.replaceChildren(...lines.map((line) => el("div", { text: line })));
  tip.hidden = false;
  const wide = tip.offsetWidth;
  const left = event.clientX + 14 + wide > innerWidth ? event.clientX - 14 - wide : event.clientX + 14;
  const top = clamp(event.clientY + 16, 4, innerHeight - tip.offsetHeight - 4);
  tip.style.transform = `translate(${Math.max(4, left)}px, ${top}px)`;
}

/** Hovering moves the cursor, a click leaves it there and picks the unit, dragging takes a range. */
function listenToPointer(view) {
  const { over } = view;
  let down = null;
  const at = (event) => {
    const box = over.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  over.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const { x } = at(event);
    const ranging = event.pointerType !== "touch" || state.drag === "range";
    down = { x, step: view.stepAt(x), moved: false, ranging };
    over.setPointerCapture(event.pointerId);
  });
  over.addEventListener("pointermove", (event) => {
    const { x } = at(event);
    const step = view.stepAt(x);
    hoverAt(view.axis, step);
    if (event.pointerType !== "touch") showTip(view, event);
    if (!down) return;
    if (!down.moved && Math.abs(x - down.x) < 4) return;
    down.moved = true;
    if (down.ranging) setRange(view.axis, down.step, step);
  });
  over.addEventListener("pointerup", (event) => {
    if (!down) return;
    const { x, y } = at(event);
    putCursor(view.axis, view.stepAt(x));
    if (!down.moved) {
      view.pick(y);
      if (event.pointerType !== "touch") hoverAt(view.axis, view.stepAt(x));
    }
    down = null;
  });
  const leave = () => {
    down = null;
    hoverAt(view.axis, null);
    tip.hidden = true;
  };
  over.addEventListener("pointercancel", leave);
  over.addEventListener("pointerleave", leave);
  over.addEventListener("dblclick", () => setWindow(view.axis, 0, axes[view.axis].extent));
  over.addEventListener(
    "wheel",
    (event) => {
      const [low, high] = view.window;
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        const around = low + (at(event).x / view.inner) * (high - low);
        zoom(view.axis, Math.exp(clamp(event.deltaY, -50, 50) * 0.01), around);
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        pan(view.axis, (sideways / view.inner) * (high - low));
      } else {
        return;
      }
      event.preventDefault();
    },
    { passive: false }
  );
}

const IDLE = 24e6; // numbers of a sample; longer ones are drawn where they are looked at only

/** Draws what cannot be seen yet while nothing else is to do, so that scrolling finds it there. */
function drawAhead() {
  const numbers = layers.reduce(
    (sum, layer) => sum + layer.arrays.length * layer.shown.length * axes[layer.axis].columns,
    0
  );
  if (numbers > IDLE) return;
  jobs.add(
    "ahead",
    (function* () {
      for (const view of [...views]) {
        if (views.has(view) && view.stale) {
          view.refresh(true);
          yield;
        }
      }
    })()
  );
}

subscribe("row outer theme order", drawAhead);

subscribe("cursor range", () => {
  for (const view of views) if (!view.stale) view.place();
});
subscribe("window", () => {
  for (const view of views) view.invalidate();
});
subscribe("theme row outer", () => {
  for (const view of views) view.invalidate();
});
