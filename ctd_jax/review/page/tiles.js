"use strict";

const TILE = 1024; // pixels of a tile's side, as in ctd_jax/review/pictures.py
const KEPT = 96; // tiles
const AT_ONCE = 4; // tiles that are asked for

/* The sharp parts of a picture that is shown by a scaled copy: those that are seen, as they come. */
class Tiles {
  /* `load`: (scale, column, row) -> promise of a bitmap; `onCome`: one has come. */
  constructor(width, height, load, onCome) {
    Object.assign(this, { width, height, load, onCome });
    this.kept = new Map(); // key -> bitmap, those that were not drawn for long first
    this.loading = new Set();
    this.wanted = [];
  }

  /* Draws what there is of them, the coarser ones first, and asks for those that are lacking.
     The picture's corner is at (left, top); `zoom` and the size are CSS pixels, `density` device pixels of each. */
  draw(context, left, top, zoom, [width, height], density) {
    const finest = 2 ** Math.max(0, Math.floor(Math.log2(1 / (zoom * density))));
    const seen = [4 * finest, 2 * finest, finest].map((scale) => this.within(scale, -left / zoom, -top / zoom, (width - left) / zoom, (height - top) / zoom));
    this.want(seen[2]);
    for (const [scale, column, row] of seen.flat()) {
      const key = [scale, column, row].join();
      const bitmap = this.kept.get(key);
      if (!bitmap) continue;
      this.kept.delete(key);
      this.kept.set(key, bitmap);
      const side = TILE * scale * zoom;
      context.drawImage(bitmap, left + column * side, top + row * side, bitmap.width * scale * zoom, bitmap.height * scale * zoom);
    }
  }

  /* [scale, column, row] of the tiles that a part of the picture lies in. */
  within(scale, left, top, right, bottom) {
    const side = TILE * scale;
    const span = (low, high, size) => {
      const [first, last] = [Math.max(0, Math.floor(low / side)), Math.min(Math.ceil(size / side), Math.ceil(high / side))];
      return Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
    };
    return span(top, bottom, this.height).flatMap((row) => span(left, right, this.width).map((column) => [scale, column, row]));
  }

  /* The tiles that are asked for next; those of before come after them. */
  want(tiles) {
    const keys = new Set(tiles.map((tile) => tile.join()));
    this.wanted = [...tiles, ...this.wanted.filter((tile) => !keys.has(tile.join()))].slice(0, Math.max(tiles.length, KEPT / 2));
    while (this.kept.size > KEPT && !keys.has(this.kept.keys().next().value)) this.kept.delete(this.kept.keys().next().value);
    this.ask();
  }

  ask() {
    this.wanted = this.wanted.filter((tile) => !this.kept.has(tile.join()));
    for (const tile of this.wanted.filter((one) => !this.loading.has(one.join())).slice(0, AT_ONCE - this.loading.size)) this.fetch(tile);
  }

  async fetch(tile) {
    const key = tile.join();
    this.loading.add(key);
    const bitmap = await this.load(...tile).catch(() => null);
    this.loading.delete(key);
    this.wanted = this.wanted.filter((one) => one.join() !== key);
    if (bitmap) {
      this.kept.set(key, bitmap);
      this.onCome();
    }
    this.ask();
  }
}
