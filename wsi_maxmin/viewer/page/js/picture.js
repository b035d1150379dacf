// A picture of what is on the screen, with what a reader of it must know.

import { drawColorBar } from "./colorbar.js";
import { middleOf } from "./colormaps.js";
import { length, value } from "./format.js";
import { barFor } from "./scalebar.js";

const CAPTION_PX = 56;

/** Draw slide, overlay, scale bar and legend on a new canvas. */
export function compose(viewer, overlay, camera, about, state) {
  const ratio = devicePixelRatio;
  const { width, height } = overlay.canvas;
  const canvas = Object.assign(document.createElement("canvas"), { width, height: height + CAPTION_PX * ratio });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (about.slide) context.drawImage(viewer.drawer.canvas, 0, 0, width, height);
  context.drawImage(overlay.canvas, 0, 0);
  context.scale(ratio, ratio);
  caption(context, height / ratio, width / ratio, camera, about, state);
  return canvas;
}

function caption(context, top, width, camera, about, state) {
  context.fillStyle = "black";
  context.font = "13px system-ui, sans-serif";
  context.textBaseline = "middle";
  const { um, px } = barFor(camera.resolution);
  context.fillRect(14, top + 34, px, 4);
  context.fillText(length(um), 14, top + 20);
  const threshold = state.threshold;
  const left = Math.max(px + 40, 190);
  const cut = threshold === undefined ? "" : `, contour at ${value(threshold)}`;
  context.fillText(`${about.id}: ${state.get("channel")}${cut}`, left, top + 20, width - left - 250);
  context.fillStyle = "#444";
  context.fillText("made by a research model, not a diagnosis", left, top + 40, width - left - 250);
  context.fillStyle = "black";
  const [colormap, fill] = [state.get("colormap"), state.get("fill")];
  const middle = middleOf(about, state.get("channel"));
  drawColorBar(context, { x: width - 220, y: top + 14, width: 180, height: 12, colormap, middle, fill, threshold });
  context.fillStyle = "black";
  context.fillText("0", width - 222, top + 40);
  context.fillText("1", width - 44, top + 40);
}

export function savePicture(...scene) {
  const [, , , about, state] = scene;
  compose(...scene).toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${about.id}_${state.get("channel")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}
