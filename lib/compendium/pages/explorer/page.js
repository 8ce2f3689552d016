"use strict";

/* global atarilensCatalogue, makeNetworks, serve */

const catalogue = atarilensCatalogue; // agents, their episodes, and how pictures are drawn
const networks = makeNetworks();
const STRIDES = [10, 5, 4, 3, 2, 1]; // of the slider "spots", few to many
const COARSE = 10; // stride of the map while a slider moves
const STEP_MS = 90;
const KEPT_MAPS = 600;
const NOTHING = 1e-5; // logits or value: rounding moves them less
const PIXEL = 3; // canvas pixels per pixel of the game's screen
const $ = (id) => document.getElementById(id);

const state = {
  agent: null, // a row of the catalogue
  episode: null, // unpacked
  step: 0, // counted from the first step of the episode's recording
  spot: null, // {row, column} in pixels of the observation
  cross: { row: 40, column: 40 }, // moved by the arrow keys
  shown: "both",
  settings: null, // {radius, blur, stride}
  playing: false,
  probe: null, // answer about the spot
};
let loading = 0; // of the newest choice of an agent or an episode

// --- data: scripts in data/ call atarilensData, which works from a folder and from a server

const arrived = {};

/** Called by every file in data/. */
function atarilensData(name, content) {
  arrived[name] = content;
}

function load(name) {
  return new Promise((resolve, reject) => {
    if (arrived[name]) return resolve(arrived[name]);
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => resolve(arrived[name]);
    script.onerror = () => reject(new Error(`data/${name}.js cannot be read`));
    document.head.append(script);
  });
}

/** Return the typed array of {type, shape, data}: base64 of deflated planes of bytes. */
async function unpack({ type, data }) {
  const deflated = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = { uint8: 1, uint16: 2, float16: 2, float32: 4 }[type];
  const bytes = new Uint8Array(planes.length);
  const count = planes.length / size;
  for (let plane = 0; plane < size; plane++) {
    for (let k = 0; k < count; k++) bytes[k * size + plane] = planes[plane * count + k];
  }
  if (type === "uint8") return bytes;
  if (type === "uint16") return new Uint16Array(bytes.buffer);
  if (type === "float32") return new Float32Array(bytes.buffer);
  return Float32Array.from(new Uint16Array(bytes.buffer), half);
}

/** Return the number that 16 bits stand for. */
function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : (sign * fraction) / 2 ** 24;
}

async function unpackAll(record) {
  const entries = Object.entries(record).map(async ([name, packed]) => [name, await unpack(packed)]);
  return Object.fromEntries(await Promise.all(entries));
}

async function openEpisode(name) {
  const record = await load(name);
  const episode = { ...record, ...(await unpackAll(record.arrays)) };
  const size = record.shape[0] * record.shape[1];
  for (let k = size; k < episode.screens.length; k++) episode.screens[k] ^= episode.screens[k - size];
  return episode;
}

// --- the worker

const questions = new Map();
let asked = 0;
let worker = null;

function startWorker() {
  const refused = () => complain("This browser lets the page compute nothing: stored maps only.");
  const source = `(${serve})(self, (${makeNetworks})())`;
  try {
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  } catch {
    return refused();
  }
  worker.onerror = refused;
  worker.onmessage = ({ data }) => {
    const question = questions.get(data.id);
    if (!question) return;
    if ("done" in data) return question.progress?.(data.done);
    questions.delete(data.id);
    if (data.error) question.reject(new Error(data.error));
    else question.resolve(data.found);
  };
}

/** Ask the worker; the answer has `superseded` if a newer map was asked for meanwhile. */
function ask(kind, content, progress) {
  const id = ++asked;
  return new Promise((resolve, reject) => {
    questions.set(id, { resolve, reject, progress });
    worker.postMessage({ ...content, kind, id });
  });
}

// --- maps

const liveMaps = new Map();
const keyOf = ({ radius, blur, stride }) => `${radius} ${blur} ${stride}`;
const isUsual = (settings) => keyOf(settings) === keyOf(catalogue.usual);

