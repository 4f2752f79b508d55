"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const grouped = (value) => value.toLocaleString("en-US");
  const root = document.documentElement;
  const TARGET = { small: 64, medium: 104, large: 200 };
  const CARD_IMAGES = 4;
  const noun = data.noun;
  const capital = noun[0].toUpperCase() + noun.slice(1);

  // Sheets: each holds rows of groups of pictures, one group a sample.
  const sheets = [...document.querySelectorAll(".sheets img")];
  const ready = sheets.map((sheet) => sheet.decode());
  const sizeOf = (sample, image) => (data.sizes ? data.sizes[sample][image] : data.size);
  const paint = (canvas, sample, image) => {
    const perSheet = data.columns * data.rows;
    const at = sample % perSheet;
    const [width, height] = sizeOf(sample, image);
    const left = ((at % data.columns) * data.images + image) * data.cell[0];
    const top = Math.floor(at / data.columns) * data.cell[1];
    canvas.width = width;
    canvas.height = height;
    const number = Math.floor(sample / perSheet);
    return ready[number].then(() => {
      canvas.getContext("2d", { willReadFrequently: true }).drawImage(sheets[number], left, top, width, height, 0, 0, width, height);
    });
  };
  const picture = (sample, image, box) => {
    const canvas = make("canvas", data.exact ? "pixels" : "");
    const [width, height] = sizeOf(sample, image);
    const side = data.sizes ? Math.max(...data.cell) : Math.max(width, height);
    const factor = data.exact ? Math.max(1, Math.round(box / side)) : box / side;
    canvas.style.width = `${Math.round(width * factor)}px`;
    paint(canvas, sample, image);
    return canvas;
  };

  const nameOf = (label) => (label < 0 ? "no class" : data.classes[label] ?? `class ${label}`);
  const distanceText = (value) => String(Number(value.toPrecision(3)));
  const distances = (sample) => (data.distances ? data.distances[sample] : null);
  const differences = (sample) => (data.differences ? data.differences[sample] : null);
  // How far a sample's positives are, by what the order asks for; null where that is not known.
  const ORDERS = { near: [distances, 1], far: [distances, -1], alike: [differences, 1], unlike: [differences, -1] };
  const farness = (values) => (values && values.every((value) => value !== null)
    ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

  const state = { label: "all", order: "index", perPage: 24, size: "medium", page: 0, shown: [], focus: 0, open: -1 };

  const choose = () => {
    const all = data.index.map((_, sample) => sample);
    const kept = state.label === "all" ? all : all.filter((sample) => data.label[sample] === Number(state.label));
    if (state.order !== "index") {
      const [values, sign] = ORDERS[state.order];
      const key = (sample) => { const far = farness(values(sample)); return far === null ? Infinity : sign * far; };
      kept.sort((one, other) => key(one) - key(other) || one - other);
    }
    state.shown = kept;
  };
  const pages = () => Math.max(1, Math.ceil(state.shown.length / state.perPage));

  const grid = find("grid");
  const card = (sample, place) => {
    const item = make("li");
    const button = make("button", "card");
    button.type = "button";
    button.tabIndex = place === state.focus ? 0 : -1;
    const images = make("span", "images");
    for (let image = 0; image < Math.min(data.images, CARD_IMAGES); image += 1) {
      images.append(picture(sample, image, TARGET[state.size]));
    }
    const meta = make("span", "meta");
    meta.append(make("span", "", `#${grouped(data.index[sample])}`));
    const said = [`${capital} ${grouped(data.index[sample])}`];
    if (data.label[sample] >= 0) {
      meta.append(make("bdi", "", nameOf(data.label[sample])));
      said.push(nameOf(data.label[sample]));
    }
    if (distances(sample)) said.push(`distance ${distanceText(farness(distances(sample)))}`);
    if (state.order !== "index") {
      const far = farness(ORDERS[state.order][0](sample));
      meta.append(make("span", "", far === null ? "unknown" : distanceText(far)));
    }
    button.append(images, meta);
    const told = data.told ? data.told[sample].filter(([name]) => name.startsWith("Prompt") || name === "Real anchor") : [];
    if (told.length) {
      button.append(make("bdi", "caption", told[0][1]));
      said.push(`${told[0][0]}: ${told[0][1]}`);
    }
    button.setAttribute("aria-label", said.join(", "));
    button.title = said.join(", ");
    button.addEventListener("click", () => show(state.page * state.perPage + place));
    button.addEventListener("focus", () => rove(place));
    item.append(button);
    return item;
  };
  const buttons = () => [...grid.querySelectorAll("button")];
  const rove = (place) => {
    state.focus = place;
    buttons().forEach((button, other) => { button.tabIndex = other === place ? 0 : -1; });
  };
  const draw = (focused) => {
    state.page = Math.min(Math.max(state.page, 0), pages() - 1);
    const first = state.page * state.perPage;
    const part = state.shown.slice(first, first + state.perPage);
    state.focus = Math.min(state.focus, Math.max(part.length - 1, 0));
    const across = Math.min(data.images, CARD_IMAGES);
    const side = Math.max(...data.cell);
    const box = data.exact ? side * Math.max(1, Math.round(TARGET[state.size] / side)) : TARGET[state.size];
    const wide = data.sizes ? box : Math.round((box * data.size[0]) / Math.max(...data.size));
    grid.style.setProperty("--card", `${Math.max(across * (wide + 3) + 20, data.label.some((label) => label >= 0) ? 140 : 96)}px`);
    grid.replaceChildren(...part.map(card));
    find("status").textContent = state.shown.length
      ? `${first + 1} to ${first + part.length} of ${grouped(state.shown.length)} sampled ${noun}s`
      : `No sampled ${noun} of this class`;
    find("page").textContent = `Page ${state.page + 1} of ${pages()}`;
    for (const [name, off] of [["first", state.page === 0], ["previous", state.page === 0],
      ["next", state.page === pages() - 1], ["last", state.page === pages() - 1]]) find(name).disabled = off;
    for (const button of document.querySelectorAll(".classes button")) {
      button.setAttribute("aria-pressed", String(button.dataset.label === state.label));
    }
    if (focused) buttons()[state.focus]?.focus();
  };
  const turn = (page, focused) => { state.page = page; state.focus = 0; draw(focused); };
  const filter = (label) => {
    state.label = label;
    if (find("class")) find("class").value = label;
    choose();
    turn(0);
  };

  const columns = () => {
    const all = buttons();
    const top = all[0]?.offsetTop;
    const below = all.findIndex((button) => button.offsetTop > top);
    return below < 0 ? all.length : below;
  };
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const all = buttons();
    const last = all.length - 1;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
    if (event.key in steps) {
      const place = state.focus + steps[event.key];
      if (place > last && state.page < pages() - 1) turn(state.page + 1, true);
      else if (place < 0 && state.page > 0) { turn(state.page - 1); state.focus = buttons().length - 1; buttons()[state.focus].focus(); }
      else if (place >= 0 && place <= last) all[place].focus();
    } else if (event.key === "Home") all[0]?.focus();
    else if (event.key === "End") all[last]?.focus();
    else if (event.key === "PageDown") turn(state.page + 1, true);
    else if (event.key === "PageUp") turn(state.page - 1, true);
    else return;
    event.preventDefault();
  });

  for (const [name, page] of [["first", () => 0], ["previous", () => state.page - 1], ["next", () => state.page + 1],
    ["last", () => pages() - 1]]) find(name).addEventListener("click", () => turn(page()));
  const onChange = (id, change) => find(id)?.addEventListener("change", (event) => change(event.target.value));
  onChange("class", filter);
  onChange("order", (value) => { state.order = value; choose(); turn(0); });
  onChange("per-page", (value) => { state.perPage = Number(value); turn(0); });
  onChange("size", (value) => { state.size = value; draw(); });
  for (const button of document.querySelectorAll(".classes button")) {
    button.addEventListener("click", () => filter(state.label === button.dataset.label ? "all" : button.dataset.label));
  }

  // One sample, large.
  const dialog = find("dialog");
  const address = (text) => { try { history.replaceState(null, "", text); } catch { /* a browser that lets no file do so */ } };
  const boxOf = (count, rows) => {
    const room = Math.min(dialog.clientWidth || window.innerWidth, window.innerWidth) - 40;
    const across = Math.max(1, Math.min(count, Math.floor(room / 150)));
    return Math.max(96, Math.min((room - 16 * across) / across, (window.innerHeight * 0.58) / rows, data.exact ? 512 : 3 * Math.max(...data.cell)));
  };
  const sizedTo = (canvas, box) => {
    const side = data.sizes ? Math.max(...data.cell) : Math.max(canvas.width, canvas.height);
    const factor = data.exact ? Math.max(1, Math.floor(box / side)) : box / side;
    canvas.style.width = `${Math.round(canvas.width * factor)}px`;
  };
  const difference = (anchor, other) => {
    const canvas = make("canvas", data.exact ? "pixels" : "");
    const [width, height] = [Math.min(anchor.width, other.width), Math.min(anchor.height, other.height)];
    canvas.width = width;
    canvas.height = height;
    const one = anchor.getContext("2d").getImageData(0, 0, width, height);
    const two = other.getContext("2d").getImageData(0, 0, width, height);
    for (let k = 0; k < one.data.length; k += 1) {
      if (k % 4 !== 3) one.data[k] = Math.min(255, 2 * Math.abs(one.data[k] - two.data[k]));
    }
    canvas.getContext("2d").putImageData(one, 0, 0);
    canvas.style.width = other.style.width;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "difference from the anchor, twice as bright");
    return canvas;
  };
  const figure = (canvas, title, detail) => {
    const node = make("figure");
    const caption = make("figcaption");
    caption.append(make("b", "", title));
    if (detail) caption.append(` ${detail}`);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title);
    node.append(canvas, caption);
    return node;
  };
  const fill = () => {
    const sample = state.shown[state.open];
    const [far, unlike] = [distances(sample), differences(sample)];
    const told = (image) => (image === 0 ? [] : [far && `distance ${distanceText(far[image - 1])}`,
      unlike && unlike[image - 1] !== null && `pixels ${distanceText(unlike[image - 1])}`]).filter(Boolean).join(", ");
    const index = data.index[sample];
    find("dialog-title").textContent = `${capital} ${grouped(index)}`;
    const large = find("large");
    const compared = find("difference")?.checked;
    const box = boxOf(data.images, compared ? 2 : 1);
    const canvases = [];
    const painted = [];
    large.replaceChildren();
    for (let image = 0; image < data.images; image += 1) {
      const canvas = make("canvas", data.exact ? "pixels" : "");
      painted.push(paint(canvas, sample, image));
      sizedTo(canvas, box);
      canvases.push(canvas);
      large.append(figure(canvas, data.names[image], told(image)));
    }
    if (compared) {
      Promise.all(painted).then(() => {
        if (!canvases[0].isConnected) return;
        for (const canvas of canvases.slice(1)) canvas.after(difference(canvases[0], canvas));
      });
    }
    const shard = Math.floor(index / data.perShard);
    const rows = [["Index", grouped(index)]];
    if (data.label[sample] >= 0) rows.push(["Class", `${nameOf(data.label[sample])} (label ${data.label[sample]})`]);
    if (data.told) rows.push(...data.told[sample]);
    rows.push(["Lies in", `shard-${String(shard).padStart(5, "0")}.beton, sample ${grouped(index % data.perShard)}`]);
    rows.push(["In Python", `dataset[${index}]`]);
    find("dialog-facts").replaceChildren(...rows.flatMap(([name, value]) => {
      const cell = make("dd");
      cell.append(name === "In Python" ? make("code", "", value) : make("bdi", "", value));
      return [make("dt", "", name), cell];
    }));
    find("before").disabled = state.open === 0;
    find("after").disabled = state.open === state.shown.length - 1;
    find("of").textContent = `${grouped(state.open + 1)} of ${grouped(state.shown.length)}`;
    address(`#${noun}-${index}`);
  };
  const show = (place) => {
    state.open = place;
    if (!dialog.open) dialog.showModal();
    fill();
  };
  const step = (by) => {
    const place = Math.min(Math.max(state.open + by, 0), state.shown.length - 1);
    if (place !== state.open) show(place);
  };
  find("before").addEventListener("click", () => step(-1));
  find("after").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => dialog.close());
  find("difference")?.addEventListener("change", fill);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    step(by);
  });
  dialog.addEventListener("close", () => {
    state.page = Math.floor(state.open / state.perPage);
    state.focus = state.open % state.perPage;
    address("#pairs");
    draw(true);
  });
  window.addEventListener("resize", () => { if (dialog.open) fill(); });

  for (const button of document.querySelectorAll(".snippet-head button")) {
    button.addEventListener("click", async () => {
      const text = find(button.dataset.of);
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected";
      }
    });
  }

  root.classList.add("js");
  if (find("per-page")) {
    const wanted = window.innerWidth < 640 ? "12" : window.innerWidth < 2000 ? "24" : "96";
    if ([...find("per-page").options].some((option) => option.value === wanted)) find("per-page").value = wanted;
    state.perPage = Number(find("per-page").value);
  }
  choose();
  draw();
  const named = new RegExp(`^#${noun}-(\\d+)$`).exec(location.hash);
  const place = named ? state.shown.findIndex((sample) => data.index[sample] === Number(named[1])) : -1;
  if (place >= 0) show(place);
  Promise.all(ready).then(() => { root.dataset.ready = "yes"; });
})();
