// The token inspector: parts of a long row come and go as it is scrolled; a span has an address and can be taken along.
import { say } from "./page.js";
import { markRow, showRow } from "./rowlist.js";

const MARGIN = 200;
const SHOWN = ["ids", "onlyids"];
const rows = new Map();
let view = null;

/** The row in the page: its parts, and what is chosen in it. */
class RowView {
  constructor(node) {
    Object.assign(this, { node, anchor: null, head: null, perToken: 0 });
    const { ids, inputs, stream } = node.dataset;
    Object.assign(this, { ids: Number(ids), inputs: Number(inputs) || null, stream: stream === "" ? null : Number(stream) });
    this.parts = [...node.querySelectorAll(".part")];
    const drawn = this.parts.find((part) => part.querySelector("b"));
    if (drawn) this.perToken = drawn.getBoundingClientRect().height / (drawn.dataset.end - drawn.dataset.first);
    for (const part of this.parts) if (part !== drawn) this.leave(part);
    const look = (seen) => {
      for (const one of seen) one.isIntersecting ? this.load(one.target) : this.leave(one.target);
    };
    this.watcher = new IntersectionObserver(look, {
      root: node,
      rootMargin: `${MARGIN}px 0px`,
    });
    this.restore(drawn);
    for (const part of this.parts) this.watcher.observe(part);
    for (const button of document.querySelectorAll("[data-take]")) button.hidden = false;
  }

  /** The span of the address, or the part it names, is scrolled to. */
  restore(drawn) {
    const asked = new URL(location.href).searchParams;
    const found = /^(\d+)(?:-(\d+))?$/.exec(asked.get("t") ?? "");
    if (found) {
      [this.anchor, this.head] = [Number(found[1]), Number(found[2] ?? found[1])];
      this.paint();
      this.reveal(this.token(this.anchor));
      this.tell();
    } else if (drawn && drawn !== this.parts[0]) this.node.scrollTop = drawn.offsetTop - this.node.offsetTop;
  }

