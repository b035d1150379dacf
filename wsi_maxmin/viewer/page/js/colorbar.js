// The legend: colours of all values, and where the threshold is.

import { colours, middleOf } from "./colormaps.js";
import { cutOf } from "./state.js";

/** Draw a colour bar of 256 steps; what is not painted on the slide is hatched. */
export function drawColorBar(context, { x, y, width, height, colormap, middle, threshold, fill }) {
  const cut = cutOf(threshold ?? 0);
  colours(colormap, middle).forEach(([red, green, blue], value) => {
    context.globalAlpha = fill === "all" || value >= cut ? 1 : 0.25;
    context.fillStyle = `rgb(${red} ${green} ${blue})`;
    context.fillRect(x + (value * width) / 256, y, width / 256 + 0.6, height);
  });
  context.globalAlpha = 1;
  if (threshold === undefined) return;
  const at = x + (cut * width) / 256;
  context.fillStyle = "white";
  context.fillRect(at - 1.5, y - 3, 3, height + 6);
  context.fillStyle = "black";
  context.fillRect(at - 0.5, y - 3, 1, height + 6);
}

export function addColorBar(about, state) {
  const canvas = document.querySelector("#colorbar");
  const draw = () => {
    const { width, height } = canvas.getBoundingClientRect();
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    const context = canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    const [colormap, fill] = [state.get("colormap"), state.get("fill")];
    const [middle, threshold] = [middleOf(about, state.get("channel")), state.threshold];
    drawColorBar(context, { x: 0, y: 3, width, height: height - 6, colormap, middle, fill, threshold });
  };
  state.on(["colormap", "thresholds", "channel", "fill"], draw);
  addEventListener("resize", draw);
  draw();
}
