"use strict";

/* The points of all pictures as a csv file, which ctd_jax/review/mailed.py reads, and back. */
const WORDS = { [PLACED]: "placed", [HIDDEN]: "hidden", [ABSENT]: "absent" };
const STATES = new Map(Object.entries(WORDS).map(([state, word]) => [word, state]));

function csvOf(page) {
  const columns = (name) => [`${name}_x`, `${name}_y`, `${name}_state`, `${name}_how`];
  const header = ["picture", "done", ...page.landmarks.flatMap(columns)];
  const cells = (point) => (point && !isOpen(point) ? [point.x ?? "", point.y ?? "", WORDS[point.state], point.how] : ["", "", "", ""]);
  const rows = page.images.map((image) => {
    const said = page.review.points.get(image);
    const done = { true: "1", false: "0" }[page.review.done.get(image)] ?? "";
    return [image, done, ...page.landmarks.flatMap((name) => cells(own(said, name)))];
  });
  const quoted = (cell) => (/[",;\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return `\uFEFF${[header, ...rows].map((row) => row.map(quoted).join(",")).join("\n")}\n`; // the first sign: it is UTF-8
}

/* The rows of a csv file, each a map from the names of the columns to its cells. */
function rowsOf(csv) {
  const text = csv.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  const [first] = text.split("\n", 1);
  const separator = [",", ";", "\t"].reduce((a, b) => (first.split(b).length > first.split(a).length ? b : a));
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\n]*))(${separator}|\n|$)`, "g"))) {
    rows.at(-1).push((quoted === undefined ? plain : quoted.replaceAll('""', '"')).trim());
    if (end === "\n") rows.push([]);
  }
  const [names, ...others] = rows;
  return others.filter((row) => row.some(Boolean)).map((row) => new Map(names.map((name, i) => [name, row[i] ?? ""])));
}

/* Takes the points of a csv file that was saved before; undo leads back. What is wrong with it is thrown. */
function takeCsv(csv, page) {
  const rows = rowsOf(csv);
  const isOurs = (row) => page.images.includes(row.get("picture")) && page.landmarks.every((name) => row.has(`${name}_state`));
  if (!rows.length || !rows.every(isOurs)) throw new Error("This is no file that this page has saved.");
  const changes = rows.map((row) => changeOf(row, page)).filter((edit) => edit);
  for (const edit of changes) page.edits.add(edit);
  page.redraw();
  return changes.length;
}

/* The edit that makes a picture as a row has it; null: it is so. */
function changeOf(row, page) {
  const image = row.get("picture");
  const said = page.review.points.get(image);
  const done = { 1: true, 0: false }[row.get("done")] ?? null;
  const changed = page.landmarks.map((name) => [name, pointOf(row, name), own(said, name)]).filter(([, point, now]) => !isSame(point, now));
  if (!changed.length && done === (page.review.done.get(image) ?? null)) return null;
  return { kind: "edit", image, points: Object.fromEntries(changed.map(([name, point]) => [name, point])), done };
}

function pointOf(row, name) {
  const state = STATES.get(row.get(`${name}_state`));
  if (!state) return null;
  const how = row.get(`${name}_how`) === "accepted" ? "accepted" : "hand"; // older files do not say it
  if (state === ABSENT) return { x: null, y: null, state, how };
  const [x, y] = ["x", "y"].map((axis) => Number(row.get(`${name}_${axis}`).replace(",", ".") || NaN));
  if (!Number.isFinite(x + y)) throw new Error(`${row.get("picture")}: ${name} has no numbers.`);
  return { x, y, state, how };
}

function isSame(point, now) {
  if (!point) return !now || isOpen(now);
  return Boolean(now) && !isOpen(now) && ["x", "y", "state"].every((key) => point[key] === now[key]);
}

function saveCsv(page) {
  const link = element("a", "");
  link.href = URL.createObjectURL(new Blob([csvOf(page)], { type: "text/csv" }));
  link.download = `${page.folder}_points.csv`;
  link.click();
  at("written").textContent = `${link.download} is among your downloads; send it back.`;
}

async function loadCsv(page, input) {
  try {
    const count = takeCsv(await input.files[0].text(), page);
    at("written").textContent = `${count} pictures have changed.`;
  } catch (error) {
    at("written").textContent = error.message;
  }
  input.value = ""; // the same file can be taken again
}
