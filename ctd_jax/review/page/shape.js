"use strict";

/* The whole shape: moved, turned and scaled about its middle. A shape is {name: [x, y]}. */
function middleOf(shape) {
  const all = Object.values(shape);
  return [0, 1].map((axis) => all.reduce((sum, point) => sum + point[axis], 0) / all.length);
}

function shifted(shape, dx, dy) {
  return mapped(shape, ([x, y]) => [x + dx, y + dy]);
}

/* Turned by `angle` (radians, to the right on the screen) and scaled, about its middle. */
function turnedAndScaled(shape, angle, scale) {
  const [mx, my] = middleOf(shape);
  const [a, b] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  return mapped(shape, ([x, y]) => [mx + a * (x - mx) - b * (y - my), my + b * (x - mx) + a * (y - my)]);
}

function mapped(shape, move) {
  return Object.fromEntries(Object.entries(shape).map(([name, point]) => [name, move(point)]));
}

/* What a drag of a handle of the shape's frame does: "move", "turn" or "scale", from one place of the picture to another. */
function dragged(shape, handle, from, to) {
  if (handle === "move") return shifted(shape, to[0] - from[0], to[1] - from[1]);
  const middle = middleOf(shape);
  const [p, q] = [from, to].map((point) => [point[0] - middle[0], point[1] - middle[1]]);
  if (handle === "turn") return turnedAndScaled(shape, Math.atan2(q[1], q[0]) - Math.atan2(p[1], p[0]), 1);
  const size = Math.hypot(...p);
  return size ? turnedAndScaled(shape, 0, Math.max(Math.hypot(...q) / size, 0.05)) : shape;
}

/* What a rater does to all placed points of the picture at once. */
class Shape {
  constructor(page) {
    this.page = page;
    this.isOn = false;
  }

  toggle() {
    this.isOn = !this.isOn && this.isPossible;
    this.page.redraw();
  }

  get isPossible() {
    return Object.keys(this.places()).length > 1;
  }

  /* {name: [x, y]} of the placed points. */
  places() {
    const placed = Object.entries(this.page.points()).filter(([, point]) => this.page.isPlaced(point));
    return Object.fromEntries(placed.map(([name, { x, y }]) => [name, [x, y]]));
  }

  /* The points at the places of a shape; those that were only proposed stay so. */
  moved(shape) {
    const points = this.page.points();
    const edited = ([name, [x, y]]) => [name, { ...this.page.edits.placedAt(points[name], x, y), how: isOpen(points[name]) ? "fitted" : "hand" }];
    return Object.fromEntries(Object.entries(shape).map(edited));
  }

  move(dx, dy) {
    this.become(shifted(this.places(), dx, dy));
  }

  turn(degrees) {
    if (this.isOn) this.become(turnedAndScaled(this.places(), (degrees * Math.PI) / 180, 1));
  }

  scale(factor) {
    if (this.isOn) this.become(turnedAndScaled(this.places(), 0, factor));
  }

  become(shape) {
    this.page.edits.edit(this.moved(shape));
  }
}
