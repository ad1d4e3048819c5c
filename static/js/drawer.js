// What lies at a step: htmx brings it from the step's own page.
export class Drawer {
  constructor(node, base) {
    Object.assign(this, { node, base });
  }

  async open(step) {
    this.node.setAttribute("aria-busy", "true");
    await window.htmx.ajax("GET", `${this.base}${step}`, { target: this.node, swap: "innerHTML" });
    this.node.removeAttribute("aria-busy");
  }
}
