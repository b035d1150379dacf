// Outlines that a person drew.

import * as api from "./api.js";
import { inSlidePixels } from "./overlay.js";

export async function addAnnotation(about, state, overlay) {
  if (!about.annotation) return;
  const path = new Path2D();
  for (const ring of await api.annotation(about.id)) {
    ring.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  overlay.add((context, camera) => {
    if (!state.get("annotation")) return;
    context.save();
    const pixel = inSlidePixels(context, camera);
    for (const [colour, width, dash] of [["rgb(255 255 255 / 90%)", 3.6, []], ["#0057b8", 2, [8, 5]]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * pixel;
      context.setLineDash(dash.map((length) => length * pixel));
      context.stroke(path);
    }
    context.restore();
  });
  overlay.invalidate();
}
