// What every page has: copy buttons, relative times, and parts that htmx brought in later.
import "./keys.js";
import "./search.js";

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
let relative = null;

export function ago(then, now = Date.now()) {
  const seconds = (then - now) / 1000;
  relative ??= new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return "just now";
}

function dress(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    time.title = time.textContent;
    time.textContent = ago(Date.parse(time.dateTime));
  }
  for (const tab of root.querySelectorAll(".tabs [aria-current]")) {
    const tabs = tab.parentElement;
    const hidden = tab.offsetLeft + tab.offsetWidth - tabs.offsetLeft - tabs.clientWidth;
    // With a piece of the next one in view.
    if (hidden > 0) tabs.scrollLeft = hidden + 40;
  }
  // On a narrow screen a drawing is wider than its box: begin with the part that was chosen.
  for (const part of root.querySelectorAll(".scroll > svg .span")) {
    const box = part.closest(".scroll");
    const inside = part.getBoundingClientRect();
    const outside = box.getBoundingClientRect();
    box.scrollLeft += inside.left + inside.width / 2 - outside.left - outside.width / 2;
  }
}

async function copy(button) {
  const from = button.dataset.copyFrom ? document.getElementById(button.dataset.copyFrom) : null;
  const link = button.dataset.copyLink;
  const text = link ? new URL(link, location.href).href : button.dataset.copy === "url" ? location.href : (button.dataset.copy ?? from?.textContent ?? "");
  try {
    await navigator.clipboard.writeText(text);
    button.classList.add("done");
    say("Copied");
  } catch {
    // Without a secure origin there is no clipboard: select the text so that the reader's own keys copy it.
    const shown = from ?? button.previousElementSibling;
    if (shown) getSelection()?.selectAllChildren(shown);
    say("Press Ctrl+C to copy");
  }
  setTimeout(() => button.classList.remove("done"), 1200);
}

export function say(text) {
  const live = document.getElementById("said");
  if (live) live.textContent = text;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy, button[data-copy], button[data-copy-link]");
  if (button) copy(button);
});

/** Who signed in, from a cookie that opens nothing: pages that are kept for everybody cannot say it. */
function greet() {
  const found = /(?:^|; )portal-name=([^;]*)/.exec(document.cookie);
  const link = document.querySelector("[data-who]");
  if (!found || !link) return;
  try {
    const name = decodeURIComponent(found[1]);
    link.textContent = name;
    link.title = `Signed in as ${name}`;
    link.href = "/account";
  } catch {
    /* Not one the portal set. */
  }
}
greet();

document.addEventListener("htmx:afterSwap", (event) => dress(event.target));
// What is to be drawn comes first.
(window.requestIdleCallback ?? setTimeout)(() => dress(document), { timeout: 1000 });
