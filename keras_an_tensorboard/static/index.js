/**
 * The page "Layouts" of TensorBoard. It draws what keras_an_tensorboard/packing.py describes: for each step the images
 * that a layer of Attentive Normalization was watched on, and how it shares out their positions among its entities.
 *
 * TensorBoard imports this module in a frame of its own and calls `render`. There is no build step.
 * The file is long because TensorBoard loads one module of a plugin, and what is drawn shares its state.
 */

const STYLE = `
  :root { --back: #fff; --front: #202124; --soft: #5f6368; --line: #dadce0; --mark: #e8f0fe; --edge: #1a73e8; }
  :root.dark { --back: #303030; --front: #f1f3f4; --soft: #bdc1c6; --line: #555; --mark: #3c4a63; --edge: #8ab4f8; }
  body { margin: 0; background: var(--back); color: var(--front); font: 14px Roboto, Arial, sans-serif; }
  main { display: grid; grid-template-columns: minmax(0, 1fr) 420px; gap: 20px; padding: 0 16px 24px; }
  header { position: sticky; top: 0; z-index: 1; padding: 10px 16px; display: flex; gap: 8px 18px; flex-wrap: wrap;
    align-items: center; background: var(--back); border-bottom: 1px solid var(--line); margin-bottom: 12px; }
  label { display: inline-flex; gap: 6px; align-items: center; color: var(--soft); }
  select, button { font: inherit; color: var(--front); background: var(--back); border: 1px solid var(--line);
    border-radius: 4px; padding: 4px 8px; max-width: 340px; }
  button { cursor: pointer; }
  button[aria-pressed="true"] { background: var(--mark); border-color: var(--edge); }
  :focus-visible { outline: 2px solid var(--edge); outline-offset: 1px; }
  input[type="range"] { accent-color: var(--edge); width: 220px; }
  input.opacity { width: 90px; }
  h2 { font-size: 14px; font-weight: 500; margin: 14px 0 6px; }
  canvas { image-rendering: pixelated; display: block; }
  .swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px; border: 1px solid var(--line); }
  .entities { display: flex; flex-wrap: wrap; gap: 4px; margin-bottom: 12px; }
  .entities button { display: inline-flex; gap: 5px; align-items: center; }
  .tiles, .history { display: flex; flex-wrap: wrap; gap: 8px; }
  figure { margin: 0; cursor: pointer; border: 2px solid transparent; border-radius: 4px; padding: 2px; }
  figure.chosen { border-color: var(--edge); background: var(--mark); }
  figcaption { font-size: 12px; color: var(--soft); text-align: center; min-height: 15px; }
  .bars { display: grid; grid-template-columns: 40px 1fr 56px; gap: 2px 6px; align-items: center; font-size: 12px; }
  .bars .bar { height: 11px; border-radius: 2px; min-width: 1px; box-shadow: 0 0 0 1px var(--line); }
  .bars .value { text-align: right; font-variant-numeric: tabular-nums; }
  .note { color: var(--soft); font-size: 12px; line-height: 1.5; }
  #message { padding: 24px; max-width: 720px; line-height: 1.5; }
  [hidden] { display: none !important; }
`;

const PAGE = `
  <header>
    <label>Run <select id="run"></select></label>
    <label>Layer <select id="layer"></select></label>
    <label><button id="play" aria-pressed="false" aria-label="Play the steps">Play</button>
      Step <input id="step" type="range" min="0" max="0" value="0"> <output id="step-name"></output></label>
    <label>Strength <input id="opacity" class="opacity" type="range" min="0" max="100" value="60"></label>
  </header>
  <div id="message" role="status">Loading</div>
  <main id="main" hidden>
    <section>
      <div class="entities" id="entities" role="group" aria-label="Entities"></div>
      <div class="tiles" id="tiles"></div>
      <h2 id="history-name"></h2>
      <div class="history" id="history"></div>
    </section>
    <aside>
      <canvas id="large" tabindex="0" role="img"></canvas>
      <h2 id="place" aria-live="polite"></h2>
      <div class="bars" id="bars"></div>
      <p class="note">Point at a position, or move with the arrow keys in the large image. Elsewhere the keys
        &larr; &rarr; change the step, &uarr; &darr; the image, [ ] the entity, Esc shows all entities, the space bar
        plays. Layouts are means of blocks where they were larger than 32 x 32.</p>
    </aside>
  </main>
`;

const TILE = 144;
const LARGE = 400;
const HISTORY = 12; // steps shown of one entity
const MOST_KEPT = 64; // decoded steps in memory
const PLAY_MILLISECONDS = 500;
const RELOAD_MILLISECONDS = 30000;

