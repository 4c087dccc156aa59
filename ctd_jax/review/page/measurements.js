"use strict";

/* Measurements of points, as ctd_jax/metrics/plane.py and measurements.py compute them (their docstrings have the
   sources). A point is [x, y] in mm, or in pixels where the spacing is unknown. */

const EQUAL = 1e-9; // of the largest coordinate: points that are less apart are one point
const PARALLEL = 1e-4; // radians

/* Why something can't be measured; {0}, {1} stand for the names of what it is made of. */
class Unknown extends Error {}

function refuse(isSo, reason) {
  if (isSo) throw new Unknown(reason);
}

const minus = ([ax, ay], [bx, by]) => [ax - bx, ay - by];
const plus = ([ax, ay], [bx, by], times = 1) => [ax + bx * times, ay + by * times];
const cross = ([ux, uy], [vx, vy]) => ux * vy - uy * vx;
const dot = ([ux, uy], [vx, vy]) => ux * vx + uy * vy;
const apart = (a, b) => Math.hypot(...minus(a, b));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (points) => [0, 1].map((axis) => sum(points.map((point) => point[axis])) / points.length);
const listed = (points) => points.map((_, i) => `{${i}}`).join(", ");
const following = (points, i) => points[(i + 1) % points.length];

/* The direction of length 1 from a to b. */
function direction(a, b, first, second) {
  const length = apart(a, b);
  refuse(length <= EQUAL * Math.max(...[...a, ...b].map(Math.abs)), `{${first}} and {${second}} lie on one point`);
  return minus(b, a).map((value) => value / length);
}

/* Degrees from direction u to v, positive clockwise. */
const turn = (u, v) => (Math.atan2(cross(u, v), dot(u, v)) * 180) / Math.PI;

/* Degrees, moved by whole turns to within half a turn of `near`. */
const turned = (degrees, near) => degrees - 360 * Math.sign(degrees - near) * Math.ceil(Math.abs(degrees - near) / 360 - 0.5);

/* The middle of the arc that holds angles of -180 to 180 degrees: what it leaves out is the widest gap between them. */
function middleOfAngles(degrees) {
  const ordered = [...degrees].sort((a, b) => a - b);
  const gaps = ordered.map((one, i) => one - (i ? ordered[i - 1] : ordered.at(-1) - 360));
  const widest = gaps.indexOf(Math.max(...gaps));
  return turned(ordered[widest] - gaps[widest] / 2 + 180, 0);
}

/* The variation of points about their mean along x and y, and together. */
function spread(points) {
  const middle = mean(points);
  const u = points.map((point) => minus(point, middle));
  const [xx, yy, xy] = [sum(u.map(([x]) => x * x)), sum(u.map(([, y]) => y * y)), sum(u.map(([x, y]) => x * y))];
  return { middle, u, xx, yy, xy };
}

function refuseFlat(points) {
  const { xx, yy, xy } = spread(points);
  const [half, root] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  refuse(half - root <= PARALLEL ** 2 * (half + root), `${listed(points)} lie on one line`);
}

/* The segment from a to b has a point in common with that from c to d. */
function meet(a, b, c, d) {
  const overlap = [0, 1].every((i) => Math.max(Math.min(a[i], b[i]), Math.min(c[i], d[i])) <= Math.min(Math.max(a[i], b[i]), Math.max(c[i], d[i])));
  const parts = (p, q, r, s) => cross(minus(q, p), minus(r, p)) * cross(minus(q, p), minus(s, p)) <= 0;
  return overlap && parts(a, b, c, d) && parts(c, d, a, b);
}

function refuseCrossing(points) {
  const n = points.length;
  for (let i = 0; i < n; i++) {
    for (let j = i + 2; j < n; j++) {
      const isNeighbour = j - i === n - 1;
      refuse(!isNeighbour && meet(points[i], following(points, i), points[j], following(points, j)), `the outline ${listed(points)} crosses itself`);
    }
  }
}

function area(...points) {
  refuseCrossing(points);
  refuseFlat(points);
  const u = points.map((point) => minus(point, points[0])); // for the sake of precision
  return Math.abs(sum(u.map((point, i) => cross(point, following(u, i))))) / 2;
}

function perimeter(...points) {
  refuseCrossing(points);
  return sum(points.map((point, i) => apart(point, following(points, i))));
}

function signedAngle(a, b, c) {
  return turn(direction(b, a, 1, 0), direction(b, c, 1, 2));
}

function circleCentre(...points) {
  refuseFlat(points);
  const { middle, u, xx, yy, xy } = spread(points);
  const [mx, my] = [0, 1].map((axis) => sum(u.map((point) => (point[axis] * dot(point, point)) / 2)));
  const determinant = xx * yy - xy * xy;
  return plus(middle, [(yy * mx - xy * my) / determinant, (xx * my - xy * mx) / determinant]);
}

function intersection(a, b, c, d) {
  const [u, v] = [direction(a, b, 0, 1), direction(c, d, 2, 3)];
  const sine = cross(u, v);
  refuse(Math.abs(sine) < PARALLEL, "the lines {0} to {1} and {2} to {3} are parallel");
  return plus(a, u, cross(minus(c, a), v) / sine);
}

function projection(p, a, b) {
  const along = direction(a, b, 1, 2);
  return plus(a, along, dot(minus(p, a), along));
}

/* Points that are made of others: what they are called, and where they lie. */
const DERIVED = {
  midpoint: ["the midpoint of {0} and {1}", (a, b) => mean([a, b])],
  projection: ["the foot of {0} on the line {1} to {2}", projection],
  intersection: ["where the lines {0} to {1} and {2} to {3} meet", intersection],
  circle_centre: ["the centre of the circle by {all}", circleCentre],
};

