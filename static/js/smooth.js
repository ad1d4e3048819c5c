// Smoothed lines: an exponential average of the drawn means, debiased, with weights that fall by distance in steps.

/** Steps that count as one point: a thousandth of the run, at least one, so that a weight means the same at any zoom. */
export const pace = (steps) => Math.max(steps / 1000, 1);

/** Steps after which a point counts half. */
export const halfLife = (weight, unit) => (Math.log(0.5) / Math.log(weight)) * unit;

/**
 * Smoothed means of `curve` (buckets with first_step, last_step, mean, finite), NaN where a bucket has no number.
 * `before` is the same curve over a longer stretch: what lies ahead of this one is averaged in first.
 */
export function smooth(curve, weight, unit, before) {
  const state = { sum: 0, mass: 0, at: null };
  if (before && before !== curve) {
    const until = curve.first_step[0];
    for (let i = 0; i < before.mean.length && before.last_step[i] < until; i += 1) step(state, before, i, weight, unit);
  }
  return Float64Array.from(curve.mean, (_, i) => step(state, curve, i, weight, unit));
}

function step(state, curve, i, weight, unit) {
  // A bucket of NaN leaves a gap in the line; the average goes on by distance behind it.
  if (!curve.finite[i] || Number.isNaN(curve.mean[i])) return NaN;
  const middle = (curve.first_step[i] + curve.last_step[i]) / 2;
  const passed = state.at === null ? curve.last_step[i] - curve.first_step[i] + 1 : middle - state.at;
  const keep = weight ** (passed / unit);
  state.at = middle;
  state.sum = state.sum * keep + curve.mean[i] * (1 - keep);
  state.mass = state.mass * keep + (1 - keep);
  // Two points logged at one step lie no distance apart: the first stands.
  return state.mass > 0 ? state.sum / state.mass : curve.mean[i];
}