const state = {layers: {}, run: null, tag: null, steps: [], index: 0, image: 0, entity: null, place: null, data: null};
const kept = new Map();
// Of what is shown last: an answer to an older question is dropped.
let turn = 0;
let historyTurn = 0;
let player = null;

const find = (id) => document.getElementById(id);
const rgb = (color) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

export async function render() {
  document.head.appendChild(document.createElement("style")).textContent = STYLE;
  document.body.innerHTML = PAGE;
  followTheme();
  listen();
  await reload();
  setInterval(() => document.hidden || reload(), RELOAD_MILLISECONDS);
}

// ---- What the plugin serves

async function get(path, parameters = {}) {
  const response = await fetch(new URL(`${path}?${new URLSearchParams(parameters)}`, import.meta.url));
  if (!response.ok) throw new Error(`${path}: ${(await response.json()).error ?? response.statusText}`);
  return response;
}

/** The header, the levels and the images of a step, decoded. */
async function decoded(step) {
  const name = step.blobs.join();
  if (!kept.has(name)) {
    kept.set(name, decode(step).catch((error) => { kept.delete(name); throw error; }));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(name);
}

async function decode(step) {
  const blobs = step.blobs.map(async (key) => (await get("blob", {key})).arrayBuffer());
  const [text, packed, png] = await Promise.all(blobs);
  const header = JSON.parse(new TextDecoder().decode(text));
  if (header.version !== 1) throw new Error(`This page reads version 1. Received: version ${header.version}`);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const levels = new Uint8Array(await new Response(stream).arrayBuffer());
  const bitmap = await createImageBitmap(new Blob([png], {type: "image/png"}));
  return {...header, levels, bitmap, colors: header.palette.map(rgb), winners: winnersOf(header, levels)};
}

/** The entity with the highest level at each position of each image. */
function winnersOf({images, entities, height, width}, levels) {
  const positions = height * width;
  const winners = new Uint16Array(images * positions);
  for (let image = 0; image < images; image++) {
    for (let position = 0; position < positions; position++) {
      const start = image * entities * positions + position;
      let best = 0;
      for (let entity = 1; entity < entities; entity++) {
        if (levels[start + entity * positions] > levels[start + best * positions]) best = entity;
      }
      winners[image * positions + position] = best;
    }
  }
  return winners;
}

const positionsOf = (data) => data.height * data.width;
const levelAt = (data, image, entity, position) =>
  data.levels[(image * data.entities + entity) * positionsOf(data) + position] / 255;
const winnerAt = (data, image, position) => data.winners[image * positionsOf(data) + position];

// ---- Choosing

async function reload() {
  try {
    state.layers = await (await get("layers")).json();
    const runs = Object.keys(state.layers).sort();
    if (!runs.length) {
      say("There are no layouts here yet. Runs of keras_an's trainers write them, and keras_an.callbacks.LayoutSummaries.");
      return;
    }
    await chooseRun(runs.includes(state.run) ? state.run : runs[0], runs);
  } catch (error) {
    say(`The layouts could not be read. ${error.message}`);
  }
}

async function chooseRun(run, runs = Object.keys(state.layers).sort()) {
  const tags = state.layers[run];
  const tag = tags.includes(state.tag) ? state.tag : tags[0];
  options(find("run"), runs, run);
  options(find("layer"), tags, tag, (name) => name.replace(/^interactive\//, ""));
  await chooseLayer(run, tag);
}

async function chooseLayer(run, tag) {
  const isOther = run !== state.run || tag !== state.tag;
  const wasLast = isOther || state.index >= state.steps.length - 1;
  const steps = await (await get("steps", {run, tag})).json();
  const isMore = isOther || steps.length !== state.steps.length;
  Object.assign(state, {run, tag, steps});
  if (isOther) Object.assign(state, {place: null, entity: null, image: 0});
  find("step").max = steps.length - 1;
  if (isMore) await show(wasLast ? steps.length - 1 : Math.min(state.index, steps.length - 1));
}

/** Shows a step by its place in the list. */
async function show(index) {
  state.index = index;
  find("step").value = index;
  find("step-name").textContent = `${state.steps[index].step}`;
  const own = ++turn;
  try {
    const data = await decoded(state.steps[index]);
    if (own !== turn) return;
    state.data = data;
    state.image = Math.min(state.image, data.images - 1);
    if (state.place && state.place.position >= positionsOf(data)) state.place = null;
    find("message").hidden = true;
    find("main").hidden = false;
    makeTiles();
    draw();
    await drawHistory();
  } catch (error) {
    if (own === turn) say(`This step could not be read. ${error.message}`);
  }
}

function choose(change) {
  Object.assign(state, change);
  draw();
  if ("entity" in change || "image" in change) drawHistory().catch((error) => say(error.message));
}

function play(isOn) {
  clearInterval(player);
  player = isOn ? setInterval(() => show((state.index + 1) % state.steps.length), PLAY_MILLISECONDS) : null;
  find("play").setAttribute("aria-pressed", String(isOn));
  find("play").textContent = isOn ? "Pause" : "Play";
}

// ---- Drawing

function say(text) {
  find("message").textContent = text;
  find("message").hidden = false;
  find("main").hidden = true;
}

function options(select, values, chosen, shown = (value) => value) {
  select.replaceChildren(...values.map((value) => new Option(shown(value), value, false, value === chosen)));
}

function makeTiles() {
  const {data} = state;
  const buttons = data.shares.map((share, entity) => {
    const button = document.createElement("button");
    button.append(swatch(data.palette[entity]), `${entity} ${percent(share)}`);
    button.addEventListener("click", () => choose({entity: state.entity === entity ? null : entity}));
    return button;
  });
  find("entities").replaceChildren(...buttons);
  if (find("tiles").childElementCount !== data.images) {
    find("tiles").replaceChildren(...Array.from({length: data.images}, (_, image) => tile(image)));
  }
}

function tile(image) {
  const figure = document.createElement("figure");
  const canvas = figure.appendChild(document.createElement("canvas"));
  figure.appendChild(document.createElement("figcaption"));
  point(canvas, () => image);
  figure.addEventListener("click", () => choose({image}));
  return figure;
}

/** Has a canvas tell at which position of the layout the pointer is. */
function point(canvas, image) {
  canvas.addEventListener("pointermove", (event) => {
    const {width, height} = state.data;
    const box = canvas.getBoundingClientRect();
    const x = Math.min(Math.floor(((event.clientX - box.left) / box.width) * width), width - 1);
    const y = Math.min(Math.floor(((event.clientY - box.top) / box.height) * height), height - 1);
    if (x >= 0 && y >= 0) choose({place: {image: image(), position: y * width + x}});
  });
  canvas.addEventListener("pointerleave", () => choose({place: null}));
}

function draw() {
  const {data, place} = state;
  if (!data) return;
  const lit = place ? winnerAt(data, place.image, place.position) : null;
  [...find("tiles").children].forEach((figure, image) => {
    figure.classList.toggle("chosen", image === state.image);
    paint(figure.querySelector("canvas"), data, image, TILE, lit);
    figure.querySelector("figcaption").textContent = data.labels ? data.labels[image] : `image ${image}`;
  });
  paint(find("large"), data, state.image, LARGE, lit, place && place.image === state.image ? place.position : null);
  find("large").setAttribute("aria-label", `Image ${state.image} with its layout`);
  [...find("entities").children].forEach((button, entity) =>
    button.setAttribute("aria-pressed", String(entity === state.entity)));
  drawBars(data, place);
}

/**
 * Paints an image under its layout: all winners in their colours; or how much a position is of the chosen entity; or,
 * where an entity is lit, its positions bright and all else dark.
 */
function paint(canvas, data, image, size, lit = null, marked = null) {
  const scale = size / Math.max(data.image_height, data.image_width);
  const shown = [Math.round(data.image_width * scale), Math.round(data.image_height * scale)];
  if (canvas.width !== shown[0] || canvas.height !== shown[1]) [canvas.width, canvas.height] = shown;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const {image_width: width, image_height: height} = data;
  context.drawImage(data.bitmap, 0, image * height, width, height, 0, 0, ...shown);
  context.drawImage(layer(data, image, lit), 0, 0, ...shown);
  if (marked !== null) {
    const [cellWidth, cellHeight] = [shown[0] / data.width, shown[1] / data.height];
    const [x, y] = [(marked % data.width) * cellWidth, Math.floor(marked / data.width) * cellHeight];
    context.lineWidth = 2;
    for (const [color, inset] of [["#000", 0], ["#fff", 2]]) {
      context.strokeStyle = color;
      context.strokeRect(x + inset, y + inset, cellWidth - 2 * inset, cellHeight - 2 * inset);
    }
  }
}

function layer(data, image, lit) {
  const pixels = new ImageData(data.width, data.height);
  const opacity = find("opacity").value / 100;
  for (let position = 0; position < positionsOf(data); position++) {
    const winner = winnerAt(data, image, position);
    let [color, alpha] = [data.colors[winner], opacity];
    if (lit !== null) {
      [color, alpha] = winner === lit ? [data.colors[lit], Math.max(opacity, 0.6)] : [[0, 0, 0], 0.75];
    } else if (state.entity !== null) {
      const level = levelAt(data, image, state.entity, position);
      color = data.colors[state.entity].map((value) => value * level); // from black to the entity's colour
      alpha = Math.max(opacity, 0.6);
    }
    pixels.data.set([...color, Math.round(255 * alpha)], 4 * position);
  }
  const canvas = new OffscreenCanvas(data.width, data.height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function drawBars(data, place) {
  const values = data.shares.map((share, entity) =>
    place ? levelAt(data, place.image, entity, place.position) : share);
  const [x, y] = place ? [place.position % data.width, Math.floor(place.position / data.width)] : [];
  find("place").textContent = place
    ? `Image ${place.image}, column ${x}, row ${y}: entity ${winnerAt(data, place.image, place.position)}`
    : "Share of the positions that each entity wins";
  const cells = values.flatMap((value, entity) => {
    const [name, bar, number] = ["div", "div", "div"].map((kind) => document.createElement(kind));
    name.append(swatch(data.palette[entity]), ` ${entity}`);
    bar.className = "bar";
    bar.style.background = data.palette[entity];
    bar.style.width = `${(100 * value).toFixed(1)}%`;
    number.className = "value";
    number.textContent = percent(value);
    return [name, bar, number];
  });
  find("bars").replaceChildren(...cells);
}

function swatch(color) {
  const square = document.createElement("span");
  square.className = "swatch";
  square.style.background = color;
  return square;
}

/** The chosen image, with the chosen entity or all, at some steps evenly out of all. */
async function drawHistory() {
  const own = ++historyTurn;
  const {steps, image, entity} = state;
  const count = Math.min(HISTORY, steps.length);
  const places = [...new Set(Array.from({length: count}, (_, i) =>
    Math.round((i * (steps.length - 1)) / Math.max(count - 1, 1))))];
  const all = await Promise.all(places.map((place) => decoded(steps[place])));
  if (own !== historyTurn) return;
  const what = entity === null ? "All entities" : `Entity ${entity}`;
  find("history-name").textContent = `${what} in image ${image}, step by step`;
  find("history").replaceChildren(...places.map((place, i) => {
    const figure = document.createElement("figure");
    figure.classList.toggle("chosen", place === state.index);
    if (image < all[i].images) paint(figure.appendChild(document.createElement("canvas")), all[i], image, 96);
    figure.appendChild(document.createElement("figcaption")).textContent = `${steps[place].step}`;
    figure.addEventListener("click", () => show(place));
    return figure;
  }));
}

// ---- Keys, controls, theme

function listen() {
  find("run").addEventListener("change", (event) => chooseRun(event.target.value));
  find("layer").addEventListener("change", (event) => chooseLayer(state.run, event.target.value));
  find("step").addEventListener("input", (event) => { play(false); show(Number(event.target.value)); });
  find("opacity").addEventListener("input", () => choose({image: state.image}));
  find("play").addEventListener("click", () => play(player === null));
  point(find("large"), () => state.image);
  find("large").addEventListener("keydown", moveInImage);
  document.addEventListener("keydown", (event) => {
    const isControl = ["SELECT", "INPUT"].includes(event.target.tagName);
    if (event.defaultPrevented || isControl || event.ctrlKey || event.metaKey || event.altKey || !state.data) return;
    const action = KEYS[event.key];
    if (!action || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    action();
  });
}

const cycle = (value, count) => ((value % count) + count) % count;
const move = (by) => { play(false); show(Math.min(Math.max(state.index + by, 0), state.steps.length - 1)); };
const KEYS = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  ArrowUp: () => choose({image: cycle(state.image - 1, state.data.images)}),
  ArrowDown: () => choose({image: cycle(state.image + 1, state.data.images)}),
  "[": () => choose({entity: cycle((state.entity ?? 0) - 1, state.data.entities)}),
  "]": () => choose({entity: cycle((state.entity ?? -1) + 1, state.data.entities)}),
  Escape: () => choose({entity: null, place: null}),
  " ": () => play(player === null),
};

/** Moves the position that is pointed at, in the large image. */
function moveInImage(event) {
  const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!steps || !state.data) return;
  event.preventDefault();
  const {width, height} = state.data;
  const position = state.place?.image === state.image ? state.place.position : null;
  const [x, y] = position === null ? [0, 0] : [position % width, Math.floor(position / width)];
  const [right, down] = position === null ? [0, 0] : steps;
  const column = Math.min(Math.max(x + right, 0), width - 1);
  const row = Math.min(Math.max(y + down, 0), height - 1);
  choose({place: {image: state.image, position: row * width + column}});
}

/** Follows TensorBoard's theme, or the system's where the page stands alone. */
function followTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const outer = window.parent === window ? null : window.parent.document.body;
  const apply = () =>
    document.documentElement.classList.toggle("dark", outer ? outer.classList.contains("dark-mode") : system.matches);
  if (outer) new MutationObserver(apply).observe(outer, {attributes: true, attributeFilter: ["class"]});
  system.addEventListener("change", apply);
  apply();
}
