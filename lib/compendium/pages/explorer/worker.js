"use strict";

/**
 * Answer questions about the decisions of one episode. Runs in a worker, where it has `networks`.
 *
 * Questions have an `id`, which every answer repeats. A map is computed in blocks, so that a click
 * is answered meanwhile, and a newer question for a map ends the older one.
 */
function serve(scope, networks) {
  const BLOCK = 16; // masks between two looks at the questions that wait
  let network = null;
  let episode = null;
  let memories = []; // by step, as far as they are known: [h, c] that enters it
  let prepared = -1; // step whose observation the network has read
  let observation = null;
  let answer = null;
  let newest = 0; // id of the newest question for a map
  let blurred = { key: "" };
  let masksOf = { radius: 0 };

  function observationAt(step) {
    const { screens, shape, region, palette } = episode;
    const size = shape[0] * shape[1];
    const screen = screens.subarray(step * size, (step + 1) * size);
    return networks.observe(screen, shape[1], region, palette);
  }

  /** Let the network read a step, with the memory that enters it. */
  function prepare(step) {
    if (prepared === step) return;
    if (!(step >= 0 && step < episode.steps)) throw new RangeError(`there is no step ${step}`);
    let from = step;
    while (!memories[from]) from--;
    for (let t = from; t <= step; t++) {
      observation = observationAt(t);
      answer = network.run(observation, memories[t]);
      memories[t + 1] = memories[t + 1] || answer.memory;
    }
    prepared = step;
  }

  function blurOf(step, sigma) {
    const key = `${step} ${sigma}`;
    if (blurred.key !== key) blurred = { key, image: networks.blur(observation, sigma) };
    return blurred.image;
  }

  function masks(radius) {
    if (masksOf.radius !== radius) masksOf = { radius, at: networks.masks(radius) };
    return masksOf.at;
  }

  const answers = {
    open({ state, opened }) {
      network = networks.makeNetwork(state);
      episode = opened;
      memories = [];
      for (let k = 0; k * opened.spacing < opened.steps; k++) {
        const start = k * 2 * networks.UNITS;
        memories[k * opened.spacing] = opened.memory.slice(start, start + 2 * networks.UNITS);
      }
      prepared = -1;
      blurred = { key: "" };
      newest += 0.5; // a map of the episode before is out of date
      return {};
    },

    decision({ step }) {
      prepare(step);
      return { logits: answer.logits, value: answer.value };
    },

    spot({ step, row, column, radius, blur }) {
      prepare(step);
      const mixed = blurOf(step, blur);
      const spot = masks(radius)(row, column);
      const changed = network.perturbed(spot, mixed);
      const image = observation.slice();
      for (let i = spot.top; i < spot.bottom; i++) {
        for (let j = spot.left; j < spot.right; j++) {
          const k = i * networks.SIDE + j;
          image[k] += (mixed[k] - image[k]) * spot.mask[k] * spot.scale;
        }
      }
      return {
        before: { logits: answer.logits, value: answer.value },
        after: { logits: changed.logits, value: changed.value },
        ...network.scores(changed),
        image,
      };
    },

    async map({ id, step, stride, radius, blur }) {
      newest = id;
      const side = Math.ceil(networks.SIDE / stride);
      const grids = { actor: new Float32Array(side * side), critic: new Float32Array(side * side) };
      for (let start = 0; start < side * side; start += BLOCK) {
        scope.postMessage({ id, done: start / (side * side) });
        await new Promise((resume) => setTimeout(resume));
        if (newest !== id) return { superseded: true };
        prepare(step);
        const mixed = blurOf(step, blur);
        const at = masks(radius);
        for (let k = start; k < Math.min(start + BLOCK, side * side); k++) {
          const spot = at(Math.floor(k / side) * stride, (k % side) * stride);
          const found = network.scores(network.perturbed(spot, mixed));
          grids.actor[k] = found.actor;
          grids.critic[k] = found.critic;
        }
      }
      return { ...grids, side, stride };
    },
  };

  scope.onmessage = async ({ data }) => {
    try {
      const found = await answers[data.kind](data);
      scope.postMessage({ id: data.id, found });
    } catch (error) {
      scope.postMessage({ id: data.id, error: String(error) });
    }
  };
}
