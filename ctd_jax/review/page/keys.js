"use strict";

/* Every key: what is pressed, what it is called on the list of keys, and the method of the page. The left hand reaches
   those that are needed most. */
const KEYS = [
  ["Pictures", [
    ["d", "next picture", (page) => page.step(1)],
    ["a", "picture before", (page) => page.step(-1)],
    ["Space", "done, and on to the next that is not", (page) => page.markDone()],
    ["Shift+Space", "not done after all", (page) => page.markOpen()],
  ]],
  ["Points", [
    ["e", "next point", (page) => page.selectNext(1)],
    ["q", "point before", (page) => page.selectNext(-1)],
    ["x", "next point that is not placed; a click places it", (page) => page.selectUnplaced()],
    ["1", "placed (accepts a proposed point)", (page) => page.setState(PLACED)],
    ["2", "hidden but placed", (page) => page.setState(HIDDEN)],
    ["3", "absent", (page) => page.setState(ABSENT)],
    ["Backspace", "back to what was proposed", (page) => page.reset()],
    ["v", "accept all proposed points", (page) => page.acceptAll()],
    ["g", "fit the rest to the points that you have corrected", (page) => page.fitRest()],
    ["Arrows", "move by 1 pixel; with Shift 10, with Alt 0.1", null],
  ]],
  ["Whole shape", [
    ["t", "move, turn and scale the whole shape; again: points", (page) => page.toggleShape()],
    [",", "turn left by 1 degree", (page) => page.turnShape(-1)],
    [".", "turn right by 1 degree", (page) => page.turnShape(1)],
    [";", "smaller by 1 %", (page) => page.scaleShape(1 / 1.01)],
    ["'", "larger by 1 %", (page) => page.scaleShape(1.01)],
  ]],
  ["View", [
    ["f", "fit the picture to the window", (page) => page.fit()],
    ["w", "zoom in", (page) => page.zoomBy(1.25)],
    ["s", "zoom out", (page) => page.zoomBy(1 / 1.25)],
    ["i", "invert", (page) => page.toggleInvert()],
    ["b", "brighter", (page) => page.changeTone("brightness", 0.1)],
    ["Shift+b", "darker", (page) => page.changeTone("brightness", -0.1)],
    ["c", "more contrast", (page) => page.changeTone("contrast", 0.1)],
    ["Shift+c", "less contrast", (page) => page.changeTone("contrast", -0.1)],
    ["r", "brightness, contrast and gamma as they were", (page) => page.resetTone()],
    ["n", "names of all points, or of none", (page) => page.toggleNames()],
  ]],
  ["Everything", [
    ["z", "undo, over all pictures", (page) => page.undo()],
    ["y", "redo", (page) => page.redo()],
    ["?", "this list", (page) => page.toggleHelp()],
    ["Escape", "close; leave the whole shape", (page) => page.escape()],
  ]],
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
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
