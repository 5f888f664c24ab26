// A layer's panel: what it is, its heat maps, one unit's courses, norms, and the table of units.

function section(id, title, caption, ...children) {
  return el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title`, text: title }),
    caption ? el("p", { class: "caption", text: caption }) : null,
    ...children
  );
}

const heatHeight = (channels, wide) => {
  const room = channels <= 8 ? 18 : 12;
  if (channels <= 24) return clamp(channels * (wide ? room + 6 : room), 40, 432);
  return wide ? clamp(channels, 360, 640) : innerWidth < 600 ? 180 : 220;
};

class LayerPanel {
  constructor(layer) {
    this.layer = layer;
    this.maps = new Map();
    this.grid = el("div", { class: "maps" });
    const id = `layer-${layer.index}`;
    this.node = el(
      "section",
      { id, class: "layer", "aria-labelledby": `${id}-title`, "data-path": layer.path },
      el(
        "header",
        {},
        el("h2", { id: `${id}-title`, text: layer.path }),
        el("span", { class: "kind", text: layer.class_name }),
        el("span", { class: "muted", text: this.size() }),
        layer.go_backwards
          ? el("span", {
              class: "badge",
              text: "← reads backwards",
              title: "It starts at the last step; time still runs to the right here.",
            })
          : null
      ),
      el("p", {
        class: "caption",
        text:
          "One line per unit, one column per time step. Point at it for values, click or tap to " +
          "pick a unit, drag to take a range of steps.",
      }),
      this.findings(),
      this.tools(),
      this.grid,
      this.unitPart(),
      this.curvePart(),
      this.tablePart(),
      this.details()
    );
    this.arrays().forEach((array) => this.toggle(array, this.usual(array)));
    subscribe("unit", () => this.showUnit());
    subscribe("order", () => this.tellOrder());
    this.showUnit();
  }

  size() {
    const { units, features, shown } = this.layer;
    const left = shown.length < units ? `, ${count(shown.length)} shown` : "";
    const fed = features ? `${plural(features, "feature")} → ` : "";
    return `${fed}${plural(units, "unit")}${left}`;
  }

  /** States first, as what is asked for most; then gates as the cell has them. */
  arrays() {
    const rank = { state: 0, gate: 1, candidate: 1, gradient: 2, input: 3 };
    const hiddenFirst = (array) => (array === this.layer.hidden ? -1 : rank[array.role] ?? 4);
    return [...this.layer.arrays].sort((a, b) => hiddenFirst(a) - hiddenFirst(b));
  }

  usual(array) {
    return array.role !== "input";
  }

  findings() {
    const sentences = this.layer.summary ? this.layer.summary.sentences : [];
    if (!sentences.length) return null;
    return el(
      "ul",
      { class: "findings", "aria-label": "What stands out" },
      sentences.map((sentence) => el("li", { text: sentence }))
    );
  }

  tools() {
    const { layer } = this;
    const memory = layer.summary && layer.summary.units.memory;
    this.orders = el(
      "select",
      { id: `order-${layer.index}`, onchange: (event) => setOrder(layer, event.target.value) },
      ORDERS.filter(([mode]) => mode !== "memory" || memory).map(([mode, text]) =>
        el("option", { value: mode, text, selected: mode === defaultOrder(layer) })
      )
    );
    layer.order = defaultOrder(layer);
    this.chips = el("div", { class: "chips", role: "group", "aria-label": "Arrays to show" });
    for (const array of this.arrays()) {
      const chip = el(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": "false",
          "data-array": array.name,
          title: array.meaning,
          onclick: () => this.toggle(array, !this.maps.has(array.name)),
        },
        el("b", { text: array.symbol }),
        ` ${array.title}`
      );
      this.chips.append(chip);
    }
    const outers = layer.outer > 1 ? this.outerTool() : null;
    return el(
      "div",
      { class: "tools" },
      this.chips,
      el("span", { class: "push" }),
      outers,
      el("span", { class: "pair" }, el("label", { for: this.orders.id, text: "Units" }), this.orders)
    );
  }

  outerTool() {
    const id = `outer-${this.layer.index}`;
    const input = el("input", {
      id,
      type: "number",
      min: "0",
      max: String(this.layer.outer - 1),
      value: "0",
      oninput: () => setOuter(clamp(Number(input.value) || 0, 0, this.layer.outer - 1)),
      onchange: () => (input.value = String(state.outer)),
    });
    subscribe("outer", () => {
      if (Number(input.value) !== state.outer) input.value = String(state.outer);
    });
    const title = "TimeDistributed runs this layer once for every outer step";
    return el("label", { for: id, title }, "Outer step ", input, ` of ${count(this.layer.outer)}`);
  }

  tellOrder() {
    if (this.orders.value !== this.layer.order) this.orders.value = this.layer.order;
  }

  toggle(array, show) {
    const chip = this.chips.querySelector(`[data-array="${CSS.escape(array.name)}"]`);
    chip.setAttribute("aria-pressed", String(show));
    const old = this.maps.get(array.name);
    if (!show && old) {
      old.view.remove();
      old.node.remove();
      this.maps.delete(array.name);
    }
    if (!show || old) return;
    const map = heatMap(this.layer, array);
    this.maps.set(array.name, map);
    const after = this.arrays().slice(this.arrays().indexOf(array) + 1);
    const next = after.map((one) => this.maps.get(one.name)).find(Boolean);
    this.grid.insertBefore(map.node, next ? next.node : null);
  }

  /** Every array of one unit over time, in one chart. */
  unitPart() {
    this.unitTitle = el("h3", {});
    this.unitPlace = el("div", {});
    return el(
      "div",
      { class: "unit-part" },
      this.unitTitle,
      el("p", {
        class: "caption",
        text: "Everything this unit does, on one scale: the gates open (1) and close (0), and the states follow.",
      }),
      this.unitPlace
    );
  }

  showUnit() {
    const { layer } = this;
    const chosen = state.layer === layer.index;
    this.node.classList.toggle("current", chosen);
    if (chosen) layer.unit = state.unit;
    const unit = layer.unit ?? liveliest(layer);
    layer.unit = unit;
    this.unitTitle.textContent = `Unit ${unitName(layer, unit)} over time`;
    if (!this.unitView) this.unitView = this.unitChart();
    if (this.unitView.unit !== unit) {
      this.unitView.unit = unit;
      this.unitView.forget();
    }
  }

  unitChart() {
    const { layer } = this;
    const shown = this.arrays().filter((array) => array.ofUnits && array.role !== "gradient");
    const view = new LineView({
      axis: layer.axis,
      height: 168,
      label: `One unit of ${layer.path}`,
      range: [-1, 1],
      runs: () => paddedRuns(layer, blobRow(layer)),
      lines: shown.map((array, k) => ({
        label: array.symbol,
        title: array.title,
        numbers: array.numbers,
        row: () => blobRow(layer),
        channel: () => layer.unit,
        colour: k,
        pattern: k,
      })),
    });
    this.unitPlace.append(view.keys, view.plot);
    return view;
  }

  curvePart() {
    const groups = Map.groupBy
      ? Map.groupBy(this.layer.curves, (curve) => curve.group)
      : grouped(this.layer.curves, (curve) => curve.group);
    const charts = [...groups].map(([group, curves]) => {
      const view = new LineView({
        axis: this.layer.axis,
        height: 96,
        label: `${group === "gradient" ? "Gradients" : "Norms"} of ${this.layer.path}`,
        log: curves.every((curve) => curve.log),
        runs: () => paddedRuns(this.layer, blobRow(this.layer)),
        lines: curves.map((curve, k) => ({
          label: curve.symbol || curve.title,
          title: `${curve.title}. ${curve.meaning}`,
          numbers: curve.numbers,
          row: () => blobRow(this.layer),
          channel: () => 0,
          colour: k,
          pattern: k,
        })),
      });
      const title = group === "gradient" ? "Gradient flow through time" : "How far the states are from zero";
      return el(
        "div",
        { class: "curve" },
        el("h3", { text: title }),
        el("p", { class: "caption", text: curves.map((curve) => curve.meaning).join(" ") }),
        view.keys,
        view.plot
      );
    });
    return charts.length ? el("div", { class: "curves" }, charts) : null;
  }

  tablePart() {
    if (!this.layer.summary || !this.layer.summary.columns.length) return null;
    const place = el("div", {});
    const fold = el(
      "details",
      { class: "fold table-fold", open: true },
      el("summary", { text: `Units: saturated, dead, how long they remember` }),
      el("p", {
        class: "caption",
        text: "Over all traced rows and real steps, at full precision. Click a title to sort, a line to look at the unit.",
      }),
      place
    );
    this.table = new UnitTable(this.layer);
    place.append(this.table.node);
    return fold;
  }

  details() {
    const { facts, equations, source, initial } = this.layer;
    if (!facts.length && !equations.length && !initial) return null;
    return el(
      "details",
      { class: "fold" },
      el("summary", { text: "How it computes" }),
      initial ? el("p", { text: initial }) : null,
      el(
        "dl",
        { class: "facts" },
        facts.map(([name, text]) => [el("dt", { text: name }), el("dd", { text })])
      ),
      equations.length ? el("pre", { class: "equations", text: equations.join("\n") }) : null,
      source ? el("p", { class: "muted", text: source }) : null
    );
  }
}

function grouped(list, key) {
  const groups = new Map();
  for (const one of list) groups.set(key(one), [...(groups.get(key(one)) || []), one]);
  return groups;
}

/** The unit whose hidden state moves most: a good one to start with. */
function liveliest(layer) {
  const row = firstRow(layer);
  if (row === null) return 0;
  const { numbers } = layer.hidden;
  const sample = Math.max(1, Math.floor(numbers.columns / 64));
  let chosen = 0;
  let most = -1;
  for (let unit = 0; unit < numbers.channels; unit++) {
    let [n, sum, squares] = [0, 0, 0];
    for (let i = 0; i < numbers.columns; i += sample) {
      for (const value of numbers.ends(row, unit, i)) {
        if (!Number.isNaN(value)) [n, sum, squares] = [n + 1, sum + value, squares + value * value];
      }
    }
    const spread = n ? squares / n - (sum / n) ** 2 : -1;
    if (spread > most + 1e-12) [most, chosen] = [spread, unit];
  }
  return chosen;
}

/** One array of a layer as a heat map, with its title, legend and a button to make it large. */
function heatMap(layer, array) {
  const order = array.ofUnits
    ? () => orderOf(layer)
    : () => array.plain || (array.plain = Int32Array.from(span(array.index.length)));
  const source = {
    numbers: array.numbers,
    scale: array.scale,
    range: array.range,
    symbol: array.symbol,
    label: `${array.title} of ${layer.path}: ${array.meaning}`,
    row: () => blobRow(layer),
    runs: () => paddedRuns(layer, blobRow(layer)),
    order,
    name: (place) => channelName(layer, array, place),
    onPick: array.ofUnits ? (place) => setUnit(layer.index, place) : null,
    picked: array.ofUnits ? () => (state.layer === layer.index ? state.unit : layer.unit ?? null) : null,
  };
  const channels = array.numbers.channels;
  const view = new HeatView(source, { axis: layer.axis, height: heatHeight(channels, false) });
  const key = legend(array.scale, array.range, { padded: layer.masks.some(Boolean) });
  view.onMissing = key.showMissing;
  const grow = button("⤢", `Make ${array.title} large or small`, () => {
    const wide = node.classList.toggle("wide");
    grow.setAttribute("aria-pressed", String(wide));
    view.setHeight(heatHeight(channels, wide));
  });
  grow.className = "grow";
  grow.setAttribute("aria-pressed", "false");
  const node = el(
    "figure",
    { class: "map", "data-array": array.name },
    el(
      "figcaption",
      {},
      el("b", { class: "symbol", text: array.symbol }),
      el("span", { class: "title", text: array.title }),
      key,
      grow,
      el("span", { class: "meaning", text: array.meaning })
    ),
    view.plot
  );
  return { node, view };
}
