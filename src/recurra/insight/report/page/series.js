// What the model was given and what it made of it, along the same time axis as everything else.

const MANY_CHANNELS = 8;
const MANY_CLASSES = 3;

function seriesSection() {
  const timed = series.filter((entry) => entry.axis !== null);
  const still = series.filter((entry) => entry.axis === null);
  const charts = [...timedCharts(timed), ...stillCharts(still)];
  if (!charts.length) return null;
  return section(
    "data",
    "Input and prediction",
    "What the model was given and what it made of it, on the same time axis as its layers below." +
      (axes.some((axis) => axis.extent > axis.time_steps)
        ? " To the right of the dotted line the input has ended: what stands there is forecast."
        : ""),
    el("div", { class: "series" }, charts)
  );
}

function channelTitle(entry, k) {
  if (entry.names && entry.names[k] !== undefined) return entry.names[k];
  return entry.total === 1 ? entry.name : String(entry.channels[k]);
}

const ROLES = { input: "input", output: "prediction", target: "target" };

function seriesLine(entry, k, colour, label = channelTitle(entry, k)) {
  return {
    label: entry.role !== "target" ? label : entry.total === 1 ? "target" : `${label} (target)`,
    title: `${ROLES[entry.role]} ${entry.name}, ${label}`,
    numbers: entry.numbers,
    row: () => state.row,
    channel: () => k,
    start: entry.start,
    colour,
    dash: entry.role === "target",
  };
}

/** The charts of series with time steps: forecasts join the input that they continue. */
function timedCharts(timed) {
  const inputs = timed.filter((entry) => entry.role === "input" && worthDrawing(entry));
  const outputs = timed.filter((entry) => entry.role === "output");
  const targets = timed.filter((entry) => entry.role === "target");
  const joined = new Set();
  const charts = [];
  for (const entry of inputs) {
    if (entry.channels.length > MANY_CHANNELS) {
      charts.push(seriesHeat(entry));
      continue;
    }
    entry.channels.forEach((_, k) => {
      const lines = [seriesLine(entry, k, 0)];
      for (const other of [...outputs, ...targets]) {
        if (other.axis !== entry.axis || other.start < axes[entry.axis].time_steps) continue;
        const same = other.channels.findIndex((_, j) => continues(entry, k, other, j));
        if (same < 0) continue;
        joined.add(other);
        const name = other.role === "target" ? "target" : "forecast";
        const colour = other.role === "target" ? 3 : 2;
        lines.push({ ...seriesLine(other, same, colour), label: name });
      }
      charts.push(
        seriesChart(entry, lines, `${entry.name}${entry.total > 1 ? ` · ${channelTitle(entry, k)}` : ""}`)
      );
    });
  }
  for (const entry of outputs) {
    if (joined.has(entry)) continue;
    const mates = targets.filter((one) => one.of === entry.name && !joined.has(one));
    mates.forEach((one) => joined.add(one));
    charts.push(outputChart(entry, mates, timed));
  }
  for (const entry of targets) if (!joined.has(entry)) charts.push(outputChart(entry, [], timed));
  return charts;
}

/** Numbers of tokens say nothing as a line, and the text stands below. */
function worthDrawing(entry) {
  if (entry.kind !== "indices") return true;
  return !report.rows.some((row) => (row.tokens || []).some((list) => list.axis === entry.axis));
}

function continues(input, k, other, j) {
  if (other.continues !== undefined) {
    const [name, channel] = other.continues || [];
    return name === input.name && channel === input.channels[k];
  }
  if (input.names && other.names) return input.names[k] === other.names[j];
  return input.total === 1 && other.total === 1;
}

