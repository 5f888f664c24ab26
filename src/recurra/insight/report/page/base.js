// Small helpers that everything else uses.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** An element. Strings among the children become text nodes: never markup. */
function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function button(label, title, onclick, options = {}) {
  return el("button", { type: "button", title, "aria-label": title, onclick, ...options }, label);
}

const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A count, with thousands apart. */
const count = (value) => INTEGER.format(value);

/** A number in few characters: what it is to three digits or so. */
function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === Infinity) return "∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replace("-", "−").replace("e+", "e");
  if (size >= 1000) return INTEGER.format(value).replace("-", "−");
  const text = String(Number(value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3)));
  return text.replace("-", "−");
}

/** A number whose sign and width stay put, for values that change under the cursor. */
function steady(value) {
  if (Number.isNaN(value) || value === undefined || value === null) return "–";
  if (Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 0.001)) return number(value);
  return `${value < 0 ? "−" : "\u2007"}${Math.abs(value).toFixed(3)}`;
}

function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return `${Number((100 * share).toFixed(share < 0.1 ? 1 : 0))} %`;
}

const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** Characters that have no shape of their own, made visible. */
function visible(token) {
  return token
    .replaceAll(" ", "␣")
    .replaceAll("\r\n", "↵")
    .replaceAll("\n", "↵")
    .replaceAll("\r", "↵")
    .replaceAll("\t", "⇥");
}

/** Work that takes long is cut into steps (generators) that leave the page free in between. */
const jobs = {
  queue: [],
  timer: 0,
  add(name, generator) {
    this.cancel(name);
    this.queue.push({ name, generator });
    this.wake();
  },
  cancel(name) {
    this.queue = this.queue.filter((job) => job.name !== name);
  },
  wake() {
    if (this.timer || !this.queue.length) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.run(8);
    }, 0);
  },
  run(milliseconds) {
    const until = performance.now() + milliseconds;
    while (this.queue.length && performance.now() < until) {
      const job = this.queue[0];
      let done = true;
      try {
        done = job.generator.next().done;
      } catch (error) {
        console.error(error);
      }
      if (done) this.queue = this.queue.filter((other) => other !== job);
    }
    this.wake();
  },
  /** Everything at once: for paper, which cannot wait. */
  finish() {
    this.run(Infinity);
  },
};

/** Steps between labels of an axis: 1, 2 or 5 times a power of ten. */
function tickStep(span, wanted) {
  const raw = span / Math.max(1, wanted);
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * base >= raw) * base;
  return step;
}
