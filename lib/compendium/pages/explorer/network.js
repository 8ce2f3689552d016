"use strict";

/**
 * The paper's network, and its maps by perturbation, in plain JavaScript.
 *
 * The page hands the source text of this function to a worker, so it uses nothing from outside.
 * It computes what `atarilens.saliency.perturbation_saliency` computes with its default settings:
 * a mask changes a window of the observation, and only what that window reaches is computed again.
 * Layers are stored as [row, column, channel] with a border of zeros one pixel wide. Sums are in
 * float64, which a browser computes twice as fast as float32; layers are rounded to float32.
 */
function makeNetworks() {
  const SIDE = 80;
  const CHANNELS = 32;
  const UNITS = 256;
  const GATES = 4 * UNITS; // input, forget, cell, output
  const SIZES = [80, 40, 20, 10, 5]; // of the observation and of the four convolutions
  const DEPTHS = [1, 32, 32, 32]; // input channels of the convolutions
  const LAYERS = 4;
  const GROUP = 4; // output channels of a convolution that are summed side by side
  const GATE_GROUP = 8; // gates that are summed side by side
  const TRUNCATE = 4; // standard deviations at which a Gaussian filter ends, as SciPy's does

  /** Return the [size, size] matrix of SciPy's gaussian_filter1d, which reflects at the borders. */
  function filterMatrix(size, sigma) {
    const reach = Math.floor(TRUNCATE * sigma + 0.5);
    const weights = [];
    let sum = 0;
    for (let x = -reach; x <= reach; x++) {
      weights.push(Math.exp((-0.5 * x * x) / (sigma * sigma)));
      sum += weights[x + reach];
    }
    const matrix = new Float64Array(size * size);
    for (let to = 0; to < size; to++) {
      for (let x = -reach; x <= reach; x++) {
        let from = (((to + x) % (2 * size)) + 2 * size) % (2 * size);
        if (from >= size) from = 2 * size - 1 - from;
        matrix[to * size + from] += weights[x + reach] / sum;
      }
    }
    return matrix;
  }

  /** Return the observation [80 * 80] that the network reads of a screen of palette indices. */
  function observe(screen, width, [top, , left], palette) {
    const luma = palette.map(([red, green, blue]) => 299 * red + 587 * green + 114 * blue);
    const observation = new Float32Array(SIDE * SIDE);
    for (let i = 0; i < SIDE; i++) {
      for (let j = 0; j < SIDE; j++) {
        const k = (top + 2 * i) * width + left + 2 * j;
        const sum =
          luma[screen[k]] + luma[screen[k + 1]] + luma[screen[k + width]] + luma[screen[k + width + 1]];
        observation[i * SIDE + j] = sum / (4 * 255 * 1000);
      }
    }
    return observation;
  }

  /** Return the observation with every pixel replaced by a Gaussian mean of its neighbours. */
  function blur(observation, sigma) {
    const matrix = filterMatrix(SIDE, sigma);
    const half = new Float64Array(SIDE * SIDE);
    const blurred = new Float32Array(SIDE * SIDE);
    for (let i = 0; i < SIDE; i++) {
      for (let j = 0; j < SIDE; j++) {
        let sum = 0;
        for (let k = 0; k < SIDE; k++) sum += matrix[i * SIDE + k] * observation[k * SIDE + j];
        half[i * SIDE + j] = sum;
      }
    }
    for (let i = 0; i < SIDE; i++) {
      for (let j = 0; j < SIDE; j++) {
        let sum = 0;
        for (let k = 0; k < SIDE; k++) sum += half[i * SIDE + k] * matrix[j * SIDE + k];
        blurred[i * SIDE + j] = sum;
      }
    }
    return blurred;
  }

  /**
   * Return a function (row, column) -> mask: a plus of five pixels, Gaussian-filtered, its maximum
   * 1. The filter is separable, and a plus is a row of three and a column of two, so a mask is the
   * sum of two outer products.
   */
  function masks(sigma) {
    const spread = filterMatrix(SIDE, sigma); // [to, from]
    const column = (at, from) =>
      from < 0 || from >= SIDE ? 0 : spread[at * SIDE + from];
    function factors(centre) {
      const single = new Float64Array(SIDE);
      const pair = new Float64Array(SIDE);
      let first = SIDE;
      let stop = 0;
      for (let at = 0; at < SIDE; at++) {
        single[at] = column(at, centre);
        pair[at] = column(at, centre - 1) + column(at, centre + 1);
        if (single[at] + pair[at] > 0) {
          first = Math.min(first, at);
          stop = at + 1;
        }
      }
      return { single, pair, first, stop };
    }
    const known = Array.from({ length: SIDE }, (_, centre) => factors(centre));
    const mask = new Float32Array(SIDE * SIDE);
    return function (row, columnOf) {
      const rows = known[row];
      const columns = known[columnOf];
      let peak = 0;
      for (let i = rows.first; i < rows.stop; i++) {
        const both = rows.single[i] + rows.pair[i];
        for (let j = columns.first; j < columns.stop; j++) {
          const value = both * columns.single[j] + rows.single[i] * columns.pair[j];
          mask[i * SIDE + j] = value;
          if (value > peak) peak = value;
        }
      }
      return {
        mask,
        scale: 1 / peak,
        top: rows.first,
        bottom: rows.stop,
        left: columns.first,
        right: columns.stop,
      };
    };
  }

  /** Return convolution weights [32, depth, 3, 3] as [group, kernel row, column and channel, 4]. */
  function packConvolution(weights, depth) {
    const packed = new Float32Array(weights.length);
    const span = 3 * depth;
    for (let out = 0; out < CHANNELS; out++) {
      for (let channel = 0; channel < depth; channel++) {
        for (let row = 0; row < 3; row++) {
          for (let column = 0; column < 3; column++) {
            const k = column * depth + channel;
            const place = ((Math.floor(out / GROUP) * 3 + row) * span + k) * GROUP + (out % GROUP);
            packed[place] = weights[((out * depth + channel) * 3 + row) * 3 + column];
          }
        }
      }
    }
    return packed;
  }

  /** Return the cell's input weights [1024, 800] as [group, pixel and channel, 8]. */
  function packGates(weights) {
    const pixels = SIZES[LAYERS] * SIZES[LAYERS];
    const inputs = pixels * CHANNELS;
    const packed = new Float32Array(weights.length);
    for (let gate = 0; gate < GATES; gate++) {
      for (let channel = 0; channel < CHANNELS; channel++) {
        for (let pixel = 0; pixel < pixels; pixel++) {
          const input = pixel * CHANNELS + channel;
          const place =
            (Math.floor(gate / GATE_GROUP) * inputs + input) * GATE_GROUP + (gate % GATE_GROUP);
          packed[place] = weights[gate * inputs + channel * pixels + pixel];
        }
      }
    }
    return packed;
  }

  /**
   * Compute a window of a convolution's output, ELU included.
   *
   * `window` is [top, bottom, left, right] in pixels of the output, half-open. Two pixels and four
   * channels are summed side by side; the last pixel of an odd number is computed twice.
   */
  function convolve(input, output, layer, weights, bias, window) {
    const depth = DEPTHS[layer];
    const inRow = (SIZES[layer] + 2) * depth;
    const border = layer + 1 < LAYERS ? 1 : 0; // the last layer needs none
    const outRow = (SIZES[layer + 1] + 2 * border) * CHANNELS;
    const span = 3 * depth;
    const [top, bottom, left, right] = window;
    const last = right - 1;
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column += 2) {
        const other = column < last ? column + 1 : column;
        const from = 2 * row * inRow + 2 * column * depth;
        const fromOther = 2 * row * inRow + 2 * other * depth;
        const to = (row + border) * outRow + (column + border) * CHANNELS;
        const toOther = (row + border) * outRow + (other + border) * CHANNELS;
        let w = 0;
        for (let group = 0; group < CHANNELS; group += GROUP) {
          let a0 = bias[group];
          let a1 = bias[group + 1];
          let a2 = bias[group + 2];
          let a3 = bias[group + 3];
          let b0 = a0;
          let b1 = a1;
          let b2 = a2;
          let b3 = a3;
          for (let kernel = 0; kernel < 3; kernel++) {
            let p = from + kernel * inRow;
            let q = fromOther + kernel * inRow;
            for (const end = p + span; p < end; p++, q++, w += GROUP) {
              const x = input[p];
              const y = input[q];
              const w0 = weights[w];
              const w1 = weights[w + 1];
              const w2 = weights[w + 2];
              const w3 = weights[w + 3];
              a0 = a0 + x * w0;
              a1 = a1 + x * w1;
              a2 = a2 + x * w2;
              a3 = a3 + x * w3;
              b0 = b0 + y * w0;
              b1 = b1 + y * w1;
              b2 = b2 + y * w2;
              b3 = b3 + y * w3;
            }
          }
          output[to + group] = elu(a0);
          output[to + group + 1] = elu(a1);
          output[to + group + 2] = elu(a2);
          output[to + group + 3] = elu(a3);
          output[toOther + group] = elu(b0);
          output[toOther + group + 1] = elu(b1);
          output[toOther + group + 2] = elu(b2);
          output[toOther + group + 3] = elu(b3);
        }
      }
    }
  }

  function elu(x) {
    return x > 0 ? x : Math.exp(x) - 1;
  }

  function sigmoid(x) {
    return 1 / (1 + Math.exp(-x));
  }

  /** Return the half-open window of the next layer that a window of this one reaches. */
  function reached([top, bottom, left, right], size) {
    const stop = (edge) => Math.min(((edge - 1 + 1) >> 1) + 1, size);
    return [top >> 1, stop(bottom), left >> 1, stop(right)];
  }

  /** A network with the weights of one agent: name -> Float32Array, as PyTorch names them. */
  function makeNetwork(state) {
    const convolutions = DEPTHS.map((depth, layer) => ({
      weights: packConvolution(state[`conv${layer + 1}.weight`], depth),
      bias: state[`conv${layer + 1}.bias`],
    }));
    const inputs = SIZES[LAYERS] ** 2 * CHANNELS;
    const gateWeights = packGates(state["lstm.weight_ih"]);
    const hiddenWeights = state["lstm.weight_hh"];
    const gateBias = state["lstm.bias_ih"].map((bias, gate) => bias + state["lstm.bias_hh"][gate]);
    const actions = state["actor_linear.bias"].length;

    const layers = () =>
      SIZES.map((size, layer) => {
        const border = layer < LAYERS ? 2 : 0;
        return new Float32Array((size + border) ** 2 * (layer ? CHANNELS : 1));
      });
    const plain = layers(); // of the observation as it is
    const work = layers(); // the same, but for the window that a mask changes while it is computed
    const changes = new Float32Array(inputs);
    const gates = new Float32Array(GATES);

    /** Add to `sums` the gates of the inputs that `places` lists, each with its `changes`. */
    function addGates(sums, values, places, count) {
      for (let group = 0; group < GATES; group += GATE_GROUP) {
        const base = group * inputs;
        let a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0, a6 = 0, a7 = 0;
        for (let place = 0; place < count; place++) {
          const pixel = places[place] * CHANNELS;
          let w = base + pixel * GATE_GROUP;
          for (let input = pixel; input < pixel + CHANNELS; input++, w += GATE_GROUP) {
            const x = values[input];
            a0 = a0 + x * gateWeights[w];
            a1 = a1 + x * gateWeights[w + 1];
            a2 = a2 + x * gateWeights[w + 2];
            a3 = a3 + x * gateWeights[w + 3];
            a4 = a4 + x * gateWeights[w + 4];
            a5 = a5 + x * gateWeights[w + 5];
            a6 = a6 + x * gateWeights[w + 6];
            a7 = a7 + x * gateWeights[w + 7];
          }
        }
        sums[group] += a0;
        sums[group + 1] += a1;
        sums[group + 2] += a2;
        sums[group + 3] += a3;
        sums[group + 4] += a4;
        sums[group + 5] += a5;
        sums[group + 6] += a6;
        sums[group + 7] += a7;
      }
    }

    /** Return logits, value and memory [h, c] after the cell, from its gates and its old state. */
    function decide(sums, cell) {
      const memory = new Float32Array(2 * UNITS);
      for (let unit = 0; unit < UNITS; unit++) {
        const kept = sigmoid(sums[UNITS + unit]) * cell[unit];
        const c = kept + sigmoid(sums[unit]) * Math.tanh(sums[2 * UNITS + unit]);
        memory[UNITS + unit] = c;
        memory[unit] = sigmoid(sums[3 * UNITS + unit]) * Math.tanh(c);
      }
      const head = (weights, bias, row) => {
        let sum = bias[row];
        for (let unit = 0; unit < UNITS; unit++) sum += weights[row * UNITS + unit] * memory[unit];
        return sum;
      };
      const logits = new Float32Array(actions);
      for (let action = 0; action < actions; action++) {
        logits[action] = head(state["actor_linear.weight"], state["actor_linear.bias"], action);
      }
      const value = head(state["critic_linear.weight"], state["critic_linear.bias"], 0);
      return { logits, value, memory };
    }

    const everyPixel = Array.from({ length: SIZES[LAYERS] ** 2 }, (_, pixel) => pixel);
    const plainGates = new Float32Array(GATES);
    let cell = new Float32Array(UNITS);
    let answer = null;
    let seen = null;

    /** Run the network on an observation [80 * 80] with the memory [h, c] that enters the step. */
    function run(observation, memory) {
      seen = observation;
      for (let i = 0; i < SIDE; i++) {
        plain[0].set(
          observation.subarray(i * SIDE, (i + 1) * SIDE),
          (i + 1) * (SIDE + 2) + 1,
        );
      }
      for (let layer = 0; layer < LAYERS; layer++) {
        const { weights, bias } = convolutions[layer];
        const size = SIZES[layer + 1];
        convolve(plain[layer], plain[layer + 1], layer, weights, bias, [0, size, 0, size]);
      }
      for (let layer = 0; layer <= LAYERS; layer++) work[layer].set(plain[layer]);
      for (let gate = 0; gate < GATES; gate++) {
        let sum = gateBias[gate];
        for (let unit = 0; unit < UNITS; unit++) {
          sum += hiddenWeights[gate * UNITS + unit] * memory[unit];
        }
        plainGates[gate] = sum;
      }
      addGates(plainGates, plain[LAYERS], everyPixel, everyPixel.length);
      cell = memory.slice(UNITS);
      answer = decide(plainGates, cell);
      return answer;
    }

    /** Copy a window of a layer from one set of buffers to the other. */
    function restore(layer, [top, bottom, left, right]) {
      const border = layer < LAYERS ? 1 : 0;
      const depth = layer ? CHANNELS : 1;
      const row = (SIZES[layer] + 2 * border) * depth;
      for (let i = top + border; i < bottom + border; i++) {
        const start = i * row + (left + border) * depth;
        const stop = i * row + (right + border) * depth;
        for (let k = start; k < stop; k++) work[layer][k] = plain[layer][k];
      }
    }

    const places = new Int32Array(everyPixel.length);

    /** Answer as the network does if a mask mixes `blurred` into the observation of `run`. */
    function perturbed(spot, blurred) {
      const { mask, scale } = spot;
      let top = SIDE, bottom = 0, left = SIDE, right = 0;
      for (let i = spot.top; i < spot.bottom; i++) {
        for (let j = spot.left; j < spot.right; j++) {
          const k = i * SIDE + j;
          if (blurred[k] !== seen[k]) {
            work[0][(i + 1) * (SIDE + 2) + j + 1] =
              seen[k] + (blurred[k] - seen[k]) * (mask[k] * scale);
            if (i < top) top = i;
            if (j < left) left = j;
            if (j >= right) right = j + 1;
            bottom = i + 1;
          }
        }
      }
      if (bottom === 0) return answer; // the blur changes nothing here
      const windows = [[top, bottom, left, right]];
      for (let layer = 0; layer < LAYERS; layer++) {
        const window = reached(windows[layer], SIZES[layer + 1]);
        const { weights, bias } = convolutions[layer];
        convolve(work[layer], work[layer + 1], layer, weights, bias, window);
        windows.push(window);
      }
      const size = SIZES[LAYERS];
      let count = 0;
      for (let i = windows[LAYERS][0]; i < windows[LAYERS][1]; i++) {
        for (let j = windows[LAYERS][2]; j < windows[LAYERS][3]; j++) {
          const pixel = i * size + j;
          places[count++] = pixel;
          for (let k = pixel * CHANNELS; k < (pixel + 1) * CHANNELS; k++) {
            changes[k] = work[LAYERS][k] - plain[LAYERS][k];
          }
        }
      }
      gates.set(plainGates);
      addGates(gates, changes, places, count);
      windows.forEach((window, layer) => restore(layer, window));
      return decide(gates, cell);
    }

    /** Return the two scores of a changed answer: half the squared change of each head. */
    function scores(changed) {
      let actor = 0;
      for (let action = 0; action < actions; action++) {
        actor += 0.5 * (changed.logits[action] - answer.logits[action]) ** 2;
      }
      return { actor, critic: 0.5 * (changed.value - answer.value) ** 2 };
    }

    return { run, perturbed, scores, actions };
  }

  return { SIDE, UNITS, observe, blur, masks, makeNetwork };
}
