// Keys, and how to read the page.

const KEYS = [
  ["← →", "cursor one step back or on; ten with Ctrl"],
  ["Shift + ← →", "take a range of steps from the cursor, and change it"],
  ["Home, End", "first and last step"],
  ["↑ ↓", "unit above or below (when a heat map has the focus)"],
  ["+ −", "zoom in and out along time"],
  ["0", "show all steps"],
  ["z", "zoom to the range"],
  ["Escape", "clear the range"],
  ["[ ]", "sample before, next sample"],
  ["{ }", "layer before, next layer"],
  ["u", "type the number of a unit; Enter or Escape goes back"],
  ["t", "light or dark"],
  ["?", "this page"],
];

const READING = [
  ["Heat maps", "A line is a unit, a column a time step. Blue is negative, orange positive, on a " +
    "scale that always ends at −1 and 1; gates go from 0 (closed) to 1 (open). Scales that are an " +
    "array's own say so at their ends. Hatched steps are padding."],
  ["Cursor", "Moves with the pointer over every view of the same steps, and stays where you click."],
  ["Units", "Click a line of a heat map, a number in a table, or any number on a coloured ground."],
  ["Range", "Drag over any view or the text. The inspector lists the units that are active all " +
    "along, and the ranges, also of other samples, where these units take the most similar course."],
  ["Zoom", "Hold Ctrl and turn the wheel; Shift and the wheel, or two fingers sideways, move along. " +
    "The strip on top shows where you are: drag its frame or its ends."],
  ["Far out", "Where a pixel holds several steps or units, it shows their mean."],
];

function helpDialog() {
  const dialog = el(
    "dialog",
    { class: "help-page", "aria-labelledby": "help-title" },
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: "help-title", text: "How to read this page" }),
      el("button", { class: "close", "aria-label": "Close", text: "×" })
    ),
    el("dl", {}, READING.map(([what, how]) => [el("dt", { text: what }), el("dd", { text: how })])),
    el("h3", { text: "Keys" }),
    el(
      "table",
      {},
      el(
        "tbody",
        {},
        KEYS.map(([keys, what]) =>
          el("tr", {}, el("th", { scope: "row" }, el("kbd", { text: keys })), el("td", { text: what }))
        )
      )
    )
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
