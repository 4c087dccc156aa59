"use strict";

/* Every key: what is pressed, what it is called on the list of keys, and the method of the page. The left hand reaches
   those that are needed most. */
const KEYS = [
  ["Pictures", [
    ["d", "next picture", (page) => page.step(1)],
    ["a", "picture before", (page) => page.step(-1)],
    ["Space", "done, and on to the next that is not", (page) => page.edits.markDone()],
    ["Shift+Space", "not done after all", (page) => page.edits.markOpen()],
  ]],
  ["Points", [
    ["e", "next point", (page) => page.selectNext(1)],
    ["q", "point before", (page) => page.selectNext(-1)],
    ["x", "next point that is not placed; a click places it", (page) => page.selectUnplaced()],
    ["1", "placed (accepts a proposed point)", (page) => page.edits.setState(PLACED)],
    ["2", "hidden but placed", (page) => page.edits.setState(HIDDEN)],
    ["3", "absent", (page) => page.edits.setState(ABSENT)],
    ["Backspace", "back to what was proposed", (page) => page.edits.reset()],
    ["v", "accept all proposed points", (page) => page.edits.acceptAll()],
    ["g", "fit the rest to the points that you have corrected", (page) => page.edits.fitRest()],
    ["Arrows", "move by 1 pixel; with Shift 10, with Alt 0.1", null],
  ]],
  ["Whole shape", [
    ["t", "move, turn and scale the whole shape; again: points", (page) => page.shape.toggle()],
    [",", "turn left by 1 degree", (page) => page.shape.turn(-1)],
    [".", "turn right by 1 degree", (page) => page.shape.turn(1)],
    [";", "smaller by 1 %", (page) => page.shape.scale(1 / 1.01)],
    ["'", "larger by 1 %", (page) => page.shape.scale(1.01)],
  ]],
  ["View", [
    ["f", "fit the picture to the window", (page) => page.fit()],
    ["w", "zoom in", (page) => page.zoomBy(1.25)],
    ["s", "zoom out", (page) => page.zoomBy(1 / 1.25)],
    ["i", "invert", (page) => page.tone.toggleInvert()],
    ["b", "brighter", (page) => page.tone.change("brightness", 0.1)],
    ["Shift+b", "darker", (page) => page.tone.change("brightness", -0.1)],
    ["c", "more contrast", (page) => page.tone.change("contrast", 0.1)],
    ["Shift+c", "less contrast", (page) => page.tone.change("contrast", -0.1)],
    ["r", "brightness, contrast and gamma as they were", (page) => page.tone.reset()],
    ["n", "names of all points, or of none", (page) => page.toggle("names")],
    ["l", "lines between points, or none", (page) => page.toggle("lines")],
  ]],
  ["Everything", [
    ["z", "undo, over all pictures", (page) => page.edits.undo()],
    ["y", "redo", (page) => page.edits.redo()],
    ["?", "this list", (page) => page.toggleHelp()],
    ["Escape", "close; leave the whole shape", (page) => page.escape()],
  ]],
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/* Keys that go on while they are held, as arrows do; Space, say, would mark pictures done that nobody has seen. */
const HELD = [..."adeqzyws,.;'bc", "Shift+b", "Shift+c"];
const BY_KEY = new Map(KEYS.flatMap(([, rows]) => rows).map(([key, , does]) => [key, does]));

/* How a key event is called on the list; "" where it is the browser's. */
function keyOf(event) {
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z") return event.shiftKey ? "y" : "z";
    return key === "y" ? "y" : "";
  }
  if (event.altKey) return "";
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isShifted = event.shiftKey && /^([a-z]|Space)$/.test(key);
  return isShifted && BY_KEY.has(`Shift+${key}`) ? `Shift+${key}` : key === "Delete" ? "Backspace" : key;
}

/* Does what a key means, if it means something here. */
function pressed(event, page) {
  const isInput = event.target.matches("input");
  const itsOwn = isInput ? [" ", ...Object.keys(ARROWS)] : event.target.matches("button, summary") ? [" ", "Enter"] : [];
  if (event.repeat && event.key === "Enter") event.preventDefault(); // a button is pressed once
  if (!page.review || itsOwn.includes(event.key)) return;
  if (at("help").open && event.key !== "?") return;
  if (event.key in ARROWS && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    return page.edits.nudge(ARROWS[event.key], event);
  }
  const key = keyOf(event);
  const does = BY_KEY.get(key);
  if (!does) return;
  event.preventDefault();
  if (!event.repeat || HELD.includes(key)) does(page);
}

function listKeys() {
  const sections = KEYS.map(([title, rows]) => {
    const list = document.createElement("dl");
    for (const [key, said] of rows) list.append(element("dt", "", element("kbd", key)), element("dd", said));
    return element("section", "", element("h3", title), list);
  });
  at("keys").replaceChildren(...sections);
}
