// The report's data: read once, its arrays decoded when they are first looked at.

const report = JSON.parse(document.getElementById("recurra-data").textContent);

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

/** Decoded arrays, the longest unused forgotten first: a long report would fill the memory. */
const decoded = {
  limit: 400e6,
  size: 0,
  held: new Map(),
  get(key, make) {
    let value = this.held.get(key);
    if (value) {
      this.held.delete(key);
    } else {
      value = make();
      this.size += value.byteLength;
    }
    this.held.set(key, value);
    for (const [old, array] of this.held) {
      if (this.size <= this.limit || old === key) break;
      this.held.delete(old);
      this.size -= array.byteLength;
    }
    return value;
  },
};

const MISSING = 255;
let numbersMade = 0;

/** What blobs hold: (channels, columns) numbers for every row; a column is `stride` steps. */
class Numbers {
  constructor(blobs, channels, columns, stride) {
    this.id = numbersMade++;
    this.blobs = blobs;
    this.channels = channels;
    this.columns = columns;
    this.stride = stride;
    this.reach = new Map();
    this.fixed = null; // ends of the palette, for numbers that are stored as they are
  }

  has(row) {
    return Boolean(this.blobs[row]);
  }

  floats(row) {
    return this.blobs[row].dtype === "float32";
  }

  decode(row, part = "data") {
    // One value after another is asked for, mostly of the same row.
    if (part === "data" && this.last && this.last.row === row) return this.last.all;
    const blob = this.blobs[row];
    const all = this.find(blob, row, part);
    if (part === "data") this.last = { row, all };
    return all;
  }

  find(blob, row, part) {
    return decoded.get(`${this.id}/${part}/${row}`, () => {
      const raw = bytes(blob[part]);
      return blob.dtype === "float32" ? new Float32Array(raw.buffer, 0, raw.length >> 2) : raw;
    });
  }

  /** The ends of a channel's range: those of the codes, or what the numbers reach. */
  range(row, channel) {
    const blob = this.blobs[row];
    if (blob.ranges) return blob.ranges[channel];
    if (blob.range) return blob.range;
    if (this.fixed) return this.fixed;
    const key = `${row}/${channel}`;
    if (!this.reach.has(key)) {
      let low = Infinity;
      let high = -Infinity;
      const all = this.decode(row);
      for (let i = channel * this.columns; i < (channel + 1) * this.columns; i++) {
        if (all[i] < low) low = all[i];
        if (all[i] > high) high = all[i];
      }
      this.reach.set(key, low <= high ? [low, high] : [0, 0]);
    }
    return this.reach.get(key);
  }

  at(row, channel, column) {
    if (!this.has(row) || !(column >= 0 && column < this.columns)) return NaN;
    return this.read(row, channel, this.decode(row)[channel * this.columns + column]);
  }

  read(row, channel, stored) {
    if (this.floats(row)) return stored;
    if (stored === MISSING) return NaN;
    const [low, high] = this.range(row, channel);
    return low + (stored * (high - low)) / 254;
  }

  /** A value in as many digits as are kept of it: a code stands for a step of the range. */
  text(row, channel, value, still = false) {
    if (Number.isNaN(value)) return "–";
    const [low, high] = this.has(row) && !this.floats(row) ? this.range(row, channel) : [0, 0];
    if (high <= low) return still ? steady(value) : number(value);
    const digits = clamp(Math.floor(-Math.log10((high - low) / 254)), 0, 12);
    const rounded = Number(value.toFixed(digits));
    if (!still || digits > 4) return number(rounded);
    return `${rounded < 0 ? "−" : "\u2007"}${Math.abs(rounded).toFixed(digits)}`;
  }

  /** One channel over time: its values, and the least and greatest of pooled steps. */
  line(row, channel) {
    const cut = (all) => {
      const out = new Float64Array(this.columns);
      const start = channel * this.columns;
      for (let i = 0; i < out.length; i++) out[i] = this.read(row, channel, all[start + i]);
      return out;
    };
    const line = { mean: cut(this.decode(row)), low: null, high: null };
    if (this.blobs[row].low) {
      line.low = cut(this.decode(row, "low"));
      line.high = cut(this.decode(row, "high"));
    }
    return line;
  }

  /** The least and greatest value of a column's steps; both the value itself for a single step. */
  ends(row, channel, column) {
    const place = channel * this.columns + column;
    const pooled = Boolean(this.blobs[row].low);
    return ["low", "high"].map((part) =>
      this.read(row, channel, this.decode(row, pooled ? part : "data")[place])
    );
  }

  /** Of these two the one that is further from zero. */
  peak(row, channel, column) {
    const [low, high] = this.ends(row, channel, column);
    return -low > high ? low : high;
  }

