"use strict";

const SVG = "http://www.w3.org/2000/svg";
const [PLACED, HIDDEN, ABSENT] = ["placed", "hidden but placed", "absent"];
const OFFSET = 64; // CSS pixels from a point to the handle that a finger drags, so that it doesn't cover the point
const PREFERENCE = 10; // CSS pixels that the selected point is nearer than it is, among others
const FRAME = 28; // CSS pixels between a shape and its frame

function svgElement(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function isOpen(point) {
  return point.how === "predicted" || point.how === "fitted";
}

/* In words, also for those who hear the page: "chin, placed, at 12.3, 45.6". */
function inWords(name, point) {
  if (!point) return `${name}, not placed yet`;
  if (point.state === ABSENT) return `${name}, absent`;
  const state = isOpen(point) ? "proposed, not accepted" : point.state;
  return `${name}, ${state}, at ${point.x.toFixed(1)}, ${point.y.toFixed(1)}`;
}

/* The points as SVG over the picture. */
class Points {
  constructor(svg, view) {
    Object.assign(this, { svg, view, size: 6, opacity: 1, shows: { names: false, lines: true } });
    this.lines = svgElement("g", { class: "lines" }, svgElement("path"), svgElement("path"));
    this.frame = svgElement("g", { class: "frame" });
    this.layer = svgElement("g");
    svg.append(this.lines, this.frame, this.layer);
    this.groups = new Map();
  }

  /* Draws {name: point}, and lines between the pairs of names of the skeleton. */
  draw(points, { selected = null, onTouch = false, isShape = false, names = [], skeleton = [] } = {}) {
    for (const [name, group] of this.groups) {
      if (!points[name] || points[name].state === ABSENT) {
        group.remove();
        this.groups.delete(name);
      }
    }
    for (const name of names) {
      const point = points[name];
      if (point && point.state !== ABSENT) this.drawOne(name, point, name === selected, onTouch);
    }
    this.drawLines(points, this.shows.lines ? skeleton : []);
    this.layer.style.opacity = this.lines.style.opacity = this.opacity;
    this.drawFrame(isShape ? points : null);
  }

  drawLines(points, skeleton) {
    const isPlaced = (name) => points[name] && points[name].state !== ABSENT;
    const place = (name) => this.view.toScreen(points[name].x, points[name].y).join(" ");
    const d = skeleton.filter((pair) => pair.every(isPlaced)).map(([a, b]) => `M${place(a)}L${place(b)}`).join("");
    for (const path of this.lines.children) path.setAttribute("d", d);
  }

  drawOne(name, point, isSelected, onTouch) {
    let group = this.groups.get(name);
    if (!group) {
      group = svgElement("g", { tabindex: "-1", role: "img" });
      group.dataset.name = name;
      group.append(
        svgElement("line", { class: "stem", x1: 0, y1: 0, x2: 0, y2: OFFSET - 22 }),
        svgElement("circle", { class: "handle", cy: OFFSET, r: 22 }),
        svgElement("circle", { class: "halo" }),
        svgElement("circle", { class: "mark" }),
        svgElement("path", { class: "cross" }),
        svgElement("text", { class: "name" }, name),
      );
      this.groups.set(name, group);
      this.layer.append(group);
    }
    const [x, y] = this.view.toScreen(point.x, point.y);
    const size = this.size;
    group.setAttribute("transform", `translate(${x} ${y})`);
    group.setAttribute("aria-label", inWords(name, point));
    group.setAttribute("class", "point");
    group.classList.toggle("open", isOpen(point));
    group.classList.toggle("hiddenpoint", point.state === HIDDEN);
    group.classList.toggle("selected", isSelected);
    group.classList.toggle("named", this.shows.names || isSelected);
    group.classList.toggle("touched", isSelected && onTouch);
    const [, , halo, mark, cross, text] = group.children;
    halo.setAttribute("r", size + (isSelected ? 8 : 1.5));
    mark.setAttribute("r", size);
    const arm = size * 0.62;
    cross.setAttribute("d", `M${-arm} ${-arm}L${arm} ${arm}M${-arm} ${arm}L${arm} ${-arm}`);
    text.setAttribute("x", size + 9);
    text.setAttribute("y", 4.5);
  }

  drawFrame(points) {
    this.frame.replaceChildren();
    const box = points && this.box(points);
    if (!box) return;
    const { left, top, right, bottom } = box;
    this.frame.append(svgElement("rect", { x: left, y: top, width: right - left, height: bottom - top, rx: 6 }));
    this.frame.append(svgElement("line", { x1: (left + right) / 2, y1: top, x2: (left + right) / 2, y2: top - 34 }));
    for (const [, x, y] of this.handles(box)) this.frame.append(svgElement("circle", { cx: x, cy: y, r: 7 }));
  }

  /* The frame of a shape, CSS pixels; null: fewer than two points. */
  box(points) {
    const placed = Object.values(points).filter((point) => point && point.state !== ABSENT);
    if (placed.length < 2) return null;
    const [xs, ys] = [0, 1].map((axis) => placed.map((point) => this.view.toScreen(point.x, point.y)[axis]));
    return {
      left: Math.min(...xs) - FRAME,
      top: Math.min(...ys) - FRAME,
      right: Math.max(...xs) + FRAME,
      bottom: Math.max(...ys) + FRAME,
    };
  }

  handles({ left, top, right, bottom }) {
    const corners = [[left, top], [right, top], [left, bottom], [right, bottom]];
    return [["turn", (left + right) / 2, top - 34], ...corners.map(([x, y]) => ["scale", x, y])];
  }

  /* Which handle of the frame is at (x, y): "turn", "scale", "move" or null. */
  handleAt(points, x, y, radius) {
    const box = this.box(points);
    if (!box) return null;
    for (const [kind, hx, hy] of this.handles(box)) if (Math.hypot(x - hx, y - hy) <= radius) return kind;
    return x >= box.left && x <= box.right && y >= box.top && y <= box.bottom ? "move" : null;
  }

  /* The nearest point within `radius` CSS pixels; among several the selected one is preferred, and with `onTouch` its
     handle counts, too. */
  at(points, x, y, radius, selected, onTouch) {
    let found = null;
    let nearest = radius;
    for (const [name, point] of Object.entries(points)) {
      if (!point || point.state === ABSENT) continue;
      const [sx, sy] = this.view.toScreen(point.x, point.y);
      let distance = Math.hypot(x - sx, y - sy);
      if (name === selected && distance <= radius) distance -= PREFERENCE;
      if (name === selected && onTouch) distance = Math.min(distance, Math.hypot(x - sx, y - sy - OFFSET) - PREFERENCE);
      if (distance <= nearest) [found, nearest] = [name, distance];
    }
    return found;
  }
}
