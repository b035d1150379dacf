// Numbers as people read them.

export function area(um2) {
  if (um2 >= 1e4) return `${(um2 / 1e6).toPrecision(3)} mm²`;
  return `${Math.round(um2).toLocaleString("en")} µm²`;
}

export function length(um) {
  return um >= 1000 ? `${+(um / 1000).toPrecision(3)} mm` : `${+um.toPrecision(3)} µm`;
}

export const value = (number) => number.toFixed(2);

/** The longest of 1, 2, 5, 10, 20, … that is not longer than `longest`. */
export function roundLength(longest) {
  const power = 10 ** Math.floor(Math.log10(longest));
  return power * [5, 2, 1].find((step) => step * power <= longest * (1 + 1e-9));
}

/** Magnification of a microscope with as many µm a pixel: 40 at 0.25 µm. */
export const magnification = (resolution) => 10 / resolution;

/** Make an element: its properties, then what is in it. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