/** Return the grids that came with the recording. */
function storedMap(step) {
  const { actor, actorPeaks, critic, criticPeaks, side } = state.episode;
  const t = step - state.episode.start;
  const grid = (scores, peaks) =>
    Float32Array.from(scores.subarray(t * side * side, (t + 1) * side * side), (score) =>
      (score * peaks[t]) / catalogue.levels,
    );
  return {
    actor: grid(actor, actorPeaks),
    critic: grid(critic, criticPeaks),
    side,
    stride: catalogue.usual.stride,
  };
}

/** Return the map of a step, computed in the worker; null if a newer one was asked for. */
async function liveMap(step, settings, progress) {
  const key = `${state.episode.name} ${step} ${keyOf(settings)}`;
  if (!liveMaps.has(key)) {
    const local = step - state.episode.start;
    const found = await ask("map", { ...settings, step: local }, progress);
    if (found.superseded) return null;
    liveMaps.set(key, found);
    if (liveMaps.size > KEPT_MAPS) liveMaps.delete(liveMaps.keys().next().value);
  }
  return liveMaps.get(key);
}

/** Interpolate scores between the centres of the masks; beyond the last, its value is held. */
function upsample(grid, side, stride) {
  const size = networks.SIDE;
  const map = new Float32Array(size * size);
  const place = (pixel) => {
    const at = Math.min(pixel / stride, side - 1);
    const low = Math.min(Math.floor(at), Math.max(side - 2, 0));
    return [low, Math.min(low + 1, side - 1), at - low];
  };
  const places = Array.from({ length: size }, (_, pixel) => place(pixel));
  for (let i = 0; i < size; i++) {
    const [top, bottom, down] = places[i];
    for (let j = 0; j < size; j++) {
      const [left, right, across] = places[j];
      const upper = grid[top * side + left] * (1 - across) + grid[top * side + right] * across;
      const lower = grid[bottom * side + left] * (1 - across) + grid[bottom * side + right] * across;
      map[i * size + j] = upper * (1 - down) + lower * down;
    }
  }
  return map;
}

// --- the picture

/** Return the pixels of a step with a map over them, as `atarilens.overlay` draws it. */
function paint(step, map) {
  const { screens, palette, shape, region, gain } = state.episode;
  const [height, width] = shape;
  const [top, bottom, left, right] = region;
  const image = new ImageData(width, height);
  const first = (step - state.episode.start) * height * width;
  const { heads, dimmed, luma } = catalogue.picture;
  const factor = 2 ** Number($("brightness").value);
  const size = networks.SIDE;
  const scales = [(bottom - top) / size, (right - left) / size];
  const strengths = ["actor", "critic"].map((head, k) => {
    if (!map || (state.shown !== "both" && state.shown !== head)) return null;
    const pixels = upsample(map[head], map.side, map.stride);
    return { pixels, gain: (gain[k] * factor) / 255 };
  });
  const between = (pixel, scale) => {
    const at = Math.min(Math.max((pixel + 0.5) / scale - 0.5, 0), size - 1);
    const low = Math.min(Math.floor(at), size - 2);
    return [low, at - low];
  };
  const columns = Array.from({ length: right - left }, (_, j) => between(j, scales[1]));
  for (let i = 0; i < height; i++) {
    const inside = i >= top && i < bottom;
    const [row, down] = inside ? between(i - top, scales[0]) : [0, 0];
    for (let j = 0; j < width; j++) {
      const colour = palette[screens[first + i * width + j]];
      const both = [0, 0];
      if (inside && j >= left && j < right) {
        const [column, across] = columns[j - left];
        const k = row * size + column;
        for (let head = 0; head < 2; head++) {
          if (!strengths[head]) continue;
          const m = strengths[head].pixels;
          const upper = m[k] * (1 - across) + m[k + 1] * across;
          const lower = m[k + size] * (1 - across) + m[k + size + 1] * across;
          both[head] = Math.min((upper * (1 - down) + lower * down) * strengths[head].gain, 1);
        }
      }
      const grey = luma[0] * colour[0] + luma[1] * colour[1] + luma[2] * colour[2];
      const background = dimmed * grey * (1 - Math.max(both[0], both[1]));
      const at = (i * width + j) * 4;
      for (let c = 0; c < 3; c++) {
        image.data[at + c] = state.shown === "none"
          ? colour[c]
          : Math.round(background + both[0] * heads[0][c] + both[1] * heads[1][c]);
      }
      image.data[at + 3] = 255;
    }
  }
  return image;
}

