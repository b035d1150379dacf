// Where the pointer is, and what the map has there.

import { value } from "./format.js";

/** Follow the pointer; the slide may also move under it while it rests. */
export function readOut(about, state, viewer, camera, heatmap, grid) {
  const output = document.querySelector("#readout");
  let pointer = null;
  const read = () => {
    if (!pointer) return;
    const bounds = viewer.element.getBoundingClientRect();
    const [x, y] = camera.toSlide(pointer.clientX - bounds.left, pointer.clientY - bounds.top);
    grid.hover(x, y);
    const inside = x >= 0 && y >= 0 && x < about.size[0] && y < about.size[1];
    const found = inside ? heatmap.valueAt(x, y, camera.now().scale) : null;
    const what = found === null ? "no value here" : `${state.get("channel")} ${value(found)}`;
    output.textContent = inside ? `x ${Math.floor(x)}  y ${Math.floor(y)} px   ${what}` : "";
  };
  viewer.element.addEventListener("pointermove", (event) => {
    pointer = event;
    read();
  });
  viewer.element.addEventListener("pointerleave", () => {
    pointer = null;
    grid.hover(-1, -1);
    output.textContent = "";
  });
  viewer.addHandler("viewport-change", read);
}
