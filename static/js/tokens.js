// The token inspector: what a token is, and how the row is shown.
const SHOWN = ["ids", "onlyids"];
let shown = "text";

function apply() {
  const node = document.querySelector(".tokens");
  if (!node) return;
  for (const name of SHOWN) node.classList.toggle(name, shown === name);
  for (const button of document.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", String(button.dataset.show === shown));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-show]");
  if (!button) return;
  shown = button.dataset.show;
  apply();
});

document.addEventListener("pointerover", (event) => {
  const token = event.target.closest(".tokens b");
  const bar = document.getElementById("token-said");
  if (token && bar) bar.textContent = `position ${token.dataset.at} · id ${token.dataset.id} · ${token.textContent ? JSON.stringify(token.textContent) : "part of the character that follows"}`;
});

document.addEventListener("htmx:afterSettle", () => {
  apply();
  const row = new URL(location.href).searchParams.get("row");
  for (const link of document.querySelectorAll(".rows a")) {
    const here = new URL(link.href).searchParams.get("row") === row;
    if (here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
});