const small = document.createElement("canvas");
let shownMap = null; // the map on the screen, of {step, settings}

function drawScreen() {
  const { shape, region } = state.episode;
  small.width = shape[1];
  small.height = shape[0];
  small.getContext("2d").putImageData(paint(state.step, shownMap), 0, 0);
  const canvas = $("screen");
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const scale = (PIXEL * (region[1] - region[0])) / networks.SIDE;
  const place = ({ row, column }) => [
    PIXEL * region[2] + (column + 0.5) * scale,
    PIXEL * region[0] + (row + 0.5) * scale,
  ];
  context.lineWidth = 3;
  context.strokeStyle = "#fff";
  if (state.spot) {
    context.beginPath();
    context.arc(...place(state.spot), state.settings.radius * scale, 0, 2 * Math.PI);
    context.stroke();
  }
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) {
    const [x, y] = place(state.cross);
    context.beginPath();
    context.moveTo(x - 12, y);
    context.lineTo(x + 12, y);
    context.moveTo(x, y - 12);
    context.lineTo(x, y + 12);
    context.stroke();
  }
  const { row, column } = state.cross;
  canvas.setAttribute(
    "aria-label",
    `Screen of step ${state.step}; the cross is at row ${row}, column ${column}` +
      (state.spot ? `; blurred at row ${state.spot.row}, column ${state.spot.column}` : ""),
  );
}

function drawObservation() {
  const { shape, region, palette, screens, start } = state.episode;
  const size = shape[0] * shape[1];
  const first = (state.step - start) * size;
  const observation =
    state.probe?.image ||
    networks.observe(screens.subarray(first, first + size), shape[1], region, palette);
  const image = new ImageData(networks.SIDE, networks.SIDE);
  observation.forEach((level, k) => image.data.set([1, 1, 1].map(() => level * 255).concat(255), 4 * k));
  $("reads").getContext("2d").putImageData(image, 0, 0);
}

// --- words and numbers

function softmax(logits) {
  const most = Math.max(...logits);
  const parts = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = parts.reduce((a, b) => a + b);
  return parts.map((part) => part / sum);
}

const signed = (x, digits = 2) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
const number = (x, digits = 2) => (Number.isFinite(x) ? x.toFixed(digits).replace("-", "−") : "absent");
const scientific = (x) => (x && Math.abs(x) < 0.01 ? x.toExponential(1) : x.toFixed(3)).replace("-", "−");

function recorded(step) {
  const { logits, values, chosen, rewards, actionNames, start } = state.episode;
  const t = step - start;
  const count = actionNames.length;
  return {
    logits: logits.subarray(t * count, (t + 1) * count),
    value: values[t],
    action: chosen[t],
    reward: rewards[t],
  };
}

