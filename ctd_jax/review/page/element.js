"use strict";

const at = (id) => document.getElementById(id);

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

/* The value of a key that an object itself has, whatever it is called; null: it has none. */
function own(object, key) {
  return object && Object.hasOwn(object, key) ? object[key] : null;
}
