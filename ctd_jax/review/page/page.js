"use strict";

/* What is open: the pictures, which of them is shown, its points and the selected one. */
class Page {
  constructor(server) {
    this.server = server;
    this.outbox = new Outbox(this.server, () => this.status.showSaved());
    this.view = new View(at("stage"), at("canvas"));
    this.drawn = new Points(at("points"), this.view);
    this.pointers = new Pointers(this);
    this.edits = new Edits(this);
    this.shape = new Shape(this);
    this.tone = new Tone(this.view);
    this.lists = new Lists(this);
    this.status = new Status(this);
    this.order = new Order(this);
    this.images = [];
    this.pictures = new Pictures(this.server, this.images);
    this.index = 0;
    this.selected = null;
    this.hint = "";
  }

  // ------------------------------------------------------------ what is there

  async open(take = false) {
    try {
      const found = await this.server.open(take);
      const { images, landmarks, skeleton, measurements, spacing } = found;
      const { image } = this;
      const isOther = image !== undefined && images.join("\n") !== this.images.join("\n");
      Object.assign(this, { images, landmarks, skeleton, measurements, spacing, labelled: new Set(found.labelled) });
      this.pictures = new Pictures(this.server, images);
      this.outbox.forget(found.entries);
      this.review = new Review([...found.entries, ...this.outbox.waiting]);
      this.folder = found.folder;
      document.title = [found.folder, found.rater].filter(Boolean).join(" · ");
      this.outbox.say(null);
      this.outbox.send();
      this.order.take(found.order);
      this.lists.fill();
      this.go(images.includes(image) ? images.indexOf(image) : this.firstOpen()).then(() => {
        if (isOther && !this.hint) this.say("The list of pictures has changed");
      });
    } catch (error) {
      this.outbox.failed(error);
    }
  }

  /* From time to time: whether the server is there, and whether this window may edit. One that may again, after another
     one did or the server was started again, begins anew with what is on the disk. One that was opened by the server
     before, and has edits, takes over at once from the window that was opened with this one: later, they would go over
     newer ones. */
  async ask() {
    if (this.isAsking) return;
    this.isAsking = true;
    const isLost = () => !this.review || this.outbox.isLost;
    if (!isLost()) await this.outbox.ping();
    const { trouble, waiting } = this.outbox;
    const takes = Boolean(trouble) && trouble.kind === "anew" && waiting.length > 0;
    if (isLost() && !this.outbox.sending) await this.open(takes); // else what is being sent would not be in the answer
    this.isAsking = false;
  }

  get image() {
    return this.images[this.index];
  }

  /* Whether the picture is on the screen, and not only asked for. */
  get isShown() {
    return this.shown === this.index;
  }

  /* true, false, or null: the rater has not said, and there were no labels; "before": there were. */
  isDone(image) {
    const said = this.review.done.get(image);
    return said === undefined || said === null ? (this.labelled.has(image) ? "before" : null) : said;
  }

  firstOpen() {
    const { sequence } = this.order;
    return sequence.find((index) => !this.isDone(this.images[index])) ?? sequence[0];
  }

  /* {name: point, or null where there is none} of the picture: what the rater says, else what is proposed. */
  points() {
    const said = this.review.points.get(this.image);
    return Object.fromEntries(this.landmarks.map((name) => [name, own(said, name) || this.base(name)]));
  }

  /* What is proposed for a point of the picture; null: nothing. */
  base(name) {
    return own(this.pictures.proposed.get(this.index), name);
  }

  isPlaced(point) {
    return Boolean(point) && point.state !== ABSENT;
  }

  // ------------------------------------------------------------ which picture

  async go(index) {
    this.index = index;
    this.shown = null;
    this.shape.isOn = false;
    this.pointers.letGo();
    this.hint = "";
    this.selected = null;
    this.status.showNames();
    const { pictures } = this;
    const stillHere = () => this.index === index && this.pictures === pictures;
    const picture = pictures.load(index);
    const proposed = pictures.propose(index);
    try {
      const found = await picture;
      if (!stillHere()) return;
      this.view.show(found, this.tilesOf(index, found), at("keep").checked);
      this.shown = index;
      this.measured = new Measurements(this.measurements, this.spacing[index]);
      this.edits.begin();
      if (!pictures.proposed.has(index)) this.hint = "Finding its points…";
      this.redraw();
    } catch (error) {
      pictures.forget(index);
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
    const next = this.order.after(index, 1);
    if (next !== undefined) Promise.all([pictures.load(next), pictures.propose(next)]).catch(() => pictures.forget(next));
  }

  /* The sharp parts of a picture that came as a scaled copy; null: it came as it is, or
     there are none. */
  tilesOf(index, { bitmap, width, height }) {
    if (bitmap.width >= width || !this.server.tile) return null;
    const come = () => {
      this.view.draw();
      this.pointers.showLoupe();
    };
    const image = this.images[index];
    return new Tiles(width, height, (...tile) => this.server.tile(image, ...tile), come);
  }

  step(by) {
    const next = this.order.after(this.index, by);
    if (next !== undefined) this.go(next);
  }

  // ------------------------------------------------------------ which point

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
    if (this.shape.isOn) this.shape.toggle();
    else {
      this.selected = null;
      this.redraw();
    }
    this.showDrawer(null);
  }

  // ------------------------------------------------------------ what is seen

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

  /* Names of all points, or lines between them: on the picture or not. */
  toggle(what) {
    this.drawn.shows[what] = !this.drawn.shows[what];
    at(what).checked = this.drawn.shows[what];
    this.redraw();
  }

  say(text) {
    this.hint = text;
    this.redraw();
  }

  failed(error) {
    if (error instanceof Refused) this.say(error.message);
    else this.outbox.failed(error);
  }

  /* The points alone, as often as something moves. */
  drawPoints() {
    if (!this.review) return;
    const { moving, onTouch } = this.pointers;
    const points = this.shown === null ? {} : { ...this.points(), ...moving };
    this.drawn.draw(points, {
      selected: this.selected, onTouch: onTouch && !moving, isShape: this.shape.isOn, names: this.landmarks, skeleton: this.skeleton,
    });
    this.lists.showMeasured(this.shown === null ? [] : this.measured.of(points));
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
    this.lists.showPictures();
    this.lists.showPoints(points);
    this.status.showNames();
    this.status.showTools(points);
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
      at("written").textContent = isKept ? await this.server.write() : "Some edits are not saved yet; try again.";
    } catch (error) {
      at("written").textContent = error.message;
    }
  }
}