function showNumbers() {
  const now = recorded(state.step);
  const before = softmax(now.logits);
  const after = state.probe && softmax(state.probe.after.logits);
  const cell = (share) => `${share.toFixed(3)} <span class="bar" style="--share:${share.toFixed(4)}"></span>`;
  $("probabilities").innerHTML = state.episode.actionNames
    .map((name, k) => {
      const cells = [`<td>${cell(before[k])}</td>`];
      cells.push(`<td class="blurred">${after ? cell(after[k]) : ""}</td>`);
      return `<tr${k === now.action ? ' class="chosen"' : ""}><th scope="row">${name}</th>${cells.join("")}</tr>`;
    })
    .join("");
  const { start, steps } = state.episode;
  const reward = now.reward ? `, reward ${signed(now.reward, 0)}` : "";
  $("moment").textContent =
    `Step ${state.step} (of ${start} to ${start + steps - 1}): took ` +
    `${state.episode.actionNames[now.action]}${reward}`;
  $("value-now").textContent = number(now.value);
  if (state.probe) {
    const { row, column, before: b, after: a, actor, critic } = { ...state.spot, ...state.probe };
    const place = `Blurred at row ${row}, column ${column}: `;
    const moved = Math.sqrt(2 * actor);
    $("asked").textContent =
      Math.max(moved, Math.abs(a.value - b.value)) < NOTHING
        ? `${place}nothing changes. Where the screen is flat, its blur is the same.`
        : `${place}the logits move by ${scientific(moved)} (score ${scientific(actor)}), ` +
          `the value by ${signed(a.value - b.value, 3)} (score ${scientific(critic)}).`;
  } else {
    $("asked").textContent = "No spot is blurred: click the screen.";
  }
  const t = state.step - start;
  const kind = Number($("object").value);
  const nss = (head) => state.episode.attention[(head * state.episode.objects.length + kind) * steps + t];
  $("actor-now").textContent = `actor ${number(nss(0), 1)}`;
  $("critic-now").textContent = `critic ${number(nss(1), 1)}`;
  $("step").setAttribute("aria-valuetext", $("moment").textContent);
  $("python").textContent =
    `agent = load_agent("${state.agent.name}")\n` +
    `game = replay("${state.episode.name}")\n` +
    `maps = perturbation_saliency(agent.network, *game.decision(${state.step}), ` +
    `stride=${state.settings.stride}, mask_sigma=${state.settings.radius}, blur_sigma=${state.settings.blur})`;
}

/** Draw curves over the steps into an SVG, with their range in words; NaN leaves a gap. */
function drawCurves(svg, curves, label, zero) {
  const steps = curves[0].values.length;
  const all = curves.flatMap((curve) => Array.from(curve.values)).filter(Number.isFinite);
  const low = Math.min(...all, zero ? 0 : Infinity);
  const high = Math.max(...all, zero ? 0 : -Infinity);
  const y = (value) => 96 - (92 * (value - low)) / (high - low || 1);
  const pieces = curves.flatMap(({ values, kind }) => {
    const runs = [[]];
    values.forEach((value, t) => {
      if (Number.isFinite(value)) runs.at(-1).push(`${t},${y(value).toFixed(1)}`);
      else runs.push([]);
    });
    return runs
      .filter((run) => run.length > 1)
      .map((run) => `<polyline class="${kind}" points="${run.join(" ")}"/>`);
  });
  svg.setAttribute("viewBox", `0 0 ${steps - 1} 100`);
  const range = `${number(low, 1)} to ${number(high, 1)}`;
  svg.setAttribute("aria-label", `${label}, ${range}`);
  $(`${svg.id}-range`).textContent = range;
  const level = zero ? `<line class="zero" x1="0" x2="${steps - 1}" y1="${y(0)}" y2="${y(0)}"/>` : "";
  svg.innerHTML = `${level}${pieces.join("")}<line class="cursor" y1="0" y2="100"/>`;
}

function drawTimeline() {
  const { values, attention, objects, steps } = state.episode;
  const kind = Number($("object").value);
  const of = (head) => attention.subarray((head * objects.length + kind) * steps).subarray(0, steps);
  drawCurves($("values"), [{ values, kind: "" }], "value by step", false);
  const curves = [{ values: of(0), kind: "actor" }, { values: of(1), kind: "critic" }];
  drawCurves($("attention"), curves, `attention on the ${objects[kind]} by step`, true);
  moveCursor();
}

function moveCursor() {
  for (const line of document.querySelectorAll("line.cursor")) {
    const x = state.step - state.episode.start;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }
}

function complain(words) {
  $("problem").textContent = words;
  $("problem").hidden = !words;
}

// --- what changes when

let drawing = 0; // newest request for a picture

