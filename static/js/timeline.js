// The run page: the state in the address, the controls, the chart, the lanes and the drawer put together.
import { Chart } from "./chart.js";
import { Cross } from "./cross.js";
import { watchDrags } from "./drag.js";
import { Drawer } from "./drawer.js";
import { Heads } from "./heads.js";
import { Lanes } from "./lanes.js";
import { whole } from "./numbers.js";
import { showLargest } from "./spikes.js";
import { address, figureQuery, fill, read } from "./state.js";
import { Table } from "./table.js";

const TWICE = 350;
const root = document.getElementById("timeline");
const { run, base, figure: firstFigure, lanesUrl, steps } = root.dataset;
const begin = Number(root.dataset.first);
const plot = root.querySelector(".plot");
const laneNode = root.querySelector(".lanes");
const controls = document.getElementById("controls");
const told = root.querySelector("#told");
const reset = root.querySelector("[data-reset]");
const usual = JSON.parse(root.dataset.chosen);
const most = Number(root.dataset.most);

const chart = firstFigure ? new Chart(root.querySelector(".panels")) : null;
const drawer = new Drawer(document.getElementById("drawer"), steps);
const heads = chart && new Heads(root.querySelector(".heads"), root.querySelector(".key-of-runs"), { onFold: fold, onMute: mute });
const cross = new Cross({ plot, laneNode, chart, heads, scale, exactUrl, lanes: () => lanes, said: root.querySelector("#lane-said") });
const table = new Table(document.getElementById("numbers"));
let lanes = null;
let state = read(location);
let firstRequest = firstFigure;
let burst = 0;

const end = () => chart?.figure?.end ?? Number(root.dataset.last);
const drawn = () => (state.series.length ? state.series : usual).filter((name) => known.has(name) || usual.includes(name)).slice(0, most);
const known = new Set([...root.querySelectorAll(".picker input[name=series]")].map((box) => box.value));
const look = () => ({ smooth: state.smooth, hidden: new Set(state.hide), muted: new Set(state.off) });

function figureUrl(first, last, buckets) {
  return `${base}?${figureQuery(state, drawn(), { first, last, buckets })}`;
}

/** Fewer pixels need fewer buckets; whole hundreds, so that a slightly other width asks for the same. */
const buckets = () => Math.min(Math.max(Math.ceil((plot.clientWidth || 1000) / 100) * 100, 200), 1000);

function exactUrl(step) {
  return figureUrl(step, step, 1000);
}

/** Where steps lie on the screen; without panels the lanes stand alone on the same margins. */
function scale() {
  const left = chart?.margin?.l ?? 78;
  const width = plot.clientWidth - left - (chart?.margin?.r ?? 16);
  const pad = Math.max(end() - begin, 1) * 0.005;
  const [from, to] = chart?.range ?? [(state.first ?? begin) - pad, (state.last ?? end()) + pad];
  const x = (step) => left + (((chart ? chart.toX(step) : step) - from) / (to - from)) * width;
  const stepAt = (at) => {
    const there = from + ((at - left) / width) * (to - from);
    return chart?.axis ? chart.axis.toStep(there) : there;
  };
  return { left, width, x, step: stepAt, from: stepAt(left), to: stepAt(left + width) };
}

/** Everything but the panels, which draw themselves. */
function settle() {
  lanes?.draw(scale(), state.x);
  cross.choose(state.step);
  plot.setAttribute("aria-valuenow", state.step ?? begin);
  plot.setAttribute("aria-valuetext", state.step === null ? "no step chosen" : `step ${whole(state.step)}`);
  plot.setAttribute("aria-valuemax", end());
  reset.hidden = state.first === null && state.last === null;
  if (chart?.figure) heads.show(chart);
}

async function draw(preview = null) {
  if (!chart) {
    plot.dataset.ready = "true";
    return settle();
  }
  // The first request is, to the letter, the one the page preloads.
  const url = firstRequest || figureUrl(state.first, state.last, buckets());
  firstRequest = "";
  plot.classList.add("busy");
  delete plot.dataset.ready;
  try {
    const done = await chart.show(url, look(), settled, preview);
    if (!done) return;
    showLargest(root.querySelector(".largest"), chart, choose);
    plot.querySelector(".waiting")?.remove();
    plot.dataset.ready = "true";
    const drawnIn = link(url);
    // The first table came with the page.
    if (url !== firstFigure) table.renew(drawnIn);
  } catch (error) {
    const note = plot.querySelector(".waiting") ?? plot.appendChild(Object.assign(document.createElement("div"), { className: "waiting", role: "alert" }));
    note.textContent = `The numbers did not come: ${error.message}`;
    plot.dataset.ready = "true";
  }
  plot.classList.remove("busy");
}

