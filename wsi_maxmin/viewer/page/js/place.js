// The view in the address, so that a link or a reload comes back to it.

const NUMBERS = ["x", "y", "width"];

/** Return the rectangle that the address names, level-0 px, or null. */
export function placeIn(hash) {
  const found = new URLSearchParams(hash.slice(1));
  const [x, y, width] = NUMBERS.map((name) => Number.parseFloat(found.get(name)));
  return [x, y, width].every(Number.isFinite) && width > 0 ? { x, y, width, height: 0 } : null;
}

export function keepPlace(camera, viewer) {
  const place = placeIn(location.hash);
  if (place) {
    const { width, height } = viewer.element.getBoundingClientRect();
    camera.fit({ ...place, height: (place.width * height) / width }, { margin: 0, immediately: true });
  }
  viewer.addHandler("animation-finish", () => {
    const box = camera.visible();
    const values = NUMBERS.map((name) => `${name}=${Math.round(box[name])}`);
    history.replaceState(null, "", `${location.search}#${values.join("&")}`);
  });
}
