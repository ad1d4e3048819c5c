// Dragging over the plot marks a stretch; a press that stays in place is a click. Mouse, pen and finger alike.

const STILL = 4;

/**
 * `inside(x)` says whether a drag may begin there, `onDrag(from, to)` and `onClick(event)` hear what it was; all x in
 * pixels from the node's left edge. Escape gives a drag up.
 */
export function watchDrags(node, { inside, onDrag, onClick }) {
  const mark = Object.assign(document.createElement("div"), { className: "stretch", hidden: true });
  node.append(mark);
  let pressed = null;

  const left = (event) => event.clientX - node.getBoundingClientRect().left;
  const drop = () => {
    pressed = null;
    mark.hidden = true;
  };

  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button, a, input")) return;
    pressed = { x: left(event), y: event.clientY, moved: false, id: event.pointerId, begun: inside(left(event)) };
  });
  node.addEventListener("pointermove", (event) => {
    if (!pressed?.begun || event.pointerId !== pressed.id) return;
    const x = left(event);
    if (!pressed.moved && Math.abs(x - pressed.x) > STILL) {
      pressed.moved = true;
      node.setPointerCapture(event.pointerId);
    }
    if (!pressed.moved) return;
    mark.hidden = false;
    mark.style.left = `${Math.min(x, pressed.x)}px`;
    mark.style.width = `${Math.abs(x - pressed.x)}px`;
  });
  node.addEventListener("pointerup", (event) => {
    if (!pressed || event.pointerId !== pressed.id) return;
    const { x, y, moved } = pressed;
    drop();
    if (moved) onDrag(Math.min(x, left(event)), Math.max(x, left(event)));
    else if (Math.hypot(left(event) - x, event.clientY - y) <= STILL) onClick(event);
  });
  node.addEventListener("pointercancel", drop);
  addEventListener("keydown", (event) => event.key === "Escape" && pressed && drop());
}
