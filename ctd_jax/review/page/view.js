"use strict";

/* The picture on its canvas: where it lies, how large, how bright. Nothing here changes the picture itself.
   Coordinates are pixels of the picture with (0, 0) the centre of the first one; on the screen, CSS pixels of the stage. */
class View {
  constructor(stage, canvas) {
    this.stage = stage;
    this.canvas = canvas;
    this.bitmap = null;
    this.tiles = null; // where the bitmap is a scaled copy
    this.width = this.height = 1; // of the picture
    this.zoom = 1;
    this.left = this.top = 0; // of the picture's corner
    this.isFitted = true;
    this.tone = { brightness: 1, contrast: 1, gamma: 1, invert: false };
  }

  toScreen(x, y) {
    return [this.left + (x + 0.5) * this.zoom, this.top + (y + 0.5) * this.zoom];
  }

  toPicture(x, y) {
    return [(x - this.left) / this.zoom - 0.5, (y - this.top) / this.zoom - 0.5];
  }

  /* Shows a picture. Another one of the same size stays where the last one was, if `keep` says so. */
  show({ bitmap, width, height }, tiles, keep) {
    const same = this.width === width && this.height === height && this.bitmap;
    Object.assign(this, { bitmap, width, height, tiles });
    if (!(same && (keep || !this.isFitted))) this.fit();
    this.draw();
  }

  clear() {
    this.bitmap = this.tiles = null;
    this.draw();
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    const margin = Math.min(32, clientWidth * 0.04);
    this.zoom = Math.min((clientWidth - 2 * margin) / this.width, (clientHeight - 2 * margin) / this.height);
    this.zoom = Math.max(this.zoom, 0.01);
    this.left = (clientWidth - this.width * this.zoom) / 2;
    this.top = (clientHeight - this.height * this.zoom) / 2;
    this.isFitted = true;
  }

  /* What is at (x, y) of the stage stays there. */
  zoomAt(x, y, zoom) {
    const chosen = Math.min(Math.max(zoom, 0.02), 60);
    const factor = chosen / this.zoom;
    this.left = x - (x - this.left) * factor;
    this.top = y - (y - this.top) * factor;
    this.zoom = chosen;
    this.isFitted = false;
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.isFitted = false;
  }

  /* Moves as little as is needed for a point to be seen. */
  reveal(x, y) {
    const [sx, sy] = this.toScreen(x, y);
    const { clientWidth, clientHeight } = this.stage;
    const margin = 48;
    const shift = (at, size) => (at < margin ? margin - at : at > size - margin ? size - margin - at : 0);
    const [dx, dy] = [shift(sx, clientWidth), shift(sy, clientHeight)];
    if (dx || dy) this.pan(dx, dy);
  }

  filter() {
    const { brightness, contrast, gamma, invert } = this.tone;
    const parts = [];
    if (invert) parts.push("invert(1)");
    if (gamma !== 1) parts.push("url(#gamma_filter)");
    if (brightness !== 1) parts.push(`brightness(${brightness})`);
    if (contrast !== 1) parts.push(`contrast(${contrast})`);
    return parts.join(" ") || "none";
  }

  draw() {
    const { clientWidth, clientHeight } = this.stage;
    const density = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * density), Math.round(clientHeight * density)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, clientWidth, clientHeight);
    context.imageSmoothingEnabled = this.zoom < 4;
    this.drawPicture(context, this.left, this.top, this.zoom, [clientWidth, clientHeight]);
    this.canvas.style.filter = this.filter();
  }

  /* The picture with its corner at (left, top), on a canvas of this size in CSS pixels. */
  drawPicture(context, left, top, zoom, size) {
    if (!this.bitmap) return;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, left, top, this.width * zoom, this.height * zoom);
    const density = window.devicePixelRatio || 1;
    if (this.tiles && zoom * density > this.bitmap.width / this.width) this.tiles.draw(context, left, top, zoom, size, density);
  }

  /* A round part of the picture about a point, larger, on another canvas of `size` CSS pixels. */
  drawLoupe(canvas, x, y, size) {
    const density = window.devicePixelRatio || 1;
    const zoom = Math.max(this.zoom * 3, 4);
    canvas.width = canvas.height = Math.round(size * density);
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.imageSmoothingEnabled = zoom < 8;
    this.drawPicture(context, size / 2 - (x + 0.5) * zoom, size / 2 - (y + 0.5) * zoom, zoom, [size, size]);
    canvas.style.filter = this.filter();
  }
}
