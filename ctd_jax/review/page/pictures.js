"use strict";

const FIRST_SIDE = 2048; // pixels: a larger picture comes scaled first, then sharp

/* What the server has of each picture: the picture itself, and the points that are proposed. */
class Pictures {
  constructor(server) {
    this.server = server;
    this.loaded = new Map(); // index -> promise of {bitmap, width, height}
    this.proposed = new Map(); // index -> {name: point}
  }

  load(index) {
    if (!this.loaded.has(index)) {
      for (const old of [...this.loaded.keys()].filter((one) => Math.abs(one - index) > 2)) this.loaded.delete(old);
      this.loaded.set(index, this.fetch(index, `?side=${FIRST_SIDE}`));
    }
    return this.loaded.get(index);
  }

  async fetch(index, query) {
    const response = await this.server.get(`/api/picture/${index}${query}`);
    const [width, height] = response.headers.get("X-Size").split(" ").map(Number);
    return { bitmap: await createImageBitmap(await response.blob()), width, height };
  }

  forget(index) {
    this.loaded.delete(index);
  }

  async propose(index) {
    if (this.proposed.has(index)) return;
    try {
      this.proposed.set(index, await (await this.server.get(`/api/proposed/${index}`)).json());
    } catch (error) {
      if (error instanceof Refused) this.proposed.set(index, {});
      throw error;
    }
  }
}