function settled() {
  plot.querySelector(".waiting")?.remove();
  settle();
}

async function restyle() {
  delete plot.dataset.ready;
  await chart?.restyle(figureUrl(state.first, state.last, buckets()), look(), settle);
  if (chart?.figure) showLargest(root.querySelector(".largest"), chart, choose);
  plot.dataset.ready = "true";
}

/** Links to the same view in other forms follow what is drawn. */
function link(url) {
  const query = url.slice(url.indexOf("?"));
  root.querySelector("[data-csv]").href = `${base}.csv${query}`;
  const there = address(location, state, ["page"]);
  if (!there.searchParams.has("table")) there.searchParams.set("table", drawn()[0] ?? "");
  there.searchParams.set("buckets", new URLSearchParams(query).get("buckets"));
  root.querySelector("[data-table]").href = `${there.pathname}${there.search}`;
  return there.searchParams.get("buckets");
}

/** A new state, in the address too; `how` is "push" for what Back should undo. */
function turn(change, how = "push") {
  state = { ...state, ...change };
  const url = address(location, state, ["page"]);
  if (url.href !== location.href) history[`${how}State`]({ step: state.step }, "", url);
  fill(controls, state, drawn());
  count();
}

function count() {
  const wanted = state.series.length ? state.series : usual;
  root.querySelector("[data-count]")?.replaceChildren(String(drawn().length));
  told.textContent = wanted.filter((name) => known.has(name)).length > most ? `The first ${most} of ${wanted.length} series are drawn.` : "";
  told.hidden = !told.textContent;
}

function zoom(first, last, how = "push") {
  const [from, to] = [Math.max(Math.ceil(first), Math.min(begin, 0)), Math.min(Math.floor(last), end())];
  if (from <= begin && to >= end()) turn({ first: null, last: null }, how);
  else turn({ first: Math.min(from, to), last: Math.max(to, from) }, how);
  cross.leave();
  const shown = [state.first ?? begin, state.last ?? end()].map((step) => (chart ? chart.toX(step) : step));
  return shown[1] > shown[0] ? shown : null;
}

/** Bursts (keys, wheel) wait for their end; all else asks at once. */
function soon(preview) {
  clearTimeout(burst);
  burst = setTimeout(() => draw(preview), 120);
}

function around(middle, factor) {
  const { from, to } = scale();
  return [middle - (middle - from) * factor, middle + (to - middle) * factor];
}

function choose(at, patience = 0) {
  const step = Math.min(Math.max(Math.round(at), 0), end());
  const same = step === state.step;
  if (!same) turn({ step });
  settle();
  drawer.open(step, true, patience);
}

function fold(name, alone) {
  const others = drawn().filter((one) => one !== name);
  turn({ hide: alone ? others : state.hide.includes(name) ? state.hide.filter((one) => one !== name) : [...state.hide, name] }, "replace");
  restyle();
}

function mute(name, alone) {
  const runs = [run, ...state.over];
  const rest = state.off.includes(name) ? state.off.filter((one) => one !== name) : [...state.off, name];
  turn({ off: alone ? runs.filter((one) => one !== name) : rest }, "replace");
  restyle();
}

watchDrags(plot, {
  inside: (x) => x >= scale().left - 2,
  onDrag(from, to) {
    const s = scale();
    draw(zoom(s.step(Math.max(from, s.left)), s.step(Math.min(to, s.left + s.width))));
  },
  onClick(event) {
    const at = cross.pointer(event);
    if (at.x < scale().left) return;
    // A second click may follow: the page does not run away from under it.
    if (at.inLanes || !chart?.margin) choose(at.lane?.step ?? scale().step(at.x), TWICE);
    else choose(chart.meant(at.x, at.y), TWICE);
  },
});
const wholeRun = () => draw(zoom(begin, end()));
plot.addEventListener("dblclick", (event) => {
  if (event.target.closest("button")) return;
  drawer.stay();
  wholeRun();
});
reset.addEventListener("click", wholeRun);
plot.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { x } = cross.pointer(event);
    soon(zoom(...around(scale().step(x), event.deltaY < 0 ? 0.7 : 1.4), "replace"));
  },
  { passive: false },
);

