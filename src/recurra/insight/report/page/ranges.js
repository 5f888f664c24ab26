// Ranges of steps: which units are active there, and where else they behave alike. The idea of
// picking a range and asking for its like is LSTMVis's (Strobelt and others, 2018).

const PARTS = 6; // a range is compared in up to so many parts, so that its course counts
const MOST_UNITS = 32;
const LITTLE = 0.02; // |h| of a unit that is not worth comparing
const MOST_MATCHES = 8;
const UNLIKE = 0.3; // what ranges score that have nothing to do with each other: 1 - 1 / √2

/**
 * Every unit's least |h| over a range of steps, its mean h there, and the root mean square of what
 * it reaches. In columns of several steps a unit may have been anywhere between their ends.
 */
function rangeActivity(layer, row, from, to) {
  const { numbers } = layer.hidden;
  const first = Math.max(0, columnOf(numbers, from));
  const last = Math.min(numbers.columns - 1, columnOf(numbers, to));
  const out = [];
  const all = numbers.decode(row);
  const floats = numbers.floats(row);
  const pooled = Boolean(numbers.blobs[row].low);
  const lows = pooled ? numbers.decode(row, "low") : all;
  const highs = pooled ? numbers.decode(row, "high") : all;
  for (let unit = 0; unit < numbers.channels; unit++) {
    const start = unit * numbers.columns;
    const [low, high] = floats ? [0, 254] : numbers.range(row, unit);
    const scale = (high - low) / 254;
    let least = Infinity;
    let sum = 0;
    let squares = 0;
    let n = 0;
    for (let column = first; column <= last; column++) {
      const stored = all[start + column];
      if (floats ? Number.isNaN(stored) : stored === MISSING) continue;
      const bottom = low + lows[start + column] * scale;
      const top = low + highs[start + column] * scale;
      const size = Math.max(Math.abs(bottom), Math.abs(top));
      const crosses = bottom < 0 && top > 0;
      least = Math.min(least, crosses ? 0 : Math.min(Math.abs(bottom), Math.abs(top)));
      sum += low + stored * scale;
      squares += size * size;
      n++;
    }
    const size = n ? Math.sqrt(squares / n) : 0;
    out.push({ unit, least: n ? least : NaN, mean: n ? sum / n : NaN, size });
  }
  return out;
}

/** The highest threshold, in steps of 0.05, at which five units are active all along. */
function threshold(activities) {
  const sizes = activities.map((one) => one.least).filter((least) => !Number.isNaN(least));
  sizes.sort((a, b) => b - a);
  const fifth = sizes[Math.min(4, sizes.length - 1)] ?? 0;
  return clamp(Math.floor(fifth * 20) / 20, 0.05, 0.95);
}

/** Where no unit is active all along: those that are furthest from zero on the whole. */
function strongestUnits(activities) {
  return activities
    .filter((one) => one.size > LITTLE)
    .sort((a, b) => b.size - a.size)
    .slice(0, MOST_UNITS / 2);
}

function activeUnits(activities, limit) {
  return activities
    .filter((one) => one.least >= limit)
    .sort((a, b) => b.size - a.size);
}

/**
 * Sums over the columns before each one, of some units, less each unit's mean: its own, or one that
 * is given, so that rows can be compared. `spread` is how far they are from it, all together.
 */
function runningSums(layer, row, units, means = null) {
  const { numbers } = layer.hidden;
  const { columns } = numbers;
  const all = numbers.decode(row);
  const empty = new Int32Array(columns + 1);
  const middles = [];
  let variance = 0;
  const sums = units.map((unit, k) => {
    const out = new Float64Array(columns + 1);
    let total = 0;
    let seen = 0;
    for (let i = 0; i < columns; i++) {
      const value = numbers.read(row, unit, all[unit * columns + i]);
      const none = Number.isNaN(value);
      if (!none) [total, seen] = [total + value, seen + 1];
      if (k === 0) empty[i + 1] = empty[i] + (none ? 1 : 0);
      out[i + 1] = none ? NaN : value;
    }
    const mean = means ? means[k] : seen ? total / seen : 0;
    let squares = 0;
    for (let i = 0; i < columns; i++) {
      const away = Number.isNaN(out[i + 1]) ? 0 : out[i + 1] - mean;
      squares += away * away;
      out[i + 1] = out[i] + away;
    }
    middles.push(mean);
    variance += seen ? squares / seen : 0;
    return out;
  });
  return { sums, empty, columns, means: middles, spread: Math.sqrt(variance) };
}

/** The means of each part of a range of `length` columns from `start`, one unit after the other. */
function pattern({ sums }, start, length, parts, out) {
  let size = 0;
  for (let u = 0, k = 0; u < sums.length; u++) {
    for (let p = 0; p < parts; p++, k++) {
      const a = start + Math.floor((p * length) / parts);
      const b = start + Math.floor(((p + 1) * length) / parts);
      const value = (sums[u][b] - sums[u][a]) / (b - a);
      out[k] = value;
      size += value * value;
    }
  }
  return Math.sqrt(size);
}

/**
 * The ranges most like the chosen one, best first: {row, from, to, score}. The score is 1 less the
 * distance between the active units' courses, as a share of how far both are from the units' means
 * (or of how far units usually are, where that is more): 1 for the same values only. Ranges with
 * padded steps, and those that overlap the chosen one or a better match, are left out.
 */
function* similarRanges(layer, range, row, outer, units, found) {
  const { numbers } = layer.hidden;
  const repeat = layer.outer || 1;
  const first = columnOf(numbers, range.from);
  const length = columnOf(numbers, range.to) - first + 1;
  const parts = Math.min(length, PARTS);
  const chosen = units.map((one) => one.unit);
  const home = row * repeat + outer;
  const wanted = new Float64Array(chosen.length * parts);
  const own = runningSums(layer, home, chosen);
  const size = pattern(own, first, length, parts, wanted);
  const usual = own.spread * Math.sqrt(parts);
  yield;
  const all = [];
  const here = new Float64Array(wanted.length);
  for (let blob = 0; blob < layer.hidden.rows.length && size + usual > 1e-6; blob++) {
    if (!numbers.has(blob)) continue;
    const sums = blob === home ? own : runningSums(layer, blob, chosen, own.means);
    const scores = [];
    for (let start = 0; start + length <= sums.columns; start++) {
      if (start % 512 === 511) yield;
      if (sums.empty[start + length] > sums.empty[start]) continue;
      if (blob === home && start < first + length && start + length > first) continue;
      const other = pattern(sums, start, length, parts, here);
      let apart = 0;
      for (let k = 0; k < wanted.length; k++) apart += (wanted[k] - here[k]) ** 2;
      const score = 1 - Math.sqrt(apart) / Math.max(size + other, usual);
      if (score > UNLIKE) scores.push({ blob, start, score });
    }
    all.push(...best(scores, length, MOST_MATCHES));
    yield;
  }
  all.sort((a, b) => b.score - a.score);
  found(
    all.slice(0, MOST_MATCHES).map(({ blob, start, score }) => ({
      row: Math.floor(blob / repeat),
      outer: blob % repeat,
      from: start * numbers.stride,
      to: Math.min((start + length) * numbers.stride, axes[layer.axis].time_steps) - 1,
      score,
    }))
  );
}

/** The best that do not overlap each other. */
function best(scores, length, most) {
  scores.sort((a, b) => b.score - a.score);
  const taken = [];
  for (const one of scores) {
    if (taken.length >= most) break;
    if (taken.every((other) => Math.abs(other.start - one.start) >= length)) taken.push(one);
  }
  return taken;
}
