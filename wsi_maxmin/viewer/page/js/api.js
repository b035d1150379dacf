// What the page asks of its server, all below the page's own address.

let waiting = 0;

/** How many answers have not come yet. */
export const busy = () => waiting;

async function ask(path, read) {
  waiting += 1;
  try {
    const answer = await fetch(path);
    if (!answer.ok) {
      throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
    }
    return await read(answer);
  } finally {
    waiting -= 1;
  }
}

const json = (path) => ask(path, (answer) => answer.json());
const name = encodeURIComponent;

/** Names of the slides, and how many more of the run are left out. */
export const slides = () => json("api/slides");
export const describe = (id) => json(`api/slides/${name(id)}`);
export const summary = (id) => json(`api/slides/${name(id)}/summary`);
export const tiles = (id) => json(`api/slides/${name(id)}/tiles`);
export const annotation = (id) => json(`api/slides/${name(id)}/annotation`);

/** Regions of a channel; without a threshold the server chooses one and says which. */
export const regions = (id, channel, threshold) =>
  json(`api/slides/${name(id)}/regions/${name(channel)}${threshold === undefined ? "" : `?threshold=${threshold}`}`);

export const pixelsUrl = (about, level, column, row) =>
  `slides/${name(about.id)}/pixels/${level}/${column}_${row}.jpg?v=${about.version}`;

export const thumbnailUrl = (about) => `slides/${name(about.id)}/thumbnail.jpg?v=${about.version}`;

/** Address of the heatmap's store, for other viewers. */
export const storeUrl = (about) => new URL(`store/${name(about.id)}/heatmap.ome.zarr`, document.baseURI).href;

/** Values of a map tile and where something was seen, row by row, both Uint8Array. */
export async function values(about, channel, level, column, row) {
  const path = `slides/${name(about.id)}/values/${name(channel)}/${level}/${column}_${row}?v=${about.version}`;
  const bytes = new Uint8Array(await ask(path, (answer) => answer.arrayBuffer()));
  const half = bytes.length / 2;
  return { values: bytes.subarray(0, half), seen: bytes.subarray(half) };
}
