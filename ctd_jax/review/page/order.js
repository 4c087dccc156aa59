"use strict";

/* What comes first in the list. The server sorts it while the page is used already, and says what the random pictures
   that are done tell of the run. */
class Order {
  constructor(page) {
    this.page = page;
    this.sequence = []; // indices of the pictures, as they are listed
    this.random = new Set(); // names of those that were drawn, where others were chosen
    this.hasDrawn = false;
    this.isReady = false;
    this.counted = -1; // pictures that were done when the estimate was asked for
  }

  /* `found`: what the server says of it; `images`: all names. */
  take({ said, ready, images, random, estimate }) {
    this.isReady = ready;
    this.random = new Set(random.length < images.length ? random : []);
    this.hasDrawn = random.length > 0;
    at("order").textContent = said;
    if (estimate !== undefined) at("estimate").textContent = estimate;
    const place = new Map(this.page.images.map((image, index) => [image, index]));
    const first = images.map((image) => place.get(image)).filter((index) => index !== undefined);
    const isFirst = new Set(first);
    const sequence = [...first, ...place.values()].filter((index, i) => i < first.length || !isFirst.has(index));
    if (sequence.join() === this.sequence.join()) return;
    this.sequence = sequence;
    this.page.lists.fill();
  }

  /* From time to time: whether the list is sorted by now, and whether the estimate is another one. */
  async ask() {
    const { page } = this;
    if (!page.review || page.outbox.trouble || page.outbox.waiting.length || this.isAsking) return;
    const done = page.images.filter((image) => page.isDone(image) === true).length;
    if (this.isReady && (!this.hasDrawn || done === this.counted)) return;
    this.isAsking = true;
    try {
      this.take(await page.server.order());
      this.counted = done;
      page.redraw();
    } catch {
      // the next time
    }
    this.isAsking = false;
  }

  place(index) {
    return this.sequence.indexOf(index);
  }

  /* The picture so many after another in the list; undefined: there is none. */
  after(index, by) {
    return this.sequence[this.place(index) + by];
  }

  /* All others, from the one after a picture on, and then from the first. */
  following(index) {
    const place = this.place(index);
    return [...this.sequence.slice(place + 1), ...this.sequence.slice(0, place)];
  }
}