  /** Inside the row first; the page moves only when the row itself is out of sight. */
  reveal(token) {
    if (!token) return;
    const box = token.getBoundingClientRect();
    this.node.scrollTop += box.top - this.node.getBoundingClientRect().top - this.node.clientHeight / 3;
    const { top, bottom } = token.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) token.scrollIntoView({ block: "center" });
  }

  part(at) {
    return this.parts.find((part) => at < part.dataset.end);
  }

  token(at) {
    return this.node.querySelector(`b[data-at="${at}"]`);
  }

  async load(part) {
    part.dataset.wanted = "true";
    if (part.querySelector("b")) return;
    part.coming ??= this.fetch(part);
    await part.coming;
  }

  async fetch(part) {
    const { here, row } = this.node.dataset;
    try {
      const answer = await fetch(`${here}?row=${row}&from=${part.dataset.first}`, { headers: { "HX-Request": "true", "HX-Target": "part" } });
      if (!answer.ok) throw new Error(answer.statusText);
      const text = await answer.text();
      // Scrolled past while it was on its way: nobody would ever take it out again.
      if (!part.dataset.wanted) return;
      part.innerHTML = text;
      part.style.height = "";
      this.paint();
    } catch {
      say("These tokens could not be fetched; follow their link to try again.");
    } finally {
      part.coming = null;
    }
  }

  /** A part far from what is seen keeps its height, not its tokens. */
  leave(part) {
    part.dataset.wanted = "";
    const { first, end } = part.dataset;
    if (part.querySelector("b")) {
      part.style.height = `${part.getBoundingClientRect().height}px`;
      const link = document.createElement("a");
      link.className = "more";
      link.href = `${this.node.dataset.here}?row=${this.node.dataset.row}&from=${first}`;
      link.textContent = `tokens ${Number(first).toLocaleString("en")}–${(end - 1).toLocaleString("en")}`;
      part.replaceChildren(link);
    } else if (!part.style.height) part.style.height = `${Math.ceil(this.perToken * (end - first))}px`;
  }

  get span() {
    return this.anchor === null ? null : [Math.min(this.anchor, this.head), Math.max(this.anchor, this.head)];
  }

  choose(anchor, head) {
    [this.anchor, this.head] = [anchor, head];
    this.paint();
    this.tell();
    const url = new URL(location.href);
    if (this.span) url.searchParams.set("t", this.span.join("-"));
    else url.searchParams.delete("t");
    url.searchParams.set("row", this.node.dataset.row);
    url.searchParams.delete("from");
    history.replaceState(history.state, "", url);
    if (this.span) this.whole();
  }

  paint() {
    const [low, high] = this.span ?? [0, -1];
    for (const token of this.node.querySelectorAll("b")) token.classList.toggle("picked", token.dataset.at >= low && token.dataset.at <= high);
    const head = this.head === null ? null : this.token(this.head);
    this.node.querySelector("#token-head")?.removeAttribute("id");
    if (head) head.id = "token-head";
    if (head) this.node.setAttribute("aria-activedescendant", "token-head");
    else this.node.removeAttribute("aria-activedescendant");
  }

  /** The bar, the buttons and the permanent link follow the span. */
  tell() {
    const { span } = this;
    const count = span ? span[1] - span[0] + 1 : 0;
    const what = { ids: count === 1 ? "id" : "ids", text: "text" };
    for (const button of document.querySelectorAll("[data-take]")) {
      const name = what[button.dataset.take];
      button.textContent = span ? `Copy ${button.dataset.take === "ids" ? count.toLocaleString("en") : "its"} ${name}` : `Copy all ${name}`;
    }
    const { moment, version } = this.node.dataset;
    const address = `${moment}${span ? `/t/${span.join("-")}` : ""}?v=${version}`;
    document.querySelector("#row [data-copy-link]")?.setAttribute("data-copy-link", address);
    aim(address);
    if (span) this.describe(this.token(this.head), count);
  }

  describe(token, count = 1) {
    const bar = document.getElementById("token-said");
    if (!token || !bar) return;
    const at = Number(token.dataset.at);
    const label = bar.ownerDocument.createElement("span");
    const said = [`position ${at.toLocaleString("en")}`, `id ${token.dataset.id}`];
    if (token.dataset.hex) said.push(`bytes ${token.dataset.hex}`);
    if (this.stream !== null && (this.inputs === null || at < this.inputs)) said.push(`token ${(this.stream + at).toLocaleString("en")} of the run`);
    if (this.inputs !== null && this.ids === this.inputs + 1) said.push(at === this.ids - 1 ? "predicted, never read" : at ? "" : "read, never predicted");
    label.textContent = `${count > 1 ? `${count.toLocaleString("en")} tokens chosen, at the end ` : ""}${said.filter(Boolean).join(" · ")}`;
    const piece = document.createElement("code");
    piece.className = "piece";
    piece.append(...[...token.cloneNode(true).childNodes]);
    bar.replaceChildren(...(token.textContent ? [piece, " "] : ["part of the character that follows · "]), label);
  }

  /** Ids and pieces of the whole row, fetched once: what is copied is the data, not its drawing. */
  whole() {
    const { here, row } = this.node.dataset;
    const address = `/api/v1${here}?first=${row}&count=1`;
    if (!rows.has(address)) {
      const coming = fetch(address).then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.statusText))));
      coming.then((found) => rows.set(`${address}#`, found.rows[0]), () => rows.delete(address));
      rows.set(address, coming);
    }
    return { ready: rows.get(`${address}#`), coming: rows.get(address).then((found) => found.rows[0]) };
  }

  taken(row, kind) {
    const [low, high] = this.span ?? [0, this.ids - 1];
    return kind === "ids" ? row.token_ids.slice(low, high + 1).join(" ") : (row.pieces ?? []).slice(low, high + 1).join("");
  }

  async take(kind) {
    const { ready, coming } = this.whole();
    try {
      await navigator.clipboard.writeText(this.taken(ready ?? (await coming), kind));
      say("Copied");
    } catch {
      say("Nothing was copied: the browser allows it only on a secure address. The row's JSON has it too.");
    }
  }

  /** Moves the head of the span; with `extend` its anchor stays. */
  async move(to, extend) {
    const at = Math.max(0, Math.min(this.ids - 1, to));
    const part = this.part(at);
    if (!part.querySelector("b")) part.scrollIntoView({ block: "nearest" });
    await this.load(part);
    this.choose(extend && this.anchor !== null ? this.anchor : at, at);
    this.token(at)?.scrollIntoView({ block: "nearest" });
  }

  /** The token above or below the head, by where they are drawn. */
  beside(direction) {
    const from = this.token(this.head)?.getClientRects()[0];
    if (!from) return this.head;
    const tokens = [...this.node.querySelectorAll("b")].filter((token) => direction * (token.dataset.at - this.head) > 0);
    if (direction < 0) tokens.reverse();
    let best = null;
    let line = null;
    for (const token of tokens) {
      const box = token.getClientRects()[0];
      if (!box || Math.abs(box.top - from.top) < 4) continue;
      if (line !== null && Math.abs(box.top - line) > 4) break;
      line = box.top;
      const away = Math.abs(box.left - from.left);
      if (!best || away < best.away) best = { at: Number(token.dataset.at), away };
    }
    return best?.at ?? (direction > 0 ? this.ids - 1 : 0);
  }
}

