"use strict";

const at = (id) => document.getElementById(id);
const PING = 3000; // ms
const CLICK = 4; // CSS pixels that a click may move
const RADIUS = { mouse: 14, pen: 18, touch: 30 }; // CSS pixels within which a point is hit
const FIRST_SIDE = 2048; // pixels: a larger picture comes scaled first, then sharp
const OUTSIDE = 0.1; // of the picture's size: so far outside it a point may lie, as a training allows

class Page {
  constructor(token) {
    this.server = new Server(token);
    this.outbox = new Outbox(this.server, () => this.showSaved());
    this.view = new View(at("stage"), at("canvas"));
    this.drawn = new Points(at("points"), this.view);
    this.images = [];
    this.index = 0;
    this.selected = null;
    this.isShape = false;
    this.onTouch = false;
    this.moving = null; // {name: point} while something is dragged
    this.loaded = new Map(); // index -> promise of {bitmap, width, height}
    this.proposed = new Map(); // index -> {name: point}
    this.hint = "";
  }

  // ------------------------------------------------------------ what is there

  async open(take = false) {
    try {
      const found = await this.server.post("/api/open", { take });
      Object.assign(this, { images: found.images, landmarks: found.landmarks, labelled: new Set(found.labelled) });
      this.outbox.forget(found.entries);
      this.review = new Review([...found.entries, ...this.outbox.waiting]);
      document.title = `${found.folder} · ${found.rater}`;
      this.outbox.say(null);
      this.outbox.send();
      this.listPictures();
      this.listPoints();
      await this.go(this.shown === undefined ? this.firstOpen() : this.index);
    } catch (error) {
      this.outbox.failed(error);
    }
  }

  /* From time to time: whether the server is there, and whether this window may edit. One that may again, after another
     one did, begins anew with what is on the disk. */
  ask() {
    const isTaken = this.outbox.trouble && this.outbox.trouble.kind === "taken";
    return this.review && !isTaken ? this.outbox.ping() : this.open();
  }

  get image() {
    return this.images[this.index];
  }

  /* true, false, or null: the rater has not said, and there were no labels; "before": there were. */
  isDone(image) {
    const said = this.review.done.get(image);
    return said === undefined || said === null ? (this.labelled.has(image) ? "before" : null) : said;
  }

  firstOpen() {
    return Math.max(0, this.images.findIndex((image) => !this.isDone(image)));
  }

  /* {name: point, or null where there is none} of the picture: what the rater says, else what is proposed. */
  points() {
    const said = this.review.points.get(this.image);
    return Object.fromEntries(this.landmarks.map((name) => [name, own(said, name) || this.base(name)]));
  }

  /* What is proposed for a point of the picture; null: nothing. */
  base(name) {
    return own(this.proposed.get(this.index), name);
  }

  isPlaced(point) {
    return Boolean(point) && point.state !== ABSENT;
  }

  // ------------------------------------------------------------ pictures

  load(index) {
    if (!this.loaded.has(index)) {
      for (const old of [...this.loaded.keys()].filter((one) => Math.abs(one - index) > 2)) this.loaded.delete(old);
      this.loaded.set(index, this.fetchPicture(index, `?side=${FIRST_SIDE}`));
    }
    return this.loaded.get(index);
  }

