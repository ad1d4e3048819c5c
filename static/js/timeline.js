// The run page: one crosshair over panels and lanes, drag to zoom, click to choose a step.
import { Chart } from "./chart.js";
import { Drawer } from "./drawer.js";
import { Lanes } from "./lanes.js";
import { whole } from "./numbers.js";

const root = document.getElementById("timeline");
const { figure, lanesUrl, steps } = root.dataset;
const whole0 = Number(root.dataset.first);
const whole1 = Number(root.dataset.last);
const plot = root.querySelector(".plot");
const laneNode = root.querySelector(".lanes");
const said = root.querySelector("#lane-said");
const reset = root.querySelector("[data-reset]");
const cross = line("cross");
const chosen = line("cross chosen");

const drawer = new Drawer(document.getElementById("drawer"), steps);
const chart = figure ? new Chart(root.querySelector(".panels"), root.querySelector(".heads"), figure, zoom) : null;
let lanes = null;
let step = Number(root.dataset.step) || null;
let view = viewOf(location);
let waiting = 0;

function viewOf(place) {
  const query = new URL(place.href).searchParams;
  return { first: query.has("first") ? Number(query.get("first")) : null, last: query.has("last") ? Number(query.get("last")) : null };
}

function line(kind) {
  const node = Object.assign(document.createElement("div"), { className: kind, hidden: true });
  node.append(document.createElement("span"));
  plot.append(node);
  return node;
}

/** Where steps lie on the screen; without panels the lanes stand alone on the same margins. */
function scale() {
  const left = chart?.margin?.l ?? 76;
  const width = plot.clientWidth - left - (chart?.margin?.r ?? 14);
  const pad = Math.max(whole1 - whole0, 1) * 0.005;
  const [from, to] = chart?.range ?? [(view.first ?? whole0) - pad, (view.last ?? whole1) + pad];
  return { left, width, from, to, x: (at) => left + ((at - from) / (to - from)) * width, step: (x) => from + ((x - left) / width) * (to - from) };
}

function place(node, at, text) {
  const s = scale();
  const x = at === null ? -1 : s.x(at);
  node.hidden = at === null || x < s.left - 1 || x > s.left + s.width + 1;
  if (node.hidden) return;
  node.style.left = `${x}px`;
  node.classList.toggle("flip", x > plot.clientWidth - 130);
  node.firstChild.textContent = text;
}

function settle() {
  lanes?.draw(scale());
  place(chosen, step, step === null ? "" : `step ${whole(step)}`);
  plot.setAttribute("aria-valuenow", step ?? whole0);
  plot.setAttribute("aria-valuetext", step === null ? "no step chosen" : `step ${whole(step)}`);
  reset.hidden = view.first === null && view.last === null;
}

async function draw() {
  if (!chart) {
    plot.dataset.ready = "true";
    return settle();
  }
  plot.classList.add("busy");
  try {
    const drawn = await chart.show(view.first, view.last, () => {
      plot.querySelector(".waiting")?.remove();
      settle();
    });
    if (!drawn) return;
    plot.dataset.ready = "true";
  } catch (error) {
    const note = plot.querySelector(".waiting") ?? plot.appendChild(Object.assign(document.createElement("div"), { className: "waiting" }));
    note.textContent = `The numbers did not come: ${error.message}. Reload the page to try again.`;
  } finally {
    plot.classList.remove("busy");
  }
}

function zoom(first, last) {
  // What is on the screen stays while finer data is on its way.
  view = first <= whole0 && last >= whole1 ? { first: null, last: null } : { first: Math.max(first, whole0), last: Math.min(Math.max(last, first + 1), whole1) };
  const url = new URL(location.href);
  for (const key of ["first", "last"]) view[key] === null ? url.searchParams.delete(key) : url.searchParams.set(key, view[key]);
  history.replaceState(history.state, "", url);
  cross.hidden = true;
  settle();
  clearTimeout(waiting);
  waiting = setTimeout(draw, 120);
}

function choose(at, remember = true) {
  step = Math.min(Math.max(Math.round(at), 0), whole1);
  settle();
  drawer.open(step, remember);
}

function pointer(event) {
  const box = plot.getBoundingClientRect();
  const laneBox = laneNode.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - plot.querySelector(".panels").getBoundingClientRect().top, lane: lanes?.at(event.clientX - laneBox.left, event.clientY - laneBox.top), inLanes: event.clientY >= laneBox.top };
}

plot.addEventListener("pointermove", (event) => {
  if (event.buttons) return;
  const at = pointer(event);
  const s = scale();
  const here = at.lane?.step ?? Math.round(s.step(at.x));
  const outside = at.x < s.left || at.x > s.left + s.width;
  place(cross, outside ? null : here, whole(here));
  chart?.read(outside ? null : here);
  said.textContent = at.lane?.said ?? "";
});
plot.addEventListener("pointerleave", () => {
  cross.hidden = true;
  chart?.read(null);
  said.textContent = "";
});

let pressed = null;
plot.addEventListener("pointerdown", (event) => (pressed = { x: event.clientX, y: event.clientY }), true);
plot.addEventListener("click", (event) => {
  const s = scale();
  const at = pointer(event);
  // A drag also ends in a click: only a press that stayed in place chooses.
  if (!pressed || Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > 4 || at.x < s.left) return;
  if (at.inLanes || !chart?.margin) choose(at.lane?.step ?? s.step(at.x));
  else choose(chart.meant(at.x, at.y));
});
plot.addEventListener("dblclick", () => zoom(whole0, whole1));
reset.addEventListener("click", () => zoom(whole0, whole1));

plot.addEventListener("keydown", (event) => {
  const s = scale();
  const one = Math.max((s.to - s.from) / 200, 1);
  const moves = { ArrowRight: one, ArrowLeft: -one, PageUp: one * 20, PageDown: -one * 20 };
  if (event.key in moves) {
    event.preventDefault();
    step = Math.min(Math.max(Math.round((step ?? (s.from + s.to) / 2) + moves[event.key]), whole0), whole1);
    settle();
    chart?.read(step);
  } else if (event.key === "Enter" && step !== null) {
    choose(step);
  } else if (event.key === "+" || event.key === "-") {
    const middle = step ?? (s.from + s.to) / 2;
    const half = (s.to - s.from) * (event.key === "+" ? 0.25 : 1);
    zoom(Math.floor(middle - half), Math.ceil(middle + half));
  } else if (event.key === "Escape") zoom(whole0, whole1);
});

addEventListener("popstate", () => {
  view = viewOf(location);
  step = Number(new URL(location.href).searchParams.get("step")) || null;
  draw();
  if (step !== null) drawer.open(step, false);
});
new ResizeObserver(settle).observe(plot);
for (const input of root.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    for (const label of root.querySelectorAll(".picker label[data-name]")) label.hidden = !label.dataset.name.includes(input.value.toLowerCase());
  });
}

fetch(lanesUrl, { credentials: "same-origin" })
  .then((answer) => answer.json())
  .then((all) => {
    lanes = new Lanes(laneNode, all);
    settle();
    laneNode.dataset.ready = "true";
  });
draw();
