"use strict";

/* What the server has of each picture of a list: the picture itself, and the points that are proposed. */
class Pictures {
  constructor(server, images) {
    this.server = server;
    this.images = images;
    this.loaded = new Map(); // index -> promise of {bitmap, width, height}
    this.proposed = new Map(); // index -> {name: point}
  }

  load(index) {
    if (!this.loaded.has(index)) {
      for (const old of [...this.loaded.keys()].filter((one) => Math.abs(one - index) > 2)) this.loaded.delete(old);
      this.loaded.set(index, this.server.picture(this.images[index]));
    }
    return this.loaded.get(index);
  }

  forget(index) {
    this.loaded.delete(index);
  }

  async propose(index) {
    if (this.proposed.has(index)) return;
    try {
      this.proposed.set(index, await this.server.proposed(this.images[index]));
    } catch (error) {
      if (error instanceof Refused) this.proposed.set(index, {});
      throw error;
    }
  }
}