function outputChart(entry, mates, timed) {
  const classes = entry.kind === "probabilities" && entry.channels.length > MANY_CLASSES;
  if (classes || entry.channels.length > MANY_CHANNELS) return seriesHeat(entry, mates);
  const lines = entry.channels.map((_, k) => seriesLine(entry, k, entry.channels.length > 1 ? k + 1 : 2));
  for (const mate of mates) {
    // Targets given as numbers of classes have no place among the classes' probabilities.
    if (mate.kind === "indices" && entry.kind !== "indices") continue;
    mate.channels.forEach((_, k) => lines.push(seriesLine(mate, k, mate.channels.length > 1 ? k + 1 : 3)));
  }
  // What a forecast goes on with, where the inputs are too many for a chart each.
  const [name, channel] = entry.continues || [];
  const past = timed.find((one) => one.role === "input" && one.name === name);
  const place = past ? past.channels.indexOf(channel) : -1;
  if (place >= 0) lines.unshift(seriesLine(past, place, 0));
  return seriesChart(entry, lines, entry.name);
}

/** The class that is true at each column, by place among the classes; -1 where none is known. */
function trueClasses(entry, mate) {
  const { numbers } = mate;
  const row = state.row;
  if (!numbers.has(row)) return [];
  return span(numbers.columns).map((column) => {
    if (mate.total === 1) {
      const wanted = numbers.at(row, 0, column);
      return Number.isNaN(wanted) ? -1 : entry.channels.indexOf(Math.round(wanted));
    }
    return mate.channels.findIndex((_, k) => numbers.at(row, k, column) > 0.5);
  });
}

/** Frames the true class of every step, and marks the steps at which another one is likelier. */
function drawTruth(context, view, entry, mate) {
  const truth = trueClasses(entry, mate);
  const { stride, channels } = entry.numbers;
  const [low, high] = view.window;
  const room = view.height / channels;
  context.lineWidth = 1.5;
  truth.forEach((wanted, column) => {
    const from = entry.start + column * stride;
    if (wanted < 0 || from + stride < low || from > high) return;
    const left = GUTTER + Math.max(0, view.x(from));
    const wide = Math.min(GUTTER + view.inner, GUTTER + view.x(from + stride)) - left;
    const probability = (k) => entry.numbers.at(state.row, k, column);
    const wrong = span(channels).some((k) => probability(k) > probability(wanted));
    context.strokeStyle = style(wrong ? "--error" : "--ink");
    if (wide >= 4) context.strokeRect(left + 1, wanted * room + 1, wide - 2, room - 2);
    else {
      context.fillStyle = style(wrong ? "--error" : "--ink");
      context.fillRect(left, (wanted + 0.8) * room, Math.max(1, wide), 0.2 * room);
    }
    if (wrong) {
      context.fillStyle = style("--error");
      context.fillRect(left, view.height - 3, Math.max(1, wide), 3);
    }
  });
}

function seriesChart(entry, lines, title) {
  const view = new LineView({
    axis: entry.axis,
    height: entry.role === "input" ? 84 : 116,
    label: `${ROLES[entry.role]} ${title}`,
    lines,
    range: entry.kind === "probabilities" ? [0, 1] : null,
    runs: () => paddedOf(entry),
  });
  return el("figure", { class: "map" }, seriesTitle(entry, title, view.keys), view.plot);
}

const seriesTitle = (entry, title, ...more) =>
  el(
    "figcaption",
    {},
    el("b", { class: "role", text: ROLES[entry.role] }),
    el("span", { class: "title", text: title }),
    ...more
  );

/** The padding of the first layer that reads the same steps. */
function paddedOf(entry) {
  const layer = layers.find((one) => one.axis === entry.axis && (one.outer || 1) === 1);
  return layer && entry.start === 0 ? paddedRuns(layer, state.row) : [];
}

/** The least and the greatest of all numbers: scores of classes are compared with each other. */
function endsOf(numbers) {
  let [low, high] = [Infinity, -Infinity];
  for (let row = 0; row < numbers.blobs.length; row++) {
    if (!numbers.has(row)) continue;
    for (let k = 0; k < numbers.channels; k++) {
      const [least, most] = numbers.range(row, k);
      [low, high] = [Math.min(low, least), Math.max(high, most)];
    }
  }
  return low < high ? [low, high] : null;
}