  async fetchPicture(index, query) {
    const response = await this.server.get(`/api/picture/${index}${query}`);
    const [width, height] = response.headers.get("X-Size").split(" ").map(Number);
    return { bitmap: await createImageBitmap(await response.blob()), width, height };
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

  async go(index) {
    this.index = index;
    this.shown = null;
    this.isShape = false;
    this.letGo();
    this.hint = "";
    this.selected = null;
    this.showNames();
    const stillHere = () => this.index === index;
    const picture = this.load(index);
    const proposed = this.propose(index);
    try {
      const found = await picture;
      if (!stillHere()) return;
      this.view.show(found.bitmap, found.width, found.height, at("keep").checked);
      this.shown = index;
      if (!this.proposed.has(index)) this.hint = "Finding its points…";
      this.redraw();
      if (found.bitmap.width < found.width) this.sharpen(index);
    } catch (error) {
      this.loaded.delete(index);
      if (!stillHere()) return;
      this.view.clear();
      proposed.catch(() => {});
      return this.failed(error);
    }
    try {
      await proposed;
      if (stillHere()) this.hint = "";
    } catch (error) {
      if (stillHere()) this.failed(error);
    }
    if (!stillHere()) return;
    if (!this.selected) this.selectFirst();
    this.redraw();
    const next = index + 1;
    if (next < this.images.length) Promise.all([this.load(next), this.propose(next)]).catch(() => this.loaded.delete(next));
  }

  async sharpen(index) {
    const found = await this.fetchPicture(index, "").catch(() => null);
    if (found && this.index === index) this.view.replace(found.bitmap);
  }

  step(by) {
    const next = this.index + by;
    if (next >= 0 && next < this.images.length) this.go(next);
  }

  // ------------------------------------------------------------ edits

  add(edit) {
    if (this.outbox.trouble && this.outbox.trouble.kind === "taken") return undefined;
    const entry = { id: newId(), ...edit };
    const image = this.review.apply(entry);
    this.outbox.add(entry);
    return image;
  }

  edit(points, more = {}) {
    this.add({ kind: "edit", image: this.image, points, ...more });
    this.redraw();
  }

  by(kind) {
    const image = this.add({ kind });
    if (image === undefined) return this.say(`Nothing to ${kind}`);
    const index = this.images.indexOf(image);
    if (index >= 0 && index !== this.index) this.go(index);
    else this.redraw();
  }

  undo() {
    if (this.review.toUndo.length) this.by("undo");
  }

  redo() {
    if (this.review.toRedo.length) this.by("redo");
  }

  /* A point that a rater has put at (x, y): within the picture, or a little outside it. */
  placedAt(point, x, y) {
    const { width, height } = this.view;
    const within = (value, size) => Math.min(Math.max(value, -0.5 - OUTSIDE * size), size - 0.5 + OUTSIDE * size);
    const round = (value) => Math.round(value * 1000) / 1000;
    const state = point && point.state === HIDDEN ? HIDDEN : PLACED;
    return { x: round(within(x, width)), y: round(within(y, height)), state, how: "hand" };
  }

  place(x, y) {
    const name = this.selected;
    const next = this.landmarks.find((other) => other !== name && !this.points()[other]);
    if (next) this.selected = next;
    this.edit({ [name]: this.placedAt(this.points()[name], x, y) });
  }

  setState(state) {
    const point = this.selected && this.points()[this.selected];
    if (!this.selected) return;
    if (state === ABSENT) {
      const next = this.landmarks.find((other) => other !== this.selected && !this.points()[other]);
      const edit = { [this.selected]: { x: null, y: null, state, how: "hand" } };
      if (!point && next) this.selected = next;
      return this.edit(edit);
    }
    const base = this.base(this.selected);
    const from = this.isPlaced(point) ? point : this.isPlaced(base) ? base : null;
    if (!from) return this.say(`Click where ${this.selected} is`);
    this.edit({ [this.selected]: { x: from.x, y: from.y, state, how: isOpen(from) ? "accepted" : "hand" } });
  }

  reset() {
    const isSaid = this.selected && own(this.review.points.get(this.image), this.selected);
    if (isSaid) this.edit({ [this.selected]: null }, this.openAgain());
  }

  accepted() {
    const open = Object.entries(this.points()).filter(([, point]) => this.isPlaced(point) && isOpen(point));
    return Object.fromEntries(open.map(([name, { x, y, state }]) => [name, { x, y, state, how: "accepted" }]));
  }

  acceptAll() {
    const points = this.accepted();
    if (Object.keys(points).length) this.edit(points);
  }

  /* Marks the picture done, with all that is proposed accepted; a point that is neither placed nor absent has to be. */
  markDone() {
    const lacking = this.landmarks.filter((name) => !this.points()[name]);
    if (this.shown === null || !this.proposed.has(this.index)) return;
    if (lacking.length) {
      this.select(lacking[0]);
      return this.say(`Place ${lacking[0]}, or mark it absent (3)${lacking.length > 1 ? `; ${lacking.length} points are open` : ""}`);
    }
    if (this.isDone(this.image) !== true || Object.keys(this.accepted()).length) this.edit(this.accepted(), { done: true });
    const order = [...this.images.keys()];
    const next = [...order.slice(this.index + 1), ...order.slice(0, this.index)].find((index) => !this.isDone(this.images[index]));
    if (next !== undefined) this.go(next);
    else this.say("All pictures are done");
  }

  /* A picture that was done is so no longer when a point of it is only proposed again. */
  openAgain() {
    return this.isDone(this.image) === true ? { done: false } : {};
  }

  markOpen() {
    this.edit({}, { done: false });
  }

  async fitRest() {
    const points = this.points();
    const base = Object.fromEntries(this.landmarks.map((name) => [name, this.base(name)]));
    const corrected = [];
    const rest = [];
    for (const name of this.landmarks) {
      if (!this.isPlaced(points[name]) || !this.isPlaced(base[name])) continue;
      (isOpen(points[name]) ? rest : corrected).push(name);
    }
    if (corrected.length < 2 || !rest.length) return this.say("Correct two of the proposed points first");
    const places = (from, names) => names.map((name) => [from[name].x, from[name].y]);
    const index = this.index;
    try {
      const found = await this.server.post("/api/fit", {
        source: places(base, corrected), target: places(points, corrected), rest: places(base, rest),
      });
      if (this.index !== index) return;
      const moved = rest.map((name, i) => [name, { ...this.placedAt(points[name], ...found[i]), how: "fitted" }]);
      this.edit(Object.fromEntries(moved), this.openAgain());
    } catch (error) {
      this.failed(error);
    }
  }

  // ------------------------------------------------------------ the whole shape

  toggleShape() {
    const shape = this.shape();
    this.isShape = !this.isShape && Object.keys(shape).length > 1;
    this.redraw();
  }

  shape() {
    const placed = Object.entries(this.points()).filter(([, point]) => this.isPlaced(point));
    return Object.fromEntries(placed.map(([name, { x, y }]) => [name, [x, y]]));
  }

  /* The points at the places of a shape; those that were only proposed stay so. */
  withShape(shape) {
    const points = this.points();
    const moved = ([name, [x, y]]) => [name, { ...this.placedAt(points[name], x, y), how: isOpen(points[name]) ? "fitted" : "hand" }];
    return Object.fromEntries(Object.entries(shape).map(moved));
  }

  turnShape(degrees) {
    if (this.isShape) this.edit(this.withShape(turnedAndScaled(this.shape(), (degrees * Math.PI) / 180, 1)));
  }

  scaleShape(factor) {
    if (this.isShape) this.edit(this.withShape(turnedAndScaled(this.shape(), 0, factor)));
  }

  nudge([dx, dy], event) {
    const by = event.shiftKey ? 10 : event.altKey ? 0.1 : 1;
    if (this.isShape) return this.edit(this.withShape(shifted(this.shape(), dx * by, dy * by)));
    const point = this.selected && this.points()[this.selected];
    if (!this.isPlaced(point)) return;
    const moved = this.placedAt(point, point.x + dx * by, point.y + dy * by);
    this.view.reveal(moved.x, moved.y);
    this.edit({ [this.selected]: moved });
    this.view.draw();
  }

  // ------------------------------------------------------------ selection

  select(name) {
    this.selected = name;
    this.hint = "";
    const point = this.points()[name];
    if (this.isPlaced(point)) this.view.reveal(point.x, point.y);
    this.redraw();
  }

  selectFirst() {
    const points = this.points();
    this.selected = this.landmarks.find((name) => !points[name]) || null;
  }

  selectNext(by) {
    const place = this.landmarks.indexOf(this.selected);
    const count = this.landmarks.length;
    this.select(this.landmarks[place < 0 ? (by > 0 ? 0 : count - 1) : (place + by + count) % count]);
  }

  selectUnplaced() {
    const points = this.points();
    const place = this.landmarks.indexOf(this.selected);
    const order = [...this.landmarks.slice(place + 1), ...this.landmarks.slice(0, place + 1)];
    const next = order.find((name) => !points[name]);
    if (next) this.select(next);
    else this.say("Every point is placed or absent");
  }

  escape() {
    if (this.isShape) this.toggleShape();
    else {
      this.selected = null;
      this.redraw();
    }
    this.showDrawer(null);
  }

  // ------------------------------------------------------------ pointers

  listen() {
    const stage = at("stage");
    this.pointers = new Map();
    this.grip = null; // what a pointer has hold of
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.drag(event));
    stage.addEventListener("pointerup", (event) => this.release(event));
    stage.addEventListener("pointercancel", (event) => this.release(event, true));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => {
      if (this.view.isFitted) this.view.fit();
      this.redraw();
      this.view.draw();
    }).observe(stage);
  }

  placeOf(event) {
    const box = at("stage").getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    if (!this.review || this.shown === null || event.button > 1) return;
    at("stage").focus({ preventScroll: true });
    at("stage").setPointerCapture(event.pointerId);
    this.showDrawer(null);
    this.onTouch = event.pointerType === "touch";
    const [x, y] = this.placeOf(event);
    this.pointers.set(event.pointerId, [x, y]);
    if (this.pointers.size === 2) return this.beginPinch();
    if (this.pointers.size > 2) return;
    this.grip = { from: [x, y], moved: false, ...this.gripAt(event, x, y) };
    if (this.grip.name) this.selected = this.grip.name;
    at("points").classList.add("busy");
    this.redraw();
  }

  gripAt(event, x, y) {
    const points = this.points();
    const radius = RADIUS[event.pointerType] || RADIUS.mouse;
    if (event.button === 1) return { kind: "pan" };
    if (this.isShape) {
      const handle = this.drawn.handleAt(points, x, y, radius);
      return handle ? { kind: "shape", handle, shape: this.shape() } : { kind: "pan" };
    }
    const name = this.drawn.at(points, x, y, radius, this.selected, this.onTouch);
    return name ? { kind: "point", name, point: points[name] } : { kind: "pan" };
  }

  beginPinch() {
    const [a, b] = [...this.pointers.values()];
    this.moving = null;
    at("loupe").hidden = true;
    this.grip = { kind: "pinch", distance: Math.hypot(a[0] - b[0], a[1] - b[1]), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
    this.redraw();
  }

  drag(event) {
    if (!this.pointers.has(event.pointerId) || !this.grip) return;
    const [x, y] = this.placeOf(event);
    const [px, py] = this.pointers.get(event.pointerId);
    this.pointers.set(event.pointerId, [x, y]);
    const grip = this.grip;
    if (grip.kind === "pinch") return this.pinch();
    const [fx, fy] = grip.from;
    if (!grip.moved && Math.hypot(x - fx, y - fy) < (grip.kind === "point" ? 1 : CLICK)) return;
    if (grip.kind === "pan") {
      const start = grip.moved ? [px, py] : grip.from;
      this.view.pan(x - start[0], y - start[1]);
      this.view.draw();
    } else if (grip.kind === "point") {
      const { zoom } = this.view;
      const moved = this.placedAt(grip.point, grip.point.x + (x - fx) / zoom, grip.point.y + (y - fy) / zoom);
      this.moving = { [grip.name]: moved };
      this.showLoupe(moved);
    } else {
      const [from, to] = [grip.from, [x, y]].map(([sx, sy]) => this.view.toPicture(sx, sy));
      this.moving = this.withShape(dragged(grip.shape, grip.handle, from, to));
    }
    grip.moved = true;
    this.drawPoints();
  }

  pinch() {
    const [a, b] = [...this.pointers.values()];
    const grip = this.grip;
    const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
    this.view.pan(middle[0] - grip.middle[0], middle[1] - grip.middle[1]);
    if (grip.distance > 0) this.view.zoomAt(...middle, (this.view.zoom * distance) / grip.distance);
    Object.assign(grip, { middle, distance });
    this.view.draw();
    this.drawPoints();
  }

  release(event, isCancelled = false) {
    if (!this.pointers.delete(event.pointerId) || !this.grip) return;
    const { grip, moving } = this;
    if (grip.kind === "pinch") {
      if (!this.pointers.size) this.grip = null;
      return;
    }
    this.letGo();
    if (isCancelled) return this.redraw();
    if (moving) return this.edit(moving);
    const isClick = grip.kind === "pan" && !grip.moved && event.button === 0 && !this.isShape;
    if (isClick && this.selected && !this.isPlaced(this.points()[this.selected])) return this.place(...this.view.toPicture(...grip.from));
    if (isClick) this.selected = null;
    this.redraw();
  }

  letGo() {
    this.grip = this.moving = null;
    at("loupe").hidden = true;
    at("points").classList.remove("busy");
  }

  wheel(event) {
    event.preventDefault();
    if (this.shown === null) return;
    const unit = event.deltaMode === 1 ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0018;
    this.view.zoomAt(...this.placeOf(event), this.view.zoom * Math.exp(-event.deltaY * unit * speed));
    this.view.draw();
    this.drawPoints();
  }

  showLoupe(point) {
    const loupe = at("loupe");
    loupe.hidden = false;
    const [x, y] = this.view.toScreen(point.x, point.y);
    const isNear = x < loupe.offsetWidth + 60 && y < loupe.offsetHeight + 60;
    loupe.classList.toggle("right", isNear);
    this.view.drawLoupe(at("loupe_canvas"), point.x, point.y, loupe.clientWidth);
  }

  // ------------------------------------------------------------ view

  fit() {
    this.view.fit();
    this.view.draw();
    this.redraw();
  }

  zoomBy(factor) {
    const point = this.selected && this.points()[this.selected];
    const { clientWidth, clientHeight } = at("stage");
    const place = this.isPlaced(point) ? this.view.toScreen(point.x, point.y) : [clientWidth / 2, clientHeight / 2];
    this.view.zoomAt(...place, this.view.zoom * factor);
    this.view.draw();
    this.redraw();
  }

  setTone(tone) {
    Object.assign(this.view.tone, tone);
    for (const name of ["brightness", "contrast", "gamma"]) at(name).value = this.view.tone[name];
    at("invert").checked = this.view.tone.invert;
    for (const part of at("gamma_filter").querySelectorAll("[exponent]")) part.setAttribute("exponent", 1 / this.view.tone.gamma);
    this.view.draw();
  }

  changeTone(name, by) {
    const { min, max } = at(name);
    this.setTone({ [name]: Math.min(Math.max(Math.round((this.view.tone[name] + by) * 100) / 100, min), max) });
  }

  toggleInvert() {
    this.setTone({ invert: !this.view.tone.invert });
  }

  resetTone() {
    this.setTone({ brightness: 1, contrast: 1, gamma: 1, invert: false });
  }

  toggleNames() {
    this.drawn.allNames = !this.drawn.allNames;
    at("names").checked = this.drawn.allNames;
    this.redraw();
  }

  // ------------------------------------------------------------ what is said

  say(text) {
    this.hint = text;
    this.redraw();
  }

  failed(error) {
    if (error instanceof Refused) this.say(error.message);
    else this.outbox.failed(error);
  }

  showSaved() {
    const { waiting, trouble } = this.outbox;
    const edits = waiting.length === 1 ? "1 edit is" : `${waiting.length} edits are`;
    at("saved").textContent = waiting.length ? (trouble ? "not saved" : "saving…") : this.review ? "saved" : "";
    at("trouble").hidden = !trouble;
    at("take_over").hidden = !trouble || trouble.kind !== "taken";
    if (!trouble) return;
    const kept = waiting.length ? ` ${edits} kept here and sent when it is back.` : "";
    const texts = { gone: `The server does not answer.${kept} Start the same command again.`, taken: `${trouble.message}.` };
    at("trouble_text").textContent = texts[trouble.kind] || `Not saved: ${trouble.message}. ${edits} kept here and sent again.`;
  }

  showNames() {
    at("picture_name").textContent = this.image;
    const count = (state) => this.images.filter((image) => this.isDone(image) === state).length;
    const before = count("before") ? `, ${count("before")} labelled before` : "";
    at("progress").textContent = `${this.index + 1} of ${this.images.length} · ${count(true)} done`;
    at("before_that").textContent = before;
  }

  /* The points alone, as often as something moves. */
  drawPoints() {
    if (!this.review) return;
    const points = this.shown === null ? {} : { ...this.points(), ...this.moving };
    this.drawn.draw(points, {
      selected: this.selected, onTouch: this.onTouch && !this.moving, isShape: this.isShape, names: this.landmarks,
    });
  }

  redraw() {
    if (!this.review) return;
    this.drawPoints();
    const points = this.points();
    const isHere = this.shown !== null;
    const isPlacing = isHere && this.selected && !this.isPlaced(points[this.selected]);
    at("points").classList.toggle("placing", Boolean(isPlacing));
    const asked = isPlacing && (points[this.selected] ? `${this.selected} is absent; a click places it` : `Click where ${this.selected} is`);
    at("hint").textContent = this.hint || asked || "";
    this.showNames();
    this.showPictures();
    this.showPoints(points);
    this.showTools(points);
  }

  listPictures() {
    const list = at("picture_list");
    list.replaceChildren(...this.images.map((image, index) => row(image, () => (this.showDrawer(null), this.go(index)))));
  }

  listPoints() {
    at("point_list").replaceChildren(...this.landmarks.map((name) => row(name, () => this.select(name))));
  }

  showPictures() {
    const signs = { true: ["✓", "done"], before: ["◦", "labelled before"], false: ["·", "not done"], null: ["·", "not done"] };
    [...at("picture_list").children].forEach((item, index) => {
      const [sign, said] = signs[this.isDone(this.images[index])];
      write(item, sign, "", `${this.images[index]}, ${said}`, index === this.index, sign === "✓");
    });
    const here = at("picture_list").children[this.index];
    if (here && this.listedAt !== this.index) here.scrollIntoView({ block: "nearest" });
    this.listedAt = this.index;
  }

  showPoints(points) {
    [...at("point_list").children].forEach((item, index) => {
      const name = this.landmarks[index];
      const point = points[name];
      const sign = !point ? "–" : point.state === ABSENT ? "×" : isOpen(point) ? "○" : point.state === HIDDEN ? "⊗" : "●";
      const where = this.isPlaced(point) ? `${point.x.toFixed(1)}, ${point.y.toFixed(1)}` : point ? "absent" : "";
      write(item, sign, where, inWords(name, point), name === this.selected, Boolean(point) && !isOpen(point));
    });
    const chosen = at("point_list").children[this.landmarks.indexOf(this.selected)];
    if (chosen && this.listed !== this.selected) chosen.scrollIntoView({ block: "nearest" });
    this.listed = this.selected;
  }

  showTools(points) {
    const point = this.selected && points[this.selected];
    for (const button of document.querySelectorAll(".states button")) {
      button.disabled = !this.selected;
      const isChosen = Boolean(point) && !isOpen(point) && point.state === button.dataset.state;
      button.classList.toggle("chosen", isChosen);
      button.setAttribute("aria-pressed", isChosen);
    }
    at("undo").disabled = !this.review.toUndo.length;
    at("redo").disabled = !this.review.toRedo.length;
    at("accept").disabled = !Object.keys(this.accepted()).length;
    at("shape").setAttribute("aria-pressed", this.isShape);
    at("shape").disabled = Object.keys(this.shape()).length < 2;
    at("before").disabled = this.index === 0;
    at("next").disabled = this.index + 1 >= this.images.length;
    at("done").textContent = this.isDone(this.image) === true ? "Done ✓" : "Done";
  }

  showDrawer(id) {
    for (const [drawer, button] of [["pictures", "show_pictures"], ["panel", "show_panel"]]) {
      const isShown = drawer === id && !at(drawer).classList.contains("shown");
      at(drawer).classList.toggle("shown", isShown);
      at(button).setAttribute("aria-expanded", isShown);
    }
  }

  toggleHelp() {
    if (at("help").open) at("help").close();
    else at("help").showModal();
  }

  async write() {
    at("written").textContent = "writing…";
    try {
      await this.outbox.send();
      const isKept = !this.outbox.waiting.length;
      const said = isKept ? (await this.server.post("/api/write", {})).said : "Some edits are not saved yet; try again.";
      at("written").textContent = said;
    } catch (error) {
      at("written").textContent = error.message;
    }
  }

  // ------------------------------------------------------------ wiring

  wire() {
    const clicks = {
      undo: () => this.undo(), redo: () => this.redo(), show_help: () => this.toggleHelp(), before: () => this.step(-1),
      next: () => this.step(1), done: () => this.markDone(), fit: () => this.fit(), accept: () => this.acceptAll(),
      fit_rest: () => this.fitRest(), shape: () => this.toggleShape(), write: () => this.write(), reset_tone: () => this.resetTone(),
      take_over: () => this.open(true), show_pictures: () => this.showDrawer("pictures"), show_panel: () => this.showDrawer("panel"),
    };
    for (const [id, does] of Object.entries(clicks)) at(id).addEventListener("click", does);
    for (const button of document.querySelectorAll(".states button")) button.addEventListener("click", () => this.setState(button.dataset.state));
    for (const name of ["brightness", "contrast", "gamma"]) at(name).addEventListener("input", () => this.setTone({ [name]: Number(at(name).value) }));
    at("invert").addEventListener("change", () => this.toggleInvert());
    at("names").addEventListener("change", () => this.toggleNames());
    for (const name of ["size", "opacity"]) {
      at(name).addEventListener("input", () => {
        this.drawn[name] = Number(at(name).value);
        this.redraw();
      });
    }
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("click", (event) => {
      if (event.detail && event.target.closest("main button, footer button")) at("stage").focus({ preventScroll: true }); // keys mean the picture again
    });
    window.addEventListener("pagehide", () => this.server.post("/api/leave", {}, { keepalive: true }).catch(() => {}));
    window.addEventListener("beforeunload", (event) => {
      if (this.outbox.waiting.length) event.preventDefault();
    });
    this.listKeys();
    this.listen();
    setInterval(() => this.ask(), PING);
  }

  key(event) {
    const isInput = event.target.matches("input");
    const itsOwn = isInput ? [" ", ...Object.keys(ARROWS)] : event.target.matches("button, summary") ? [" ", "Enter"] : [];
    if (!this.review || itsOwn.includes(event.key)) return;
    if (at("help").open && event.key !== "?") return;
    if (event.key in ARROWS && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      return this.nudge(ARROWS[event.key], event);
    }
    const does = BY_KEY.get(keyOf(event));
    if (!does) return;
    event.preventDefault();
    does(this);
  }

  listKeys() {
    const sections = KEYS.map(([title, rows]) => {
      const list = document.createElement("dl");
      for (const [key, said] of rows) list.append(element("dt", "", element("kbd", key)), element("dd", said));
      return element("section", "", element("h3", title), list);
    });
    at("keys").replaceChildren(...sections);
  }
}

/* The value of a key that an object itself has, whatever it is called; null: it has none. */
function own(object, key) {
  return object && Object.hasOwn(object, key) ? object[key] : null;
}

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

/* A line of a list: a sign, a name, a small word. */
function row(name, does) {
  const button = element("button", "", element("span", ""), element("span", name), element("small", ""));
  button.addEventListener("click", does);
  return element("li", "", button);
}

function write(item, sign, small, said, isCurrent, isStrong) {
  const content = [sign, small, said, isCurrent, isStrong].join();
  if (item.content === content) return;
  item.content = content;
  const button = item.firstChild;
  const [first, , last] = button.children;
  first.textContent = sign;
  first.className = isStrong ? "sign yes" : "sign";
  last.textContent = small;
  button.setAttribute("aria-label", said);
  button.setAttribute("aria-current", isCurrent);
}

const page = new Page(new URLSearchParams(location.search).get("token") || "");
page.wire();
page.open();
