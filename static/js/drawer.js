// What lies at a step: htmx brings it from the step's own page; the address of this page names the step.
export class Drawer {
  constructor(node, base) {
    Object.assign(this, { node, base });
  }

  /** Fills the drawer; `remember` adds a history entry, so that Back returns to the step before. */
  async open(step, remember) {
    if (remember) {
      const url = new URL(location.href);
      url.searchParams.set("step", step);
      history.pushState({ step }, "", url);
    }
    this.node.setAttribute("aria-busy", "true");
    await window.htmx.ajax("GET", `${this.base}${step}`, { target: this.node, swap: "innerHTML" });
    this.node.removeAttribute("aria-busy");
  }
}
