"use strict";

/* The pictures that this file has in itself, asked in the place of a Server. The browser keeps the edits. */
class Enclosed {
  constructor(content) {
    this.content = content;
    this.key = `review ${content.id}`;
    this.kept = "kept in this browser";
  }

  entries() {
    try {
      return JSON.parse(localStorage.getItem(this.key)) || [];
    } catch {
      return []; // this browser keeps nothing of a file
    }
  }

  async open() {
    const { pictures, proposed, ...told } = this.content;
    return { ...told, rater: "", labelled: [], entries: this.entries(), order: await this.order() };
  }

  async order() {
    return { said: "", ready: true, images: this.content.images, random: [] };
  }

  async ping() {}

  async leave() {}

  /* Another window of this file may have kept some, too. */
  async keep(edits) {
    const known = this.entries();
    const ids = new Set(known.map((entry) => entry.id));
    try {
      localStorage.setItem(this.key, JSON.stringify([...known, ...edits.filter((edit) => !ids.has(edit.id))]));
    } catch {
      throw new Refused("this browser keeps nothing more of this file; save the csv before you close it");
    }
    return edits.map((edit) => edit.id);
  }

  async picture(image) {
    const { data, width, height } = this.content.pictures[this.content.images.indexOf(image)];
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    return { bitmap: await createImageBitmap(new Blob([bytes])), width, height };
  }

  async proposed(image) {
    return this.content.proposed[this.content.images.indexOf(image)];
  }

  async fitted() {
    throw new Refused("This file can't fit points; the page of ctd-jax review does");
  }
}
