// Runs the model with transformers.js and onnxruntime-web: reads a prompt in pieces, then writes one token after another.

import { AutoModelForCausalLM, AutoTokenizer, DynamicCache, Tensor, env } from "./lib/transformers.min.js";
import { argmax, choose } from "./sampling.js";
import { split, withoutPartOf } from "./thought.js";

const FOLDER = "model";

export class Engine {
  // device: "webgpu" or "wasm"
  static async open(store, device) {
    const engine = new Engine();
    engine.device = device;
    engine.manifest = store.manifest;
    engine.chunk = 128; // positions read at a time; proof.js may lower it
    env.allowLocalModels = true;
    env.allowRemoteModels = false;
    env.useBrowserCache = false;
    env.useWasmCache = false; // the service worker keeps these files
    env.useCustomCache = true;
    env.customCache = store;
    env.localModelPath = "/";
    const { wasm } = env.backends.onnx;
    // The build for WebGPU lacks GatherBlockQuantized on the CPU and is half as fast there; the plain one lacks WebGPU.
    const build = new URL(`lib/ort-wasm-simd-threaded${device === "webgpu" ? ".asyncify" : ""}`, import.meta.url).href;
    wasm.wasmPaths = { mjs: `${build}.mjs`, wasm: `${build}.wasm` };
    engine.threads = globalThis.crossOriginIsolated && device === "wasm" ? Math.min(navigator.hardwareConcurrency ?? 1, 8) : 1;
    wasm.numThreads = engine.threads;
    engine.tokenizer = await AutoTokenizer.from_pretrained(FOLDER);
    engine.model = await AutoModelForCausalLM.from_pretrained(FOLDER, { device });
    engine.limit = Math.min(store.manifest.model.context_length, store.manifest.plan.context ?? Infinity);
    engine.reset();
    return engine;
  }

  // Ends when WebGPU's device is lost, with {reason, message}.
  async lost() {
    return (await env.backends.onnx.webgpu.device).lost;
  }

  // Forgets what was read.
  reset() {
    this.past?.dispose();
    this.past = new DynamicCache();
    this.ids = [];
  }

  // Reads ids after those that were read before, and returns the logits of the last one.
  async #forward(ids) {
    const total = this.ids.length + ids.length;
    const output = await this.model.forward({
      input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new Tensor("int64", new BigInt64Array(total).fill(1n), [1, total]),
      past_key_values: this.past,
    });
    const present = Object.entries(output).filter(([name]) => name.startsWith("present."));
    this.past.update(Object.fromEntries(present.map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor])));
    this.ids.push(...ids);
    return output.logits.data.subarray(-output.logits.dims.at(-1));
  }

  // Reads ids in pieces; onPiece(ids that have been read) may return true to stop.
  async read(ids, onPiece = () => false) {
    let logits;
    for (let start = 0; start < ids.length; start += this.chunk) {
      logits = await this.#forward(ids.slice(start, start + this.chunk));
      await turn();
      if (onPiece(start + Math.min(this.chunk, ids.length - start))) return null;
    }
    return logits;
  }

  // The prompt's text and ids. messages: [{role: "user" or "assistant", content}]
  prompt(messages) {
    const { tokenizer, manifest } = this;
    if (!tokenizer.chat_template) { // a model that only continues a text
      const text = messages.map(({ content }) => content).join("\n");
      return { text, ids: tokenizer.encode(text, { add_special_tokens: manifest.tokens.add_bos }) };
    }
    const text = tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true });
    return { text, ids: tokenizer.encode(text, { add_special_tokens: false }) }; // the template writes bos
  }

  // Answers a conversation.
  //   onUpdate({thought, answer, thinking, tokens, read, of})   after each token, and for each piece of the prompt
  //   stopped()                                                 whether the person wants it to stop
  //   greedy                                                    take the likeliest token, for tests
  // Returns {thought, answer, ids, promptTokens, finish, firstSeconds, thoughtSeconds, tokensPerSecond}.
  // finish: "stop" (the model was done), "length" (no room is left) or "stopped".
  async answer(messages, onUpdate, stopped, greedy = false) {
    const { manifest, tokenizer } = this, { eos } = manifest.tokens, started = performance.now();
    const { text, ids: prompt } = this.prompt(messages);
    const opened = text.trimEnd().endsWith("<think>");
    if (prompt.length >= this.limit) return { thought: "", answer: "", ids: [], promptTokens: prompt.length, finish: "length" };
    const kept = this.ids.length < prompt.length && this.ids.every((id, i) => id === prompt[i]);
    if (!kept) this.reset();
    const of = prompt.length - this.ids.length;
    let logits = await this.read(prompt.slice(this.ids.length), (read) => (onUpdate({ read, of, tokens: 0 }), stopped()));
    const ids = [], times = [];
    let finish = logits ? null : "stopped", state = { thought: "", answer: "", thinking: opened }, thoughtSeconds = null;
    while (!finish) {
      const id = greedy ? argmax(logits) : choose(logits, [...prompt, ...ids], manifest.sampling);
      times.push(performance.now());
      if (eos.includes(id)) {
        finish = "stop";
        break;
      }
      ids.push(id);
      state = this.#visible(ids, opened, false);
      if (state.stop) finish = "stop";
      if (thoughtSeconds === null && state.thought && !state.thinking) thoughtSeconds = (times.at(-1) - started) / 1e3;
      onUpdate({ ...state, tokens: ids.length, seconds: (times.at(-1) - started) / 1e3, thoughtSeconds, rate: rate(times) });
      if (finish) break;
      if (stopped()) finish = "stopped";
      else if (prompt.length + ids.length >= this.limit) finish = "length";
      else logits = await this.read([id]);
    }
    state = this.#visible(ids, opened, true);
    return {
      thought: state.thought, answer: state.answer, ids, promptTokens: prompt.length, finish, thoughtSeconds,
      firstSeconds: times.length ? (times[0] - started) / 1e3 : null, tokensPerSecond: rate(times),
    };
  }

  // What a person sees of these ids. A text that ends answers may have arrived in part; that part is held back.
  #visible(ids, opened, ended) {
    let text = !ids.length ? "" : this.tokenizer.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    if (!ended) text = text.replace(/\uFFFD+$/, ""); // the start of a character of several tokens
    let stop = false;
    for (const mark of this.manifest.stop_texts ?? []) {
      const at = text.indexOf(mark);
      if (at >= 0) [text, stop] = [text.slice(0, at), true];
      else if (!ended) text = withoutPartOf(mark, text);
    }
    return { ...split(text, opened, ended || stop), stop };
  }
}

// Lets the thread take messages, such as "stop": WebAssembly alone would keep it busy until the answer is complete.
const channel = new MessageChannel();

function turn() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}

// Tokens per second after the first one.
function rate(times) {
  return times.length < 2 ? null : ((times.length - 1) * 1e3) / (times.at(-1) - times[0]);
}
