// The order in which a layer's units are drawn.

const ORDERS = [
  ["alike", "alike next to each other"],
  ["number", "by number"],
  ["activity", "by mean |h|"],
  ["memory", "by memory length"],
  ["cursor", "by h at the cursor"],
];

/** Units that move together get neighbouring lines; layers of few units keep their numbers. */
function defaultOrder(layer) {
  return layer.shown.length > 16 ? "alike" : "number";
}

function orderOf(layer) {
  if (!layer.order) layer.order = defaultOrder(layer);
  if (layer.sorted) return layer.sorted;
  const small = layer.hidden.numbers.channels * layer.hidden.numbers.columns <= SMALL;
  if (small || layer.order === "number") {
    layer.sorted = Int32Array.from(finished(sortUnits(layer)));
    return layer.sorted;
  }
  const waiting = Int32Array.from(span(layer.shown.length));
  layer.sorted = waiting;
  jobs.add(
    `order ${layer.index}`,
    (function* () {
      const level = coarse(layer.hidden.numbers);
      const row = firstRow(layer);
      if (row !== null) yield* layer.hidden.numbers.prepare(row, level);
      layer.sorted = Int32Array.from(yield* sortUnits(layer));
      change("order");
    })()
  );
  return waiting;
}

function setOrder(layer, mode) {
  layer.order = mode;
  layer.sorted = null;
  change("order");
}

/** A level with at most 256 columns: enough to tell which units move together. */
const coarse = (numbers) => Math.max(0, Math.ceil(Math.log2(numbers.columns / 256)));

const firstRow = (layer) => {
  if (layer.hidden.numbers.has(blobRow(layer))) return blobRow(layer);
  const row = layer.hidden.rows.findIndex(Boolean);
  return row < 0 ? null : row;
};

/** What a generator returns, without a pause. */
function finished(generator) {
  let step = generator.next();
  while (!step.done) step = generator.next();
  return step.value;
}

function* sortUnits(layer) {
  const units = span(layer.shown.length);
  const row = firstRow(layer);
  const by = (key) => {
    const keys = units.map(key).map((value) => (Number.isNaN(value) ? -Infinity : value));
    return units.sort((a, b) => keys[b] - keys[a] || a - b);
  };
  if (layer.order === "number" || row === null) return units;
  if (layer.order === "cursor") {
    const step = cursorOf(layer.axis);
    return by((unit) => layer.hidden.numbers.at(row, unit, columnOf(layer.hidden.numbers, step)));
  }
  if (layer.order === "memory") {
    const memory = layer.summary && layer.summary.units.memory;
    return memory ? by((unit) => memory[layer.shown[unit]] ?? NaN) : units;
  }
  // Means over many steps would hide units that swing fast.
  const level = layer.order === "activity" ? 0 : coarse(layer.hidden.numbers);
  const { codes, columns } = layer.hidden.numbers.level(row, level);
  if (layer.order === "activity") {
    return by((unit) => {
      const [low, high] = layer.hidden.numbers.range(row, unit);
      let sum = 0;
      let n = 0;
      for (let i = unit * columns; i < (unit + 1) * columns; i++) {
        if (codes[i] === MISSING) continue;
        sum += Math.abs(low + (codes[i] * (high - low)) / 254);
        n++;
      }
      return n ? sum / n : NaN;
    });
  }
  return yield* alike(codes, units.length, columns);
}

/**
 * Units sorted by the angle between their two leading principal components, those of the units'
 * own courses around their means: units of similar angle rise and fall together (Friendly, 2002,
 * "Corrgrams", orders variables likewise).
 */
function* alike(codes, n, columns) {
  const rows = span(n).map((unit) => {
    const row = Float64Array.from(codes.subarray(unit * columns, (unit + 1) * columns));
    let sum = 0;
    let seen = 0;
    for (const code of row) if (code !== MISSING) [sum, seen] = [sum + code, seen + 1];
    const mean = seen ? sum / seen : 0;
    let size = 0;
    row.forEach((code, i) => {
      row[i] = code === MISSING ? 0 : code - mean;
      size += row[i] * row[i];
    });
    // Little movement is rounding: it should not look like a pattern.
    const scale = size > 4 * columns ? 1 / Math.sqrt(size) : 0;
    row.forEach((value, i) => (row[i] = value * scale));
    return row;
  });
  const dot = (a, b) => {
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += a[i] * b[i];
    return sum;
  };
  function* component(seed, others) {
    let axis = Float64Array.from({ length: columns }, (_, i) => Math.sin(seed * (i + 1)) + 1e-3);
    for (let round = 0; round < 24; round++) {
      for (const other of others) {
        const share = dot(axis, other);
        axis.forEach((value, i) => (axis[i] = value - share * other[i]));
      }
      const next = new Float64Array(columns);
      for (const row of rows) {
        const share = dot(row, axis);
        for (let i = 0; i < columns; i++) next[i] += share * row[i];
      }
      const size = Math.sqrt(dot(next, next)) || 1;
      axis = next.map((value) => value / size);
      yield;
    }
    return axis;
  }
  const first = yield* component(1.3, []);
  const second = yield* component(2.1, [first]);
  const places = rows.map((row) => {
    const [x, y] = [dot(row, first), dot(row, second)];
    return x === 0 && y === 0 ? null : Math.atan2(y, x);
  });
  // The circle is cut where it is emptiest; units that do not move come last.
  const moving = span(n).filter((unit) => places[unit] !== null);
  moving.sort((a, b) => places[a] - places[b]);
  let cut = 0;
  let widest = -1;
  moving.forEach((unit, k) => {
    const before = moving[(k + moving.length - 1) % moving.length];
    const gap = (places[unit] - places[before] + 2 * Math.PI) % (2 * Math.PI);
    if (gap > widest) [widest, cut] = [gap, k];
  });
  return [
    ...moving.slice(cut),
    ...moving.slice(0, cut),
    ...span(n).filter((unit) => places[unit] === null),
  ];
}
