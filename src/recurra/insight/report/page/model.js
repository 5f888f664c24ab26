// The head of the page, and the model as a diagram.

function head(themes, help) {
  const choice = el("select", {
    id: "row-choice",
    "aria-label": "Sample",
    onchange: (event) => setRow(Number(event.target.value)),
  });
  report.rows.forEach((_, k) => choice.append(el("option", { value: String(k), text: rowName(k) })));
  const before = button("‹", "Sample before ([)", () => setRow(state.row - 1), { class: "before" });
  const after = button("›", "Next sample (])", () => setRow(state.row + 1), { class: "after" });
  const show = () => {
    choice.value = String(state.row);
    before.disabled = state.row === 0;
    after.disabled = state.row === report.rows.length - 1;
  };
  show();
  subscribe("row", show);
  const { name, kind, parameters, source } = report.model;
  const facts = [
    kind,
    parameters ? plural(parameters, "parameter") : null,
    source || null,
    typeof report.loss === "number" ? `loss ${number(report.loss)} over the batch` : null,
    report.created || null,
  ];
  return el(
    "header",
    { class: "top" },
    el(
      "div",
      { class: "name" },
      el("h1", { text: report.title || name }),
      el("p", { class: "muted", text: facts.filter(Boolean).join(" · ") }),
      notesLink()
    ),
    el(
      "div",
      { class: "rows", role: "group", "aria-label": "Samples" },
      el("label", { for: "row-choice", text: "Sample" }),
      before,
      choice,
      after,
      el("span", {
        class: "muted of-rows",
        text: `${count(report.rows.length)} of ${count(report.batch ?? report.rows.length)}`,
      })
    ),
    el(
      "div",
      { class: "buttons" },
      button("Light/dark", "Light or dark (t)", themes, { class: "theme" }),
      button("Print", "Print, or save as PDF", () => window.print(), { class: "print" }),
      button("?", "Keys and how to read this page (?)", help, { class: "help" })
    )
  );
}

function modelSection() {
  const parts = [diagram(), findingList(report.findings || []), gapList(report.model.gaps || [])];
  if (!parts.some(Boolean)) return null;
  return section(
    "model",
    "Model",
    "The way of the data, with the shape of every tensor: B samples, T time steps. Click a " +
      "recurrent layer to look inside.",
    parts
  );
}

/** The drawing. It is ours and escaped, and still nothing in it that could run is taken over. */
function diagram() {
  if (!report.diagram) return null;
  const parsed = new DOMParser().parseFromString(report.diagram, "image/svg+xml").documentElement;
  if (parsed.nodeName !== "svg") return null;
  for (const node of [parsed, ...parsed.querySelectorAll("*")]) {
    if (["script", "foreignObject", "iframe", "a", "image", "use"].includes(node.localName)) {
      node.remove();
      continue;
    }
    for (const { name } of [...node.attributes]) {
      if (/^on/i.test(name) || /href$/i.test(name)) node.removeAttribute(name);
    }
  }
  const drawing = document.importNode(parsed, true);
  const boxes = [...drawing.querySelectorAll("[data-path]")];
  for (const box of boxes) {
    const path = box.getAttribute("data-path");
    const layer = layers.find((one) => one.node === path || one.path === path);
    if (!layer) continue;
    box.classList.add("link");
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "link");
    box.setAttribute("aria-label", `Look inside of ${path}`);
    const go = () => goToLayer(layer);
    box.addEventListener("click", go);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter") go();
    });
  }
  const mark = () => {
    for (const box of boxes) {
      const path = box.getAttribute("data-path");
      const layer = theLayer();
      box.classList.toggle("current", Boolean(layer) && (layer.node || layer.path) === path);
    }
  };
  mark();
  subscribe("layer", mark);
  return el(
    "div",
    { class: "diagram", tabindex: "0", role: "region", "aria-label": "Diagram of the model" },
    drawing
  );
}

function goToLayer(layer) {
  setUnit(layer.index, layer.unit ?? 0);
  const node = document.getElementById(`layer-${layer.index}`);
  node.scrollIntoView({ behavior: stillMotion() ? "auto" : "smooth", block: "start" });
  node.querySelector(".plot")?.focus({ preventScroll: true });
}

const stillMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function findingList(findings) {
  if (!findings.length) return null;
  return el(
    "ul",
    { class: "lint", "aria-label": "Findings about the model" },
    findings.map((finding) =>
      el(
        "li",
        { class: finding.severity },
        el("b", { text: `${finding.severity} ${finding.code}` }),
        finding.where ? el("code", { text: finding.where }) : "",
        el("span", { text: finding.problem }),
        finding.why ? el("span", { class: "muted", text: finding.why }) : "",
        el("span", { class: "advice", text: finding.advice })
      )
    )
  );
}

function gapList(gaps) {
  if (!gaps.length) return null;
  return el("ul", { class: "gaps" }, gaps.map((gap) => el("li", { text: gap })));
}

/** To the notes, from where everybody begins: they stand at the very end. */
function notesLink() {
  if (!report.notes || !report.notes.length) return null;
  const go = (event) => {
    event.preventDefault(); // the address keeps the place
    const notes = document.getElementById("notes");
    notes.scrollIntoView({ behavior: stillMotion() ? "auto" : "smooth", block: "center" });
    notes.focus({ preventScroll: true });
  };
  const text = `What this page leaves out: ${plural(report.notes.length, "note")}`;
  return el("p", {}, el("a", { class: "to-notes", href: "#notes", onclick: go, text }));
}

/** What is not as in the trace: never hidden, never in the way. */
function noteList() {
  if (!report.notes || !report.notes.length) return null;
  return el(
    "footer",
    { class: "notes", id: "notes", tabindex: "-1" },
    el("h2", { text: "What this page leaves out" }),
    el("ul", {}, report.notes.map((note) => el("li", { text: note })))
  );
}
