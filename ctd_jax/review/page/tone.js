"use strict";

/* How bright the picture is shown, on the sliders and by keys. */
class Tone {
  constructor(view) {
    this.view = view;
  }

  set(tone) {
    Object.assign(this.view.tone, tone);
    for (const name of ["brightness", "contrast", "gamma"]) at(name).value = this.view.tone[name];
    at("invert").checked = this.view.tone.invert;
    for (const part of at("gamma_filter").querySelectorAll("[exponent]")) part.setAttribute("exponent", 1 / this.view.tone.gamma);
    this.view.draw();
  }

  change(name, by) {
    const { min, max } = at(name);
    this.set({ [name]: Math.min(Math.max(Math.round((this.view.tone[name] + by) * 100) / 100, min), max) });
  }

  toggleInvert() {
    this.set({ invert: !this.view.tone.invert });
  }

  reset() {
    this.set({ brightness: 1, contrast: 1, gamma: 1, invert: false });
  }

  listen() {
    for (const name of ["brightness", "contrast", "gamma"]) at(name).addEventListener("input", () => this.set({ [name]: Number(at(name).value) }));
    at("invert").addEventListener("change", () => this.toggleInvert());
    at("reset_tone").addEventListener("click", () => this.reset());
  }
}
