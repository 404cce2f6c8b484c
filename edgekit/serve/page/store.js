// Conversations in the browser's IndexedDB, and settings in its Storage. Nothing of them is on the server.
//
// A conversation: { id, title, updated (ms), messages }. A message: { role, content }, and an answer has also what
// answer.js writes into it. Where the browser allows no storage, all of it lasts until the page is closed.

export const settings = storage("localStorage"), tab = storage("sessionStorage");

const memory = new Map();
let database = null;

export async function openStore() {
  try {
    const asked = indexedDB.open("edgekit-chat", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("chats", { keyPath: "id" });
    database = await result(asked);
  } catch {
    database = null;
  }
  return database !== null;
}

export async function saveChat(chat) {
  if (database) await result(chats("readwrite").put(structuredClone(chat)));
  else memory.set(chat.id, structuredClone(chat));
}

export async function loadChat(id) {
  return database ? await result(chats("readonly").get(id)) : memory.get(id);
}

// All conversations, the latest first.
export async function listChats() {
  const found = database ? await result(chats("readonly").getAll()) : [...memory.values()];
  return found.sort((a, b) => b.updated - a.updated);
}

export async function deleteChat(id) {
  if (database) await result(chats("readwrite").delete(id));
  else memory.delete(id);
}

export async function deleteAllChats() {
  if (database) await result(chats("readwrite").clear());
  else memory.clear();
}

function chats(mode) {
  return database.transaction("chats", mode).objectStore("chats");
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function storage(name) {
  try {
    return globalThis[name];
  } catch {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, value),
      removeItem: (key) => kept.delete(key),
    };
  }
}
