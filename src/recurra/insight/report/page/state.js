// What is being looked at. Views ask for it, `change` says what is new, and every view that has
// subscribed to that is redrawn once, in the next frame.

const state = {
  row: 0,
  outer: 0,
  layer: 0,
  unit: 0, // place among the units that are here
  hover: null, // {axis, step} under the pointer; goes away with it
  cursors: axes.map((axis) => Math.max(0, axis.time_steps - 1)), // stays where it was put
  windows: axes.map((axis) => [0, axis.extent]),
  range: null, // {axis, from, to}, both ends belong to it
  drag: "range",
  colour: "hidden_state", // the array that colours the text
  threshold: null, // null: chosen from the range
  theme: "light",
};

const subscribers = [];
let dirty = new Set();
let frame = 0;

/** Calls `update(dirty)` in the next frame after any of `topics` has changed. */
function subscribe(topics, update) {
  subscribers.push({ topics: topics.split(" "), update });
}

function change(...topics) {
  topics.forEach((topic) => dirty.add(topic));
  if (!frame) frame = requestAnimationFrame(flush);
}

function flush() {
  cancelAnimationFrame(frame);
  frame = 0;
  while (dirty.size) {
    const now = dirty;
    dirty = new Set();
    for (const { topics, update } of subscribers) {
      if (topics.some((topic) => now.has(topic))) update(now);
    }
  }
}

const theLayer = () => layers[state.layer];
const theAxis = () => axes[theLayer() ? theLayer().axis : 0];

/** The row of a layer's arrays: inside of TimeDistributed there are several for each row. */
const blobRow = (layer, row = state.row) =>
  row * (layer.outer || 1) + Math.min(state.outer, (layer.outer || 1) - 1);

/** Where an axis's cursor is: under the pointer, or where it was left. */
const cursorOf = (axis) =>
  state.hover && state.hover.axis === axis ? state.hover.step : state.cursors[axis];

const columnOf = (numbers, step, start = 0) => Math.floor((step - start) / numbers.stride);

/** The last step of a row that isn't padded: where a sequence's final state is. */
function lastReal(layer, row) {
  const { stride, time_steps } = axes[layer.axis];
  const mask = layer.masks[blobRow(layer, row)];
  const column = mask ? Math.max(mask.lastIndexOf("1"), mask.lastIndexOf("2")) : -1;
  return column < 0 ? time_steps - 1 : Math.min(column * stride + stride, time_steps) - 1;
}

/** The first and last of the steps that share a column with this one. */
function stepsAt(axis, step) {
  const { stride, time_steps } = axes[axis];
  if (step >= time_steps) return [step, step];
  const first = Math.floor(step / stride) * stride;
  return [first, Math.min(first + stride, time_steps) - 1];
}

function hoverAt(axis, step) {
  const now = state.hover;
  if (step === null ? now === null : now && now.axis === axis && now.step === step) return;
  state.hover = step === null ? null : { axis, step };
  change("cursor");
}

function putCursor(axis, step) {
  state.cursors[axis] = clamp(Math.round(step), 0, axes[axis].extent - 1);
  state.hover = null;
  change("cursor", "hash");
}

/** Moves the cursor, and the window with it if it would leave. */
function moveCursor(axis, by) {
  const { stride } = axes[axis];
  const from = Math.floor(cursorOf(axis) / stride) * stride;
  putCursor(axis, from + by * stride);
  reveal(axis, state.cursors[axis]);
}

function reveal(axis, step) {
  const [low, high] = state.windows[axis];
  if (step >= low && step < high) return;
  const size = high - low;
  const start = step < low ? step - 0.1 * size : step + 1 - 0.9 * size;
  setWindow(axis, start, start + size);
}

