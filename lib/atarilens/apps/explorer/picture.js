// A picture with drawings above it that tells the kernel where it was clicked and which keys were
// pressed on it. Everything arrives as traits; nothing is fetched.
const KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", " ", "Escape", "Home", "End",
  "PageUp", "PageDown"];

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "al-picture";
  box.tabIndex = 0;
  box.setAttribute("role", "img");
  const canvas = document.createElement("canvas");
  const drawing = document.createElement("div");
  drawing.className = "al-drawing";
  const cursor = document.createElement("div");
  cursor.className = "al-cursor";
  box.append(canvas, drawing, cursor);
  el.append(box);

  let newest = 0;
  async function paint() {
    const bytes = model.get("image");
    const mine = ++newest;
    if (!bytes || !bytes.byteLength) {
      canvas.hidden = true;
      return;
    }
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    if (mine !== newest) return; // a later picture came first
    canvas.hidden = false;
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    box.dataset.painted = mine;
  }
  const draw = () => { drawing.innerHTML = model.get("drawing"); };
  const label = () => { box.setAttribute("aria-label", model.get("label")); };
  const point = () => {
    const at = model.get("cursor");
    cursor.hidden = at < 0;
    cursor.style.left = `${100 * at}%`;
  };
  let count = 0;
  const tell = (event) => {
    model.set("event", { ...event, count: ++count });
    model.save_changes();
  };
  const click = (event) => {
    const place = box.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width;
    const y = (event.clientY - place.top) / place.height;
    if (x >= 0 && x < 1 && y >= 0 && y < 1) tell({ kind: "click", x, y });
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    box.focus({ preventScroll: true });
    box.setPointerCapture(event.pointerId);
    click(event);
  });
  box.addEventListener("pointermove", (event) => {
    if (model.get("drag") && event.buttons & 1) click(event);
  });
  box.addEventListener("keydown", (event) => {
    if (!KEYS.includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has uses of its own for these keys
    tell({ kind: "key", key: event.key, shift: event.shiftKey });
  });

  model.on("change:image", paint);
  model.on("change:drawing", draw);
  model.on("change:label", label);
  model.on("change:cursor", point);
  paint();
  draw();
  label();
  point();
}

export default { render };
