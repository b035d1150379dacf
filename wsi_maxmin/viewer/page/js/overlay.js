// One canvas over the slide, on which everything else is drawn, in step with it.

export class Overlay {
  #layers = [];
  #waiting = false;

  constructor(viewer, camera) {
    this.viewer = viewer;
    this.camera = camera;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "overlay";
    viewer.element.append(this.canvas);
    this.context = this.canvas.getContext("2d");
    for (const event of ["open", "update-viewport", "resize"]) viewer.addHandler(event, () => this.draw());
  }

  /** Add `draw(context, camera, box)`; `box` is what is on the screen, level-0 px. Later layers lie above. */
  add(draw) {
    this.#layers.push(draw);
  }

  /** Draw with the next frame. */
  invalidate() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.#waiting = false;
    if (!this.viewer.world.getItemCount()) return;
    const { x: width, y: height } = this.viewer.viewport.getContainerSize();
    const size = [width, height].map((side) => Math.round(side * devicePixelRatio));
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    this.context.clearRect(0, 0, ...size);
    const camera = this.camera.now();
    const box = this.camera.visible();
    for (const layer of this.#layers) layer(this.context, camera, box);
  }
}

/** Set a context so that it draws in level-0 px; return how many of these a CSS pixel has. */
export function inSlidePixels(context, camera) {
  const ratio = devicePixelRatio;
  context.setTransform(camera.scale * ratio, 0, 0, camera.scale * ratio, camera.x * ratio, camera.y * ratio);
  return 1 / camera.scale;
}
