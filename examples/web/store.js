// Fetches the model's files in parts and keeps them in the browser's storage (the Cache API).
//
// A part that has arrived is stored at once, so a download that was interrupted goes on where it stopped, also after the
// browser was closed. The manifest, edgekit.json, says which files there are, how large they are, and their SHA-256; the
// hash is part of a stored part's name, so a model that has changed on the server is fetched again. When all parts of a file
// are there, the file is checked against its hash. A marker that is stored then says so: a check that was interrupted is
// repeated at the next visit.

import { formatBytes } from "./units.js";

const CACHE = "edgekit-model";
const MANIFEST = "edgekit.json";
const PART_BYTES = 32 << 20;
const NO_SERVER = "The server cannot be reached, and this browser has no copy of the model yet.";
const WAITS_MS = [500, 2000]; // before another attempt, where the network fails

// What a person can do something about. `kind`: "missing", "server", "changed" or "network".
export class StoreError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export class Store {
  #toMemory = false; // once the storage is full

  // base: the address of the web folder, with a slash at its end; onNote: called with a sentence for the person
  static async open(base, onNote) {
    const store = new Store();
    store.base = base;
    store.onNote = onNote;
    store.memory = new Map(); // parts that cannot be stored
    store.checked = new Set(); // the markers of files whose hash is right
    store.cache = null;
    if (globalThis.isSecureContext && globalThis.caches) {
      try {
        store.cache = await caches.open(CACHE);
      } catch { /* the person has switched storage off */ }
    }
    if (!store.cache) onNote(globalThis.isSecureContext
      ? "This browser gives the page no storage, so the model is downloaded at each visit."
      : "This page was opened over http from another machine. Browsers give such a page no storage, no WebGPU and no check of downloads: use https, or localhost.");
    store.manifest = await store.#readManifest();
    store.files = Object.entries(store.manifest.files).map(([name, { sha256, size_bytes }]) => ({ name, sha256, size: size_bytes }))
      .sort((a, b) => a.size - b.size);
    store.size = store.files.reduce((sum, file) => sum + file.size, 0);
    await store.#sweep();
    return store;
  }

