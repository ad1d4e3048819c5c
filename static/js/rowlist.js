// The list of a batch's rows beside the row that is open.

/** Marks the row as the open one. */
export function markRow(row) {
  for (const link of document.querySelectorAll(".rows a")) {
    if (link.dataset.row === row) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  showRow();
}

/** Brings the open row into sight within the list; the page stays where it is. */
export function showRow() {
  const link = document.querySelector(".rows a[aria-current]");
  if (!link) return;
  const list = link.closest(".rows");
  const [box, own] = [list.getBoundingClientRect(), link.getBoundingClientRect()];
  if (own.top < box.top || own.bottom > box.bottom) list.scrollTop += own.top - box.top - (box.height - own.height) / 2;
}
