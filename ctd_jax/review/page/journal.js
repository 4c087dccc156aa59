"use strict";

/* What the entries of a journal add up to, as in ctd_jax/review/edits.py. */
class Review {
  constructor(entries) {
    this.points = new Map(); // image -> {name: point, or null: what is proposed}
    this.done = new Map(); // image -> true, false or null: unsaid
    this.toUndo = [];
    this.toRedo = [];
    for (const entry of entries) this.apply(entry);
  }

  /* Returns the image that has changed, or undefined. */
  apply(entry) {
    let back;
    if (entry.kind === "edit") {
      this.toUndo.push((back = this.set(entry)));
      this.toRedo = [];
    } else if (entry.kind === "undo" && this.toUndo.length) {
      this.toRedo.push((back = this.set(this.toUndo.pop())));
    } else if (entry.kind === "redo" && this.toRedo.length) {
      this.toUndo.push((back = this.set(this.toRedo.pop())));
    }
    return back && back.image;
  }

  /* Makes an edit; returns the one that leads back. */
  set(edit) {
    const points = this.points.get(edit.image) || Object.create(null);
    this.points.set(edit.image, points);
    const back = { image: edit.image, points: Object.create(null) }; // a point may be called `constructor`
    for (const [name, point] of Object.entries(edit.points || {})) {
      back.points[name] = points[name] || null;
      points[name] = point;
    }
    if ("done" in edit) {
      back.done = this.done.has(edit.image) ? this.done.get(edit.image) : null;
      this.done.set(edit.image, edit.done);
    }
    return back;
  }
}
