// Where a level-0 pixel of the slide is on the screen.

export class Camera {
  /** `size` is width and height of the slide, level-0 px. */
  constructor(viewer, size, mpp) {
    this.viewer = viewer;
    this.size = size;
    this.mpp = mpp;
  }

  /** CSS pixels a level-0 pixel, and where level-0 (0, 0) is, CSS px from the viewer's corner. */
  now() {
    const { viewport } = this.viewer;
    const corner = viewport.pixelFromPointNoRotate(new OpenSeadragon.Point(0, 0), true);
    const scale = (viewport.getZoom(true) * viewport.getContainerSize().x) / this.size[0];
    return { scale, x: corner.x, y: corner.y };
  }

  /** Rectangle of the slide that is on the screen, level-0 px. */
  visible() {
    const { scale, x, y } = this.now();
    const { x: width, y: height } = this.viewer.viewport.getContainerSize();
    return { x: -x / scale, y: -y / scale, width: width / scale, height: height / scale };
  }

  /** Level-0 point under a point of the viewer, CSS px. */
  toSlide(left, top) {
    const { scale, x, y } = this.now();
    return [(left - x) / scale, (top - y) / scale];
  }

  /** µm a CSS pixel. */
  get resolution() {
    return this.mpp / this.now().scale;
  }

  /** Show so many µm a CSS pixel. */
  setResolution(um) {
    const { viewport } = this.viewer;
    viewport.zoomTo(((this.mpp / um) * this.size[0]) / viewport.getContainerSize().x);
    viewport.applyConstraints();
  }

  /** Fly to a rectangle of level-0 px, with a margin, and never closer than `least` µm across. */
  fit({ x, y, width, height }, { margin = 0.15, least = 0, immediately = false } = {}) {
    const across = Math.max(width * (1 + 2 * margin), least / this.mpp);
    const down = Math.max(height * (1 + 2 * margin), least / this.mpp);
    const rectangle = new OpenSeadragon.Rect(
      (x + width / 2 - across / 2) / this.size[0],
      (y + height / 2 - down / 2) / this.size[0],
      across / this.size[0],
      down / this.size[0],
    );
    this.viewer.viewport.fitBounds(rectangle, immediately);
  }

  home() {
    this.viewer.viewport.goHome();
  }
}
