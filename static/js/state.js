// What is shown, as the address says it; and the controls that say it too.

const LISTS = ["series", "over", "hide", "off"];
const NUMBERS = ["first", "last", "step"];

/** `{series, over, hide, off, first, last, step, x, y, smooth}` of an address; what it leaves out is usual. */
export function read(place) {
  const query = new URL(place.href).searchParams;
  const state = Object.fromEntries(LISTS.map((name) => [name, [...new Set(query.getAll(name).filter(Boolean))]]));
  for (const name of NUMBERS) state[name] = query.get(name) && Number.isFinite(Number(query.get(name))) ? Number(query.get(name)) : null;
  state.x = query.get("x") || "step";
  state.y = query.get("y") === "log" ? "log" : "linear";
  state.smooth = Math.min(Math.max(Number(query.get("smooth")) || 0, 0), 0.999);
  return state;
}

/** The address of a state; parameters that belong to others (the table's) are kept unless `drop` names them. */
export function address(place, state, drop = []) {
  const url = new URL(place.href);
  for (const name of [...LISTS, ...NUMBERS, "x", "y", "smooth", ...drop]) url.searchParams.delete(name);
  for (const name of LISTS) for (const value of state[name]) url.searchParams.append(name, value);
  for (const name of NUMBERS) if (state[name] !== null) url.searchParams.set(name, state[name]);
  if (state.x !== "step") url.searchParams.set("x", state.x);
  if (state.y !== "linear") url.searchParams.set("y", state.y);
  if (state.smooth) url.searchParams.set("smooth", state.smooth);
  return url;
}

/** The query of a figure for a state: what it draws, without what only the browser needs. */
export function figureQuery(state, series, { first, last, buckets }) {
  const query = new URLSearchParams();
  for (const name of series) query.append("series", name);
  if (state.x !== "step") query.set("x", state.x);
  if (state.y !== "linear") query.set("y", state.y);
  for (const run of state.over) query.append("over", run);
  if (first !== null) query.set("first", first);
  if (last !== null) query.set("last", last);
  query.set("buckets", buckets);
  return query;
}

/** Sets the controls of a form to a state. */
export function fill(form, state, series) {
  for (const field of form.elements) {
    if (field.name === "series") field.checked = series.includes(field.value);
    else if (field.name === "x") field.checked = field.value === state.x;
    else if (field.name === "y") field.checked = state.y === "log";
    else if (field.name === "smooth") field.value = state.smooth;
    else if (field.name === "over") for (const option of field.options) option.selected = option.value === (state.over[0] ?? "");
    else if (NUMBERS.includes(field.name)) field.value = state[field.name] ?? "";
  }
}
