// Contours by marching squares, in the coordinates of the grid: the centre of pixel (0, 0) is at (0.5, 0.5).

// Edges of a cell: 0 top, 1 right, 2 bottom, 3 left. Corners, clockwise from the top left, are bits 8, 4, 2, 1.
const LINES = [
  [], [[3, 2]], [[2, 1]], [[3, 1]], [[0, 1]], null, [[0, 2]], [[3, 0]],
  [[3, 0]], [[0, 2]], null, [[0, 1]], [[3, 1]], [[2, 1]], [[3, 2]], [],
];
// Two corners at opposite ends: apart, or joined through the middle.
const SADDLE = { 5: [[[3, 2], [0, 1]], [[3, 0], [2, 1]]], 10: [[[3, 0], [2, 1]], [[3, 2], [0, 1]]] };

/**
 * Call `line(x1, y1, x2, y2)` for each piece of the contour between values below and from `cut` on.
 *
 * `values` are bytes, row by row, of a grid `width` wide and `height` high.
 */
export function trace(values, width, height, cut, line) {
  const level = cut - 0.5;
  const points = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let row = 0; row + 1 < height; row++) {
    for (let column = 0; column + 1 < width; column++) {
      const index = row * width + column;
      const a = values[index], b = values[index + 1], c = values[index + width + 1], d = values[index + width];
      const high = a >= cut;
      if (b >= cut === high && c >= cut === high && d >= cut === high) continue;
      const cell = high * 8 + (b >= cut) * 4 + (c >= cut) * 2 + (d >= cut);
      const x = column + 0.5, y = row + 0.5;
      points[0] = x + (level - a) / (b - a), points[1] = y;
      points[2] = x + 1, points[3] = y + (level - b) / (c - b);
      points[4] = x + (level - d) / (c - d), points[5] = y + 1;
      points[6] = x, points[7] = y + (level - a) / (d - a);
      const joined = (a + b + c + d) / 4 >= level ? 1 : 0;
      for (const [from, to] of LINES[cell] ?? SADDLE[cell][joined]) {
        line(points[2 * from], points[2 * from + 1], points[2 * to], points[2 * to + 1]);
      }
    }
  }
}

/** Contours of a map tile as a path in its own pixels. */
export function contourPath(tile, cut) {
  const path = new Path2D();
  let pieces = 0;
  trace(tile.shown, tile.width, tile.height, cut, (x1, y1, x2, y2) => {
    path.moveTo(x1, y1);
    path.lineTo(x2, y2);
    pieces += 1;
  });
  return { path, pieces };
}
