// Scale bar and magnification.

import { length, magnification, roundLength } from "./format.js";

const LONGEST_PX = 160;

/** Length in µm and in CSS pixels of the bar at so many µm a CSS pixel. */
export function barFor(resolution) {
  const um = roundLength(LONGEST_PX * resolution);
  return { um, px: um / resolution };
}

export function addScaleBar(camera, viewer) {
  const root = document.querySelector("#scale");
  const bar = root.querySelector(".bar");
  const text = root.querySelector(".text");
  const shown = document.querySelector("#magnification");
  viewer.addHandler("update-viewport", () => {
    const { um, px } = barFor(camera.resolution);
    bar.style.width = `${px}px`;
    text.textContent = length(um);
    const times = magnification(camera.resolution);
    shown.textContent = `${times >= 10 ? times.toFixed(0) : times.toPrecision(2)}×`;
    shown.title = `${camera.resolution.toPrecision(3)} µm a screen pixel`;
  });
}
