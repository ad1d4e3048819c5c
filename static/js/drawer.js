// What lies at a step: htmx brings it from the step's own page.

const SEEN = 120;

export class Drawer {
  constructor(node, base) {
    Object.assign(this, { node, base, turn: 0 });
  }

  /** With `show` the page moves down to it, where it lies below the screen; not before `patience` milliseconds are over. */
  async open(step, show = false, patience = 0) {
    this.turn += 1;
    const mine = this.turn;
    this.node.setAttribute("aria-busy", "true");
    const waited = new Promise((over) => setTimeout(over, patience));
    await window.htmx.ajax("GET", `${this.base}${step}`, { target: this.node, swap: "innerHTML" });
    this.node.removeAttribute("aria-busy");
    await waited;
    const { top, bottom } = this.node.getBoundingClientRect();
    if (show && mine === this.turn && top > innerHeight - SEEN) {
      const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
      scrollBy({ top: Math.min(bottom - innerHeight + 12, top - 80), behavior });
    }
  }

  /** The page stays where it is after all. */
  stay() {
    this.turn += 1;
  }
}