const MEASURED = {
  distance: apart,
  angle: (a, b, c) => Math.abs(signedAngle(a, b, c)),
  signed_angle: signedAngle,
  angle_of_lines: (a, b, c, d) => Math.abs(turn(direction(a, b, 0, 1), direction(c, d, 2, 3))),
  distance_to_line: (p, a, b) => cross(direction(a, b, 1, 2), minus(p, a)),
  distance_along: (p, q, a, b) => dot(minus(q, p), direction(a, b, 2, 3)),
  distance_across: (p, q, a, b) => cross(direction(a, b, 2, 3), minus(q, p)),
  area,
  perimeter,
  circularity: (...points) => (4 * Math.PI * area(...points)) / perimeter(...points) ** 2,
};

const COMBINED = { ratio: ([a, b]) => a / b, difference: ([a, b]) => a - b, sum, mean: (values) => sum(values) / values.length };
const LINES = { signed_angle: [1, 0], distance_to_line: [1, 2], distance_across: [2, 3] }; // the line that a point is on a side of
const SIDES = { positive_side: 1, negative_side: -1 };

function filled(text, names) {
  return text.replace("{all}", names.join(", ")).replace(/\{(\d)\}/g, (_, i) => names[i]);
}

function wordsOf(point) {
  if (typeof point === "string") return point;
  const [[kind, of]] = Object.entries(point);
  return filled(DERIVED[kind][0], of.map(wordsOf));
}

/* The measurements of one picture. */
class Measurements {
  /* `given`: [{name, quantity, definition}]; `spacing`: mm of a pixel along x and y, or null. */
  constructor(given, spacing) {
    this.given = given;
    this.spacing = spacing;
  }

  /* [{name, value, unit, reason, group}] of {name: point}; where the value is null, the reason says why, else it is "". */
  of(points) {
    this.points = points;
    this.found = new Map();
    return this.given.map((one) => {
      const unit = this.unit(one.quantity);
      try {
        const value = this.value(one.name);
        return { name: one.name, value, unit, reason: "", group: this.group(one.definition, value, unit) };
      } catch (error) {
        if (!(error instanceof Unknown)) throw error;
        return { name: one.name, value: null, unit, reason: error.message, group: "" };
      }
    });
  }

  unit(quantity) {
    const length = this.spacing ? "mm" : "px";
    return { length, area: `${length}2`, angle: "deg unsigned", "signed angle": "deg", "sum of angles": "deg" }[quantity] || "";
  }

  /* The class that a value lies in; "" where there are none, or lengths are not in mm. */
  group({ classes = {} }, value, unit) {
    const isIn = ([low, high]) => (low === null || value >= low) && (high === null || value < high);
    const found = Object.entries(classes).find(([, ends]) => isIn(ends));
    return found && !unit.startsWith("px") ? found[0] : "";
  }

  value(name) {
    if (!this.found.has(name)) {
      let { definition, quantity } = this.given.find((one) => one.name === name);
      if (Array.isArray(definition)) definition = { [definition.length === 2 ? "distance" : "angle"]: definition };
      const kind = Object.keys(definition).find((key) => Object.hasOwn(MEASURED, key) || Object.hasOwn(COMBINED, key));
      const value = Object.hasOwn(COMBINED, kind) ? this.combined(kind, definition[kind], quantity) : this.measured(kind, definition);
      refuse(!Number.isFinite(value), "the value is not a finite number");
      this.found.set(name, value);
    }
    return this.found.get(name);
  }

  combined(kind, of, quantity) {
    const values = of.map((name) => {
      try {
        return this.value(name);
      } catch (error) {
        throw error instanceof Unknown ? new Unknown(`${name}: ${error.message}`) : error;
      }
    });
    refuse(kind === "ratio" && values[1] === 0, `${of[1]} is 0`);
    if (quantity !== "signed angle") return COMBINED[kind](values);
    const near = kind === "mean" ? middleOfAngles(values) : values[0];
    return turned(COMBINED[kind](values.map((value) => turned(value, near))), 0);
  }

  measured(kind, definition) {
    const of = definition[kind];
    const value = this.computed(MEASURED[kind], of);
    const side = Object.keys(SIDES).find((key) => Object.hasOwn(definition, key));
    return side ? value * SIDES[side] * this.sideOf(definition[side], ...LINES[kind].map((i) => of[i])) : value;
  }

  /* 1 where a point lies on the right-hand side of the line from a to b, else -1. */
  sideOf(point, a, b) {
    const [at, from, to] = [point, a, b].map((one) => this.at(one));
    const isEqual = (p) => apart(from, p) <= EQUAL * Math.max(...[...from, ...p].map(Math.abs));
    const sine = isEqual(at) ? 0 : cross(direction(from, to, 0, 1), direction(from, at, 0, 1));
    refuse(Math.abs(sine) < PARALLEL, `${wordsOf(point)} lies on the line ${wordsOf(a)} to ${wordsOf(b)}, so there is no sign`);
    return Math.sign(sine);
  }

  at(point) {
    if (typeof point !== "string") {
      const [[kind, of]] = Object.entries(point);
      return this.computed(DERIVED[kind][1], of);
    }
    const found = own(this.points, point);
    refuse(!found || found.state === ABSENT, `${point} is missing`);
    const [x, y] = this.spacing || [1, 1];
    return [found.x * x, found.y * y];
  }

  computed(compute, of) {
    const places = of.map((one) => this.at(one));
    try {
      return compute(...places);
    } catch (error) {
      throw error instanceof Unknown ? new Unknown(filled(error.message, of.map(wordsOf))) : error;
    }
  }
}