function seriesHeat(entry, mates = []) {
  const order = Int32Array.from(span(entry.channels.length));
  const fixed = entry.kind === "probabilities";
  const truth = fixed ? mates[0] : null;
  let ends = fixed ? [0, 1] : entry.role === "input" ? null : endsOf(entry.numbers);
  // Of scores of both signs zero is the middle.
  const signed = !fixed && ends && ends[0] < 0 && ends[1] > 0;
  if (signed) ends = [-Math.max(-ends[0], ends[1]), Math.max(-ends[0], ends[1])];
  const source = {
    numbers: entry.numbers,
    scale: fixed ? "unit" : signed ? "symmetric" : "range",
    range: ends,
    symbol: entry.name,
    label: `${ROLES[entry.role]} ${entry.name}`,
    row: () => state.row,
    runs: () => paddedOf(entry),
    order: () => order,
    name: (k) => channelTitle(entry, k),
    start: entry.start,
    overlay: truth ? (context, drawn) => drawTruth(context, drawn, entry, truth) : null,
  };
  const view = new HeatView(source, {
    axis: entry.axis,
    height: clamp((fixed ? 16 : 12) * entry.channels.length, 60, 260),
  });
  const key = legend(source.scale, ends || ["least", "greatest of the line"]);
  view.onMissing = key.showMissing;
  const frames = truth
    ? el(
        "span",
        { class: "meaning" },
        "Probability of every class at every step. Framed: the true class, ",
        el("span", { class: "wrong", text: "red where another one is likelier" }),
        "."
      )
    : null;
  return el("figure", { class: "map" }, seriesTitle(entry, entry.name, key, frames), view.plot);
}

/** One value per channel: classes' probabilities, a single forecast, features without time. */
function stillCharts(still) {
  return still
    .filter((entry) => entry.role !== "target" || !still.some((one) => one.name === entry.of))
    .map((entry) => {
      const body = el("div", { class: "values" });
      const fill = () => {
        const mates = still.filter((one) => one.role === "target" && one.of === entry.name);
        body.replaceChildren(...valueLines(entry, mates));
      };
      fill();
      subscribe("row", fill);
      return el("figure", { class: "map still" }, seriesTitle(entry, entry.name), body);
    });
}

const MOST_VALUES = 10;

function valueLines(entry, mates) {
  const { numbers } = entry;
  if (!numbers.has(state.row)) return [el("p", { class: "muted", text: "Left out for this sample." })];
  const value = (k) => numbers.at(state.row, k, 0);
  const places = span(entry.channels.length);
  const ranked = entry.kind === "probabilities" && places.length > 1;
  if (ranked) places.sort((a, b) => value(b) - value(a) || a - b);
  const most = Math.max(...places.map((k) => Math.abs(value(k)) || 0)) || 1;
  const lines = places.slice(0, MOST_VALUES).map((k) => {
    const bar = el("span", { class: "bar" });
    const share = Math.abs(value(k)) / (entry.kind === "probabilities" ? 1 : most);
    bar.style.width = `${100 * clamp(share || 0, 0, 1)}%`;
    const marks = mates.map((mate) => targetMark(mate, k, entry));
    return el(
      "div",
      { class: "value-line" },
      el("span", { class: "name", text: channelTitle(entry, k) }),
      el("span", { class: "track" }, bar),
      el("span", {
        class: "n",
        text: entry.kind === "probabilities" ? percent(value(k)) : number(value(k)),
      }),
      marks
    );
  });
  if (places.length > MOST_VALUES) {
    lines.push(el("p", { class: "muted", text: `and ${count(places.length - MOST_VALUES)} more` }));
  }
  return lines;
}

function targetMark(mate, k, entry) {
  if (!mate.numbers.has(state.row)) return null;
  if (mate.kind === "indices" && mate.total === 1) {
    const wanted = mate.numbers.at(state.row, 0, 0);
    const one = entry.channels[k];
    // One sigmoid: its target is 0 or 1, not the number of a channel.
    if (entry.total === 1) return el("span", { class: "true", text: `target ${number(wanted)}` });
    return wanted === one ? el("span", { class: "true", text: "✓ target" }) : null;
  }
  const value = mate.numbers.at(state.row, k, 0);
  if (entry.kind === "probabilities" && entry.total > 1) {
    return value > 0.5 ? el("span", { class: "true", text: "✓ target" }) : null;
  }
  return el("span", { class: "true", text: `target ${number(value)}` });
}
