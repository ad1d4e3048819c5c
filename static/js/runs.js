// The list of runs: sorted by a column, ticked for comparison. The address keeps the order.
const MOST = 8;
const ticked = document.querySelector("[data-ticked]");

/** Numbers by size, text by alphabet; what is not known comes last whichever way. */
function compare(a, b, way) {
  if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
  const numbers = Number(a) - Number(b);
  return way * (Number.isNaN(numbers) ? a.localeCompare(b) : numbers);
}

function sort(table, name, way) {
  const heads = [...table.querySelectorAll("th")];
  const column = heads.findIndex((head) => head.dataset.sort === name);
  if (column < 0) return;
  heads.forEach((head, k) => {
    if (k === column) head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
  const body = table.tBodies[0];
  const value = (row) => row.cells[column].dataset.value ?? "";
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), way)));
}

/** Column heads become buttons here: without this script there is nothing to press. */
function dress(table) {
  if (!table || table.dataset.dressed) return;
  table.dataset.dressed = "true";
  for (const head of table.querySelectorAll("th[data-sort]")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "sort", textContent: head.textContent });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // Text begins at A, amounts with the largest.
      const first = head.dataset.sort === "run" ? 1 : -1;
      const now = head.getAttribute("aria-sort");
      const way = now === null ? first : now === "ascending" ? -1 : 1;
      sort(table, head.dataset.sort, way);
      const url = new URL(location.href);
      url.searchParams.set("sort", `${way < 0 ? "-" : ""}${head.dataset.sort}`);
      history.replaceState(history.state, "", url);
    });
  }
  const asked = new URL(location.href).searchParams.get("sort");
  if (asked) sort(table, asked.replace(/^-/, ""), asked.startsWith("-") ? -1 : 1);
}

function count() {
  if (!ticked) return;
  const chosen = document.querySelectorAll("input[form=compare]:checked").length;
  ticked.textContent = chosen ? String(chosen) : "";
  for (const box of document.querySelectorAll("input[form=compare]:not(:checked)")) box.disabled = chosen >= MOST;
}

document.addEventListener("change", (event) => event.target.matches("input[form=compare]") && count());
document.addEventListener("htmx:afterSwap", () => {
  dress(document.querySelector("table[data-sortable]"));
  count();
});
dress(document.querySelector("table[data-sortable]"));
count();