/** Show a step: the screen at once, then its map, then the answer about the blurred spot. */
async function show(step, { coarse = false } = {}) {
  const request = ++drawing;
  const { start, steps } = state.episode;
  const moved = step !== state.step || !shownMap;
  state.step = Math.min(Math.max(step, start), start + steps - 1);
  $("step").value = state.step;
  moveCursor();
  const settings = coarse
    ? { ...state.settings, stride: Math.max(COARSE, state.settings.stride) }
    : state.settings;
  const usual = isUsual(settings);
  if (usual) shownMap = storedMap(state.step);
  else if (moved) shownMap = null;
  if (moved) state.probe = null;
  drawScreen();
  showNumbers();
  drawObservation();
  $("progress").value = usual ? 1 : 0;
  $("map-state").textContent = usual ? "stored with the recording" : "computing …";
  if (!state.ready) return;
  try {
    const { radius, blur } = state.settings;
    const local = state.step - start;
    if (state.spot) {
      const found = await ask("spot", { ...state.spot, step: local, radius, blur });
      if (request !== drawing) return;
      state.probe = found;
      showNumbers();
      drawObservation();
      drawScreen();
    }
    if (!usual) {
      const map = await liveMap(state.step, settings, (done) => ($("progress").value = done));
      if (!map || request !== drawing) return;
      shownMap = map;
      $("progress").value = 1;
      $("map-state").textContent = `${map.side} × ${map.side} spots, computed here`;
      drawScreen();
    }
  } catch (error) {
    complain(`The network could not answer: ${error.message}`);
  }
}

function blurAt(row, column) {
  state.spot = state.cross = { row, column };
  return show(state.step).then(writeLink);
}

function unblur() {
  state.spot = state.probe = null;
  show(state.step);
  writeLink();
}

let playing = 0; // number of the run of `play`

async function play(on) {
  const run = ++playing;
  state.playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", on);
  $("moment").setAttribute("aria-live", on ? "off" : "polite");
  const { start, steps } = state.episode;
  if (on && state.step === start + steps - 1) await show(start);
  while (run === playing && on && state.step < start + steps - 1) {
    const wait = new Promise((resume) => setTimeout(resume, STEP_MS));
    await show(state.step + 1, { coarse: !isUsual(state.settings) });
    await wait;
  }
  if (run === playing && on) play(false);
  if (run === playing && !on) show(state.step).then(writeLink);
}

function showSettings() {
  const { radius, blur, stride } = state.settings;
  const side = Math.ceil(networks.SIDE / stride);
  const shown = {
    radius: `${radius} px`,
    blur: `${blur} px`,
    density: `${side} × ${side}${stride === 1 ? " slow" : ""}`,
    brightness: `× ${2 ** Number($("brightness").value)}`.replace(/(\.\d\d)\d+/, "$1"),
  };
  for (const [name, words] of Object.entries(shown)) {
    document.querySelector(`output[for=${name}]`).textContent = words;
    $(name).setAttribute("aria-valuetext", words);
  }
}

function readSettings(coarse) {
  state.settings = {
    radius: Number($("radius").value),
    blur: Number($("blur").value),
    stride: STRIDES[Number($("density").value)],
  };
  showSettings();
  return show(state.step, { coarse });
}

function setSettings(settings) {
  state.settings = { ...settings };
  $("radius").value = settings.radius;
  $("blur").value = settings.blur;
  $("density").value = STRIDES.indexOf(settings.stride);
  showSettings();
}

// --- links: #agent=…&episode=…&step=…&pixel=row,column

let writing = 0;

function writeLink() {
  if (state.playing || !state.episode) return;
  const parts = { agent: state.agent.name, episode: state.episode.name, step: state.step };
  if (state.spot) parts.pixel = `${state.spot.row},${state.spot.column}`;
  for (const name of ["radius", "blur", "stride"]) {
    if (state.settings[name] !== catalogue.usual[name]) parts[name] = state.settings[name];
  }
  if (state.shown !== "both") parts.shown = state.shown;
  const hash = `#${Object.entries(parts).map(([name, value]) => `${name}=${value}`).join("&")}`;
  clearTimeout(writing);
  const shown = location.hash;
  const write = () => location.hash === shown && history.replaceState(null, "", hash);
  writing = setTimeout(write, 150); // browsers limit its rate; a link opened meanwhile stays
  return hash;
}