  async #readManifest() {
    const url = this.base + MANIFEST;
    let response;
    try {
      response = await fetch(url, { cache: "no-store" });
    } catch {
      const stored = await this.cache?.match(url);
      if (stored) return stored.json();
      throw new StoreError("network", NO_SERVER);
    }
    if (!response.ok) throw new StoreError("missing",
      `${url} is missing (HTTP ${response.status}). Put the folder that edgekit build --emit web writes there; prepare.py does it.`);
    const text = await response.text();
    let manifest;
    try {
      manifest = JSON.parse(text);
    } catch {
      throw new StoreError("missing", `${url} is not JSON: the server answers with another page. Check where the web folder is.`);
    }
    if (manifest.format !== "edgekit-artifact" || !Object.keys(manifest.files).some((name) => name.startsWith("onnx/")))
      throw new StoreError("missing", `${url} does not describe a web folder. Use the folder OUT-web that edgekit build --emit web writes.`);
    await this.#put(url, text);
    return manifest;
  }

  // The hash is in the address, which no server sees: parts are only looked up in the cache.
  #key(file, part) {
    return `${this.base}${file.name}?sha256=${file.sha256}&part=${part}&of=${this.#parts(file)}`;
  }

  #marker(file) {
    return `${this.base}${file.name}?sha256=${file.sha256}&checked`;
  }

  #parts(file) {
    return Math.max(1, Math.ceil(file.size / PART_BYTES));
  }

  // Deletes the parts of models that were here before.
  async #sweep() {
    if (!this.cache) return;
    const wanted = new Set([this.base + MANIFEST]), markers = new Set(this.files.map((file) => this.#marker(file)));
    for (const file of this.files) for (let i = 0; i < this.#parts(file); i++) wanted.add(this.#key(file, i));
    this.have = new Set();
    for (const { url } of await this.cache.keys()) {
      if (wanted.has(url)) this.have.add(url);
      else if (markers.has(url)) this.checked.add(url);
      else if (url.startsWith(this.base) && url.includes("?sha256=")) await this.cache.delete(url);
    }
  }

  #has(key) {
    return this.have?.has(key) || this.memory.has(key);
  }

  #partSize(file, part) {
    return Math.min(PART_BYTES, file.size - part * PART_BYTES);
  }

  // Bytes of a file that have arrived.
  stored(file) {
    let sum = 0;
    for (let i = 0; i < this.#parts(file); i++) if (this.#has(this.#key(file, i))) sum += this.#partSize(file, i);
    return sum;
  }

  get complete() {
    return this.files.every((file) => this.stored(file) === file.size);
  }

  // Fetches what is missing; onProgress(file, bytes of it that have arrived)
  async download(onProgress) {
    await this.#checkRoom();
    for (const file of this.files) {
      const missing = this.stored(file) < file.size;
      if (missing) await this.#fetchFile(file, (bytes) => onProgress(file, bytes));
      if (missing || !this.checked.has(this.#marker(file))) await this.#check(file);
      onProgress(file, file.size);
    }
    if (this.cache) await navigator.storage?.persist?.(); // otherwise the browser may delete it when disks are full
  }

  async #checkRoom() {
    if (!this.cache || !navigator.storage?.estimate) return;
    const missing = this.size - this.files.reduce((sum, file) => sum + this.stored(file), 0);
    const { quota = Infinity, usage = 0 } = await navigator.storage.estimate();
    if (quota - usage < missing) await this.#giveUpStoring(`The browser has ${formatBytes(Math.max(0, quota - usage))} of storage for this page`);
  }

  async #giveUpStoring(why) {
    this.onNote(`${why}, and the model takes ${formatBytes(this.size)}. It stays in memory now and is downloaded again at the next visit. Free some disk space, or leave private browsing.`);
    this.#toMemory = true;
  }

  async #put(key, body) {
    if (this.cache && !this.#toMemory) {
      try {
        await this.cache.put(key, new Response(body));
        this.have?.add(key);
        return;
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw error;
        await this.#giveUpStoring("The browser's storage is full");
      }
    }
    if (typeof body !== "string") this.memory.set(key, body);
  }

  async #fetchFile(file, onProgress) {
    for (let part = 0; part < this.#parts(file); part++) {
      if (this.#has(this.#key(file, part))) continue;
      const before = this.stored(file);
      for (let attempt = 0; ; attempt++) {
        try {
          if (await this.#fetchPart(file, part, (bytes) => onProgress(before + bytes))) break;
          return this.#fetchWhole(file, onProgress); // a server without ranges
        } catch (error) {
          if (error instanceof StoreError) throw error;
          if (attempt === WAITS_MS.length) throw new StoreError("network", this.files.every((each) => !this.stored(each)) ? NO_SERVER
            : `The network was lost after ${formatBytes(this.stored(file))} of ${formatBytes(file.size)} of ${file.name}. What has arrived is kept.`);
          await new Promise((resolve) => setTimeout(resolve, WAITS_MS[attempt]));
        }
      }
    }
  }

  // Returns false if the server sends the whole file instead of a part.
  async #fetchPart(file, part, onProgress) {
    const start = part * PART_BYTES, size = this.#partSize(file, part), one = this.#parts(file) === 1;
    const headers = one ? {} : { Range: `bytes=${start}-${start + size - 1}` };
    const response = await fetch(this.base + file.name, { cache: "no-store", headers });
    if (!one && response.status === 200) {
      await response.body?.cancel();
      return false;
    }
    this.#checkStatus(file, response, one ? 200 : 206);
    const bytes = await this.#readPart(file, response.body.getReader(), size, onProgress);
    await this.#put(this.#key(file, part), bytes.part);
    return true;
  }

  async #fetchWhole(file, onProgress) {
    this.onNote("The server does not support range requests: a download that is interrupted starts again from the beginning.");
    const response = await fetch(this.base + file.name, { cache: "no-store" });
    this.#checkStatus(file, response, 200);
    const reader = response.body.getReader();
    let rest = new Uint8Array(0);
    for (let part = 0; part < this.#parts(file); part++) {
      let read;
      try {
        read = await this.#readPart(file, reader, this.#partSize(file, part), (bytes) => onProgress(part * PART_BYTES + bytes), rest);
      } catch (error) {
        if (error instanceof StoreError) throw error;
        throw new StoreError("network", `The network was lost after ${formatBytes(part * PART_BYTES)} of ${formatBytes(file.size)} of ${file.name}, and this server can only send it from the beginning.`);
      }
      rest = read.rest;
      await this.#put(this.#key(file, part), read.part);
    }
  }

  #checkStatus(file, response, expected) {
    if (response.status === expected) return;
    if (response.status === 416) throw this.#changed(file);
    throw new StoreError(response.status === 404 ? "missing" : "server",
      `The server answered HTTP ${response.status} for ${this.base}${file.name}.`);
  }

  #changed(file) {
    return new StoreError("changed", `${file.name} on the server is not the file that ${MANIFEST} describes (${formatBytes(file.size)}). Copy the whole web folder again; edgekit verify checks it.`);
  }

  // Reads `size` bytes; `rest` is what was read before, and what is left over is returned.
  async #readPart(file, reader, size, onProgress, rest = new Uint8Array(0)) {
    const part = new Uint8Array(size);
    let done = 0;
    for (;;) {
      const taken = rest.subarray(0, size - done);
      part.set(taken, done);
      done += taken.length;
      rest = rest.subarray(taken.length);
      onProgress(done);
      if (done === size) return { part, rest };
      const { value, done: ended } = await reader.read();
      if (ended) throw this.#changed(file);
      rest = value;
    }
  }

  async #check(file) {
    if (!globalThis.crypto?.subtle) return; // noted in open()
    const bytes = new Uint8Array(await this.response(file).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found === file.sha256) {
      this.checked.add(this.#marker(file));
      return this.#put(this.#marker(file), "");
    }
    for (let i = 0; i < this.#parts(file); i++) await this.#forget(this.#key(file, i));
    throw this.#changed(file);
  }

  async #forget(key) {
    this.memory.delete(key);
    this.have?.delete(key);
    await this.cache?.delete(key);
  }

  // A stored file as a response, read part by part; undefined if it is not one of the model's.
  response(file, release = false) {
    const parts = this.#parts(file);
    let next = 0;
    const body = new ReadableStream({
      pull: async (stream) => {
        if (next === parts) return stream.close();
        const key = this.#key(file, next++);
        const kept = this.memory.get(key);
        if (release) this.memory.delete(key);
        const bytes = kept ?? new Uint8Array(await (await this.cache.match(key)).arrayBuffer());
        stream.enqueue(bytes);
      },
    }, { highWaterMark: 0 });
    return new Response(body, { headers: { "content-length": String(file.size) } });
  }

  // The interface that transformers.js wants of a cache.
  async match(key) {
    const file = this.files.find(({ name }) => String(key).endsWith(`/${name}`));
    return file && this.response(file, file.name.includes("_data")); // weights are read once
  }

  async put() { /* everything is here already */ }

  // What was found out about this model on this machine, as JSON.
  async recall(name) {
    return (await this.cache?.match(`${this.base}${name}?verdict`))?.json();
  }

  async remember(name, value) {
    await this.#put(`${this.base}${name}?verdict`, JSON.stringify(value));
  }

  // Deletes everything that the page has stored of models.
  static async remove() {
    await globalThis.caches?.delete(CACHE);
  }
}
