// The service worker. It keeps the page's own files, so that the page opens without a network, and adds the headers that
// let WebAssembly use threads on servers that do not send them. It leaves the model's files to store.js.

const CACHE = "edgekit-page";
const PAGE = ["./", "index.html", "style.css", "icon.svg", "app.js", "worker.js", "engine.js", "proof.js", "sampling.js",
  "store.js", "thought.js", "units.js", "lib/transformers.min.js"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(keep());
});

// Where there is no room for a file, the page still works while there is a network.
async function keep() {
  const cache = await caches.open(CACHE);
  await Promise.allSettled(PAGE.map((name) => cache.add(new Request(name, { cache: "no-cache" }))));
}

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // store.js asks for the model's files with "no-store".
  if (request.method !== "GET" || request.cache === "no-store" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(answer(request));
});

async function answer(request) {
  const url = new URL(request.url);
  const key = url.origin + url.pathname; // without ?device=wasm and the like
  let response;
  try {
    response = await fetch(request.url, { cache: "no-cache" }); // asks whether the file has changed
    if (response.ok) await (await caches.open(CACHE)).put(key, response.clone());
  } catch (error) { // no network, or no room
    response ??= await caches.match(key, { cacheName: CACHE });
    if (!response) throw error;
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