/** Return what a link asks for; ValueErrors are words for the reader. */
function readLink(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const problems = [];
  const choose = (name, row, rows) => {
    const found = rows.find((each) => each.name === given.get(name));
    if (given.has(name) && !found) {
      const known = rows.map((each) => each.name).join(", ");
      problems.push(`The link asks for the ${name} “${given.get(name)}”; there is ${known}.`);
    }
    return found || row;
  };
  const whole = (name, text, low, high) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= low && value <= high && text !== "") return value;
    problems.push(`The link asks for the ${name} “${text}”; expected ${low} to ${high}.`);
    return null;
  };
  const agent = choose("agent", catalogue.agents[0], catalogue.agents);
  const episode = choose("episode", agent.episodes[0], agent.episodes);
  const last = episode.start + episode.steps - 1;
  const step = given.has("step") ? whole("step", given.get("step"), episode.start, last) : null;
  let spot = null;
  if (given.has("pixel")) {
    const [row, column] = given.get("pixel").split(",");
    const place = { row: whole("row", row, 0, 79), column: whole("column", column ?? "", 0, 79) };
    if (place.row !== null && place.column !== null) spot = place;
  }
  const settings = { ...catalogue.usual };
  const limits = { radius: [1, 12], blur: [0.5, 8] };
  for (const [name, [low, high]] of Object.entries(limits)) {
    if (!given.has(name)) continue;
    const value = Number(given.get(name));
    if (value >= low && value <= high && Number.isInteger(2 * value)) settings[name] = value;
    else problems.push(`The link asks for the ${name} “${given.get(name)}”; expected ${low} to ${high} in halves.`);
  }
  if (given.has("stride")) {
    if (STRIDES.includes(Number(given.get("stride")))) settings.stride = Number(given.get("stride"));
    else problems.push(`The link asks for the stride “${given.get("stride")}”; expected ${STRIDES.join(", ")}.`);
  }
  const shown = ["both", "actor", "critic", "none"].includes(given.get("shown")) ? given.get("shown") : "both";
  return { agent, episode, step: step ?? episode.opening, spot, settings, shown, problems };
}

/** Open what a link asks for. */
async function follow(hash) {
  const wanted = readLink(hash);
  const request = ++loading;
  const opened = ++playing; // a running film stops
  state.playing = false;
  state.ready = false;
  if (worker) complain(wanted.problems.join(" "));
  try {
    const episode = await openEpisode(wanted.episode.file);
    if (request !== loading || opened !== playing) return;
    Object.assign(state, { agent: wanted.agent, episode, spot: wanted.spot, probe: null, shown: wanted.shown });
    if (wanted.spot) state.cross = wanted.spot;
    setSettings(wanted.settings);
    shownMap = null;
    $("agent").value = wanted.agent.name;
    $("play").textContent = "Play";
    document.querySelector(`input[name=shown][value=${wanted.shown}]`).checked = true;
    Object.assign($("step"), { min: episode.start, max: episode.start + episode.steps - 1 });
    $("object").innerHTML = episode.objects.map((name, k) => `<option value="${k}">${name}</option>`).join("");
    $("gain").textContent = episode.gainWords;
    state.step = wanted.step;
    drawTimeline();
    show(wanted.step);
    if (!worker) return;
    const weights = await unpackAll(await load(`${wanted.agent.name}.weights`));
    if (request !== loading) return;
    const { screens, shape, region, palette, memory, spacing, steps } = episode;
    await ask("open", { state: weights, opened: { screens, shape, region, palette, memory, spacing, steps } });
    if (request !== loading) return;
    state.ready = true;
    await show(state.step);
    writeLink();
    document.body.dataset.ready = `${wanted.agent.name} ${state.step}`;
  } catch (error) {
    complain(`This recording could not be opened: ${error.message}`);
  }
}

// --- what people do

function pixelAt(event) {
  const { region, shape } = state.episode;
  const box = $("screen").getBoundingClientRect();
  const y = ((event.clientY - box.top) / box.height) * shape[0];
  const x = ((event.clientX - box.left) / box.width) * shape[1];
  const row = Math.floor(((y - region[0]) * networks.SIDE) / (region[1] - region[0]));
  const column = Math.floor(((x - region[2]) * networks.SIDE) / (region[3] - region[2]));
  const inside = Math.min(row, column) >= 0 && Math.max(row, column) < networks.SIDE;
  return inside ? { row, column } : null;
}

