// Chooses the next token as `edgekit run` does: penalty, temperature, top_k, top_p, min_p, in this order.

// logits     Float32Array, one value for each token of the vocabulary; it is not changed
// seen       the ids so far, for repetition_penalty
// settings   {temperature, top_k, top_p, min_p, repetition_penalty}: the manifest's "sampling"
export function choose(logits, seen, settings, random = Math.random) {
  const { temperature = 1, top_k = 0, top_p = 1, min_p = 0, repetition_penalty = 1 } = settings;
  if (repetition_penalty !== 1) {
    logits = logits.slice();
    for (const id of new Set(seen)) logits[id] *= logits[id] > 0 ? 1 / repetition_penalty : repetition_penalty;
  }
  const best = argmax(logits);
  if (temperature <= 0) return best;
  // Tokens whose probability is below e^-30 of the best one's are never drawn, and leaving them out saves a sort.
  const floor = logits[best] - 30 * temperature;
  let kept = [];
  for (let id = 0; id < logits.length; id++) if (logits[id] >= floor) kept.push(id);
  kept.sort((a, b) => logits[b] - logits[a]);
  if (top_k > 0) kept = kept.slice(0, top_k);
  const weights = kept.map((id) => Math.exp((logits[id] - logits[best]) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let count = 0, sum = 0;
  do sum += weights[count++]; while (count < kept.length && sum < top_p * total && weights[count] >= min_p);
  let left = random() * sum;
  for (let i = 0; i < count; i++) if ((left -= weights[i]) < 0) return kept[i];
  return kept[count - 1];
}

export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