/** The steps that are shown; never fewer than 8 (or all, if there are fewer still). */
function setWindow(axis, low, high) {
  const { extent, stride } = axes[axis];
  const size = clamp(high - low, Math.min(extent, 8 * stride), extent);
  const start = clamp((low + high - size) / 2, 0, extent - size);
  state.windows[axis] = [start, start + size];
  change("window", "hash");
}

function zoom(axis, factor, around = null) {
  const [low, high] = state.windows[axis];
  const cursor = cursorOf(axis) + 0.5;
  const centre = around ?? (cursor >= low && cursor <= high ? cursor : (low + high) / 2);
  setWindow(axis, centre - (centre - low) * factor, centre + (high - centre) * factor);
}

function pan(axis, steps) {
  const [low, high] = state.windows[axis];
  setWindow(axis, low + steps, high + steps);
}

function setRange(axis, from, to) {
  const last = axes[axis].time_steps - 1;
  const [a, b] = from <= to ? [from, to] : [to, from];
  state.range = a > last ? null : { axis, from: clamp(a, 0, last), to: clamp(b, 0, last) };
  change("range", "hash");
}

function clearRange() {
  if (!state.range) return;
  state.range = null;
  change("range", "hash");
}

function setUnit(layer, unit) {
  const other = layer !== state.layer;
  state.layer = layer;
  state.unit = clamp(unit, 0, layers[layer].shown.length - 1);
  change("unit", "hash", ...(other ? ["layer"] : []));
}

function setRow(row) {
  const next = clamp(row, 0, report.rows.length - 1);
  if (next === state.row) return;
  const stood = layers.filter((layer) => state.cursors[layer.axis] === lastReal(layer, state.row));
  state.row = next;
  // A cursor at the end of a sample goes to the end of the next: samples differ in length.
  for (const layer of stood) state.cursors[layer.axis] = lastReal(layer, next);
  change("row", "cursor", "hash");
}

function setOuter(outer) {
  if (outer === state.outer) return;
  state.outer = outer;
  change("outer", "cursor");
}

function setTheme(theme) {
  state.theme = theme;
  document.documentElement.dataset.theme = theme;
  change("theme");
}

// The place is kept in the address, so that reloading or sharing the file's address comes back.
function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  const integer = (name) => (/^\d+$/.test(given.get(name) || "") ? Number(given.get(name)) : null);
  const pair = (name) => {
    const match = /^(\d+)-(\d+)$/.exec(given.get(name) || "");
    return match ? [Number(match[1]), Number(match[2])] : null;
  };
  const layer = layers.findIndex((one) => one.path === given.get("layer"));
  if (layer >= 0) state.layer = layer;
  if (!theLayer()) return;
  const axis = theLayer().axis;
  if (integer("row") !== null) state.row = clamp(integer("row"), 0, report.rows.length - 1);
  if (integer("unit") !== null && theLayer().shown.includes(integer("unit"))) {
    state.unit = theLayer().shown.indexOf(integer("unit"));
  }
  if (integer("step") !== null) state.cursors[axis] = clamp(integer("step"), 0, axes[axis].extent - 1);
  if (pair("range")) setRange(axis, ...pair("range"));
  if (pair("window")) setWindow(axis, ...pair("window"));
}

function writeHash() {
  const layer = theLayer();
  if (!layer) return;
  const axis = axes[layer.axis];
  const [low, high] = state.windows[axis.index];
  const parts = { row: state.row, layer: layer.path, unit: layer.shown[state.unit] };
  parts.step = state.cursors[axis.index];
  if (state.range && state.range.axis === axis.index) {
    parts.range = `${state.range.from}-${state.range.to}`;
  }
  if (high - low < axis.extent) parts.window = `${Math.round(low)}-${Math.round(high)}`;
  try {
    history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
  } catch {
    // Some browsers allow no addresses of their own to files, or few changes a second.
  }
}

let hashTimer = 0;
subscribe("hash", () => {
  clearTimeout(hashTimer);
  hashTimer = setTimeout(writeHash, 300);
});
