// The model's thread. It takes messages from app.js and answers with messages; the page stays responsive.
//
//   in    {type: "open", base, device}      device: "webgpu", "wasm" or null for the best
//         {type: "load"}                    download what is missing, and start
//         {type: "ask", messages, greedy}
//         {type: "stop"}
//   out   opened, progress, loading, ready, update, answered, note, fallback, failed

import { Engine } from "./engine.js";
import { prove } from "./proof.js";
import { Store } from "./store.js";

let store, engine, wanted, stop = false;

const send = (type, content = {}) => postMessage({ type, ...content });
const note = (text) => send("note", { text });

const handlers = {
  async open({ base, device }) {
    wanted = device;
    store = await Store.open(base, note);
    const files = store.files.map((file) => ({ name: file.name, size: file.size, done: store.stored(file) }));
    send("opened", { name: store.manifest.name, size: store.size, files, complete: store.complete, stores: store.cache !== null });
  },

  async load() {
    const adapter = wanted === "wasm" ? { reason: null } : await findAdapter();
    await store.download((file, done) => send("progress", { name: file.name, done }));
    const started = performance.now(), device = adapter.info ? "webgpu" : "wasm";
    if (adapter.reason) note(adapter.reason);
    send("loading", { device });
    engine = await Engine.open(store, device);
    const loaded = performance.now();
    if (device === "webgpu") {
      engine.lost().then(deviceLost); // onnxruntime itself would wait for the device forever
      send("loading", { device, checking: true });
      if (!(await proven(adapter.info))) return;
    }
    send("ready", {
      device, threads: engine.threads, adapter: adapter.info, chunk: engine.chunk, limit: engine.limit,
      loadSeconds: (loaded - started) / 1e3, checkSeconds: (performance.now() - loaded) / 1e3, isolated: globalThis.crossOriginIsolated,
    });
  },

  async ask({ messages, greedy }) {
    stop = false;
    send("answered", await engine.answer(messages, (state) => send("update", state), () => stop, greedy));
  },

  stop() {
    stop = true;
  },
};

function deviceLost({ message }) {
  if (engine.device === "webgpu") send("failed", { during: "ask", lost: true, message: `The graphics processor stopped answering (${message || "the device was lost"}).` });
}

// {info} of a WebGPU adapter that can run this model, or {reason} why there is none.
async function findAdapter() {
  if (!navigator.gpu) return { reason: "This browser has no WebGPU here, so the model runs on the processor by WebAssembly, which is much slower." };
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return { reason: "WebGPU found no graphics processor, so the model runs by WebAssembly, which is much slower." };
  const { vendor, architecture, device, description } = adapter.info;
  const info = { vendor, architecture, device, description };
  if (store.manifest.activation_type === "float16" && !adapter.features.has("shader-f16"))
    return { reason: "This graphics processor has no float16 shaders (shader-f16), which this model needs, so it runs by WebAssembly. A model built for a device with float32 activations, such as --device phone, can use it." };
  if (wanted !== "webgpu" && (adapter.info.isFallbackAdapter || architecture === "swiftshader"))
    return { reason: "WebGPU is emulated on the processor here, so the model runs by WebAssembly, which is faster." };
  return { info };
}

// Whether this adapter computes this model right. What was found is kept until one of them changes.
async function proven(info) {
  const graph = store.files.find(({ name }) => name.endsWith(".onnx"));
  const name = `proof-${graph.sha256}-${navigator.userAgent}-${JSON.stringify(info)}`.replace(/[^\w.-]+/g, "_");
  let verdict = await store.recall(name);
  if (!verdict) {
    try {
      verdict = { passed: true, ...(await prove(engine)) };
    } catch (error) {
      verdict = { passed: false, reason: error.message };
    }
    await store.remember(name, verdict);
  }
  if (!verdict.passed) {
    send("fallback", { reason: `WebGPU gives wrong results on this graphics processor (${verdict.reason}), so the model runs by WebAssembly.` });
    return false;
  }
  engine.chunk = verdict.chunk;
  if (verdict.reason) note(`WebGPU is only right for short pieces here (${verdict.reason}), so prompts are read ${verdict.chunk} tokens at a time.`);
  return true;
}

onmessage = async ({ data }) => {
  try {
    await handlers[data.type](data);
  } catch (error) {
    const lost = engine?.device === "webgpu" && data.type === "ask";
    send("failed", { during: data.type, kind: error.kind ?? "error", lost, message: error.kind ? error.message : describe(error) });
  }
};

function describe(error) {
  const text = error?.message ?? String(error);
  if (/out of memory|allocat|bad_alloc|RangeError|Array buffer/i.test(`${error?.name} ${text}`))
    return `There is not enough memory for this model in the browser (${text}). Close other tabs, or take a smaller model.`;
  return text;
}
