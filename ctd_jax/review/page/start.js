"use strict";

const PING = 3000; // ms

/* What each button, slider and key of the page does. */
function wire(page) {
  const clicks = {
    undo: () => page.edits.undo(), redo: () => page.edits.redo(), show_help: () => page.toggleHelp(), before: () => page.step(-1),
    next: () => page.step(1), done: () => page.edits.markDone(), fit: () => page.fit(), accept: () => page.edits.acceptAll(),
    fit_rest: () => page.edits.fitRest(), shape: () => page.shape.toggle(), write: () => page.write(), take_over: () => page.open(true),
    show_pictures: () => page.showDrawer("pictures"), show_panel: () => page.showDrawer("panel"),
  };
  for (const [id, does] of Object.entries(clicks)) at(id).addEventListener("click", does);
  for (const button of document.querySelectorAll(".states button")) button.addEventListener("click", () => page.edits.setState(button.dataset.state));
  for (const what of ["names", "lines"]) at(what).addEventListener("change", () => page.toggle(what));
  for (const name of ["size", "opacity"]) {
    at(name).addEventListener("input", () => {
      page.drawn[name] = Number(at(name).value);
      page.redraw();
    });
  }
  const isFile = page.server instanceof Enclosed;
  at("of_server").hidden = at("fit_rest").hidden = isFile;
  at("of_file").hidden = !isFile;
  at("save").addEventListener("click", () => saveCsv(page));
  at("load").addEventListener("click", () => at("csv").click());
  at("csv").addEventListener("change", () => loadCsv(page, at("csv")));
  page.tone.listen();
  page.pointers.listen();
  listKeys();
  document.addEventListener("keydown", (event) => pressed(event, page));
  document.addEventListener("click", (event) => {
    if (event.detail && event.target.closest("main button, footer button")) at("stage").focus({ preventScroll: true }); // keys mean the picture again
  });
  window.addEventListener("pagehide", () => page.server.leave().catch(() => {}));
  window.addEventListener("beforeunload", (event) => {
    if (page.outbox.waiting.length) event.preventDefault();
  });
  setInterval(() => {
    page.ask();
    page.order.ask();
  }, PING);
}

const page = new Page(at("enclosed") ? new Enclosed(JSON.parse(at("enclosed").textContent)) : new Server(new URLSearchParams(location.search).get("token") || ""));
wire(page);
page.ask();
