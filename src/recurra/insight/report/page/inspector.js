// Beside the views: numbers at the cursor, facts of the chosen unit, and the range's findings.

class Inspector {
  constructor() {
    this.at = card("at", "At the cursor");
    this.unit = card("unit", "Unit");
    this.range = new RangeCard();
    this.layerChoice = el("select", {
      id: "layer-choice",
      onchange: (event) => setUnit(Number(event.target.value), layers[event.target.value].unit ?? 0),
    });
    layers.forEach((layer, k) =>
      this.layerChoice.append(el("option", { value: String(k), text: layer.path }))
    );
    this.unitChoice = el("input", {
      id: "unit-choice",
      type: "number",
      min: "0",
      "aria-label": "Number of the unit",
      onchange: () => this.choose(),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== "Escape") return;
        if (event.key === "Escape") this.unitChoice.value = theLayer().shown[state.unit];
        this.choose();
        if (typingFrom || event.key === "Escape") event.stopPropagation();
        leaveUnit();
      },
    });
    this.sample = el("dl", { class: "facts sample" });
    this.node = el(
      "aside",
      {
        id: "inspector",
        "aria-label": "Inspector",
        tabindex: "-1",
        onkeydown: (event) => {
          if (event.key === "Escape" && foldInspector()) event.stopPropagation();
        },
      },
      button("×", "Close", toggleInspector, { class: "shut" }),
      el(
        "div",
        { class: "choice" },
        el("label", { for: "layer-choice", text: "Layer" }),
        this.layerChoice,
        el("label", { for: "unit-choice", text: "unit" }),
        this.unitChoice
      ),
      this.sample,
      this.at.node,
      this.unit.node,
      this.range.card.node
    );
    subscribe("cursor unit layer row outer theme", () => this.tellStep());
    subscribe("unit layer row outer", () => this.tellUnit());
    subscribe("row", () => this.tellSample());
    this.tellSample();
  }

  choose() {
    const layer = theLayer();
    const place = layer.shown.indexOf(Number(this.unitChoice.value));
    if (place >= 0) setUnit(state.layer, place);
    else this.unitChoice.value = layer.shown[state.unit];
  }

  tellSample() {
    const facts = report.rows[state.row].facts || [];
    this.sample.hidden = !facts.length;
    this.sample.replaceChildren(
      ...facts.flatMap(([name, text]) => [el("dt", { text: name }), el("dd", { text })])
    );
  }

  /** Every array of the unit here, and how the state came about. */
  tellStep() {
    const layer = theLayer();
    const axis = axes[layer.axis];
    const step = cursorOf(axis.index);
    const row = blobRow(layer);
    const [first, last] = stepsAt(axis.index, step);
    const token = tokenAt(axis.index, state.row, step);
    const tag = tokenAt(axis.index, state.row, step, "tags");
    this.at.title.replaceChildren(
      last > first ? `Steps ${count(first)}–${count(last)}` : `Step ${count(step)}`,
      token ? el("span", { class: "token", text: visible(token) }) : "",
      tag ? el("span", { class: "tag", text: tag }) : ""
    );
    if (step >= axis.time_steps) {
      this.at.say("The input has ended; the layer did not run here.");
      return;
    }
    if (isPadded(layer, row, step)) {
      this.at.say("Padded: the layer skips this step and carries its states on.");
      return;
    }
    const column = columnOf(layer.hidden.numbers, step);
    const arrays = layer.arrays.filter((array) => array.ofUnits && array.numbers.has(row));
    this.at.body.replaceChildren(
      el("p", { class: "muted", text: `unit ${unitName(layer, state.unit)} of ${layer.path}` }),
      el("div", { class: "meters" }, arrays.map((array) => meter(array, row, column))),
      ...this.update(layer, row, column, step),
      this.mostActive(layer, row, column)
    );
  }

  /** The update of the state with the numbers of this step in it. */
  update(layer, row, column, step) {
    const value = (name, at = column, map = (x) => x) => {
      const array = layer.arrays.find((one) => one.name === name);
      if (!array || !array.numbers.has(row)) return "–";
      const { numbers } = array;
      return numbers.text(row, state.unit, map(numbers.at(row, state.unit, at)));
    };
    const before = column + (layer.go_backwards ? 1 : -1);
    const signed = (text) => (text.startsWith("−") ? `(${text})` : text);
    const old = (name) => {
      const text = value(name, before);
      return text === "–" ? "before" : signed(text);
    };
    let text = null;
    if (axes[layer.axis].stride > 1) return [];
    if (layer.cell === "lstm") {
      text = [
        `c = f · c₋₁ + i · g`,
        `  ≈ ${value("forget_gate")} · ${old("cell_state")}` +
          ` + ${value("input_gate")} · ${signed(value("candidate"))}`,
        `  ≈ ${value("cell_state")}`,
      ];
    } else if (layer.cell === "gru") {
      const kept = value("update_gate");
      const taken = value("update_gate", column, (z) => 1 - z);
      text = [
        `h = z · h₋₁ + (1 − z) · g`,
        `  ≈ ${kept} · ${old("hidden_state")} + ${taken} · ${signed(value("candidate"))}`,
        `  ≈ ${value("hidden_state")}`,
      ];
    }
    if (!text || text.some((line) => line.includes("–"))) return [];
    return [
      el("pre", {
        class: "update",
        title: `How the state of step ${count(step)} came from the one before; rounded`,
        text: text.join("\n"),
      }),
    ];
  }

  mostActive(layer, row, column) {
    const { numbers } = layer.hidden;
    if (!numbers.has(row)) return "";
    const units = span(numbers.channels).map((unit) => ({ unit, mean: numbers.peak(row, unit, column) }));
    units.sort((a, b) => Math.abs(b.mean) - Math.abs(a.mean) || a.unit - b.unit);
    return el(
      "div",
      { class: "most" },
      el("h4", { text: `Largest |${layer.hidden.symbol}| here` }),
      unitChips(layer, units.filter((one) => !Number.isNaN(one.mean)).slice(0, 8))
    );
  }

  tellUnit() {
    const layer = theLayer();
    this.layerChoice.value = String(state.layer);
    this.unitChoice.max = String(layer.units - 1);
    this.unitChoice.value = String(layer.shown[state.unit]);
    this.unit.title.textContent = `Unit ${unitName(layer, state.unit)} of ${layer.path}`;
    const unit = layer.shown[state.unit];
    const facts = layer.summary ? layer.summary.columns : [];
    const text = ({ key, format }) => {
      const value = layer.summary.units[key][unit];
      if (format === "flag") return value ? "yes" : "no";
      return format === "share" ? percent(value) : format === "steps" ? `${stepsText(value)}` : number(value);
    };
    this.unit.body.replaceChildren(
      el(
        "dl",
        { class: "facts" },
        facts.map((column) => [
          el("dt", { text: column.name, title: column.meaning }),
          el("dd", { text: text(column) }),
        ])
      ),
      this.peaks(layer)
    );
  }

  /** The steps at which the unit is strongest, apart from each other. */
  peaks(layer) {
    const row = blobRow(layer);
    const { numbers } = layer.hidden;
    if (!numbers.has(row)) return "";
    const line = Float64Array.from({ length: numbers.columns }, (_, i) =>
      numbers.peak(row, state.unit, i)
    );
    const order = span(line.length).filter((i) => !Number.isNaN(line[i]));
    order.sort((a, b) => Math.abs(line[b]) - Math.abs(line[a]) || a - b);
    const apart = Math.max(1, Math.floor(line.length / 50));
    const peaks = [];
    for (const i of order) {
      if (peaks.length >= 5) break;
      if (peaks.every((one) => Math.abs(one - i) >= apart)) peaks.push(i);
    }
    return el(
      "div",
      { class: "peaks" },
      el("h4", { text: `Strongest at` }),
      el(
        "ol",
        {},
        peaks.map((i) => {
          const [step, end] = stepsAt(layer.axis, i * numbers.stride);
          const where = end > step ? `steps ${count(step)}–${count(end)}` : `step ${count(step)}`;
          const token = tokenAt(layer.axis, state.row, step);
          return el(
            "li",
            {},
            el(
              "button",
              {
                type: "button",
                title: `Go to ${where}`,
                onclick: () => {
                  putCursor(layer.axis, step);
                  reveal(layer.axis, step);
                },
              },
              el("span", { class: "muted", text: where }),
              token ? el("span", { class: "token", text: visible(token) }) : "",
              el("span", { class: "n", text: numbers.text(row, state.unit, line[i], true) })
            )
          );
        })
      )
    );
  }
}

