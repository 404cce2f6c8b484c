// Holds WebGPU to what the model must give before it answers anyone: drivers exist that compute wrong numbers in silence.
//
// First the golden prompt is read in small pieces, and the logits are compared with those that edgekit recorded when it
// built the artifact. Then a longer text is read in small and in large pieces, which run through different kernels and
// must agree. SwiftShader, for example, gets attention wrong from 32 new positions on.

import { argmax } from "./sampling.js";

const SMALL = 16; // positions at a time
const LARGE = [128, 31];
// The recorded logits were computed with other roundings: int8 activations differ by 0.2 to 0.6.
const RECORD_TOLERANCE = 1.5;
const TIE_TOLERANCE = 0.75; // two tokens whose logits differ by less may change places
const SAME_TOLERANCE = 0.5; // between pieces of different sizes
const CONTINUED = 3; // recorded tokens that are checked after the prompt

// Returns {chunk, reason}: the size of pieces that is right, and why it is not the largest. Throws if none is right.
export async function prove(engine) {
  const { golden, model } = engine.manifest;
  engine.reset();
  engine.chunk = SMALL;
  let logits = await engine.read(golden.prompt_ids);
  const off = Math.max(...golden.top_logits.map(({ id, logit }) => Math.abs(logits[id] - logit)));
  if (!(off <= RECORD_TOLERANCE)) // also for NaN
    throw new Error(`its logits differ by ${off.toFixed(1)} from the recorded ones; ${RECORD_TOLERANCE} is allowed`);
  for (const id of golden.continuation_ids.slice(0, CONTINUED)) {
    const best = argmax(logits);
    if (!(logits[best] - logits[id] <= TIE_TOLERANCE))
      throw new Error(`it continues the golden prompt with token ${best} instead of ${id}`);
    logits = await engine.read([id]);
  }
  const text = [];
  while (text.length < LARGE[0]) text.push(...golden.prompt_ids);
  text.length = Math.min(LARGE[0], model.context_length);
  const right = await read(engine, text, SMALL);
  let reason = null;
  for (const chunk of LARGE) {
    const found = await read(engine, text, chunk);
    const difference = right.reduce((most, logit, id) => Math.max(most, Math.abs(logit - found[id])), 0);
    if (difference <= SAME_TOLERANCE) return finish(engine, chunk, reason);
    reason ??= `reading ${chunk} tokens at a time changes the logits by ${difference.toFixed(1)}`;
  }
  return finish(engine, SMALL, reason);
}

function finish(engine, chunk, reason) {
  engine.reset();
  engine.chunk = chunk;
  return { chunk, reason };
}

async function read(engine, ids, chunk) {
  engine.reset();
  engine.chunk = chunk;
  return (await engine.read(ids)).slice();
}
