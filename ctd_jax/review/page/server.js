"use strict";

/* A word that no other window or edit has. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/* Asks the server, whose methods say what it can be asked for. Every request has the token; what it refuses is thrown as
   Refused, TypeError means: it is gone. */
class Server {
  constructor(token) {
    this.token = token;
    this.kept = "saved"; // what is said when it keeps all edits
    this.window = newId();
  }

  open(take) {
    return this.post("/api/open", { take });
  }

  ping() {
    return this.post("/api/ping", {});
  }

  leave() {
    return this.post("/api/leave", {}, { keepalive: true });
  }

  /* The ids of those edits that are on the disk. */
  async keep(edits) {
    return (await this.post("/api/edits", { edits })).kept;
  }

  /* A scaled copy of a picture, and the picture's own size. */
  async picture(image) {
    const response = await this.get("/api/picture", image);
    const [width, height] = response.headers.get("X-Size").split(" ").map(Number);
    return { bitmap: await createImageBitmap(await response.blob()), width, height };
  }

  /* A sharp part of a picture; see Tiles. */
  async tile(image, scale, column, row) {
    return createImageBitmap(await (await this.get(`/api/tile/${scale}/${column}/${row}`, image)).blob());
  }

  async proposed(image) {
    return (await this.get("/api/proposed", image)).json();
  }

  /* Where the points `rest` go, when the points `source` go to `target`. */
  fitted(source, target, rest) {
    return this.post("/api/fit", { source, target, rest });
  }

  /* What comes first in the list, and why; what its random pictures tell of the run. */
  order() {
    return this.post("/api/order", {});
  }

  /* Writes the training folder; what it says of it. */
  async write() {
    return (await this.post("/api/write", {})).said;
  }

  async get(path, image) {
    return this.answer(await fetch(`${path}?image=${encodeURIComponent(image)}`, { headers: { "X-Token": this.token } }));
  }

  async post(path, content, options = {}) {
    const body = JSON.stringify({ window: this.window, ...content });
    return (await this.answer(await fetch(path, { method: "POST", headers: { "X-Token": this.token }, body, ...options }))).json();
  }

  async answer(response) {
    if (response.ok) return response;
    const said = await response.json().catch(() => ({}));
    throw new Refused(said.error || `the server says ${response.status}`, response.status);
  }
}

/* Edits on their way to the disk, in order. They stay here until the server has said that it keeps them. */
class Outbox {
  constructor(server, onChange) {
    this.server = server;
    this.onChange = onChange; // called when `waiting` or `trouble` may have changed
    this.waiting = [];
    this.trouble = null; // {kind: "gone", "taken", "anew" or "refused", message}
    this.sending = false;
    this.most = 200; // edits of a request
  }

  add(edit) {
    this.waiting.push(edit);
    this.onChange();
    this.send();
  }

  /* What is kept, though the answer that said so was lost, is not sent again. */
  forget(entries) {
    const kept = new Set(entries.map((entry) => entry.id));
    this.waiting = this.waiting.filter((edit) => !kept.has(edit.id));
  }

  /* Whether another window edits, or the page has to be opened anew first. */
  get isLost() {
    return Boolean(this.trouble) && ["taken", "anew"].includes(this.trouble.kind);
  }

  async send() {
    if (this.sending || !this.waiting.length || this.isLost) return;
    this.sending = true;
    try {
      while (this.waiting.length) {
        const ids = new Set(await this.keep(this.waiting.slice(0, this.most)));
        this.waiting = this.waiting.filter((edit) => !ids.has(edit.id));
        this.say(null);
      }
    } catch (error) {
      this.failed(error);
    }
    this.sending = false;
  }

  /* Fewer at once where they are too long for a request. */
  async keep(edits) {
    try {
      return await this.server.keep(edits);
    } catch (error) {
      if (error.status !== 413 || edits.length === 1) throw error;
      this.most = Math.ceil(edits.length / 2);
      return this.keep(edits.slice(0, this.most));
    }
  }

  async ping() {
    try {
      await this.server.ping();
      if (!this.waiting.length) this.say(null); // else what becomes of them says it
      this.send();
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    const kind = error instanceof Refused ? { 409: "taken", 410: "anew" }[error.status] || "refused" : "gone";
    this.say({ kind, message: error.message });
  }

  say(trouble) {
    this.trouble = trouble;
    this.onChange();
  }
}