plot.addEventListener("keydown", (event) => {
  if (event.target !== plot || event.ctrlKey || event.metaKey || event.altKey) return;
  const s = scale();
  const one = Math.max((s.to - s.from) / 200, 1);
  const moves = { ArrowRight: one, ArrowLeft: -one, PageUp: one * 20, PageDown: -one * 20, Home: -Infinity, End: Infinity };
  const middle = state.step ?? (s.from + s.to) / 2;
  if (event.key in moves) {
    event.preventDefault();
    state.step = Math.min(Math.max(Math.round(middle + moves[event.key]), begin), end());
    settle();
    cross.read(state.step);
  } else if (event.key === "Enter" && state.step !== null) {
    const step = state.step;
    state.step = null;
    choose(step);
  } else if (event.key === "+" || event.key === "-") soon(zoom(...around(middle, event.key === "+" ? 0.25 : 2), "replace"));
  else if (event.key === "Escape") wholeRun();
});

controls.addEventListener("input", (event) => {
  const { name, value } = event.target;
  if (name !== "smooth") return;
  root.querySelector("[data-smooth]").textContent = value;
  turn({ smooth: Number(value) }, "replace");
  clearTimeout(burst);
  burst = setTimeout(restyle, 30);
});
controls.addEventListener("change", (event) => {
  const { name, value, checked } = event.target;
  if (name === "x") turn({ x: value });
  else if (name === "y") turn({ y: checked ? "log" : "linear" });
  else if (name === "over") turn({ over: value ? [value] : [], off: [] });
  else return;
  draw();
});
controls.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(controls);
  if (event.submitter?.name === "go") {
    if (given.get("step")) choose(Number(given.get("step")));
    return;
  }
  const series = given.getAll("series");
  const asUsual = series.length === usual.length && series.every((name) => usual.includes(name));
  turn({ series: asUsual ? [] : series, hide: state.hide.filter((name) => series.includes(name)) });
  root.querySelector(".picker").open = false;
  draw();
});

addEventListener("popstate", () => {
  const before = state;
  state = read(location);
  fill(controls, state, drawn());
  count();
  const drawing = (one) => JSON.stringify({ ...one, step: null });
  if (drawing(before) === drawing(state)) {
    settle();
    table.follow();
  } else draw();
  if (state.step !== null && state.step !== before.step) drawer.open(state.step);
});
new ResizeObserver(settle).observe(plot);
// Panels, lanes and crosshair keep their places to each other on paper: all of it is made smaller at once.
const PAPER = 700;
const stage = plot.parentElement;
addEventListener("beforeprint", () => {
  const width = stage.clientWidth;
  stage.style.width = `${width}px`;
  stage.style.zoom = Math.min(1, PAPER / width);
});
addEventListener("afterprint", () => {
  stage.style.width = stage.style.zoom = "";
});

for (const input of root.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    for (const group of root.querySelectorAll(".picker fieldset")) {
      const labels = [...group.querySelectorAll("label[data-name]")];
      for (const label of labels) label.hidden = !label.dataset.name.includes(input.value.toLowerCase());
      group.hidden = labels.every((label) => label.hidden);
    }
  });
}
root.querySelector("[data-clear]")?.addEventListener("click", () => {
  for (const box of root.querySelectorAll(".picker input[name=series]")) box.checked = false;
});
for (const menu of root.querySelectorAll("details.picker")) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
for (const button of root.querySelectorAll("[data-picture]")) {
  button.addEventListener("click", async () => {
    // Seldom asked for: read when it is.
    const { savePicture } = await import("./picture.js");
    await savePicture(chart, run, button.dataset.picture);
  });
}

fetch(lanesUrl, { credentials: "same-origin" })
  .then((answer) => answer.json())
  .then((all) => {
    lanes = new Lanes(laneNode, all);
    settle();
    laneNode.dataset.ready = "true";
  });
count();
draw();
