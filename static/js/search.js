// The search box: answers while somebody types, walked through with the arrow keys. Without this it is a plain form.
const box = document.getElementById("q");
const panel = document.getElementById("hits");
const form = box.form;
let at = -1;

box.setAttribute("role", "combobox");
box.setAttribute("aria-autocomplete", "list");
box.setAttribute("aria-controls", "hits");
box.setAttribute("aria-expanded", "false");

const options = () => [...panel.querySelectorAll("a.hit")];

function show(open) {
  panel.hidden = !open;
  box.setAttribute("aria-expanded", String(open));
  if (!open) point(-1);
}

/** Marks one answer as the one Enter opens; -1 gives Enter back to the form. */
function point(index) {
  const found = options();
  at = found.length ? Math.max(-1, Math.min(index, found.length - 1)) : -1;
  found.forEach((option, k) => {
    option.setAttribute("aria-selected", String(k === at));
  });
  if (at < 0) return box.removeAttribute("aria-activedescendant");
  box.setAttribute("aria-activedescendant", found[at].id);
  found[at].scrollIntoView({ block: "nearest" });
}

/** The same markup as on the page, named as what it is below the box: a list to choose from. */
function dress() {
  const found = options();
  if (found.length) panel.setAttribute("role", "listbox");
  else panel.removeAttribute("role");
  panel.setAttribute("aria-label", "Found");
  for (const kind of panel.querySelectorAll("section.kind")) {
    kind.setAttribute("role", "group");
    kind.setAttribute("aria-label", kind.querySelector("h2").textContent);
    for (const plain of kind.querySelectorAll("h2, ul, li, p")) plain.setAttribute("role", "presentation");
  }
  found.forEach((option, k) => {
    option.id = `hit-${k}`;
    option.setAttribute("role", "option");
    option.tabIndex = -1;
  });
  point(-1);
}

panel.addEventListener("htmx:afterSwap", () => {
  dress();
  show(document.activeElement === box && box.value.trim() !== "");
});
box.addEventListener("input", () => box.value.trim() || show(false));
box.addEventListener("focus", () => show(box.value.trim() !== "" && panel.childElementCount > 0));
form.addEventListener("focusout", (event) => form.contains(event.relatedTarget) || show(false));
// A press on an answer must not take the focus first: the list would be gone before the click.
panel.addEventListener("mousedown", (event) => event.preventDefault());
form.elements.run?.addEventListener("change", () => {
  box.focus();
  box.dispatchEvent(new Event("again"));
});

box.addEventListener("keydown", (event) => {
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move && !panel.hidden) {
    event.preventDefault();
    point(at + move);
  } else if (event.key === "Enter" && at >= 0 && !panel.hidden) {
    event.preventDefault();
    options()[at].click();
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (panel.hidden) box.blur();
    else show(false);
  }
});
