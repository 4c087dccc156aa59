"use strict";

/* What the page says beside the lists: where it is, what is kept, which buttons can be pressed. */
class Status {
  constructor(page) {
    this.page = page;
  }

  showSaved() {
    const { waiting, trouble } = this.page.outbox;
    const edits = waiting.length === 1 ? "1 edit is" : `${waiting.length} edits are`;
    at("saved").textContent = waiting.length ? (trouble ? "not saved" : "saving…") : this.page.review ? this.page.server.kept : "";
    at("trouble").hidden = !trouble;
    at("take_over").hidden = !trouble || trouble.kind !== "taken";
    if (!trouble) return;
    const kept = (when) => (waiting.length ? ` ${edits} kept here and sent when ${when}.` : "");
    const texts = {
      gone: `The server does not answer.${kept("it is back")} Start the same command again.`,
      taken: `${trouble.message}.${kept("this one takes over")}`, anew: `${trouble.message}.${kept("it is back")}`,
    };
    at("trouble_text").textContent = texts[trouble.kind] || `Not saved: ${trouble.message}. ${edits} kept here and sent again.`;
  }

  showNames() {
    const { page } = this;
    at("picture_name").textContent = page.image;
    const count = (state) => page.images.filter((image) => page.isDone(image) === state).length;
    const before = count("before") ? `, ${count("before")} labelled before` : "";
    at("progress").textContent = `${page.order.place(page.index) + 1} of ${page.images.length} · ${count(true)} done`;
    at("before_that").textContent = before;
  }

  showTools(points) {
    const { page } = this;
    const point = page.selected && points[page.selected];
    for (const button of document.querySelectorAll(".states button")) {
      button.disabled = !page.selected;
      const isChosen = Boolean(point) && !isOpen(point) && point.state === button.dataset.state;
      button.classList.toggle("chosen", isChosen);
      button.setAttribute("aria-pressed", isChosen);
    }
    at("undo").disabled = !page.review.toUndo.length;
    at("redo").disabled = !page.review.toRedo.length;
    at("accept").disabled = !Object.keys(page.edits.accepted()).length;
    at("shape").setAttribute("aria-pressed", page.shape.isOn);
    at("shape").disabled = !page.shape.isPossible;
    at("before").disabled = page.order.after(page.index, -1) === undefined;
    at("next").disabled = page.order.after(page.index, 1) === undefined;
    at("done").textContent = page.isDone(page.image) === true ? "Done ✓" : "Done";
  }
}
