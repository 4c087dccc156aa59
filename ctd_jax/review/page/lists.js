"use strict";

/* The lists of pictures, of points and of what is measured of them, beside the picture. */
class Lists {
  constructor(page) {
    this.page = page;
  }

  fill() {
    const { page } = this;
    at("picture_list").replaceChildren(...page.order.sequence.map((index) => row(page.images[index], () => (page.showDrawer(null), page.go(index)))));
    at("point_list").replaceChildren(...page.landmarks.map((name) => row(name, () => page.select(name))));
    at("measured").hidden = !page.measurements.length;
    at("measured_list").replaceChildren(...page.measurements.map(({ name }) => element("li", "", element("span", name), element("output", ""))));
  }

  showPictures() {
    const { page } = this;
    const signs = { true: ["✓", "done"], before: ["◦", "labelled before"], false: ["·", "not done"], null: ["·", "not done"] };
    [...at("picture_list").children].forEach((item, place) => {
      const index = page.order.sequence[place];
      const image = page.images[index];
      const [sign, said] = signs[page.isDone(image)];
      const drawn = page.order.random.has(image) ? "random" : "";
      write(item, sign, drawn, `${image}, ${said}${drawn && ", random"}`, index === page.index, sign === "✓");
    });
    const here = at("picture_list").children[page.order.place(page.index)];
    if (here && this.listedAt !== page.index) here.scrollIntoView({ block: "nearest" });
    this.listedAt = page.index;
  }

  /* Values, as often as a point moves. */
  showMeasured(values) {
    values.forEach(({ value, unit, group, reason }, index) => {
      const item = at("measured_list").children[index];
      const sign = { "deg": "°", "deg unsigned": "°", "mm2": " mm²", "px2": " px²" }[unit] ?? (unit && ` ${unit}`);
      const digits = unit ? 1 : 3;
      item.lastChild.textContent = value === null ? "–" : `${value.toFixed(digits)}${sign}${group && `, ${group}`}`;
      item.title = reason;
    });
  }

  showPoints(points) {
    const { page } = this;
    [...at("point_list").children].forEach((item, index) => {
      const name = page.landmarks[index];
      const point = points[name];
      const sign = !point ? "–" : point.state === ABSENT ? "×" : isOpen(point) ? "○" : point.state === HIDDEN ? "⊗" : "●";
      const where = page.isPlaced(point) ? `${point.x.toFixed(1)}, ${point.y.toFixed(1)}` : point ? "absent" : "";
      write(item, sign, where, inWords(name, point), name === page.selected, Boolean(point) && !isOpen(point));
    });
    const chosen = at("point_list").children[page.landmarks.indexOf(page.selected)];
    if (chosen && this.listed !== page.selected) chosen.scrollIntoView({ block: "nearest" });
    this.listed = page.selected;
  }
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