/** The Cite panel is asked anew for what is chosen now. */
function aim(address) {
  const panel = document.querySelector("#row .cite .panel");
  if (!panel) return;
  const fresh = panel.cloneNode(false);
  const asked = `${address}&format=html`;
  fresh.setAttribute("hx-get", asked);
  const link = Object.assign(document.createElement("a"), { href: asked, textContent: "Its citation" });
  fresh.append(link);
  panel.closest("details").open = false;
  panel.replaceWith(fresh);
  window.htmx?.process(fresh);
}

function show(name) {
  const node = document.getElementById("tokens");
  for (const kind of SHOWN) node?.classList.toggle(kind, name === kind);
  for (const link of document.querySelectorAll("[data-show]")) {
    if (link.dataset.show === name) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const url = new URL(location.href);
  if (name === "text") url.searchParams.delete("show");
  else url.searchParams.set("show", name);
  history.replaceState(history.state, "", url);
}

/** First and last token of what the browser has selected, null when that is not in the row. */
function selected() {
  const selection = getSelection();
  if (!view || !selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!view.node.contains(range.commonAncestorContainer)) return null;
  const inside = [...view.node.querySelectorAll("b")].filter((token) => {
    const whole = document.createRange();
    whole.selectNodeContents(token);
    return range.compareBoundaryPoints(Range.END_TO_START, whole) < 0 && range.compareBoundaryPoints(Range.START_TO_END, whole) > 0;
  });
  return inside.length ? [Number(inside[0].dataset.at), Number(inside.at(-1).dataset.at)] : null;
}

let dragged = false;
document.addEventListener("pointerdown", () => (dragged = false));
document.addEventListener("click", (event) => {
  const shown = event.target.closest("[data-show]");
  if (shown && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    show(shown.dataset.show);
  }
  const taking = event.target.closest("[data-take]");
  if (taking && view) view.take(taking.dataset.take);
  const more = event.target.closest(".part a.more");
  if (more && view && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    view.load(more.closest(".part"));
  }
  const token = event.target.closest(".tokens b[data-at]");
  const finished = dragged;
  dragged = false;
  if (!token || !view || finished) return;
  const span = selected();
  const at = Number(token.dataset.at);
  if (event.shiftKey && view.anchor !== null) {
    getSelection().removeAllRanges();
    view.choose(view.anchor, at);
  } else if (!span) view.choose(...(view.anchor === at && view.head === at ? [null, null] : [at, at]));
});

document.addEventListener("pointerup", (event) => {
  const span = event.shiftKey ? null : selected();
  if (!span) return;
  if (event.pointerType === "mouse") getSelection().removeAllRanges();
  // A drag that ends where it began is followed by a click, which is not meant.
  dragged = true;
  view.choose(...span);
});
// Touch selects with handles that end in no pointer event of the page.
let settling = 0;
document.addEventListener("selectionchange", () => {
  clearTimeout(settling);
  if (matchMedia("(pointer: coarse)").matches) settling = setTimeout(() => {
    const span = selected();
    if (span) view.choose(...span);
  }, 300);
});

document.addEventListener("copy", (event) => {
  const row = view?.span && getSelection().isCollapsed && view.node.contains(document.activeElement) ? view.whole().ready : null;
  if (!row) return;
  event.clipboardData.setData("text/plain", view.taken(row, row.pieces ? "text" : "ids"));
  event.preventDefault();
  say("Copied");
});

document.addEventListener("pointerover", (event) => {
  const token = event.target.closest(".tokens b[data-at]");
  if (token && view) view.describe(token);
});

document.addEventListener("keydown", (event) => {
  if (!view || event.target !== view.node || event.ctrlKey || event.metaKey || event.altKey) return;
  const head = view.head ?? -1;
  const to = {
    ArrowRight: () => head + 1,
    ArrowLeft: () => Math.max(head - 1, 0),
    ArrowDown: () => (head < 0 ? 0 : view.beside(1)),
    ArrowUp: () => (head < 0 ? 0 : view.beside(-1)),
    Home: () => 0,
    End: () => view.ids - 1,
  }[event.key];
  if (to) view.move(to(), event.shiftKey);
  else if (event.key === "Escape") view.choose(null, null);
  else return;
  event.preventDefault();
});

function open() {
  const node = document.getElementById("tokens");
  if (view?.node === node) return;
  view?.watcher.disconnect();
  view = node ? new RowView(node) : null;
}

document.addEventListener("htmx:afterSettle", () => {
  open();
  markRow(document.getElementById("tokens")?.dataset.row ?? new URL(location.href).searchParams.get("row"));
});
open();
showRow();
