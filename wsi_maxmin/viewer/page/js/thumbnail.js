// A small picture of a slide with its map over it: the minimap, and the cards of the gallery.

import * as api from "./api.js";

/** Fit a slide of `size` into a box, both (width, height). */
export function fitted(size, box) {
  const scale = Math.min(box[0] / size[0], box[1] / size[1]);
  return size.map((side) => Math.max(Math.round(side * scale), 1));
}

async function slideImage(about) {
  if (!about.slide) return null;
  const image = new Image();
  image.src = api.thumbnailUrl(about);
  await image.decode();
  return image;
}

/** Load the coarsest level of a channel, which is one tile, with where it lies. */
export async function coarseMap(about, channel) {
  const level = about.map.levels.length - 1;
  const { size, origin, step } = about.map.levels[level];
  return { ...(await api.values(about, channel, level, 0, 0)), width: size[0], height: size[1], origin, step };
}

function paintMap(map, paint) {
  const canvas = Object.assign(document.createElement("canvas"), { width: map.width, height: map.height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.width, map.height);
  const pixels = new Uint32Array(image.data.buffer);
  map.values.forEach((value, index) => {
    if (map.seen[index]) pixels[index] = paint[value];
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The slide, as an image or null, once; then any number of maps over it. */
export class Thumbnail {
  constructor(canvas, about, box) {
    this.canvas = canvas;
    this.about = about;
    const [width, height] = fitted(about.size, box);
    Object.assign(canvas, { width: width * devicePixelRatio, height: height * devicePixelRatio });
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    this.scale = canvas.width / about.size[0];
  }

  async load() {
    this.image = await slideImage(this.about).catch(() => null);
  }

  /** `paint` is what `paintOf` gives; without a map the slide alone is drawn. */
  draw(map, paint, opacity) {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.globalAlpha = 1;
    context.fillStyle = this.image ? "white" : "#0e1012";
    context.fillRect(0, 0, width, height);
    if (this.image) context.drawImage(this.image, 0, 0, width, height);
    if (!map) return;
    const [left, top] = map.origin.map((at) => at * this.scale);
    context.globalAlpha = opacity;
    const painted = paintMap(map, paint);
    context.drawImage(painted, left, top, map.width * map.step[0] * this.scale, map.height * map.step[1] * this.scale);
  }
}
