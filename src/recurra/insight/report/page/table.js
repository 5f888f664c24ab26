// A layer's table: a line per unit, to sort, to filter, and to pick a unit from.

const FIRST_LINES = 12;

class UnitTable {
  constructor(layer) {
    this.layer = layer;
    this.columns = layer.summary.columns;
    this.sort = { key: "unit", down: false };
    this.all = false;
    this.only = "";
    const flags = this.columns.filter((column) => column.format === "flag");
    this.filter = el(
      "select",
      {
        id: `filter-${layer.index}`,
        onchange: (event) => {
          this.only = event.target.value;
          this.fill();
        },
      },
      el("option", { value: "", text: "all units" }),
      flags.map((column) => el("option", { value: column.key, text: `only: ${column.name}` }))
    );
    this.head = el("tr");
    this.body = el("tbody");
    this.more = el("button", {
      type: "button",
      class: "more",
      onclick: () => {
        this.all = !this.all;
        this.fill();
      },
    });
    this.count = el("span", { class: "muted" });
    this.node = el(
      "div",
      { class: "unit-table" },
      el(
        "div",
        { class: "tools" },
        el("label", { for: this.filter.id, text: "Show" }),
        this.filter,
        this.count
      ),
      el(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": `Units of ${layer.path}` },
        el("table", {}, el("thead", {}, this.head), this.body)
      ),
      this.more
    );
    this.heads();
    this.fill();
    subscribe("unit", () => this.mark());
  }

  heads() {
    const unit = { key: "unit", name: "Unit", meaning: "The unit's number in the layer.", format: "" };
    this.head.replaceChildren(
      ...[unit, ...this.columns].map((column) => {
        const sorted = this.sort.key === column.key;
        return el(
          "th",
          {
            scope: "col",
            "aria-sort": sorted ? (this.sort.down ? "descending" : "ascending") : "none",
          },
          el(
            "button",
            {
              type: "button",
              title: `${column.meaning} Click to sort.`,
              "data-key": column.key,
              onclick: () => this.sortBy(column),
            },
            column.name,
            el("span", { class: "arrow", text: sorted ? (this.sort.down ? "↓" : "↑") : "" })
          )
        );
      })
    );
  }

  sortBy(column) {
    const same = this.sort.key === column.key;
    this.sort = { key: column.key, down: same ? !this.sort.down : column.format !== "" };
    this.heads();
    this.fill();
    this.head.querySelector(`[data-key="${CSS.escape(column.key)}"]`).focus();
  }

  value(key, unit) {
    return key === "unit" ? unit : this.layer.summary.units[key][unit];
  }

  lines() {
    const { key, down } = this.sort;
    const units = span(this.layer.units).filter((unit) => !this.only || this.value(this.only, unit));
    const rank = (unit) => {
      const value = this.value(key, unit);
      return value === null || value === undefined ? null : Number(value);
    };
    return units.sort((a, b) => {
      const [x, y] = [rank(a), rank(b)];
      // What has no value stays at the end, whichever way it is sorted.
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (down ? y - x : x - y) || a - b;
    });
  }

  fill() {
    const lines = this.lines();
    const shown = this.all ? lines : lines.slice(0, FIRST_LINES);
    this.most = Object.fromEntries(
      this.columns.map(({ key }) => [
        key,
        Math.max(...this.layer.summary.units[key].map((value) => Math.abs(Number(value)) || 0)),
      ])
    );
    this.body.replaceChildren(...shown.map((unit) => this.line(unit)));
    this.more.hidden = lines.length <= FIRST_LINES;
    this.more.textContent = this.all ? `Show ${FIRST_LINES} only` : `Show all ${count(lines.length)}`;
    this.count.textContent = `${plural(lines.length, "unit")}${this.only ? ` of ${count(this.layer.units)}` : ""}`;
    this.mark();
  }

  line(unit) {
    const place = this.layer.shown.indexOf(unit);
    const name = this.layer.unit_names ? this.layer.unit_names[unit] : String(unit);
    const pick =
      place < 0
        ? el("span", { class: "muted", title: "Its arrays were left out of this page", text: name })
        : el("button", {
            type: "button",
            title: `Look at unit ${name}`,
            text: name,
            onclick: () => setUnit(this.layer.index, place),
          });
    const line = el(
      "tr",
      { onclick: () => place >= 0 && setUnit(this.layer.index, place) },
      el("th", { scope: "row" }, pick),
      this.columns.map((column) => this.cell(column, this.value(column.key, unit)))
    );
    line.unit = unit;
    return line;
  }

  cell({ key, format, name }, value) {
    if (format === "flag") {
      return el("td", { class: "flag", text: value ? `● ${name.toLowerCase()}` : "" });
    }
    const text =
      format === "share" ? percent(value) : format === "steps" ? stepsText(value) : number(value);
    const share = format === "share" ? value : Math.abs(value) / (this.most[key] || 1);
    const bar = el("span", { class: "bar" });
    bar.style.width = `${100 * clamp(share || 0, 0, 1)}%`;
    return el("td", { class: "num" }, bar, el("span", { class: "n", text }));
  }

  mark() {
    const chosen = state.layer === this.layer.index ? this.layer.shown[state.unit] : null;
    for (const line of this.body.children) {
      line.classList.toggle("chosen", line.unit === chosen);
      if (line.unit === chosen) line.setAttribute("aria-current", "true");
      else line.removeAttribute("aria-current");
    }
  }
}

const stepsText = (value) =>
  value === null || value === undefined ? "–" : value >= 1e5 ? "> 100,000" : number(value);
