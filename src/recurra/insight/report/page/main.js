// Puts the page together, and listens to keys, to the reader's taste in light, and to printing.

const dialog = helpDialog();
const toggleHelp = () => (dialog.open ? dialog.close() : dialog.showModal());
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;

const themeNow = () => chosenTheme || (prefersDark.matches ? "dark" : "light");
const toggleTheme = () => {
  chosenTheme = themeNow() === "dark" ? "light" : "dark";
  setTheme(chosenTheme);
};
prefersDark.addEventListener("change", () => setTheme(themeNow()));
setTheme(themeNow());

function build() {
  const app = document.getElementById("app");
  if (theLayer()) state.unit = liveliest(theLayer());
  for (const layer of layers) state.cursors[layer.axis] = lastReal(layer, state.row);
  readHash();
  if (theLayer()) theLayer().unit = state.unit;
  const main = el("main", {});
  const timeline = layers.length ? new Timeline() : null;
  const text = layers.length ? new Text() : null;
  const parts = [modelSection(), seriesSection(), text && text.node];
  main.append(...parts.filter(Boolean));
  layers.forEach((layer) => main.append(new LayerPanel(layer).node));
  if (!layers.length) {
    main.append(el("p", { class: "caption", text: "This trace holds no recurrent layer." }));
  }
  const notes = noteList();
  if (notes) main.append(notes);
  app.replaceChildren(
    el("a", { class: "skip", href: "#layer-0", text: "Skip to the layers" }),
    head(toggleTheme, toggleHelp),
    ...(timeline ? [timeline.node] : []),
    el("div", { class: "columns" }, main, ...(layers.length ? [new Inspector().node] : [])),
    el("p", {
      id: "keys-hint",
      class: "unseen",
      text: "Arrow keys move the cursor and choose units; press question mark for all keys.",
    }),
    announcer,
    tip,
    dialog
  );
  change("row", "cursor", "unit", "layer", "range", "window", "theme");
  flush();
  preparePrinting(text, timeline);
  document.documentElement.dataset.ready = "true";
}

// For those who hear the page: where the cursor is, once it rests.
const announcer = el("p", { class: "unseen", role: "status" });
let announcing = 0;

function announce() {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    const layer = theLayer();
    const step = cursorOf(layer.axis);
    const { numbers } = layer.hidden;
    const value = numbers.at(blobRow(layer), state.unit, columnOf(numbers, step));
    const token = tokenAt(layer.axis, state.row, step);
    announcer.textContent =
      `Step ${step}${token ? `, ${token}` : ""}, unit ${unitName(layer, state.unit)}, ` +
      (Number.isNaN(value) ? "no value" : `hidden state ${numbers.text(blobRow(layer), state.unit, value)}`);
  }, 250);
}

let rangeFrom = null;

/** Shift and an arrow: the range goes from where the cursor was to where it now is. */
function extendRange(axis, by) {
  const { range } = state;
  const step = cursorOf(axis);
  if (rangeFrom === null || !range || range.axis !== axis) rangeFrom = step;
  moveCursor(axis, by);
  setRange(axis, rangeFrom, state.cursors[axis]);
}

function onKey(event) {
  if (event.altKey || event.metaKey || dialog.open) return;
  if (event.target.closest("input, select, textarea")) return;
  if (!layers.length && event.key !== "?" && event.key !== "t") return;
  const view = event.target.closest(".plot")?.view;
  const axis = view ? view.axis : layers.length ? theAxis().index : 0;
  const arrow = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const upright = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (arrow && !event.shiftKey && !event.ctrlKey && scrolls(event.target)) return;
  if (arrow && event.shiftKey) extendRange(axis, arrow);
  else if (arrow) {
    rangeFrom = null;
    moveCursor(axis, arrow * (event.ctrlKey ? 10 : 1));
  } else if (upright && view && view.vertical(upright)) rangeFrom = null;
  else if (event.ctrlKey) return;
  else if (!other(event.key, axis, event)) return;
  if (event.key !== "?") announce();
  event.preventDefault();
}

/** Whether arrows are needed to see the rest of a box that is wider than its place. */
function scrolls(target) {
  const box = target.closest(".scroll, .diagram");
  return box && box.scrollWidth > box.clientWidth + 1;
}

function other(key, axis, event) {
  const inside = event.target.closest(".plot, .tokens");
  const keys = {
    "+": () => zoom(axis, 0.5),
    "=": () => zoom(axis, 0.5),
    "-": () => zoom(axis, 2),
    0: () => setWindow(axis, 0, axes[axis].extent),
    z: zoomToRange,
    Escape: () => foldInspector() || clearRange(),
    "[": () => setRow(state.row - 1),
    "]": () => setRow(state.row + 1),
    "{": () => goToLayer(layers[clamp(state.layer - 1, 0, layers.length - 1)]),
    "}": () => goToLayer(layers[clamp(state.layer + 1, 0, layers.length - 1)]),
    u: typeUnit,
    t: toggleTheme,
    "?": toggleHelp,
  };
  if (inside) {
    keys.Home = () => goTo(axis, 0);
    keys.End = () => goTo(axis, axes[axis].time_steps - 1);
  }
  if (!keys[key]) return false;
  keys[key]();
  return true;
}

function goTo(axis, step) {
  putCursor(axis, step);
  reveal(axis, step);
}

/** Paper is white and shows everything: nothing on it waits to be scrolled to. */
function preparePrinting(text, timeline) {
  const folded = [];
  const printing = () => {
    setTheme("light");
    for (const fold of document.querySelectorAll("details:not([open])")) {
      folded.push(fold);
      fold.open = true;
    }
    redrawAll(text, timeline);
  };
  const printed = () => {
    folded.splice(0).forEach((fold) => (fold.open = false));
    setTheme(themeNow());
    flush();
  };
  window.addEventListener("beforeprint", printing);
  window.addEventListener("afterprint", printed);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? printing() : printed()));
}

function redrawAll(text, timeline) {
  flush();
  if (timeline) timeline.draw();
  for (const view of views) {
    view.stale = true;
    view.refresh(true);
  }
  jobs.finish();
  if (text) text.paintAll();
}

document.addEventListener("keydown", onKey);
build();