function listen() {
  const screen = $("screen");
  const point = (event) => {
    const pixel = state.episode && pixelAt(event);
    if (pixel) blurAt(pixel.row, pixel.column);
    else $("asked").textContent = "The network does not read that part of the screen.";
  };
  screen.addEventListener("click", point);
  screen.addEventListener("pointermove", (event) => event.buttons === 1 && point(event));
  screen.addEventListener("focus", drawScreenIfOpen);
  screen.addEventListener("blur", drawScreenIfOpen);
  screen.addEventListener("keydown", (event) => {
    const by = event.shiftKey ? 5 : 1;
    const [down, across] = { ArrowUp: [-by, 0], ArrowDown: [by, 0], ArrowLeft: [0, -by], ArrowRight: [0, by] }[event.key] || [0, 0];
    const within = (x) => Math.min(Math.max(x, 0), networks.SIDE - 1);
    if (down || across) {
      state.cross = { row: within(state.cross.row + down), column: within(state.cross.column + across) };
      drawScreen();
    } else if (event.key === "Enter" || event.key === " ") blurAt(state.cross.row, state.cross.column);
    else if (event.key === "Escape") unblur();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const idle = ["BODY", "HTML"].includes(document.activeElement?.tagName ?? "BODY");
    if (!idle || !state.episode || event.ctrlKey || event.metaKey || event.altKey) return;
    const jump = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (jump) show(state.step + jump).then(writeLink);
    else if (event.key === " ") play(!state.playing);
    else return;
    event.preventDefault();
  });
  $("play").addEventListener("click", () => play(!state.playing));
  $("back").addEventListener("click", () => show(state.step - 1).then(writeLink));
  $("on").addEventListener("click", () => show(state.step + 1).then(writeLink));
  $("step").addEventListener("input", () => show(Number($("step").value), { coarse: !isUsual(state.settings) }));
  $("step").addEventListener("change", () => show(state.step).then(writeLink));
  for (const svg of [$("values"), $("attention")]) {
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      show(state.episode.start + Math.round(share * (state.episode.steps - 1))).then(writeLink);
    });
  }
  for (const name of ["radius", "blur", "density"]) {
    $(name).addEventListener("input", () => readSettings(true));
    $(name).addEventListener("change", () => readSettings(false).then(writeLink));
  }
  $("brightness").addEventListener("input", () => {
    showSettings();
    drawScreen();
  });
  $("object").addEventListener("change", () => {
    drawTimeline();
    showNumbers();
  });
  for (const radio of document.querySelectorAll("input[name=shown]")) {
    radio.addEventListener("change", () => {
      state.shown = radio.value;
      drawScreen();
      writeLink();
    });
  }
  $("usual").addEventListener("click", () => {
    setSettings(catalogue.usual);
    $("brightness").value = 0;
    showSettings();
    show(state.step).then(writeLink);
  });
  $("copy").addEventListener("click", async () => {
    const link = location.href.split("#")[0] + writeLink();
    try {
      await navigator.clipboard.writeText(link);
      $("copied").textContent = "Copied.";
    } catch {
      $("copied").textContent = link; // a page from a folder may not write the clipboard
    }
  });
  $("agent").addEventListener("change", () => follow(`#agent=${$("agent").value}`));
  addEventListener("hashchange", () => follow(location.hash));
}

function drawScreenIfOpen() {
  if (state.episode) drawScreen();
}

/** For the console and for tests: the same functions as behind the buttons. */
const atarilens = {
  decision: (step) => ask("decision", { step: step - state.episode.start }),
  spot: (step, row, column, settings = catalogue.usual) =>
    ask("spot", { ...settings, row, column, step: step - state.episode.start }),
  map: (step, settings) => liveMap(step, { ...catalogue.usual, ...settings }),
  storedMap,
  picture: (step) => paint(step, storedMap(step)).data,
  state,
};

$("agent").innerHTML = catalogue.agents
  .map(({ name, title }) => `<option value="${name}">${title}</option>`)
  .join("");
startWorker();
listen();
follow(location.hash);
