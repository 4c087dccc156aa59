"use strict";

const OUTSIDE = 0.1; // of the picture's size: so far outside it a point may lie, as a training allows

/* What a rater does to the points of the picture. */
class Edits {
  constructor(page) {
    this.page = page;
    this.since = 0; // ms; of the picture's coming up, or the edit before
  }

  /* A picture has come up. */
  begin() {
    this.since = performance.now();
  }

  add(edit) {
    const { page } = this;
    if (page.outbox.trouble && page.outbox.trouble.kind === "taken") return undefined;
    const entry = { id: newId(), ...edit };
    const image = page.review.apply(entry);
    page.outbox.add(entry);
    return image;
  }

  /* Of the picture that is shown: one that is still being loaded has neither a size nor been seen. */
  edit(points, more = {}) {
    if (!this.page.isShown) return;
    const seconds = Math.round(performance.now() - this.since) / 1000;
    this.begin();
    this.add({ kind: "edit", image: this.page.image, points: this.withMoved(points), seconds, ...more });
    this.page.redraw();
  }

  /* The points with how far they lie from what was proposed, pixels. */
  withMoved(points) {
    const { page } = this;
    const moved = ([name, point]) => {
      const base = page.base(name);
      if (!page.isPlaced(point) || !page.isPlaced(base)) return [name, point];
      return [name, { ...point, moved: Math.round(1000 * Math.hypot(point.x - base.x, point.y - base.y)) / 1000 }];
    };
    return Object.fromEntries(Object.entries(points).map(moved));
  }

  by(kind) {
    const { page } = this;
    const image = this.add({ kind });
    if (image === undefined) return page.say(`Nothing to ${kind}`);
    const index = page.images.indexOf(image);
    if (index >= 0 && index !== page.index) page.go(index);
    else page.redraw();
  }

  undo() {
    if (this.page.review.toUndo.length) this.by("undo");
  }

  redo() {
    if (this.page.review.toRedo.length) this.by("redo");
  }

  /* A point that a rater has put at (x, y): within the picture, or a little outside it. */
  placedAt(point, x, y) {
    const { width, height } = this.page.view;
    const within = (value, size) => Math.min(Math.max(value, -0.5 - OUTSIDE * size), size - 0.5 + OUTSIDE * size);
    const round = (value) => Math.round(value * 1000) / 1000;
    const state = point && point.state === HIDDEN ? HIDDEN : PLACED;
    return { x: round(within(x, width)), y: round(within(y, height)), state, how: "hand" };
  }

  place(x, y) {
    const { page } = this;
    const name = page.selected;
    const next = page.landmarks.find((other) => other !== name && !page.points()[other]);
    if (next) page.selected = next;
    this.edit({ [name]: this.placedAt(page.points()[name], x, y) });
  }

  setState(state) {
    const { page } = this;
    const point = page.selected && page.points()[page.selected];
    if (!page.selected || !page.isShown) return;
    if (state === ABSENT) {
      const next = page.landmarks.find((other) => other !== page.selected && !page.points()[other]);
      const edit = { [page.selected]: { x: null, y: null, state, how: "hand" } };
      if (!point && next) page.selected = next;
      return this.edit(edit);
    }
    const base = page.base(page.selected);
    const from = page.isPlaced(point) ? point : page.isPlaced(base) ? base : null;
    if (!from) return page.say(`Click where ${page.selected} is`);
    this.edit({ [page.selected]: { x: from.x, y: from.y, state, how: isOpen(from) ? "accepted" : "hand" } });
  }

  reset() {
    const { page } = this;
    const isSaid = page.selected && own(page.review.points.get(page.image), page.selected);
    if (isSaid) this.edit({ [page.selected]: null }, this.openAgain());
  }

  accepted() {
    const open = Object.entries(this.page.points()).filter(([, point]) => this.page.isPlaced(point) && isOpen(point));
    return Object.fromEntries(open.map(([name, { x, y, state }]) => [name, { x, y, state, how: "accepted" }]));
  }

  acceptAll() {
    const points = this.accepted();
    if (Object.keys(points).length) this.edit(points);
  }

  /* Marks the picture done, with all that is proposed accepted; a point that is neither placed nor absent has to be. */
  markDone() {
    const { page } = this;
    const lacking = page.landmarks.filter((name) => !page.points()[name]);
    if (!page.isShown || !page.pictures.proposed.has(page.index)) return;
    if (lacking.length) {
      page.select(lacking[0]);
      return page.say(`Place ${lacking[0]}, or mark it absent (3)${lacking.length > 1 ? `; ${lacking.length} points are open` : ""}`);
    }
    if (page.isDone(page.image) !== true || Object.keys(this.accepted()).length) this.edit(this.accepted(), { done: true });
    const others = page.order.following(page.index);
    const isOf = (...kinds) => (index) => kinds.includes(page.isDone(page.images[index]));
    const next = others.find(isOf(null, false)) ?? others.find(isOf("before"));
    if (next !== undefined) page.go(next);
    else page.say("All pictures are done");
  }

  /* A picture that was done is so no longer when a point of it is only proposed again. */
  openAgain() {
    return this.page.isDone(this.page.image) === true ? { done: false } : {};
  }

  markOpen() {
    this.edit({}, { done: false });
  }

  async fitRest() {
    const { page } = this;
    const points = page.points();
    const base = Object.fromEntries(page.landmarks.map((name) => [name, page.base(name)]));
    const corrected = [];
    const rest = [];
    for (const name of page.landmarks) {
      if (!page.isPlaced(points[name]) || !page.isPlaced(base[name])) continue;
      (isOpen(points[name]) ? rest : corrected).push(name);
    }
    if (corrected.length < 2 || !rest.length) return page.say("Correct two of the proposed points first");
    const places = (from, names) => names.map((name) => [from[name].x, from[name].y]);
    const { image } = page;
    try {
      const found = await page.server.fitted(places(base, corrected), places(points, corrected), places(base, rest));
      if (page.image !== image) return;
      const moved = rest.map((name, i) => [name, { ...this.placedAt(points[name], ...found[i]), how: "fitted" }]);
      this.edit(Object.fromEntries(moved), this.openAgain());
    } catch (error) {
      page.failed(error);
    }
  }

  nudge([dx, dy], event) {
    const { page } = this;
    const by = event.shiftKey ? 10 : event.altKey ? 0.1 : 1;
    if (page.shape.isOn) return page.shape.move(dx * by, dy * by);
    const point = page.selected && page.points()[page.selected];
    if (!page.isPlaced(point)) return;
    const moved = this.placedAt(point, point.x + dx * by, point.y + dy * by);
    page.view.reveal(moved.x, moved.y);
    this.edit({ [page.selected]: moved });
    page.view.draw();
  }
}