/** Where there is no place beside the views, the inspector lies over them when it is asked for. */
function toggleInspector() {
  const inspector = document.getElementById("inspector");
  const opener = document.querySelector(".inspect");
  const open = inspector.classList.toggle("open");
  opener.setAttribute("aria-expanded", String(open));
  // Not to be searched for behind the whole page by those who go by keys.
  (open ? inspector : opener).focus({ preventScroll: true });
}

/** Whether it lay over the views, and does so no longer. */
function foldInspector() {
  const inspector = document.getElementById("inspector");
  if (!inspector?.classList.contains("open")) return false;
  if (getComputedStyle(inspector).position !== "fixed") return false;
  toggleInspector();
  return true;
}

let typingFrom = null; // what had the focus, and whether the inspector was folded away

function typeUnit() {
  const field = document.getElementById("unit-choice");
  const focus = document.activeElement;
  const folded = !field.getClientRects().length;
  typingFrom = { focus, folded };
  if (folded) toggleInspector();
  field.focus();
  field.select();
}

function leaveUnit() {
  document.getElementById("unit-choice").blur();
  if (!typingFrom) return;
  if (typingFrom.folded) foldInspector();
  typingFrom.focus?.focus({ preventScroll: true });
  typingFrom = null;
}

function card(id, title) {
  const heading = el("h3", { id: `card-${id}`, text: title });
  const body = el("div", { class: "body" });
  const node = el("section", { class: `card ${id}`, "aria-labelledby": heading.id }, heading, body);
  return {
    node,
    title: heading,
    body,
    say: (text) => body.replaceChildren(el("p", { class: "muted", text })),
  };
}

