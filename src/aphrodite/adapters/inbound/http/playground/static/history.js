// Past conversations, in this browser's IndexedDB: {id, title, turns}.

const STORE = "conversations";
const MAX_KEPT = 100;

function database() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("aphrodite-playground", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function work(mode, act) {
  const db = await database();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = db.transaction(STORE, mode);
      const request = act(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    db.close();
  }
}

/** Newest first. */
export async function all() {
  const kept = await work("readonly", (store) => store.getAll());
  return kept.sort((one, other) => other.id - one.id);
}

export async function keep(conversation) {
  await work("readwrite", (store) => store.put(conversation));
  for (const { id } of (await all()).slice(MAX_KEPT)) await forget(id);
}

export const forget = (id) => work("readwrite", (store) => store.delete(id));

export const forgetAll = () => work("readwrite", (store) => store.clear());
