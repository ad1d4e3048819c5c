// What lies at a step: htmx brings it from the step's own page.

const SEEN = 120;

export class Drawer {
  constructor(node, base) {
    Object.assign(this, { node, base });
  }

  /** With `show` the page moves down to it, where it lies below the screen. */
  async open(step, show = false) {
    this.node.setAttribute("aria-busy", "true");
    await window.htmx.ajax("GET", `${this.base}${step}`, { target: this.node, swap: "innerHTML" });
    this.node.removeAttribute("aria-busy");
    const { top, bottom } = this.node.getBoundingClientRect();
    if (show && top > innerHeight - SEEN) {
      const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
      scrollBy({ top: Math.min(bottom - innerHeight + 12, top - 80), behavior });
    }
  }
}
