// The text, coloured by what one unit does at each token.

const CHUNK = 200;
const FEW = 2000; // tokens that are coloured at once; of longer texts only what is in sight

class Text {
  constructor() {
    this.chunks = [];
    this.box = el("div", {
      class: "tokens",
      tabindex: "0",
      role: "group",
      "aria-label": "Text, coloured by the chosen unit",
      "aria-describedby": "keys-hint",
    });
    this.arrays = el("select", {
      id: "token-array",
      onchange: (event) => {
        state.colour = event.target.value;
        change("colour");
      },
    });
    this.what = el("span", { class: "what" });
    this.legendPlace = el("span", {});
    this.node = section(
      "text",
      "Text",
      "Every token in the colour of the chosen unit at that step: read along to see what the unit " +
        "reacts to. Click a token to put the cursor there, drag over several to take a range.",
      el(
        "div",
        { class: "tools" },
        el("label", { for: "token-array", text: "Colour by" }),
        this.arrays,
        this.what,
        this.legendPlace
      ),
      this.box
    );
    this.watch = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          entry.target.seen = entry.isIntersecting;
          if (entry.isIntersecting) this.paint(entry.target);
        }
      },
      { root: null, rootMargin: "300px" }
    );
    this.current = null;
    this.listen();
    subscribe("row layer", () => this.fill());
    subscribe("unit layer row outer colour theme", () => this.colour());
    subscribe("cursor row layer", () => this.point());
    subscribe("range row layer", () => this.select());
    this.fill();
  }

  get axis() {
    return theLayer().axis;
  }

  items() {
    const list = (report.rows[state.row].tokens || []).find((one) => one.axis === this.axis);
    return list ? list.items : null;
  }

  fill() {
    if (!theLayer()) return;
    const items = this.items();
    const key = `${state.row}/${this.axis}`;
    this.node.hidden = !items;
    if (!items || key === this.key) return;
    this.key = key;
    const tags = (report.rows[state.row].tags || []).find((one) => one.axis === this.axis);
    this.tags = tags ? tags.items : null;
    this.watch.disconnect();
    this.chunks = [];
    this.spans = [];
    this.selected = [0, -1];
    for (let from = 0; from < items.length; from += CHUNK) {
      const chunk = el("span", { class: "chunk" });
      chunk.from = from;
      items.slice(from, from + CHUNK).forEach((item, k) => {
        const shown = item === "" ? "·" : visible(item);
        const kind = item === "" ? "token none" : /^\s+$/.test(item) ? "token space" : "token";
        const token = el("span", { class: kind, text: shown });
        token.step = from + k;
        this.spans.push(token);
        chunk.append(token);
        if (item.includes("\n")) chunk.append(el("br"));
        // Single characters stand next to each other as in a text; words need a gap.
        else if (items.some((one) => [...one].length > 2)) chunk.append(" ");
      });
      this.chunks.push(chunk);
      this.watch.observe(chunk);
    }
    const letters = !items.some((one) => [...one].length > 2);
    this.box.classList.toggle("letters", letters);
    this.box.classList.toggle("long", items.length > FEW);
    this.box.replaceChildren(...this.chunks);
    this.current = null;
    this.colour();
    this.point();
    this.select();
  }

  source() {
    const layer = theLayer();
    const array = layer.arrays.find((one) => one.name === state.colour && one.ofUnits);
    return { layer, array: array || layer.hidden, row: blobRow(layer) };
  }

  colour() {
    const layer = theLayer();
    if (!layer || this.node.hidden) return;
    const { array } = this.source();
    this.arrays.replaceChildren(
      ...layer.arrays
        .filter((one) => one.ofUnits)
        .map((one) =>
          el("option", {
            value: one.name,
            selected: one === array,
            text: `${one.symbol} · ${one.title}`,
          })
        )
    );
    this.what.textContent = `of unit ${unitName(layer, state.unit)} of ${layer.path}`;
    this.legendPlace.replaceChildren(legend(array.scale, array.range));
    for (const chunk of this.chunks) {
      chunk.painted = false;
      if (chunk.seen || this.spans.length <= FEW) this.paint(chunk);
    }
  }

  paint(chunk) {
    if (chunk.painted) return;
    chunk.painted = true;
    const { array, row } = this.source();
    const { numbers } = array;
    const kind = rampKind(array.scale);
    const range = numbers.has(row) ? array.range || numbers.range(row, state.unit) : [0, 1];
    for (const token of chunk.querySelectorAll(".token")) {
      const value = numbers.at(row, state.unit, columnOf(numbers, token.step));
      const colour = colourOf(state.theme, kind, value, range);
      token.style.backgroundColor = colour ? colour.fill : "";
      token.style.color = colour ? colour.ink : "";
      token.dataset.value = numbers.text(row, state.unit, value);
    }
  }

  /** For paper: all of it, seen or not. */
  paintAll() {
    this.chunks.forEach((chunk) => this.paint(chunk));
  }

  point() {
    if (!theLayer() || this.node.hidden) return;
    const token = this.spans[cursorOf(this.axis)];
    if (this.current === token) return;
    if (this.current) this.current.classList.remove("here");
    this.current = token || null;
    if (!token) return;
    token.classList.add("here");
    // Not from under a pointer that moves over the text itself.
    if (!this.pointed) this.show(token);
  }

  get pointed() {
    return this.inside && state.hover !== null;
  }

  /**
   * Scrolls the box of text, never the page, until the token is in sight. Parts that have not been
   * laid out yet get their true heights only as they appear, so it looks again in the next frames.
   */
  show(token, frames = 4) {
    const [box, at] = [this.box.getBoundingClientRect(), token.getBoundingClientRect()];
    const top = box.top + this.box.clientTop + 8;
    const end = top + this.box.clientHeight - 16;
    if (at.top < top) this.box.scrollTop -= top - at.top;
    else if (at.bottom > end) this.box.scrollTop += at.bottom - end;
    if (frames) {
      requestAnimationFrame(() => {
        if (this.current === token && !this.pointed) this.show(token, frames - 1);
      });
    }
  }

  select() {
    if (!theLayer() || this.node.hidden) return;
    const range = state.range && state.range.axis === this.axis ? state.range : null;
    // Dragging asks often, and a range may hold thousands: only what is new is changed.
    const [a, b] = this.selected;
    const [from, to] = range ? [range.from, Math.min(range.to, this.spans.length - 1)] : [0, -1];
    for (let k = a; k <= b; k++) {
      if (k < from || k > to) this.spans[k].classList.remove("chosen");
    }
    for (let k = from; k <= to; k++) {
      if (k < a || k > b) this.spans[k].classList.add("chosen");
    }
    this.selected = [from, to];
  }

  listen() {
    let from = null;
    const stepOf = (event) => {
      const under = document.elementFromPoint(event.clientX, event.clientY);
      return under && this.box.contains(under) && under.step !== undefined ? under.step : null;
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = { step: stepOf(event), moved: false };
      from.ranging = event.pointerType !== "touch" || state.drag === "range";
    });
    this.box.addEventListener("pointermove", (event) => {
      this.inside = event.pointerType === "mouse";
      const step = stepOf(event);
      if (step === null) return;
      hoverAt(this.axis, step);
      if (from && from.step !== null && from.ranging && (from.moved || step !== from.step)) {
        from.moved = true;
        setRange(this.axis, from.step, step);
        event.preventDefault();
      }
      const { array, layer } = this.source();
      const tag = this.tags && this.tags[step] ? ` · ${this.tags[step]}` : "";
      const value = this.spans[step].dataset.value;
      this.spans[step].title =
        `step ${count(step)}${tag} · ${array.symbol}[${unitName(layer, state.unit)}] = ${value}`;
    });
    this.box.addEventListener("pointerup", (event) => {
      const step = stepOf(event);
      if (from && step !== null) {
        putCursor(this.axis, step);
        reveal(this.axis, step);
      }
      from = null;
    });
    this.box.addEventListener("pointerleave", () => {
      from = null;
      this.inside = false;
      hoverAt(this.axis, null);
    });
  }
}
