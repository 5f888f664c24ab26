// The inspector's card about the chosen range: its active units, and the ranges that are like it.

class RangeCard {
  constructor() {
    this.card = card("range", "Range");
    this.limit = el("input", {
      id: "threshold",
      type: "range",
      min: "0.05",
      max: "0.95",
      step: "0.05",
      oninput: () => {
        state.threshold = Number(this.limit.value);
        change("threshold");
      },
    });
    this.limitText = el("output", { for: "threshold" });
    this.auto = button("auto", "Choose the threshold so that about five units are active", () => {
      state.threshold = null;
      change("threshold");
    });
    this.active = el("div", { class: "active-units" });
    this.similar = el("ol", { class: "similar", "aria-live": "polite" });
    this.similarNote = el("p", { class: "muted" });
    this.parts = [
      el("h4", { text: "Units active all along" }),
      el(
        "div",
        { class: "tools" },
        el("label", { for: "threshold", text: "|h| ≥" }),
        this.limit,
        this.limitText,
        this.auto
      ),
      this.active,
      el("h4", { text: "Most similar elsewhere" }),
      this.similarNote,
      this.similar,
    ];
    subscribe("range layer row outer unit threshold theme", (now) => this.tell(now));
  }

  tell(now) {
    const layer = theLayer();
    const { range } = state;
    const others = ["range", "layer", "row", "outer", "threshold", "theme"];
    if (!others.some((topic) => now.has(topic))) return this.markUnits();
    jobs.cancel("similar");
    this.card.node.classList.toggle("active", Boolean(range) && range.axis === layer.axis);
    if (!range || range.axis !== layer.axis) {
      this.card.title.textContent = "Range";
      this.card.say(
        "Drag across any view (or hold Shift and press ← →) to take a range of steps: here you " +
          "will see which units are active in it and where else the layer behaves alike."
      );
      return undefined;
    }
    const size = range.to - range.from + 1;
    this.card.title.textContent = `Steps ${count(range.from)}–${count(range.to)} (${count(size)})`;
    if (this.card.body.firstChild !== this.parts[0]) {
      this.card.body.replaceChildren(...this.parts);
    }
    // Dragging asks many times a second: the answer waits until the hand rests for a moment.
    clearTimeout(this.wait);
    this.wait = setTimeout(() => this.answer(layer, range), 60);
    return undefined;
  }

  answer(layer, range) {
    if (state.range !== range || theLayer() !== layer) return;
    const row = blobRow(layer);
    if (!layer.hidden.numbers.has(row)) return;
    const activities = rangeActivity(layer, row, range.from, range.to);
    const limit = state.threshold ?? threshold(activities);
    this.limit.value = String(limit);
    this.limitText.textContent = limit.toFixed(2);
    this.auto.disabled = state.threshold === null;
    const units = activeUnits(activities, limit);
    this.found = units;
    this.active.replaceChildren(
      units.length
        ? unitChips(layer, units.slice(0, 40), range)
        : el("p", { class: "muted", text: this.noneText(layer) }),
      units.length > 40 ? el("p", { class: "muted", text: `and ${count(units.length - 40)} more` }) : ""
    );
    this.similar.replaceChildren();
    const compared = units.length ? units.slice(0, MOST_UNITS) : strongestUnits(activities);
    if (!compared.length) {
      this.similarNote.textContent =
        `No unit has more than |h| = ${LITTLE} in this range: there is nothing to compare.`;
      return;
    }
    const which = units.length
      ? `${compared.length === 1 ? "this unit" : `these ${compared.length} units`}`
      : `the ${plural(compared.length, "unit")} furthest from zero here`;
    this.similarNote.textContent =
      `Ranges of the same length in which ${which} ${compared.length === 1 ? "takes" : "take"} the ` +
      "most similar course (1 = the same values); padded steps are left out. Click one to go there." +
      (axes[layer.axis].stride > 1 ? " Compared are means of the steps in a column." : "");
    const outer = row % (layer.outer || 1);
    jobs.add(
      "similar",
      similarRanges(layer, range, state.row, outer, compared, (matches) => this.showMatches(layer, matches))
    );
  }

  noneText(layer) {
    const { stride } = axes[layer.axis];
    const what = "take a shorter range, or lower the threshold.";
    if (stride === 1) return `None: ${what}`;
    return (
      `None for certain: of each column's ${count(stride)} steps only the least and the greatest h ` +
      `are known, and a unit that changes its sign between them may pass zero. Else ${what}`
    );
  }

  showMatches(layer, matches) {
    if (!matches.length) {
      const means = axes[layer.axis].stride > 1 ? ", going by means of the steps in a column" : "";
      this.similarNote.textContent = `Nothing alike was found outside of this range${means}.`;
    }
    this.similar.replaceChildren(...matches.map((match) => this.match(layer, match)));
  }

  match(layer, { row, outer, from, to, score }) {
    const words = [];
    for (let step = from; step <= Math.min(to, from + 7); step++) {
      const list = (report.rows[row].tokens || []).find((one) => one.axis === layer.axis);
      const token = list && list.items[step];
      if (token) words.push(visible(token));
    }
    const bar = el("span", { class: "bar" });
    bar.style.width = `${100 * clamp(score, 0, 1)}%`;
    const where = row === state.row ? "" : `sample ${rowName(row)}, `;
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          "data-row": row,
          "data-from": from,
          "data-to": to,
          title: `Similarity ${number(score)}: go there`,
          onclick: () => {
            setOuter(outer);
            setRow(row);
            setRange(layer.axis, from, to);
            putCursor(layer.axis, from);
            reveal(layer.axis, from);
          },
        },
        el("span", { class: "track" }, bar),
        el("span", { class: "n", text: score.toFixed(2) }),
        el("span", { text: `${where}steps ${count(from)}–${count(to)}` }),
        words.length ? el("span", { class: "words", text: words.join(" ") }) : ""
      )
    );
  }

  markUnits() {
    for (const chip of document.querySelectorAll(".unit-chip")) {
      chip.classList.toggle("chosen", Number(chip.dataset.place) === state.unit);
    }
    return undefined;
  }
}