  /** Codes of one byte, averaged over 2 ** level columns: what heat maps are drawn from. */
  level(row, level) {
    const columns = Math.ceil(this.columns / 2 ** level);
    if (level === 0 && !this.floats(row)) return { codes: this.decode(row), columns };
    const codes = decoded.get(`${this.id}/level ${level}/${row}`, () =>
      level === 0 ? this.coded(row) : halve(this.level(row, level - 1), this.channels)
    );
    return { codes, columns };
  }

  coded(row) {
    const all = this.decode(row);
    const out = new Uint8Array(all.length);
    for (let c = 0; c < this.channels; c++) {
      const [low, high] = this.range(row, c);
      for (let i = c * this.columns; i < (c + 1) * this.columns; i++) {
        const share = high > low ? (all[i] - low) / (high - low) : 0;
        out[i] = Number.isFinite(all[i]) ? Math.round(254 * clamp(share, 0, 1)) : MISSING;
      }
    }
    return out;
  }

  /** Makes the levels that a drawing needs, one at a time. */
  *prepare(row, level) {
    for (let k = 0; k <= level; k++) {
      if (this.has(row)) this.level(row, k);
      yield;
    }
  }
}

function halve({ codes, columns }, channels) {
  const half = Math.ceil(columns / 2);
  const out = new Uint8Array(channels * half);
  for (let c = 0; c < channels; c++) {
    const from = c * columns;
    const to = c * half;
    for (let i = 0; i < half; i++) {
      const a = codes[from + 2 * i];
      const b = 2 * i + 1 < columns ? codes[from + 2 * i + 1] : MISSING;
      // The rounding alternates, so that means of means do not drift upwards.
      out[to + i] = a === MISSING ? b : b === MISSING ? a : (a + b + (i & 1)) >> 1;
    }
  }
  return out;
}

const span = (n) => Array.from({ length: n }, (_, i) => i);

// What every view asks for: axes with the steps that forecasts add, layers and series by number.
const axes = report.axes.map((axis, index) => ({ ...axis, index, extent: axis.time_steps }));

const layers = report.layers.map((layer, index) => {
  const axis = axes[layer.axis];
  const shown = layer.unit_index || span(layer.units);
  const arrays = layer.arrays.map((array) => {
    const ofUnits = array.role !== "input";
    const index = array.channel_index || (ofUnits ? shown : span(array.total));
    return {
      ...array,
      ofUnits,
      index,
      numbers: new Numbers(array.rows, index.length, axis.columns, axis.stride),
    };
  });
  const curves = (layer.curves || []).map((curve) => ({
    ...curve,
    numbers: new Numbers(curve.rows, 1, axis.columns, axis.stride),
  }));
  const states = arrays.filter((array) => array.role === "state");
  const hidden = arrays.find((array) => array.name === "hidden_state") || states[0] || arrays[0];
  return { ...layer, index, shown, arrays, curves, hidden, padded: new Map() };
});

const series = report.series.map((entry, index) => {
  const channels = entry.channel_index || span(entry.total);
  if (entry.axis !== null) {
    const axis = axes[entry.axis];
    axis.extent = Math.max(axis.extent, entry.start + entry.columns * entry.stride);
  }
  const numbers = new Numbers(entry.rows, channels.length, entry.columns, entry.stride);
  return { ...entry, index, channels, numbers };
});

/** The name of a layer's unit, by its place among the units that are here. */
function unitName(layer, place) {
  const unit = layer.shown[place];
  return layer.unit_names ? layer.unit_names[unit] : String(unit);
}

/** The name of one of an array's channels. */
function channelName(layer, array, place) {
  if (array.ofUnits) return unitName(layer, place);
  const number = array.index[place];
  return array.channel_names ? array.channel_names[place] ?? String(number) : String(number);
}

/** Runs of padded steps, [from, to), of one row of a layer. */
function paddedRuns(layer, row) {
  if (!layer.padded.has(row)) {
    const runs = [];
    const mask = layer.masks[row];
    const { stride } = axes[layer.axis];
    for (const match of (mask || "").matchAll(/0+/g)) {
      runs.push([match.index * stride, (match.index + match[0].length) * stride]);
    }
    layer.padded.set(row, runs);
  }
  return layer.padded.get(row);
}

const isPadded = (layer, row, step) =>
  paddedRuns(layer, row).some(([from, to]) => step >= from && step < to);

/** The text that belongs to a step, "" where there is none. */
function tokenAt(axis, row, step, kind = "tokens") {
  const list = (report.rows[row][kind] || []).find((entry) => entry.axis === axis);
  return (list && list.items[step]) || "";
}
