// Reading the arrays that figures carry, and writing numbers the way the pages do.

const KINDS = { i4: Int32Array, f4: Float32Array, f8: Float64Array };

/** `{dtype, bdata}` (base64, little-endian) as a typed array. */
export function unpack(packed) {
  const text = atob(packed.bdata);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return new KINDS[packed.dtype](bytes.buffer);
}

/** A whole number with its thousands apart; the browser's own formatter takes longer to set up than a page to draw. */
export const whole = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");

/** A measured value in five significant digits. */
export function measured(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  return text.replace("-", "−");
}

/** Index of the last entry of an ascending array that is <= value, -1 before the first. */
export function lastAtMost(array, value) {
  let low = 0;
  let high = array.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** A count the way people say it: 601.3 B. */
export function short(value) {
  const units = [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]];
  const [name, size] = units.find(([, one]) => Math.abs(value) >= one) ?? ["", 1];
  return `${(value / size).toLocaleString("en-US", { maximumFractionDigits: 1 })}${name && ` ${name}`}`;
}

/** Steps against what another x axis counts: straight lines between known places, the outermost going on. */
export class Axis {
  constructor({ steps, at }) {
    Object.assign(this, { steps: unpack(steps), at: unpack(at) });
  }

  toX = (step) => along(step, this.steps, this.at);

  toStep = (count) => along(count, this.at, this.steps);
}

function along(value, known, there) {
  const left = Math.min(Math.max(lastAtMost(known, value), 0), known.length - 2);
  const run = known[left + 1] - known[left];
  return there[left] + (run ? ((value - known[left]) * (there[left + 1] - there[left])) / run : 0);
}
