"use strict";

const CLICK = 4; // CSS pixels that a click may move
const RADIUS = { mouse: 14, pen: 18, touch: 30 }; // CSS pixels within which a point is hit

/* What mouse, pen and fingers do on the picture. */
class Pointers {
  constructor(page) {
    this.page = page;
    this.pointers = new Map();
    this.grip = null; // what a pointer has hold of
    this.moving = null; // {name: point} while something is dragged
    this.onTouch = false;
  }

  listen() {
    const { page } = this;
    const stage = at("stage");
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.drag(event));
    stage.addEventListener("pointerup", (event) => this.release(event));
    stage.addEventListener("pointercancel", (event) => this.release(event, true));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => {
      if (page.view.isFitted) page.view.fit();
      page.redraw();
      page.view.draw();
    }).observe(stage);
  }

  placeOf(event) {
    const box = at("stage").getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    const { page } = this;
    if (!page.review || page.shown === null || event.button > 1) return;
    at("stage").focus({ preventScroll: true });
    at("stage").setPointerCapture(event.pointerId);
    page.showDrawer(null);
    this.onTouch = event.pointerType === "touch";
    const [x, y] = this.placeOf(event);
    this.pointers.set(event.pointerId, [x, y]);
    if (this.pointers.size === 2) return this.beginPinch();
    if (this.pointers.size > 2) return;
    this.grip = { from: [x, y], at: page.view.toPicture(x, y), moved: false, ...this.gripAt(event, x, y) };
    if (this.grip.name) page.selected = this.grip.name;
    at("points").classList.add("busy");
    page.redraw();
  }

  gripAt(event, x, y) {
    const { page } = this;
    const points = page.points();
    const radius = RADIUS[event.pointerType] || RADIUS.mouse;
    if (event.button === 1) return { kind: "pan" };
    if (page.shape.isOn) {
      const handle = page.drawn.handleAt(points, x, y, radius);
      return handle ? { kind: "shape", handle, shape: page.shape.places() } : { kind: "pan" };
    }
    const name = page.drawn.at(points, x, y, radius, page.selected, this.onTouch);
    return name ? { kind: "point", name, point: points[name] } : { kind: "pan" };
  }

  beginPinch() {
    const [a, b] = [...this.pointers.values()];
    this.moving = null;
    at("loupe").hidden = true;
    this.grip = { kind: "pinch", distance: Math.hypot(a[0] - b[0], a[1] - b[1]), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
    this.page.redraw();
  }

  drag(event) {
    const { page } = this;
    if (!this.pointers.has(event.pointerId) || !this.grip) return;
    const [x, y] = this.placeOf(event);
    const [px, py] = this.pointers.get(event.pointerId);
    this.pointers.set(event.pointerId, [x, y]);
    const grip = this.grip;
    if (grip.kind === "pinch") return this.pinch();
    const [fx, fy] = grip.from;
    const to = page.view.toPicture(x, y);
    if (!grip.moved && Math.hypot(x - fx, y - fy) < (grip.kind === "point" ? 1 : CLICK)) return;
    if (grip.kind === "pan") {
      const start = grip.moved ? [px, py] : grip.from;
      page.view.pan(x - start[0], y - start[1]);
      page.view.draw();
    } else if (grip.kind === "point") {
      const moved = page.edits.placedAt(grip.point, grip.point.x + to[0] - grip.at[0], grip.point.y + to[1] - grip.at[1]);
      this.moving = { [grip.name]: moved };
      this.showLoupe();
    } else {
      this.moving = page.shape.moved(dragged(grip.shape, grip.handle, grip.at, to));
    }
    grip.moved = true;
    page.drawPoints();
  }

  pinch() {
    const { page } = this;
    const [a, b] = [...this.pointers.values()];
    const grip = this.grip;
    const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
    page.view.pan(middle[0] - grip.middle[0], middle[1] - grip.middle[1]);
    if (grip.distance > 0) page.view.zoomAt(...middle, (page.view.zoom * distance) / grip.distance);
    Object.assign(grip, { middle, distance });
    page.view.draw();
    page.drawPoints();
  }

  release(event, isCancelled = false) {
    const { page } = this;
    if (!this.pointers.delete(event.pointerId) || !this.grip) return;
    const { grip, moving } = this;
    if (grip.kind === "pinch") {
      if (!this.pointers.size) this.grip = null;
      return;
    }
    this.letGo();
    if (isCancelled) return page.redraw();
    if (moving) return page.edits.edit(moving);
    const isClick = grip.kind === "pan" && !grip.moved && event.button === 0 && !page.shape.isOn;
    if (isClick && page.selected && !page.isPlaced(page.points()[page.selected])) return page.edits.place(...grip.at);
    if (isClick) page.selected = null;
    page.redraw();
  }

  letGo() {
    this.grip = this.moving = null;
    at("loupe").hidden = true;
    at("points").classList.remove("busy");
  }

  wheel(event) {
    const { page } = this;
    event.preventDefault();
    if (page.shown === null) return;
    const unit = event.deltaMode === 1 ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0018;
    page.view.zoomAt(...this.placeOf(event), page.view.zoom * Math.exp(-event.deltaY * unit * speed));
    page.view.draw();
    page.drawPoints();
  }

  /* Under the point that is dragged. */
  showLoupe() {
    if (!this.moving || this.grip.kind !== "point") return;
    const point = this.moving[this.grip.name];
    const loupe = at("loupe");
    loupe.hidden = false;
    const [x, y] = this.page.view.toScreen(point.x, point.y);
    const isNear = x < loupe.offsetWidth + 60 && y < loupe.offsetHeight + 60;
    loupe.classList.toggle("right", isNear);
    this.page.view.drawLoupe(at("loupe_canvas"), point.x, point.y, loupe.clientWidth);
  }
}