/** A value as a bar on its palette's scale, from zero. */
function meter(array, row, column) {
  const value = array.numbers.at(row, state.unit, column);
  const [low, high] = array.range || array.numbers.range(row, state.unit);
  const at = (x) => clamp((x - low) / (high - low || 1), 0, 1);
  const zero = at(0);
  const bar = el("span", { class: "bar" });
  bar.style.left = `${100 * Math.min(zero, at(value) || 0)}%`;
  bar.style.width = `${100 * Math.abs((Number.isNaN(value) ? zero : at(value)) - zero)}%`;
  const mid = el("span", { class: "zero" });
  mid.style.left = `${100 * zero}%`;
  return el(
    "div",
    { class: "meter", "data-array": array.name, title: `${array.title}. ${array.meaning}` },
    el("b", { class: "symbol", text: array.symbol }),
    el("span", { class: "track", "aria-hidden": "true" }, bar, mid),
    el("span", { class: "n", text: array.numbers.text(row, state.unit, value, true) })
  );
}

/** Units to click, coloured by their value. */
function unitChips(layer, units) {
  const range = layer.hidden.range || [-1, 1];
  return el(
    "div",
    { class: "unit-chips" },
    units.map(({ unit, mean }) => {
      const chip = el(
        "button",
        {
          type: "button",
          class: `unit-chip${unit === state.unit ? " chosen" : ""}`,
          "data-place": unit,
          title: `Unit ${unitName(layer, unit)}: h ${number(mean)}`,
          onclick: () => setUnit(layer.index, unit),
        },
        unitName(layer, unit)
      );
      const colour = colourOf(state.theme, rampKind(layer.hidden.scale), mean, range);
      if (colour) {
        chip.style.backgroundColor = colour.fill;
        chip.style.color = colour.ink;
      }
      return chip;
    })
  );
}

function rowName(row) {
  const { index, label } = report.rows[row];
  return label === null || label === undefined || label === "" ? String(index) : `${index} · ${label}`;
}
